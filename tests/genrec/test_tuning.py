"""Fitting the fusion: on validation cases only, the same every time, and open to a signal of one's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from genrec import ConfigError, Recommender, Settings
from genrec.artefacts import read_json
from genrec.catalog import Catalog
from genrec.errors import DataError
from genrec.forest import fit_forest, forest_scores, model_features
from genrec.interactions import load_prepared
from genrec.ranking import Fusion, ModelCase, fit_model, fuse_reciprocal_ranks
from genrec.runs import fit_fusion
from genrec.splits import Case, History
from genrec.tuning import tune_fusion
from tests.toyworld import PARTS, make_catalog
from training.recipe import make_recipe


@pytest.fixture(scope="module")
def loaded(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.fixture
def recommender(loaded: Recommender) -> Recommender:
    """A recommender that a test may change."""
    return replace(loaded, signals=dict(loaded.signals))


@pytest.fixture(scope="module")
def valid(toy_data: Path) -> tuple[Case, ...]:
    return load_prepared(toy_data).split().valid


def test_a_run_holds_the_weights_that_validation_cases_give(
    recommender: Recommender, valid: tuple[Case, ...], toy_run: Path
) -> None:
    saved = recommender.fusion
    assert saved == Fusion.from_json(read_json(toy_run / "fusion.json"))
    again = tune_fusion(recommender, valid, with_model=200)
    assert again.signals == saved.signals
    assert again.to_json() == saved.to_json()
    assert recommender.fusion == again  # and is used from now on


def test_the_seed_draws_the_cases_and_nothing_else(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    first, second = (tune_fusion(recommender, valid, with_model=12, seed=3) for _ in range(2))
    assert first == second
    assert first.model_cases <= 12


def test_a_case_whose_item_is_no_candidate_is_left_out(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    seen = [Case(case.history, case.history.items[0]) for case in valid[:5]]  # what was seen is never a candidate
    with pytest.raises(DataError, match="no validation case whose item is among the candidates"):
        tune_fusion(recommender, seen, with_model=5)
    nothing = [Case(History(case.history.user, ()), case.target) for case in valid[:5]]
    with pytest.raises(DataError, match="no validation case"):
        tune_fusion(recommender, nothing, with_model=5)
    assert tune_fusion(recommender, [*valid[:6], *seen, *nothing], with_model=16).cases == 6


def test_progress_counts_the_cases_that_the_model_is_asked(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    told: list[tuple[int, int]] = []
    tune_fusion(recommender, valid, with_model=7, progress=lambda done, total: told.append((done, total)))
    assert told == [(7, 7)]


# A signal of one's own: a class with a name and a score.


@dataclass
class NextPart:
    """Who has seen part n sees part n + 1 of the same series."""

    name: ClassVar[str] = "next-part"
    catalog: Catalog

    def score(self, histories):
        scores = np.zeros((len(histories), len(self.catalog)), np.float32)
        for row, history in enumerate(histories):
            for item in history.items[-1:]:
                following = self.catalog.row(item) + 1
                if following % PARTS:
                    scores[row, following] = 1.0
        return scores


def test_a_signal_of_ones_own_joins_and_is_tuned(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    recommender.signals["next-part"] = NextPart(recommender.catalog)
    with pytest.raises(ConfigError, match=r"there are .*next-part; fit them again with genrec\.tuning\.tune_fusion"):
        recommender.recommend(["Red Harbour 1"])
    fusion = tune_fusion(recommender, valid, with_model=30)
    assert fusion.signals[-1] == "next-part"
    assert fusion.weights[-1] > 0.5  # it is always right, and is trusted
    assert "next-part" in fusion.describe()
    (found,) = recommender.recommend_many([History("", make_catalog().ids[:2])], Settings(k=3))
    assert found[0].item.title == "Red Harbour 3"
    assert found[0].signals["next-part"] == 1.0
    assert found[1].signals["next-part"] == 0.0


def test_a_forest_ranks_beside_the_sum(loaded: Recommender, valid: tuple[Case, ...]) -> None:
    """Scores are the evidence plus the model's part, the best by the forest come back, whatever the batch."""
    draw = np.random.default_rng(0)
    features = [draw.random((12, len(loaded.signals) + 1)).astype(np.float32) for _ in range(150)]
    forest = fit_forest(features, [int(rows[:, 0].argmin()) for rows in features], seed=0)
    assert loaded.fusion is not None
    recommender = replace(loaded, fusion=replace(loaded.fusion, forest=forest, forest_weight=50.0))
    histories = [case.history for case in valid[:9]]
    plain, forested = (one.recommend_many(histories, Settings(k=5)) for one in (loaded, recommender))
    assert [[entry.item.id for entry in answer] for answer in forested] != [
        [entry.item.id for entry in answer] for answer in plain
    ]
    for history, answer in zip(histories, forested, strict=True):
        (own,) = recommender.candidates([history], Settings(k=5))
        assert own.evidence == pytest.approx(recommender.fusion.evidence(own.values, own.shares, len(history.items)))
        scores = own.evidence + recommender.fusion.model * own.likelihoods
        assert [entry.score for entry in answer] == pytest.approx(sorted(scores.tolist(), reverse=True)[:5], abs=1e-4)
    again = recommender.recommend_many(histories, Settings(k=5, batch_size=2))
    assert [[entry.item.id for entry in answer] for answer in again] == [
        [entry.item.id for entry in answer] for answer in forested
    ]


