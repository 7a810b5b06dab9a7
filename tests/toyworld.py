"""A toy world whose right answer is known: 30 titles in five series; whoever has seen parts 1 to n sees part n + 1.

It comes with a tokenizer and a small Llama, trained from nothing on other histories of the same world, so that a
LoRA adapter has a base that can read.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from genrec.data.catalog import Catalog, Item
from genrec.data.prepared import PreparedData, prepare
from genrec.data.splits import History
from prompts.encoding import PromptEncoder
from prompts.template import load_template

SERIES = ("Red Harbour", "Night Train", "The Long Valley", "Café Étoile", "Moon & Sixpence")
PARTS = 6


def make_catalog() -> Catalog:
    return Catalog.from_items(
        Item(f"{series[:3].lower()}{part}", f"{series} {part}", categories=(series,), attributes={"part": str(part)})
        for series in SERIES
        for part in range(1, PARTS + 1)
    )


def make_histories(users: int, seed: int = 0) -> tuple[History, ...]:
    """Each user watches one series from the start, for 3 to 6 parts."""
    draw = random.Random(seed)
    ids = make_catalog().ids
    histories = []
    for user in range(users):
        series, length = draw.randrange(len(SERIES)), draw.randint(3, PARTS)
        items = tuple(ids[series * PARTS + part] for part in range(length))
        histories.append(History(f"u{user:04d}", items, tuple(range(1000, 1000 + length))))
    return tuple(histories)


def write_files(folder: Path, users: int = 60, seed: int = 0) -> tuple[Path, Path]:
    """Write the world as a user's own files: a log and a catalogue, both CSV."""
    log, items = folder / "log.csv", folder / "films.csv"
    rows = [
        f"{history.user},{item},{time}"
        for history in make_histories(users, seed)
        for item, time in zip(history.items, history.times, strict=True)
    ]
    log.write_text("\n".join(["user,item,time", *rows]) + "\n", encoding="utf-8")
    films = [f"{item.id},{item.title},{item.categories[0]}" for item in make_catalog()]
    items.write_text("\n".join(["id,title,category", *films]) + "\n", encoding="utf-8")
    return log, items


def make_data(folder: Path, users: int = 60, seed: int = 0) -> PreparedData:
    log, items = write_files(folder, users, seed)
    return prepare(interactions=log, items=items)


def make_base(folder: Path, steps: int = 150) -> Path:
    """Train the toy tokenizer and the toy Llama and save them as a base model's folder."""
    catalog = make_catalog()
    template = load_template("next-item")
    texts = [template.opening, *(template.item_text(label) + template.separator for label in catalog.labels)]
    tokenizer = train_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    encoder = PromptEncoder(template, tokenizer, max_tokens=128)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=len(tokenizer), max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    examples = [
        example
        for history in make_histories(100, seed=99)
        for example in encoder.examples([catalog[item].label for item in history.items])
    ]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = random.Random(0)
    for _ in range(steps):
        chosen = draw.sample(examples, 16)
        width = max(len(example.input_ids) for example in chosen)
        ids = torch.tensor([[*example.input_ids, *[0] * (width - len(example.input_ids))] for example in chosen])
        labels = torch.tensor([[*example.labels, *[-100] * (width - len(example.labels))] for example in chosen])
        loss = model(ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(folder)
    return folder


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token=None
    )
