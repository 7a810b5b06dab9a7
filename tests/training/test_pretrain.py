"""Pretraining on the toy world: tokens, dense targets, the weights that are kept, and a base that can be fine-tuned."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from prompts.encoding import PromptEncoder
from prompts.template import load_template
from tests.toyworld import make_catalog, make_histories
from training.backbone import load_base, load_tokenizer
from training.finetune import Batches, summed_loss
from training.pretrain import CatalogueHead, PretrainRecipe, dense_examples, make_base, make_model, train_tokenizer

CATALOG = make_catalog()
TEMPLATES = {"causal": "next-item", "seq2seq": "instruction-seq2seq"}


def labels_of(users: int, seed: int) -> list[list[str]]:
    return [[CATALOG[item].label for item in history.items] for history in make_histories(users, seed)]


def recipe(family: str, **changes: Any) -> PretrainRecipe:
    values = {
        "family": family, "vocabulary": 400, "width": 32, "layers": 1, "heads": 2, "dropout": 0.0, "epochs": 12,
        "batch_tokens": 128, "learning_rate": 1e-2, "warmup": 10, "max_tokens": 64, **changes,
    }  # fmt: skip
    return PretrainRecipe.model_validate(values)


def test_a_title_that_is_taken_often_is_one_token_and_any_text_can_be_spelt() -> None:
    often = [["The Long Valley 1", "Red Harbour 1"]] * 50
    template = load_template("next-item")
    tokenizer = train_tokenizer(often, [*CATALOG.labels, "Once Only"], template, 330)
    encoder = PromptEncoder(template, tokenizer)
    assert len(encoder.item("The Long Valley 1")) == 1
    assert len(encoder.item("Once Only")) > 1
    for title in ("Café 🎬 ünseen", "قصة", "<s> </s>"):
        assert tokenizer.decode(encoder.item(title)) == f" {title}"
        assert not set(encoder.item(title)) & {0, 1, 2}


@pytest.mark.parametrize("count", [1, 3, 8])
def test_every_label_but_the_first_is_a_target_once(count: int) -> None:
    template = load_template("instruction-seq2seq")
    tokenizer = train_tokenizer([CATALOG.labels], CATALOG.labels, template, 400)
    encoder = PromptEncoder(template, tokenizer, "seq2seq", max_tokens=512)
    labels, cuts = list(CATALOG.labels[:17]), set()
    for seed in range(6):
        examples = dense_examples(encoder, labels, count, random.Random(seed))
        done = 1
        for example in examples:
            assert example.input_ids == encoder.prompt(labels[:done]).input_ids
            targets: list[int] = []
            while len(targets) < len(example.labels):
                targets += encoder.answer(labels[done])
                done += 1
            assert tuple(targets) == example.labels
        assert done == len(labels)
        cuts.add(tuple(len(example.labels) for example in examples))
    assert (len(cuts) > 1) == (count > 1)


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_a_head_over_some_tokens_gives_those_tokens_logits(family: str) -> None:
    template = load_template(TEMPLATES[family])
    tokenizer = train_tokenizer([CATALOG.labels], CATALOG.labels, template, 400)
    model = make_model(recipe(family), tokenizer, 64).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
    if family == "seq2seq":
        inputs["decoder_input_ids"] = torch.tensor([[0, 9]])
    tokens = torch.tensor([3, 8, 300])
    with torch.inference_mode():
        whole = model(**inputs).logits
        model.set_output_embeddings(CatalogueHead(model.get_input_embeddings(), tokens))
        some = model(**inputs).logits
    torch.testing.assert_close(some, whole[..., tokens])


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_the_base_knows_the_world_and_holds_its_best_weights(family: Any, tmp_path: Path) -> None:
    """The kept weights give the lowest validation loss of all passes, from the files alone."""
    template, valid = load_template(TEMPLATES[family]), labels_of(30, seed=7)
    questions = [(labels[:-1], labels[-1]) for labels in valid]
    seen: list[float] = []
    passes = make_base(
        labels_of(100, seed=99), CATALOG.labels, questions, template, recipe(family, patience=9), tmp_path / "base",
        lambda share, newest: seen.append(share),
    )  # fmt: skip
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    best = min(one.valid for one in passes)
    assert best < passes[0].valid
    assert best < 0.5 * torch.tensor(float(len(CATALOG))).log()
    assert not [path for path in (tmp_path / "base").iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]
    model, found = load_base(str(tmp_path / "base"), "cpu", torch.float32)
    assert found == family
    tokenizer = load_tokenizer(str(tmp_path / "base"))
    encoder = PromptEncoder(template, tokenizer, family, 64)
    tokens = torch.tensor(sorted({token for answer in encoder.answers(CATALOG.labels) for token in answer}))
    model.set_output_embeddings(CatalogueHead(model.get_input_embeddings(), tokens))
    batches = Batches([encoder.one_target(*question) for question in questions], 256, 0)
    with torch.inference_mode():
        total = sum(
            float(summed_loss(model.eval(), family, batches[place], tokens)[0]) for place in range(len(batches))
        )
    assert total / len(questions) == pytest.approx(best, rel=1e-4)


def test_training_stops_when_validation_no_longer_falls(tmp_path: Path) -> None:
    wrong = [(labels[:-1], CATALOG.labels[0]) for labels in labels_of(20, seed=7)]
    settings = recipe("causal", epochs=30, patience=2)
    passes = make_base(
        labels_of(60, 99), CATALOG.labels, wrong, load_template("next-item"), settings, tmp_path / "base"
    )
    assert len(passes) < 30


def test_histories_of_one_item_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training history has two items"):
        make_base([["a"]], ["a"], [], load_template("next-item"), recipe("causal"), tmp_path)
