"""Pretraining on the toy world: tokens, dense targets, the weights that are kept, and a base that can be fine-tuned."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from prompts.encoding import PromptEncoder
from prompts.template import load_template
from tests.toyworld import make_catalog, make_histories
from training import pretrain
from training.backbone import load_base, load_tokenizer, restrict_head
from training.batches import Batches
from training.computing import Computing
from training.learner import Learner, NoHead
from training.new_base import make_model, start_from_vectors, train_tokenizer
from training.passes import Pass, best_pass
from training.pretrain import dense_examples, make_base
from training.pretrain_recipe import PretrainRecipe
from training.soft_targets import SoftTargets
from training.supervision import supervised

CATALOG = make_catalog()
TEMPLATES = {"causal": "next-item-joined", "seq2seq": "seq2seq-joined"}


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
def test_the_loss_over_some_tokens_is_that_of_their_logits(family: Any) -> None:
    template = load_template(TEMPLATES[family])
    tokenizer = train_tokenizer([CATALOG.labels], CATALOG.labels, template, 400)
    model = make_model(recipe(family), tokenizer, 64).eval()
    ids = torch.tensor([[5, 6, 7, 300]])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([[-100, 8, 300, 3]])}
    tokens = torch.tensor([3, 8, 300])
    hard = SoftTargets(tokens, [(3,), (8, 300)], [[0, 1]], share=0.0, exclude_seen=False)
    with torch.inference_mode():
        logits, wanted = supervised(model, family, inputs)
        expected = torch.nn.functional.cross_entropy(logits[:, tokens], torch.searchsorted(tokens, wanted))
        head = model.get_output_embeddings().weight
        model.set_output_embeddings(NoHead())
        learner = Learner(model, family, head, hard, Computing("cpu", "fp32"))
        step = learner.feed.step(inputs)
        loss = learner.loss(step)
    assert len(step.wanted) == len(wanted) == 3
    torch.testing.assert_close(loss, expected)


def test_tokens_start_as_the_mean_of_their_titles_vectors() -> None:
    """Of the tokens 1 to 4, 4 is in every title; two widths: fewer directions than the vectors have, and more."""
    answers, generator = [(1, 4), (2, 4), (1, 3, 4)], torch.Generator().manual_seed(0)
    vectors = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.8, 0, 0.6]], np.float32)
    for width in (2, 8):
        before = torch.randn(6, width, generator=generator) * 0.02
        after = before.clone()
        start_from_vectors(after, answers, vectors)
        assert torch.equal(after[[0, 4, 5]], before[[0, 4, 5]])
        near = torch.nn.functional.cosine_similarity(after[1, :2], after[2:4, :2])
        assert near[1] > 0.8 > near[0]
        assert after[1:4].std() == pytest.approx(float(before.std()), rel=0.8)
    same = before.clone()
    start_from_vectors(same, answers, np.ones((3, 4), np.float32))
    assert torch.equal(same, before)


def test_title_vectors_make_the_first_pass_better(tmp_path: Path) -> None:
    """The vectors know the toy world's groups, so a model that starts from them knows more after the same pass."""
    from retrieval.encoders import HashingEncoder

    valid = [(labels[:-1], labels[-1]) for labels in labels_of(30, seed=7)]
    losses = {}
    for name, vectors in (("random", None), ("titles", HashingEncoder().encode(CATALOG.labels))):
        passes = make_base(
            labels_of(40, 99), CATALOG.labels, valid, load_template("next-item-joined"),
            recipe("causal", vocabulary=2000, epochs=1), tmp_path / name, vectors=vectors,
        )  # fmt: skip
        losses[name] = passes[0].valid
    assert losses["titles"] < losses["random"]


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_the_base_knows_the_world_and_holds_its_best_weights(family: Any, tmp_path: Path) -> None:
    """The kept weights put validation answers highest of all passes, from the files alone."""
    template, valid = load_template(TEMPLATES[family]), labels_of(30, seed=7)
    questions = [(labels[:-1], labels[-1]) for labels in valid]
    seen: list[float] = []
    passes = make_base(
        labels_of(100, seed=99), CATALOG.labels, questions, template, recipe(family, patience=9), tmp_path / "base",
        lambda share, newest: seen.append(share),
    )  # fmt: skip
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    best = best_pass(passes)
    assert best.gain == pytest.approx(max(one.gain for one in passes), abs=1e-3)
    assert best.gain > 0.5  # chance: 0.15, and 30 cases have a standard error of 0.05
    assert best.valid < 0.5 * torch.tensor(float(len(CATALOG))).log()
    assert not [path for path in (tmp_path / "base").iterdir() if path.suffix in {".bin", ".pt", ".pkl"}]
    model, found = load_base(str(tmp_path / "base"), "cpu", torch.float32)
    assert found == family
    tokenizer = load_tokenizer(str(tmp_path / "base"))
    encoder = PromptEncoder(template, tokenizer, family, 64)
    assert {len(answer) for answer in encoder.answers(CATALOG.labels)} == {1}
    tokens = torch.tensor(sorted({token for answer in encoder.answers(CATALOG.labels) for token in answer}))
    restrict_head(model, tokens)
    batches = Batches([encoder.one_target(*question) for question in questions], 256, 0)
    total = gain = 0.0
    with torch.inference_mode():
        for place in range(len(batches)):
            logits, wanted = supervised(model.eval(), family, batches[place])
            targets = torch.searchsorted(tokens, wanted)
            for row, example in enumerate(batches.groups[place]):  # what the history holds is left out
                history = example.input_ids[: -1 if family == "causal" else None]
                logits[row, torch.isin(tokens, torch.tensor(history))] = -torch.inf
            total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            ranks = (logits >= logits.gather(1, targets[:, None])).sum(dim=1).float()
            gains = torch.where(ranks <= 10, 1 / torch.log2(1 + ranks), 0.0).tolist()
            for row in batches[place]["labels"].tolist():
                of_one = [gains.pop(0) for label in row if label != -100]
                gain += float(np.prod(of_one))
    assert total / len(questions) == pytest.approx(best.valid, rel=1e-4)
    assert gain / len(questions) == pytest.approx(best.gain, rel=1e-4)


