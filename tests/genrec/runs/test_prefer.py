"""The preference stage on the toy world: whose pairs they are, that the loss falls, and that validation does not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrec import Recommender
from genrec.data.prepared import load_prepared
from genrec.errors import ArtefactError
from genrec.runs.judging import run_ndcg
from genrec.runs.prefer import prefer_run, preference_pairs
from genrec.storage.folders import read_manifest
from tests.conftest import train_toy
from tests.toyworld import make_base
from training.backbone import load_adapted, load_base, load_tokenizer
from training.preference import Preference, PreferenceRecipe, prefer


@pytest.fixture(scope="module")
def weak_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that has read little, so that there is something to prefer."""
    return make_base(tmp_path_factory.mktemp("weak-base"), steps=8)


@pytest.fixture(scope="module")
def weak_run(tmp_path_factory: pytest.TempPathFactory, weak_base: Path, toy_data: Path) -> Path:
    return train_toy(weak_base, toy_data, tmp_path_factory.mktemp("weak") / "run", epochs=1, learning_rate=1e-4)


@pytest.fixture(scope="module")
def preferred(tmp_path_factory: pytest.TempPathFactory, weak_run: Path, toy_data: Path) -> Path:
    out = tmp_path_factory.mktemp("preferred") / "run"
    recipe = PreferenceRecipe(negatives=3, beta=1.0, learning_rate=1e-3, epochs=2, precision="fp32")
    prefer_run(weak_run, load_prepared(toy_data), recipe, out)
    return out


