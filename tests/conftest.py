"""What many tests share: real tokenizers, a toy world with a known answer, and one small trained run over it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may need a hub
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # as the command line sets it

import pytest

from tests import toyworld


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="needs a GPU; torch finds none"))


@pytest.fixture(scope="session")
def starter_tokenizer() -> Any:
    from genrec.language.bases import resolve_base
    from training.backbone import load_tokenizer

    return load_tokenizer(resolve_base("starter"))


@pytest.fixture(scope="session")
def toy_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama that has read the toy world, as a base model's folder."""
    return toyworld.make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy world as a data folder."""
    from genrec.data.prepared import save_prepared

    folder = tmp_path_factory.mktemp("toy")
    save_prepared(toyworld.make_data(folder), folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory, toy_base: Path, toy_data: Path) -> Path:
    """A finished run over the toy world; tests that break it work on a copy."""
    return train_toy(toy_base, toy_data, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def genrec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Call the command line in this process; returns exit code, stdout and stderr."""
    from genrec.cli.main import run

    monkeypatch.delenv("GENREC_DEBUG", raising=False)

    def call(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["genrec", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            run()
        shown = capsys.readouterr()
        return int(caught.value.code or 0), shown.out, shown.err

    return call


def train_toy(base: Path, data: Path, out: Path, **changes: Any) -> Path:
    from genrec.data.prepared import load_prepared
    from genrec.runs.train import train_run
    from genrec.storage.folders import MANIFEST, fingerprint
    from training.recipe import make_recipe

    values = {
        "base": str(base), "max_tokens": 128, "batch_tokens": 512, "epochs": 4, "learning_rate": 3e-3,
        "precision": "fp32", **changes,
    }  # fmt: skip
    train_run(
        load_prepared(data),
        make_recipe(values),
        out,
        data_fingerprint=fingerprint(data / MANIFEST),
        data_folder=str(data),
        encoder="hashing",
    )
    return out
