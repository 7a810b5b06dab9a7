"""A toy base that can write: it has read sentences about the toy world's histories, and little else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from genrec.data.catalog import Catalog
from genrec.explain.evidence import Evidence, Wording
from genrec.explain.facts import CatalogueFacts
from genrec.explain.grammar import Grammar
from genrec.explain.style import shipped_style
from genrec.explain.writer import prompt_values
from prompts.free_text import text_example
from prompts.template import load_template, load_text_template
from tests.toyworld import make_catalog, train_tokenizer


def make_talking_base(folder: Path, steps: int = 60) -> Path:
    """Train a small Llama on short, plain explanations, all weights, and save it as a base model's folder."""
    items, template, asked = make_catalog().items, load_template("next-item"), load_text_template("explanation")
    draw = random.Random(0)
    # A model of this size learns one way to say it: nothing is known of the items but that they moved it.
    bare = Catalog.from_items(replace(item, categories=(), attributes={}, title=f"{item.id} film") for item in items)
    grammar = Grammar(CatalogueFacts(bare), shipped_style("en"), item_first=True)
    told = []
    for _ in range(200):
        item, *others = draw.sample(items, draw.randint(2, 3))
        evidence = Evidence(tuple(others), "moved")
        (reason,) = grammar.reasons([item], [evidence], [])
        if reason.claims[0].said == "moved":
            told.append((prompt_values(asked, item, evidence, Wording(), reason), reason.text))
    texts = [asked.text, *(" ".join([*values.values(), text]) for values, text in told)]
    tokenizer = train_tokenizer([template.opening, *(template.item_text(item.label) for item in items), *texts])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=len(tokenizer), max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    examples = [text_example(asked, tokenizer, values, text, "causal") for values, text in told]
    optimiser = torch.optim.AdamW(model.parameters(), lr=8e-3)
    for _ in range(steps):
        chosen = draw.sample(examples, 8)
        width = max(len(example.input_ids) for example in chosen)
        ids = torch.tensor([[*example.input_ids, *[0] * (width - len(example.input_ids))] for example in chosen])
        labels = torch.tensor([[*example.labels, *[-100] * (width - len(example.labels))] for example in chosen])
        model(ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return folder
