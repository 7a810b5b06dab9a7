"""Every saved file can be read by whom the umask lets read it: a nightly job of another account reads the run.

Libraries have ideas of their own: safetensors and `mkdtemp` make what only the owner can read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from genrec.batch.job import recommend_all
from genrec.cli.pretrain import pretrain_into
from genrec.data.catalog import Item
from genrec.data.prepared import load_prepared, save_prepared
from genrec.language import bases as basemodels
from genrec.recommender import Recommender
from genrec.runs.evaluate import evaluate_with
from genrec.runs.grow import add_to_run
from genrec.runs.prefer import prefer_run
from genrec.settings import Settings
from tests import toyworld
from tests.conftest import train_toy
from training.backbone import load_base
from training.preference import PreferenceRecipe
from training.pretrain_recipe import PretrainRecipe


@pytest.fixture(params=[0o022, 0o077], ids=["022", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def wrong(folder: Path, umask: int) -> dict[str, str]:
    """Return what below a folder has other permissions than any new file or folder."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    wanted = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in paths}
    return {str(path): oct(mode) for path, mode in modes.items() if mode != wanted[path]}


def test_all_that_is_saved_follows_the_umask(
    umask: int, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = tmp_path / "world"
    world.mkdir()
    data, run = world / "data", world / "run"
    save_prepared(toyworld.make_data(world, users=12), data)
    # `save_minutes` is as good as nothing, so checkpoints are written; they stay, to be looked at.
    with monkeypatch.context() as patch:
        patch.setattr("genrec.runs.unfinished.shutil.rmtree", lambda *_, **__: None)
        train_toy(toy_base, data, run, epochs=0.2, catalogue_epochs=0.1, tuning_cases=5, save_minutes=1e-9)
    assert list((run / "checkpoints").rglob("*.safetensors")), "no checkpoint was written"
    add_to_run(run, [Item("new", "Red Harbour 7")], world / "more")
    prefer_run(run, load_prepared(data), PreferenceRecipe(cases=2, negatives=1, epochs=0.5), world / "preferred")
    recommender = Recommender.from_pretrained(run)
    small = Settings(k=2, beams=2)
    users = toyworld.make_histories(4)
    for name in ("out.jsonl", "out.parquet"):
        recommend_all(recommender, lambda done: iter(users[done:]), world / name, small, fingerprint={})
    evaluate_with(recommender, load_prepared(data), run, world / "judged", "test", Settings(k=20), (), [])
    recipe = PretrainRecipe(vocabulary=300, width=16, layers=1, epochs=1)
    pretrain_into(data, recipe, world / "base", "hashing")
    assert wrong(world, umask) == {}


def test_the_starter_follows_the_umask(
    umask: int, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cache may serve every account of a machine; unpacking it takes long, so a small model stands in for it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = load_base(str(toy_base), "cpu", None)[0], AutoTokenizer.from_pretrained(toy_base)  # type: ignore[arg-type]
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    monkeypatch.setenv("GENREC_CACHE", str(tmp_path / "cache"))
    assert wrong(basemodels.starter_folder().parent, umask) == {}
