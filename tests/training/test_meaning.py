"""Tokens from meaning: a world in which only the text tells what comes next, and what lies beside the base."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prompts.encoding import PromptEncoder
from prompts.template import load_template
from training.backbone import load_base, load_tokenizer, with_more_tokens
from training.errors import BackboneError
from training.meaning import FILE, TEXT_WIDTH, Directions, Meaning, SavedMeaning
from training.new_base import make_model, train_tokenizer
from training.pretrain import make_base
from training.pretrain_recipe import PretrainRecipe

GROUPS, KNOWN, NEW = 6, 8, 3
TEMPLATES = {"causal": "next-item-joined", "seq2seq": "seq2seq-joined"}


def world() -> tuple[list[str], np.ndarray, list[list[str]]]:
    """Items in groups that only their vectors tell; whoever took one of a group takes one of the next group."""
    draw, noise = random.Random(0), np.random.default_rng(0)
    words = [f"{first}{second}{number}" for first in "bdfglm" for second in "aeiou" for number in range(99)]
    labels = draw.sample(words, GROUPS * (KNOWN + NEW))
    centres = noise.normal(size=(GROUPS, 24))
    vectors = np.repeat(centres, KNOWN + NEW, axis=0) + 0.2 * noise.normal(size=(len(labels), 24))
    histories = []
    for _ in range(150):
        start = draw.randrange(GROUPS)
        groups = [(start + step) % GROUPS for step in range(5)]
        histories.append([labels[group * (KNOWN + NEW) + draw.randrange(KNOWN)] for group in groups])
    return labels, vectors.astype(np.float32), histories


def recipe(family: str, **changes: Any) -> PretrainRecipe:
    values = {
        "family": family, "vocabulary": 3000, "width": 32, "layers": 1, "heads": 2, "dropout": 0.1, "epochs": 16,
        "batch_tokens": 128, "learning_rate": 5e-3, "warmup": 10, "max_tokens": 32, "answers": 2,
        "residual_dropout": 0.3, **changes,
    }  # fmt: skip
    return PretrainRecipe.model_validate(values)


def right_groups(folder: Path, family: str) -> tuple[float, float]:
    """Return how often the best new item is of the right group, and the best known one behind a new item."""
    labels = world()[0]
    model, _ = load_base(str(folder), "cpu", torch.float32)
    encoder = PromptEncoder(load_template(TEMPLATES[family]), load_tokenizer(str(folder)), family, 32)  # type: ignore[arg-type]
    tokens = torch.tensor([answer[0] for answer in encoder.answers(labels)])
    new = np.arange(len(labels)) % (KNOWN + NEW) >= KNOWN
    group = np.arange(len(labels)) // (KNOWN + NEW)
    found: dict[bool, list[bool]] = {True: [], False: []}
    for row, label in enumerate(labels):
        ids = torch.tensor([encoder.prompt([label]).input_ids])
        begin = torch.tensor([[getattr(model.config, "decoder_start_token_id", 0)]])
        given = {"decoder_input_ids": begin} if family == "seq2seq" else {}
        with torch.inference_mode():
            scores = model(input_ids=ids, **given).logits[0, -1][tokens].numpy()
        asked = ~new if new[row] else new
        best = np.flatnonzero(asked)[scores[asked].argmax()]
        found[bool(new[row])].append(group[best] == (group[row] + 1) % GROUPS)
    return float(np.mean(found[False])), float(np.mean(found[True]))


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_what_nobody_took_is_written_and_read_by_its_meaning(family: str, tmp_path: Path) -> None:
    labels, vectors, histories = world()
    template = load_template(TEMPLATES[family])
    valid = [(history[:-1], history[-1]) for history in histories[:40]]
    with_f, without = tmp_path / "f", tmp_path / "none"
    make_base(histories, labels, valid, template, recipe(family), with_f, vectors=vectors)
    written, read = right_groups(with_f, family)
    assert written > 0.9
    assert read > 0.9
    make_base(histories, labels, valid, template, recipe(family, meaning=False), without)
    assert right_groups(without, family)[1] < 0.6


def test_the_checkpoint_holds_the_sums_and_f_lies_beside(tmp_path: Path) -> None:
    labels, vectors, histories = world()
    template = load_template("next-item-joined")
    made = recipe("causal", epochs=2, meaning_hidden=16)
    make_base(histories, labels, [], template, made, tmp_path, vectors=vectors, told={"encoder": "e"})
    model, _ = load_base(str(tmp_path), "cpu", torch.float32)
    encoder = PromptEncoder(template, load_tokenizer(str(tmp_path)))
    saved = SavedMeaning.load(tmp_path)
    assert saved is not None
    assert (saved.told["encoder"], saved.from_pieces) == ("e", False)
    inside, head = saved.vectors(vectors)
    assert np.array_equal(inside, head)
    tokens = torch.tensor([answer[0] for answer in encoder.answers(labels)])
    weight = model.get_input_embeddings().weight.detach()[tokens].numpy()
    new = np.arange(len(labels)) % (KNOWN + NEW) >= KNOWN
    assert weight[new] == pytest.approx(inside[new], abs=1e-5)
    assert np.abs(weight[~new] - inside[~new]).max(axis=1).min() > 1e-4
    with pytest.raises(BackboneError, match="have 3 numbers"):
        saved.vectors(vectors[:, :3])
    told = replace(saved, told={TEXT_WIDTH: "3"})
    padded = np.concatenate([vectors[:, :3], np.zeros((len(labels), 21), np.float32)], axis=1)
    assert np.array_equal(told.vectors(vectors[:, :3])[0], saved.vectors(padded)[0])
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(BackboneError, match="make the base again"):
        SavedMeaning.load(tmp_path)
    assert SavedMeaning.load(tmp_path / "elsewhere") is None


def test_a_share_of_the_residuals_is_dropped_in_both_tables_and_only_in_training() -> None:
    labels, vectors, histories = world()
    tokenizer = train_tokenizer(histories, labels, load_template("next-item-joined"), 3000)
    encoder = PromptEncoder(load_template("next-item-joined"), tokenizer)
    model = make_model(recipe("causal"), tokenizer, 64)
    answers = encoder.answers(labels)
    taken = np.array([0] * 5 + [2] * (len(labels) - 5))
    vectors[-1] = 0.0
    meaning = Meaning(model, answers, vectors, taken, hidden=0, dropped=0.5)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[meaning.tokens] = 1.0
    own = weight.detach().clone()
    function = meaning.functions[0](meaning.given)
    inside, head = meaning.tables()
    assert inside is head
    residual = (inside[meaning.tokens] - function).mean(dim=1).detach().numpy().round(4)
    assert set(residual) == {0.0, 1.0}
    assert not residual[:5].any()
    assert 0.3 < residual[5:].mean() < 0.7
    meaning.eval()
    assert (meaning.tables()[0][meaning.tokens] - function)[5:].detach().numpy() == pytest.approx(1.0, abs=1e-5)
    # An item without a vector is what it was: a token of its own.
    assert answers[-1][0] not in meaning.tokens
    with meaning.folded():
        assert weight[meaning.tokens[0]].detach().numpy() == pytest.approx(function[0].detach().numpy(), abs=1e-5)
    assert torch.equal(weight, own)
    with pytest.raises(BackboneError, match="no title is one token"):
        Meaning(model, answers, np.zeros_like(vectors), taken, hidden=0, dropped=0.5)


def test_directions_keep_what_differs() -> None:
    draw = np.random.default_rng(1)
    vectors = (draw.normal(size=(50, 2)) @ draw.normal(size=(2, 9)) + 3).astype(np.float32)
    found = Directions.of(vectors, whitening=1.0)
    inputs = found.inputs(vectors)
    assert inputs.shape == (50, 2)
    assert inputs.mean(axis=0) == pytest.approx(0, abs=1e-4)
    assert inputs.std(axis=0) == pytest.approx(1, abs=1e-3)


def test_tokens_are_added_behind_the_others_and_the_rest_is_shared() -> None:
    labels, _, histories = world()
    tokenizer = train_tokenizer(histories, labels, load_template("next-item-joined"), 3000)
    for family in ("causal", "seq2seq"):
        model = make_model(recipe(family), tokenizer, 64).eval()
        size, width = model.get_input_embeddings().weight.shape
        added = torch.randn(2, width)
        grown = with_more_tokens(model, model.get_output_embeddings(), added, added)
        ids = torch.tensor([[5, 6, size + 1]])
        given = {"decoder_input_ids": ids} if family == "seq2seq" else {}
        with torch.inference_mode():
            logits = grown(input_ids=ids, **given).logits
            before = model(input_ids=ids[:, :2], **({"decoder_input_ids": ids[:, :2]} if given else {})).logits
            if family == "causal":
                torch.testing.assert_close(logits[:, :2, :size], before)
        assert logits.shape[-1] == size + 2
        assert len(model.get_input_embeddings().weight) == size
        shared = {id(one) for one in model.parameters()}
        assert sum(id(one) not in shared for one in grown.parameters()) == 2
