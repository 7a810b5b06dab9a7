"""Reading the catalogue first: what the windows hold, and that new titles are no strangers afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from prompts.encoding import Example, PromptEncoder
from prompts.template import load_template
from tests.toyworld import make_catalog, make_histories
from training import finetune as finetuning
from training.backbone import load_base, load_tokenizer
from training.catalogue_texts import ItemText, catalogue_examples
from training.errors import RecipeError
from training.finetune import finetune
from training.recipe import make_recipe
from training.supervision import summed_loss

NEW = ("Glass Orchard 1", "Glass Orchard 2", "Iron Lantern 1", "Iron Lantern 2")
"""Titles that nobody has taken."""


@pytest.fixture
def encoder(toy_base: Path) -> PromptEncoder:
    return PromptEncoder(load_template("next-item"), load_tokenizer(str(toy_base)), max_tokens=64)


def holds(window: tuple[int, ...], part: tuple[int, ...]) -> bool:
    return any(window[place : place + len(part)] == part for place in range(len(window)))


def test_every_title_stands_before_and_after_its_details(encoder: PromptEncoder) -> None:
    items = [ItemText(title, (f"Categories: {title[:5]}", "Part: 1")) for title in NEW]
    examples = catalogue_examples(encoder, items)
    starts = tuple(encoder.tokenizer("a")["input_ids"])[:-1]
    end = tuple(encoder.tokenizer("\n", add_special_tokens=False)["input_ids"])
    for item in items:
        details = tuple(encoder.tokenizer("\n".join(item.details), add_special_tokens=False)["input_ids"])
        title = encoder.item(item.label)
        for passage in (title + end + details + end, details + end + title + end):
            assert sum(holds(example.input_ids, passage) for example in examples) == 1
    assert all(example.input_ids[: len(starts)] == starts for example in examples)
    assert all(len(example.input_ids) <= 64 for example in examples)
    assert all(example.labels == example.input_ids for example in examples)


def test_long_details_are_cut_and_titles_are_not(encoder: PromptEncoder) -> None:
    (one, other) = catalogue_examples(encoder, [ItemText("Glass Orchard 1", ("word " * 300,))])
    assert max(len(one.input_ids), len(other.input_ids)) <= 64
    assert holds(one.input_ids, encoder.item("Glass Orchard 1"))
    assert holds(other.input_ids, encoder.item("Glass Orchard 1"))


def test_special_tokens_in_details_are_only_text(encoder: PromptEncoder) -> None:
    (example,) = catalogue_examples(encoder, [ItemText("Glass Orchard 1", ("</s>",))])[:1]
    assert encoder.tokenizer.eos_token_id not in example.input_ids


def train(base: Path, folder: Path, catalogue_epochs: float, resume: bool = False) -> Any:
    """Fine-tune on histories without the new titles; return the model and the new titles' mean loss."""
    catalog = make_catalog()
    encoder = PromptEncoder(load_template("next-item"), load_tokenizer(str(base)), max_tokens=64)
    labels = [*catalog.labels, *NEW]
    tokens = sorted({token for answer in encoder.answers(labels) for token in answer})
    histories = [[catalog[item].label for item in history.items] for history in make_histories(20)]
    recipe = make_recipe(
        {"max_tokens": 64, "batch_tokens": 256, "precision": "fp32", "catalogue_epochs": catalogue_epochs}
    )
    model, family = load_base(str(base), "cpu", torch.float32)
    adapted, outcome = finetune(
        model,
        family,
        [example for history in histories for example in encoder.examples(history)],
        recipe,
        folder,
        catalogue_tokens=tokens,
        catalogue_texts=catalogue_examples(encoder, [ItemText(label) for label in labels]),
        resume=resume,
    )
    questions = [encoder.one_target([label], new) for new in NEW for label in catalog.labels[:5]]
    total = 0.0
    for question in questions:
        ids, wanted = torch.tensor([question.input_ids]), torch.tensor([question.labels])
        with torch.no_grad():
            total += float(summed_loss(adapted, family, {"input_ids": ids, "labels": wanted}, torch.tensor(tokens))[0])
    return adapted, outcome, total / len(questions)


def test_new_titles_are_no_strangers(toy_base: Path, tmp_path: Path) -> None:
    _, _, unread = train(toy_base, tmp_path / "unread", 0)
    _, _, read = train(toy_base, tmp_path / "read", 20)
    assert read < unread - 1  # nats for a title


def test_a_kill_after_the_catalogue_was_read_costs_nothing(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _, _ = train(toy_base, tmp_path / "whole", 2)
    original = finetuning._fit
    calls = []

    def fit(adapted: Any, family: Any, examples: list[Example], recipe: Any, folder: Path, *rest: Any) -> Any:
        calls.append(folder)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(adapted, family, examples, recipe, folder, *rest)

    monkeypatch.setattr(finetuning, "_fit", fit)
    with pytest.raises(KeyboardInterrupt):
        train(toy_base, tmp_path / "broken", 2)
    again, _, _ = train(toy_base, tmp_path / "broken", 2, resume=True)
    assert len(calls) == 3  # the catalogue once, and the histories twice
    for (name, one), (_, other) in zip(whole.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_seq2seq_base_is_refused(tmp_path: Path) -> None:
    recipe = make_recipe({"catalogue_epochs": 1})
    with pytest.raises(RecipeError, match="catalogue_epochs needs a decoder-only base"):
        finetune(None, "seq2seq", [Example((1,), (1,))], recipe, tmp_path, catalogue_tokens=[1])
