"""Titles as tokens of a trained base: where they start, what cannot have them, and a base that learns from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from prompts.encoding import PromptEncoder
from prompts.template import load_template
from tests import toyworld
from training.backbone import load_base, load_tokenizer
from training.errors import BackboneError
from training.passes import best_pass
from training.pretrain import make_base
from training.pretrain_recipe import PretrainRecipe
from training.title_tokens import load_with_title_tokens

CATALOG = toyworld.make_catalog()
TEMPLATE = load_template("next-item-joined")


def labels_of(users: int, seed: int) -> list[list[str]]:
    return [[CATALOG[item].label for item in history.items] for history in toyworld.make_histories(users, seed)]


def save_as_base(model: Any, tokenizer: Any, folder: Path) -> str:
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tied_base(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A T5 whose head is its embeddings; the toy Llama has a head of its own."""
    tokenizer = load_tokenizer(str(toy_base))
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        pad_token_id=0, eos_token_id=2, decoder_start_token_id=0,
    )  # fmt: skip
    return save_as_base(T5ForConditionalGeneration(config), tokenizer, tmp_path_factory.mktemp("tied"))


@pytest.mark.parametrize(("base", "family"), [("toy_base", "causal"), ("tied_base", "seq2seq")])
def test_a_title_is_one_token_that_starts_as_the_mean_of_its_pieces(
    base: str, family: str, request: pytest.FixtureRequest
) -> None:
    folder = str(request.getfixturevalue(base))
    template = TEMPLATE if family == "causal" else load_template("seq2seq-joined")
    before, _ = load_base(folder, "cpu", torch.float32)
    old = load_tokenizer(folder)
    model, tokenizer, found = load_with_title_tokens(folder, labels_of(40, 0), CATALOG.labels, template, 1000)
    assert found == family
    encoder = PromptEncoder(template, tokenizer, found, 64)
    for label in CATALOG.labels:
        (token,) = encoder.item(label)
        pieces = old(template.item_text(label), add_special_tokens=False)["input_ids"]
        assert len(pieces) > 1
        for side in ("get_input_embeddings", "get_output_embeddings"):
            expected = getattr(before, side)().weight[pieces].mean(dim=0)
            torch.testing.assert_close(getattr(model, side)().weight[token], expected)
    same = "The sea at night"
    assert tokenizer(same)["input_ids"] == old(same)["input_ids"]


def test_the_titles_taken_most_often_come_first(toy_base: Path) -> None:
    histories = [["Night Train 3", "Night Train 4"], ["Night Train 3"]]
    _, tokenizer, _ = load_with_title_tokens(str(toy_base), histories, CATALOG.labels, TEMPLATE, 2)
    encoder = PromptEncoder(TEMPLATE, tokenizer)
    assert [label for label in CATALOG.labels if len(encoder.item(label)) == 1] == ["Night Train 3", "Night Train 4"]


@pytest.mark.parametrize(("base", "family"), [("toy_base", "causal"), ("tied_base", "seq2seq")])
def test_a_base_goes_on_learning_and_can_be_loaded(
    base: str, family: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe = PretrainRecipe.model_validate(
        {"family": family, "base": base, "epochs": 12, "batch_tokens": 128, "max_tokens": 64, "learning_rate": 1e-2}
        | {"warmup": 10, "layers": 1, "base_share": 0.5, "dropout": 0.1}
    )
    questions = [(labels[:-1], labels[-1]) for labels in labels_of(30, seed=7)]
    template = TEMPLATE if family == "causal" else load_template("seq2seq-joined")
    passes = make_base(
        labels_of(100, 99), CATALOG.labels, questions, template, recipe, tmp_path / "base",
        start=str(request.getfixturevalue(base)),
    )  # fmt: skip
    best = best_pass(passes)
    assert best.gain > 0.5  # chance: 0.15, and 30 cases have a standard error of 0.05
    assert passes[-1].train < passes[0].train
    model, found = load_base(str(tmp_path / "base"), "cpu", torch.float32)
    assert found == family
    assert model.config.num_hidden_layers == 1
    assert model.get_input_embeddings().num_embeddings == len(load_tokenizer(str(tmp_path / "base")))


def test_what_cannot_have_title_tokens_is_told(toy_base: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(toy_base))
    config = BartConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, pad_token_id=0, eos_token_id=2,
        decoder_start_token_id=2,
    )  # fmt: skip
    bart = save_as_base(BartForConditionalGeneration(config), tokenizer, tmp_path / "bart")
    with pytest.raises(BackboneError, match="BartForConditionalGeneration adds a bias to its logits"):
        load_with_title_tokens(bart, [], CATALOG.labels, TEMPLATE, 10)
    wrong = PretrainRecipe.model_validate({"family": "seq2seq", "base": "films"})
    with pytest.raises(BackboneError, match="films is a causal model, family=seq2seq was asked for"):
        make_base(
            labels_of(5, 0), CATALOG.labels, [], load_template("seq2seq-joined"), wrong, tmp_path, start=str(toy_base)
        )
