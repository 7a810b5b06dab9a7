"""Fitting the fusion: on validation cases only, the same every time, and open to a signal of one's own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from genrec import ConfigError, Recommender, Settings
from genrec.data.catalog import Catalog
from genrec.data.prepared import load_prepared
from genrec.data.splits import Case, History
from genrec.errors import DataError
from genrec.ranking.cases import FOLDS
from genrec.ranking.forest import fit_forest, forest_scores, model_features
from genrec.ranking.fusion import Fusion, fuse_reciprocal_ranks
from genrec.runs.folder import apply_fusion
from genrec.runs.tuning import tune_fusion
from genrec.runs.weights import FEWEST_CASES, fit_fusion
from genrec.storage.folders import read_json
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
    assert tune_fusion(recommender, valid).to_json() == saved.to_json()


def test_a_fit_leaves_the_recommender_as_it_was(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    before = recommender.fusion
    fusion = tune_fusion(recommender, valid, with_model=10, seed=4)
    assert recommender.fusion is before
    assert fusion != before
    with pytest.raises(DataError):
        tune_fusion(recommender, ())
    assert recommender.fusion is before


def test_the_seed_draws_the_cases_and_nothing_else(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    first, second = (tune_fusion(recommender, valid, with_model=12, seed=3) for _ in range(2))
    assert first == second
    assert first.model_cases == 12


def test_a_case_whose_item_is_no_candidate_is_a_miss(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    seen = [Case(case.history, case.history.items[0]) for case in valid[:5]]  # what was seen is never a candidate
    with pytest.raises(DataError, match="no validation case whose item is among the candidates"):
        tune_fusion(recommender, seen, with_model=5)
    nothing = [Case(History(case.history.user, ()), case.target) for case in valid[:5]]
    with pytest.raises(DataError, match="no validation case"):
        tune_fusion(recommender, nothing, with_model=5)
    found = tune_fusion(recommender, [*valid[:6], *seen, *nothing], with_model=16)
    assert found.cases == 6
    assert found.proof is not None
    assert found.proof.cases == 11  # those that were seen count as misses; who has no history is asked nothing
    assert found.proof.recalls["all together"] == pytest.approx(6 / 11, abs=1e-4)


def test_progress_counts_the_cases_that_the_model_is_asked(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    told: list[tuple[int, int]] = []
    tune_fusion(recommender, valid, with_model=7, progress=lambda done, total: told.append((done, total)))
    assert told == [(7, 7)]


def test_the_length_of_the_lists_and_what_was_seen_are_kept(recommender: Recommender, valid: tuple[Case, ...]) -> None:
    fusion = tune_fusion(recommender, valid, 20, settings=Settings(k=5, exclude_seen=False))
    assert (fusion.k, fusion.exclude_seen) == (5, False)
    assert "NDCG@5" in " ".join(fusion.to_words())


def test_candidates_of_a_case_are_chosen_by_a_fit_that_does_not_know_it(
    recommender: Recommender, valid: tuple[Case, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit that knows a case puts its item among the candidates, and the model finds it there."""
    asked: list[tuple[Fusion | None, int]] = []
    plain = Recommender.candidates

    def noted(self: Recommender, histories: Any, *rest: Any) -> Any:
        asked.append((self.fusion, len(histories)))
        return plain(self, histories, *rest)

    monkeypatch.setattr(Recommender, "candidates", noted)
    fusion = tune_fusion(recommender, valid)
    by_folds = [(own, count) for own, count in asked if own is not None]
    assert len(by_folds) == FOLDS
    assert sum(count for _, count in by_folds) == len(valid)
    assert all(own.cases < fusion.cases for own, _ in by_folds)


def test_a_finished_run_is_tuned_again(toy_run: Path, valid: tuple[Case, ...], tmp_path: Path) -> None:
    run = shutil.copytree(toy_run, tmp_path / "run")
    before = Recommender.from_pretrained(run, precision="fp32")
    fusion = tune_fusion(before, valid, 10, 4, Settings(k=3))
    apply_fusion(run, fusion)
    assert Recommender.from_pretrained(run, precision="fp32").fusion == fusion  # and the manifest knows the new file
    monkey = replace(fusion, scales=(float("nan"),) * len(fusion.scales))
    with pytest.raises(ValueError, match="JSON"):
        apply_fusion(run, monkey)
    assert Recommender.from_pretrained(run, precision="fp32").fusion == fusion
    assert not list(run.glob(".*"))


def test_a_fit_that_tells_nothing_loses_no_run(
    recommender: Recommender, valid: tuple[Case, ...], tmp_path: Path
) -> None:
    seen = [Case(case.history, case.history.items[0]) for case in valid[:5]]
    fit_fusion(lambda: recommender, seen, make_recipe({"base": "starter"}), tmp_path)
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(ConfigError, match=r"there are .*next-part; fit them again with genrec\.runs"):
        recommender.recommend(["Red Harbour 1"])
    recommender.fusion = fusion = tune_fusion(recommender, valid, with_model=30)
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
    plain_sum = replace(loaded.fusion, model=0.5, model_forest="", model_forest_weight=0.0, others_weight=1.0)
    recommender = replace(loaded, fusion=replace(plain_sum, forest=forest, forest_weight=50.0))
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
    assert "tuning_cases=0" in fit_fusion(never, valid, recipe, tmp_path)
    wanted = make_recipe({"base": "starter"})
    for cases in ((), valid[:1], valid[: FEWEST_CASES - 1], [Case(History("", ()), case.target) for case in valid]):
        assert "validation cases to fit them on" in fit_fusion(never, cases, wanted, tmp_path)
    assert not list(tmp_path.iterdir())


def test_enough_cases_give_weights(loaded: Recommender, valid: tuple[Case, ...], tmp_path: Path) -> None:
    recipe = make_recipe({"base": "starter", "tuning_cases": 20})
    assert fit_fusion(lambda: replace(loaded), valid[:FEWEST_CASES], recipe, tmp_path) == ""
    assert (tmp_path / "fusion.json").exists()


def test_cases_that_cannot_be_fitted_on_cost_no_run(
    loaded: Recommender, valid: tuple[Case, ...], tmp_path: Path
) -> None:
    """Seen items are left out, and every case's item was seen: training is over by then and must not be lost."""
    seen = [Case(case.history, case.history.items[0]) for case in valid]
    recipe = make_recipe({"base": "starter", "tuning_cases": 20})
    told = fit_fusion(lambda: replace(loaded), seen, recipe, tmp_path)
    assert bool(told) != (tmp_path / "fusion.json").exists()
