"""A toy base that can write: it has read the toy world's histories and sentences about them, tiny but fluent."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from genrec.explanation_examples import explanation_examples
from prompts.encoding import PromptEncoder
from prompts.template import load_template, load_text_template
from tests.toyworld import make_catalog, make_histories, train_tokenizer


def make_talking_base(folder: Path, steps: int = 110) -> Path:
    """Train a small Llama on titles and on explanations, all weights, and save it as a base model's folder."""
    catalog, template = make_catalog(), load_template("next-item")
    texts = [template.opening, load_text_template("explanation").text, "expected next above all because you chose"]
    texts += [
        "may be just right for you, above all since you chose",
        "You will find all of them under",
        "All of them are filed under",
    ]
    texts += ["in one short sentence in two or three sentences in a matter-of-fact tone in a warm tone"]
    texts = [*texts * 20, *(template.item_text(label) + template.separator for label in catalog.labels)]
    tokenizer = train_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    encoder = PromptEncoder(template, tokenizer, max_tokens=400)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=len(tokenizer), max_position_embeddings=512, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    histories = make_histories(150, seed=99)
    told = explanation_examples(encoder, catalog, histories, "en")
    examples = [one for history in histories for one in encoder.examples([catalog[i].label for i in history.items])]
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    draw = random.Random(0)
    for step in range(steps):
        chosen = draw.sample(told if step % 3 else examples, 8)
        width = max(len(example.input_ids) for example in chosen)
        ids = torch.tensor([[*example.input_ids, *[0] * (width - len(example.input_ids))] for example in chosen])
        labels = torch.tensor([[*example.labels, *[-100] * (width - len(example.labels))] for example in chosen])
        model(ids, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return folder
