"""The waterfall: parts sum to the score, and what an item needs to be first is enough, on every way to fuse."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import History, Recommendation, Recommender, Settings
from genrec.ranking.forest import fit_forest, forest_parts, forest_scores
from genrec.ranking.fusion import Fusion
from genrec.ranking.reranking import Reranking
from genrec.ranking.waterfall import BASE, waterfalls
from tests.toyworld import make_histories

HISTORIES = [*make_histories(194, seed=9), *(History("", (), (), taste) for taste in ("night train", "harbour"))]
HISTORIES += [
    History("", ()),
    replace(make_histories(1)[0], taste="a valley"),
    History("", ("red1",)),
    History("", ("nig1",) * 3),
]


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


def forest_over(features: int) -> str:
    draw = np.random.default_rng(0)
    cases = [draw.random((30, features)).astype(np.float32) for _ in range(60)]
    return fit_forest(cases, [int(rows[:, 0].argmax()) for rows in cases], seed=0)


def fusions(recommender: Recommender) -> dict[str, Fusion | None]:
    names = tuple(recommender.signals)
    weights, scales = (
        tuple(0.3 * place - 0.5 for place in range(len(names))),
        tuple(1.0 + place for place in range(len(names))),
    )
    plain = Fusion(names, scales, weights, 0.7, 100, 100)
    trees = replace(plain, forest=forest_over(len(names) + 1), forest_weight=0.8, others_weight=0.6)
    return {
        "none": None,
        "sum": plain,
        "forest": trees,
        "forest with lm": replace(trees, model_forest=forest_over(len(names) + 3), model_forest_weight=1.3),
        "model alone": replace(plain, others_weight=0.0),
    }


@pytest.mark.parametrize("how", ["none", "sum", "forest", "forest with lm", "model alone"])
def test_parts_sum_to_the_score_of_every_item_of_200_lists(recommender: Recommender, how: str) -> None:
    judged = replace(recommender, fusion=fusions(recommender)[how])
    lists = judged.recommend_many(HISTORIES, Settings(k=10, waterfall=True))
    assert len(lists) == 200
    for own in lists:
        for entry in own:
            assert entry.waterfall is not None
            assert abs(sum(entry.waterfall.parts.values()) - entry.score) < 1e-5
        check_needs(own)


def check_needs(own: Sequence[Recommendation]) -> None:
    """With the first item's parts where they are needed, an item is ahead; with one fewer it is not."""
    first = own[0].waterfall
    assert first is not None
    assert (first.needs, first.gap) == ((), 0)
    for entry in own[1:]:
        fall = entry.waterfall
        assert fall is not None
        assert fall.gap == pytest.approx(own[0].score - entry.score, abs=1e-5)
        if fall.gap > 1e-4:
            wins = [first.parts[name] - fall.parts[name] for name in fall.needs]
            assert sum(wins) > fall.gap - 1e-9 or sum(wins) == pytest.approx(fall.gap)
            assert not wins[:-1] or sum(wins[:-1]) <= fall.gap


def test_the_model_and_the_signals_are_told_apart(recommender: Recommender) -> None:
    judged = replace(recommender, fusion=fusions(recommender)["sum"])
    (own,) = judged.recommend_many(HISTORIES[:1], Settings(k=5, waterfall=True))
    for entry in own:
        assert entry.waterfall is not None
        likelihood = entry.signals["lm"]
        assert likelihood is not None
        assert entry.waterfall.parts["lm"] == pytest.approx(0.7 * likelihood, abs=1e-4)
        assert {BASE, "lm", "collaborative"} <= set(entry.waterfall.parts)


def test_a_forest_is_shared_out_exactly() -> None:
    text, features = forest_over(4), np.random.default_rng(1).random((50, 4)).astype(np.float32)
    parts = forest_parts(text, features)
    assert parts.shape == (50, 5)
    np.testing.assert_allclose(parts.sum(axis=1), forest_scores(text, features), atol=1e-5)
    assert np.abs(parts[:, 0]).mean() > np.abs(parts[:, 1:4]).mean()  # what decides gets most
    assert forest_parts(text, features[:0]).shape == (0, 5)


def test_what_is_needed_by_hand() -> None:
    parts = {"a": np.array([3.0, 1.0, 0.0]), "b": np.array([1.0, 2.0, 0.5]), BASE: np.zeros(3)}
    first, second, third = waterfalls(parts, [0, 1, 2])
    assert (first.gap, first.needs) == (0, ())
    assert (second.gap, second.needs) == (1, ("a",))
    assert (third.gap, third.needs) == (3.5, ("a", "b"))


def test_it_is_written_and_read_back_and_left_out_unless_asked_for(recommender: Recommender) -> None:
    (own,) = recommender.recommend_many(
        HISTORIES[:1], Settings(k=3, waterfall=True, reranking=Reranking(diversity=0.5))
    )
    for entry in own:
        told = json.loads(json.dumps(entry.to_json()))
        assert Recommendation.from_json(told, entry.item).to_json() == told
        assert set(told["waterfall"]) == {"parts", "to_be_first"}
    (plain,) = recommender.recommend_many(HISTORIES[:1], Settings(k=3))
    assert "waterfall" not in plain[0].to_json()


def test_the_command_writes_it(genrec: Any, toy_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists.jsonl"
    code, _, error = genrec("recommend", "--run", toy_run, "--k", "2", "--out", out, "--waterfall")
    assert code == 0, error
    entry = json.loads(out.read_text(encoding="utf-8").splitlines()[0])["recommendations"][1]
    assert sum(entry["waterfall"]["parts"].values()) == pytest.approx(entry["score"], abs=1e-5)
    code, _, error = genrec("recommend", "--run", toy_run, "--out", tmp_path / "lists.parquet", "--waterfall")
    assert code == 2
    assert "give a name in .jsonl" in error
