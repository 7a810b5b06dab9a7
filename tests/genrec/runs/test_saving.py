"""A recommender saved from memory is a run folder that gives the same answers, or nothing is there."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec.data.catalog import Item
from genrec.data.prepared import load_prepared
from genrec.errors import ArtefactError, ConfigError
from genrec.recommender import Recommender
from genrec.runs.tuning import tune_fusion
from genrec.settings import Settings
from genrec.storage.folders import read_manifest

NEW = Item("nig7", "Night Train 7", categories=("Night Train",))
HISTORIES = (["nig1", "nig2"], ["red1"], [])


def answers(recommender: Recommender) -> list[Any]:
    lists = [recommender.recommend(history, k=5, explain="measured") for history in HISTORIES]
    return [[entry.to_json() for entry in one] for one in lists]


@pytest.fixture
def rec(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, "cpu", "fp32")


def loaded(folder: Path) -> Recommender:
    return Recommender.from_pretrained(folder, "cpu", "fp32")


def test_a_saved_recommender_gives_the_same_answers(rec: Recommender, toy_run: Path, tmp_path: Path) -> None:
    rec.save_pretrained(tmp_path / "run")
    assert answers(loaded(tmp_path / "run")) == answers(rec)
    old, new = (read_manifest(folder, "run") for folder in (toy_run, tmp_path / "run"))
    same = {"adapter/adapter_model.safetensors", "trie.safetensors", "items.jsonl", "signals.safetensors"}
    assert {name: old["files"][name] for name in same} == {name: new["files"][name] for name in same}


def test_what_was_changed_in_memory_is_saved(rec: Recommender, toy_data: Path, tmp_path: Path) -> None:
    grown = rec.with_items([NEW])
    grown.fusion = tune_fusion(grown, load_prepared(toy_data).split().valid, with_model=5, settings=Settings(k=3))
    grown.save_pretrained(tmp_path / "deep" / "run")
    again = loaded(tmp_path / "deep" / "run")
    assert answers(again) == answers(grown)
    assert NEW.id in again.catalog
    assert again.fusion is not None
    assert again.fusion.to_json() == grown.fusion.to_json()
    assert again.manifest.added_items == 1
    grown.fusion = None
    grown.save_pretrained(tmp_path / "without")
    assert loaded(tmp_path / "without").fusion is None
    assert answers(loaded(tmp_path / "without")) == answers(grown)


def test_nothing_is_overwritten(rec: Recommender, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    rec.save_pretrained(tmp_path / "run")  # an empty folder holds nothing
    before = (tmp_path / "run" / "genrec.json").read_bytes()
    with pytest.raises(ArtefactError, match="exists already; choose another folder or delete it"):
        rec.save_pretrained(tmp_path / "run")
    assert (tmp_path / "run" / "genrec.json").read_bytes() == before


@pytest.mark.parametrize("step", ["write_items", "save_signals", "write_json"])
def test_a_save_that_breaks_off_leaves_nothing(
    step: str, rec: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"genrec.runs.saving.{step}", broken)
    with pytest.raises(KeyboardInterrupt):
        rec.save_pretrained(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


class Own:
    """A signal of a user's."""

    name = "own"

    def score(self, histories: Any) -> Any:
        return np.zeros((len(histories), 30), np.float32)


def test_a_signal_of_ones_own_is_refused(rec: Recommender, tmp_path: Path) -> None:
    rec.signals["own"] = Own()
    rec.fusion = None
    with pytest.raises(ConfigError, match="the signal 'own' is your own, and a run folder holds no code"):
        rec.save_pretrained(tmp_path / "run")
    del rec.signals["own"]
    rec.signals["similarity"] = replace(rec.content, decay=0.9)  # of a known name and kind, and yet another
    with pytest.raises(ConfigError, match="the signal 'similarity' is your own"):
        rec.save_pretrained(tmp_path / "run")
    del rec.signals["latent"]
    with pytest.raises(ConfigError, match="a run folder holds the signals"):
        rec.save_pretrained(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_weights_for_other_signals_are_refused(rec: Recommender, tmp_path: Path) -> None:
    assert rec.fusion is not None
    rec.fusion = replace(rec.fusion, signals=("similarity",))
    with pytest.raises(ConfigError, match="fit them again"):
        rec.save_pretrained(tmp_path / "run")


def test_the_run_must_still_be_what_was_loaded(toy_run: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_run, tmp_path / "run")
    rec = loaded(tmp_path / "run")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "# another\n")
    with pytest.raises(ArtefactError, match=r"recipe.yaml is not what was loaded any more"):
        rec.save_pretrained(tmp_path / "new")
    recipe.unlink()
    with pytest.raises(ArtefactError, match=r"recipe.yaml is missing, which belongs to the run that was loaded"):
        rec.save_pretrained(tmp_path / "new")
    rec.origin = None
    with pytest.raises(ArtefactError, match="was not loaded from a run folder"):
        rec.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()
