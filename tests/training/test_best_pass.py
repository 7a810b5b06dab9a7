"""The best pass is kept: by figures that are given, in a run over the toy world, and after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict

from genrec.data.prepared import load_prepared
from genrec.recommender import Recommender
from genrec.runs.judging import run_ndcg
from genrec.storage.folders import read_manifest
from tests.conftest import train_toy
from tests.training.test_finetune import TOKENS, make_examples, make_model, recipe
from training.best_pass import JudgedPass, best_of
from training.finetune import finetune


def fine_tuned(folder: Path, figures: list[float], resume: bool = False, **changes: Any) -> tuple[Any, Any, list[Any]]:
    """Fine-tune a tiny model under a judge that gives these figures; returns also the adapter after each pass."""
    seen: list[Any] = []

    def judge_of(adapted: Any) -> Any:
        def judge() -> float:
            seen.append({name: tensor.clone() for name, tensor in get_peft_model_state_dict(adapted).items()})
            return figures[len(seen) - 1]

        return judge

    adapted, outcome = finetune(
        make_model(), "causal", make_examples(), recipe(epochs=len(figures), learning_rate=1e-2, **changes), folder,
        catalogue_tokens=TOKENS, resume=resume, judge_of=judge_of,
    )  # fmt: skip
    return adapted, outcome, seen


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_of_equal_passes_the_first_is_the_best() -> None:
    passes = [JudgedPass(1, 5, 0.2), JudgedPass(2, 10, 0.4), JudgedPass(3, 15, 0.4)]
    assert best_of(passes).number == 2


def test_the_adapter_of_the_best_pass_is_kept(tmp_path: Path) -> None:
    adapted, outcome, seen = fine_tuned(tmp_path, [0.1, 0.3, 0.2])
    assert [one.figure for one in outcome.passes] == pytest.approx([0.1, 0.3, 0.2])
    kept = get_peft_model_state_dict(adapted)
    assert same(kept, seen[1])
    assert not same(kept, seen[2])


def test_training_stops_when_no_pass_is_better_for_a_while(tmp_path: Path) -> None:
    _, outcome, seen = fine_tuned(tmp_path, [0.3, 0.2, 0.1, 0.4, 0.5], patience=2)
    assert len(seen) == len(outcome.passes) == 3


def test_a_resumed_training_knows_the_passes_before(tmp_path: Path) -> None:
    """What a killed training left: its checkpoints, and the best pass beside them."""
    fine_tuned(tmp_path, [0.9, 0.1], save_minutes=1e-9)
    adapted, outcome, seen = fine_tuned(tmp_path, [0.5, 0.4, 0.3], resume=True)
    assert outcome.passes[0].figure == pytest.approx(0.9)
    assert not any(same(get_peft_model_state_dict(adapted), one) for one in seen)


def test_a_run_serves_the_pass_that_its_manifest_names(toy_run: Path, toy_data: Path) -> None:
    training = read_manifest(toy_run, "run")["training"]
    assert len(training["passes"]) == 4
    assert training["passes"][training["kept_pass"] - 1] == max(training["passes"])
    # All 40 cases were asked, of the model alone, with the very decoder that serves.
    served = run_ndcg(Recommender.from_pretrained(toy_run, precision="fp32"), load_prepared(toy_data).split().valid)
    assert served.mean() == pytest.approx(max(training["passes"]), abs=0.02)


def test_zero_judged_cases_keep_the_last_pass(toy_base: Path, toy_data: Path, tmp_path: Path) -> None:
    run = train_toy(toy_base, toy_data, tmp_path / "run", epochs=2, judged_cases=0, tuning_cases=0)
    assert "passes" not in read_manifest(run, "run")["training"]