def test_the_best_pass_puts_answers_first_though_its_loss_is_higher() -> None:
    lower = Pass(1, 5.0, valid=8.1, gain=0.058, seconds=1.0)
    higher = Pass(2, 4.0, valid=8.2, gain=0.069, seconds=2.0)
    equal = Pass(3, 3.0, valid=8.3, gain=0.0694, seconds=3.0)
    assert best_pass([lower, higher, equal]) is higher
    nothing = [Pass(number, 1.0, valid=0.0, gain=0.0, seconds=1.0) for number in (1, 2)]
    assert best_pass(nothing).number == 2  # without validation cases the last


def test_training_stops_when_validation_gets_no_better(tmp_path: Path) -> None:
    wrong = [(labels[:-1], CATALOG.labels[0]) for labels in labels_of(20, seed=7)]
    settings = recipe("causal", epochs=30, patience=2)
    passes = make_base(
        labels_of(60, 99), CATALOG.labels, wrong, load_template("next-item"), settings, tmp_path / "base"
    )
    assert len(passes) < 30


def test_histories_of_one_item_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no training history has two items"):
        make_base([["a"]], ["a"], [], load_template("next-item"), recipe("causal"), tmp_path)


@pytest.mark.parametrize(("minutes", "a_step", "a_part"), [(1.0, 1.0, 2.0), (4.0, 1.0, 2.0), (1.0, 8.0, 6.0)])
def test_the_minutes_hold_judging_too(
    minutes: float, a_step: float, a_part: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cases there are and however slow the machine; all passes are judged on the same cases.

    A clock of our own ticks: so many seconds for a step, and for a part of the validation cases.
    """
    now = 0.0
    asked: list[list[Any]] = [[]]

    def ticking(function: Any, seconds: float, note: bool = False) -> Any:
        def timed(*given: Any) -> Any:
            nonlocal now
            now += seconds
            if note:
                asked[-1].append(given[1].groups)
            return function(*given)

        return timed

    for module in ("pretrain", "passes"):
        monkeypatch.setattr(f"training.{module}.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr("training.passes.PART", 8)
    monkeypatch.setattr(Learner, "loss", ticking(Learner.loss, a_step))
    monkeypatch.setattr(Learner, "judge", ticking(Learner.judge, a_part, note=True))
    real = pretrain.judge_all

    def judged(*given: Any) -> Any:
        asked.append([])
        return real(*given)

    monkeypatch.setattr(pretrain, "judge_all", judged)
    valid = [(labels[:-1], labels[-1]) for labels in labels_of(2000, seed=7)]
    settings = recipe("causal", epochs=1000, patience=1000, max_minutes=minutes, width=16)
    passes = make_base(
        labels_of(100, 99), CATALOG.labels, valid, load_template("next-item"), settings, tmp_path / "base"
    )
    assert now <= 1.2 * 60 * minutes
    assert now >= 0.8 * 60 * minutes
    first, *others = asked[1:]
    assert len(passes) == 1 + len(others)
    assert 8 <= sum(len(group) for groups in first for group in groups) < 2000
    assert all(groups == first for groups in others)
    assert len(passes) > 1 or minutes == 1.0


def test_a_padded_batch_fits_in_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, widths are multiples of 16: the longest prompt and its answer are padded beyond their own length."""
    monkeypatch.setattr(pretrain, "_multiple", lambda computing: 16)
    long = [labels * 4 for labels in labels_of(20, seed=3)]
    valid = [(labels[:-1], labels[-1]) for labels in long]
    made = recipe("causal", epochs=1, max_tokens=16)
    make_base(long, CATALOG.labels, valid, load_template(TEMPLATES["causal"]), made, tmp_path)
    model, _ = load_base(str(tmp_path), "cpu", torch.float32)
    assert model.config.n_positions % 16 == 0