def test_the_model_is_weighed_against_evidence_that_has_not_seen_the_case(
    recommender: Recommender, valid: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forest knows the cases it was fitted on by heart; beside that a model would have nothing to add."""
    weighed: list[ModelCase] = []
    monkeypatch.setattr("genrec.ranking.ENOUGH_CASES", 20)
    monkeypatch.setattr("genrec.forest.FOREST_WEIGHTS", (1.0,))
    monkeypatch.setattr(
        "genrec.tuning.fit_model", lambda fusion, cases, seed: weighed.extend(cases) or fit_model(fusion, cases, seed)
    )
    fusion = tune_fusion(recommender, valid, with_model=40)
    assert fusion.forest_weight == 1
    assert len(weighed) >= 20
    differ = [
        np.abs(case.evidence - fusion.evidence(case.values, case.shares, case.length)).max() > 1e-6 for case in weighed
    ]
    assert np.mean(differ) > 0.5


def test_trees_that_read_the_model_rank(loaded: Recommender, valid: tuple[Case, ...]) -> None:
    draw = np.random.default_rng(2)
    features = [draw.random((12, len(loaded.signals) + 3)).astype(np.float32) for _ in range(150)]
    forest = fit_forest(features, [int(rows[:, -1].argmin()) for rows in features], seed=0)
    assert loaded.fusion is not None
    fusion = replace(loaded.fusion, model=0.0, model_forest=forest, model_forest_weight=50.0)
    recommender, history = replace(loaded, fusion=fusion), valid[0].history
    (own,) = recommender.candidates([history], Settings(k=5))
    trees = forest_scores(forest, model_features(own.shares, own.length, own.likelihoods))
    expected = fusion.linear(own.values) + np.float32(50.0) * trees
    (answer,) = recommender.recommend_many([history], Settings(k=5))
    assert [entry.score for entry in answer] == pytest.approx(sorted(expected.tolist(), reverse=True)[:5], abs=1e-4)
    assert [entry.item.id for entry in answer] != [
        entry.item.id for entry in loaded.recommend_many([history], Settings(k=5))[0]
    ]


def test_the_forest_chooses_the_candidates(loaded: Recommender, valid: tuple[Case, ...]) -> None:
    draw = np.random.default_rng(1)
    features = [draw.random((12, len(loaded.signals) + 1)).astype(np.float32) for _ in range(150)]
    forest = fit_forest(features, [int(rows[:, 0].argmin()) for rows in features], seed=0)
    assert loaded.fusion is not None
    recommender = replace(loaded, fusion=replace(loaded.fusion, forest=forest, forest_weight=50.0))
    history, settings = valid[0].history, Settings(k=2)
    (few,) = recommender.candidates([history], settings, count=4, ask_model=False)
    (all_of_them,) = recommender.candidates([history], settings, count=100, ask_model=False)
    best = all_of_them.rows[np.lexsort((recommender.order[all_of_them.rows], -all_of_them.evidence))]
    assert few.rows.tolist() == best[:4].tolist()


def test_without_weights_lists_are_fused_by_reciprocal_ranks(loaded: Recommender) -> None:
    recommender = replace(loaded, fusion=None)
    history = History("", make_catalog().ids[6:9])
    (answer,) = recommender.recommend_with_parts([history], Settings(k=30, beams=5))
    row = recommender.catalog.row
    (own,) = recommender.candidates([history], Settings(k=30, beams=5))
    expected = fuse_reciprocal_ranks([own.found.rows.tolist(), [row(item) for item in answer.without_model]])
    scores = {row(entry.item.id): entry.score for entry in answer.recommendations}
    assert scores == pytest.approx(dict(expected), abs=1e-6)
    assert [entry.score for entry in answer.recommendations] == sorted(scores.values(), reverse=True)


def test_no_tuning_cases_no_weights(valid: tuple[Case, ...], tmp_path: Path) -> None:
    def never() -> Recommender:
        raise AssertionError("nothing is to be loaded where nothing is tuned")

    recipe = make_recipe({"base": "starter", "tuning_cases": 0})
    fit_fusion(never, valid, recipe, tmp_path)
    fit_fusion(never, (), make_recipe({"base": "starter"}), tmp_path)
    assert not list(tmp_path.iterdir())
