"""Losses go where they are asked to go, and what is not installed is told before anything is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.passes import Pass
from training.recipe import load_recipe, make_recipe
from training.reporting import reported_passes

PASSES = [Pass(1, 3.0, 2.5, 0.1, 1.0), Pass(2, 2.0, 2.0, 0.2, 2.0)]


def report(names: list[str], folder: Path) -> None:
    with reported_passes(names, folder, {"width": 8, "base": None}) as tell:
        for newest in (None, PASSES[0], PASSES[0], PASSES[1]):
            tell(newest)


def test_passes_for_tensorboard(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report(["tensorboard"], tmp_path / "base")
    events = event_accumulator.EventAccumulator(str(tmp_path / "base" / "tensorboard")).Reload()
    for name, values in (("train/loss", [3.0, 2.0]), ("valid/loss", [2.5, 2.0]), ("valid/gain", [0.1, 0.2])):
        shown = [(event.step, round(event.value, 6)) for event in events.Scalars(name)]
        assert shown == list(zip((1, 2), values, strict=True))


def test_passes_for_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed; it is no dependency")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    report(["mlflow"], tmp_path / "films")
    (found,) = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("genrec").experiment_id])
    assert found.info.run_name == "films"
    assert found.data.metrics["valid/gain"] == pytest.approx(0.2)
    assert found.data.params["width"] == "8"


def test_nothing_is_reported_where_nothing_is_asked(tmp_path: Path) -> None:
    report([], tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_recipes_of_before(tmp_path: Path) -> None:
    assert make_recipe({"tensorboard": True}).report_to == ["tensorboard"]
    assert make_recipe({"tensorboard": False}).report_to == []
    (tmp_path / "own.yaml").write_text(make_recipe({"report_to": ["wandb"]}).to_yaml(), encoding="utf-8")
    assert load_recipe(str(tmp_path / "own.yaml")).report_to == ["wandb"]


@pytest.mark.parametrize("verb", ["train", "pretrain", "prefer"])
def test_what_is_missing_is_told_before_the_work(
    verb: str, genrec: Any, toy_run: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.reporting.importlib.util.find_spec", lambda name: None)
    given = ["--run", toy_run] if verb == "prefer" else ["--data", toy_data]
    asked = ["--report-to", "wandb", "--report-to", "mlflow"]
    code, _, told = genrec(verb, *given, "--out", tmp_path / "out", *asked)
    assert code == 2
    assert "report_to=wandb needs an optional library; run: pip install wandb" in told
    assert "report_to=mlflow needs an optional library; run: pip install mlflow" in told
    code, _, told = genrec(verb, *given, "--out", tmp_path / "out", "--report-to", "paper")
    assert (code, "report_to" in told) == (2, True)
    assert list(tmp_path.iterdir()) == []