def test_pairs_are_what_was_taken_against_unseen_items_of_the_models_own(weak_run: Path, toy_data: Path) -> None:
    recommender = Recommender.from_pretrained(weak_run)
    train = load_prepared(toy_data).split().train
    answers = {recommender.encoder.answer(item.label): item.id for item in recommender.catalog}
    histories = [history for history in train if len(history.items) > 1]
    pairs = preference_pairs(recommender, histories, PreferenceRecipe(negatives=3))
    assert len(pairs) == 3 * len(histories)
    for place, pair in enumerate(pairs):
        history = histories[place // 3]
        assert pair.prompt == recommender.prompt(history.until(len(history.items) - 1)).input_ids
        assert answers[pair.chosen] == history.items[-1]
        assert answers[pair.rejected] not in history.items
    first = histories[0]
    named = recommender.decoder.search(
        recommender.decoder.read([pairs[0].prompt]), 20, 20, [np.array(recommender.catalog.rows(first.items[:-1]))]
    )[0]
    wanted = [row for row in named.rows if recommender.catalog.ids[row] != first.items[-1]][:3]
    assert [answers[pair.rejected] for pair in pairs[:3]] == [recommender.catalog.ids[row] for row in wanted]


def test_the_loss_falls_and_validation_does_not(preferred: Path) -> None:
    done = read_manifest(preferred, "run")["preference"]
    assert done["first_loss"] == pytest.approx(0.6931, abs=1e-3)  # at first the model is its own reference
    assert done["final_loss"] < 0.5 * done["first_loss"]
    valid = done["validation"]
    assert valid["ndcg@10 before"] < 0.9
    assert valid["ndcg@10 after"] >= valid["ndcg@10 before"] - 5 * valid["standard error"]


def test_the_new_run_is_whole_and_the_old_one_is_as_it_was(preferred: Path, weak_run: Path, toy_data: Path) -> None:
    old, new = (Recommender.from_pretrained(run, precision="fp32") for run in (weak_run, preferred))
    read_manifest(weak_run, "run")  # verifies every file
    valid = load_prepared(toy_data).split().valid
    done = read_manifest(preferred, "run")["preference"]["validation"]
    assert run_ndcg(old, valid).mean() == pytest.approx(done["ndcg@10 before"])
    assert run_ndcg(new, valid).mean() == pytest.approx(done["ndcg@10 after"])
    assert sorted(path.name for path in (preferred / "adapter").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert old.fusion is not None
    assert new.fusion is not None
    assert new.fusion.model_cases > 0  # fitted anew, on a grid: it may come out the same


@pytest.mark.parametrize("restricted", [True, False])
def test_the_loss_is_dpos_over_the_tokens_asked_for(weak_run: Path, weak_base: Path, restricted: bool) -> None:
    """Against the formula, worked out after each step with the weights as they are then: it is the next step's loss."""
    recommender = Recommender.from_pretrained(weak_run)
    encoder, labels = recommender.encoder, recommender.catalog.labels
    tokens = recommender.decoder.trie.vocabulary.tolist()
    prompt = encoder.prompt(labels[:2]).input_ids
    pair = Preference(prompt, encoder.answer(labels[2]), encoder.answer(labels[9]))

    def margin(model: Any) -> float:
        gains = []
        for answer in (pair.chosen, pair.rejected):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            if not restricted or logits.shape[-1] == len(tokens):
                wanted = [tokens.index(token) for token in answer] if restricted else list(answer)
            else:
                logits, wanted = logits[:, tokens], [tokens.index(token) for token in answer]
            gains.append(float(logits.log_softmax(-1)[torch.arange(len(answer)), torch.tensor(wanted)].sum()))
        return gains[0] - gains[1]

    reference = margin(load_adapted(weak_run, str(weak_base), "cpu", torch.float32, None)[0])
    model, _ = load_base(str(weak_base), "cpu", torch.float32)
    expected: list[float] = []
    _, outcome = prefer(
        model,
        weak_run / "adapter",
        encoder.tokenizer,
        [pair] * 4,
        PreferenceRecipe(learning_rate=1e-2, batch_pairs=1, device_pairs=1, precision="fp32", beta=0.5),
        catalogue_tokens=tokens if restricted else None,
        progress=lambda *_: expected.append(math.log1p(math.exp(-0.5 * (margin(model) - reference)))),
    )
    losses = [loss for _, loss in outcome.losses]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses[1:] == pytest.approx(expected[:-1], abs=1e-3)
    assert losses[-1] < 0.6


def test_what_cannot_be_done(weak_run: Path, toy_data: Path, tmp_path: Path) -> None:
    data = load_prepared(toy_data)
    with pytest.raises(ArtefactError, match="choose another --out"):
        prefer_run(weak_run, data, PreferenceRecipe(), weak_run)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(ArtefactError, match="is not a genrec run folder"):
        prefer_run(weak_run, data, PreferenceRecipe(), tmp_path / "other")


def test_the_command_line(weak_run: Path, toy_data: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    from genrec.cli.main import run

    words = ["prefer", "--run", weak_run, "--data", toy_data, "--out", tmp_path / "out", "--set", "cases=4"]
    monkeypatch.setattr("sys.argv", ["genrec", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        run()
    assert not caught.value.code
    assert "NDCG@10" in capsys.readouterr().out


def test_a_tokenizer_without_special_tokens_pads_with_any(weak_run: Path, weak_base: Path) -> None:
    def losses(*missing: str) -> list[float]:
        tokenizer = load_tokenizer(str(weak_base))
        for name in missing:
            setattr(tokenizer, name, None)
        model, _ = load_base(str(weak_base), "cpu", torch.float32)
        pairs = [Preference((5, 6, 7), (8,), (9, 10)), Preference((5,), (8, 9, 11), (9,))] * 2
        recipe = PreferenceRecipe(learning_rate=1e-2, batch_pairs=2, device_pairs=2, precision="fp32")
        _, outcome = prefer(model, weak_run / "adapter", tokenizer, pairs, recipe, catalogue_tokens=None)
        return [loss for _, loss in outcome.losses]

    known = losses()
    for missing in (("pad_token",), ("pad_token", "eos_token"), ("pad_token", "eos_token", "bos_token")):
        assert losses(*missing) == pytest.approx(known, abs=1e-5)
