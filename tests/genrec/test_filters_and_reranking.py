"""Filters and re-ranking as the recommender applies them: within the search, and on the fused list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrec import ConfigError, History, Recommender, Settings
from genrec.ranking.filters import Filters
from genrec.ranking.reranking import Reranking
from tests.toyworld import SERIES, make_catalog, make_histories

HISTORY = History("", make_catalog().ids[:2])


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


def answer(recommender: Recommender, history: History = HISTORY, **settings: Any) -> list[str]:
    (found,) = recommender.recommend_many([history], Settings(**settings))
    return [entry.item.id for entry in found]


@pytest.mark.parametrize("mode", ["constrained", "free"])
@pytest.mark.parametrize("history", [HISTORY, History("", ())])
def test_all_that_pass_come_back_and_nothing_else(recommender: Recommender, mode: Any, history: History) -> None:
    """Three beams, and a series far from the history: what is filtered out must not use up the search."""
    filters = Filters(only=(("category", SERIES[2]), ("category", SERIES[0])))
    found = answer(recommender, history, k=12 - len(history.items), beams=3, mode=mode, filters=filters)
    passing = [f"{series}{part}" for series in ("red", "the") for part in range(1, 7)]
    assert sorted(found) == sorted(set(passing) - set(history.items))


def test_the_parts_keep_to_the_filters_too(recommender: Recommender) -> None:
    filters = Filters(only=(("category", SERIES[1]),))
    (found,) = recommender.recommend_with_parts([HISTORY], Settings(k=4, beams=4, filters=filters))
    for items in (found.model_alone, found.without_model):
        assert len(items) == 4
        assert all(item.startswith("nig") for item in items)


def test_fewer_come_back_where_fewer_pass(recommender: Recommender) -> None:
    filters = Filters(only=(("category", SERIES[0]),))
    assert len(answer(recommender, k=10, filters=filters)) == 4


def test_another_filter_is_another_answer(recommender: Recommender) -> None:
    """What is kept of one filter's look-up must not serve the next."""
    first, second = (Filters(only=(("category", series),)) for series in SERIES[3:])
    for filters, start in ((first, "caf"), (second, "moo"), (first, "caf")):
        assert {item[:3] for item in answer(recommender, k=6, filters=filters)} == {start}
    assert answer(recommender, k=5) == answer(recommender, k=5, filters=Filters())


def test_a_misspelt_filter_is_told(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match="no item has the category 'Nite Train'; there is, for example: night train"):
        recommender.recommend(["Night Train 1"], filters=Filters(only=(("category", "Nite Train"),)))


def test_at_most_so_many_of_a_category(recommender: Recommender) -> None:
    found = answer(recommender, k=5, reranking=Reranking(max_per_category=1))
    assert len({item[:3] for item in found}) == 5
    assert found[0] == answer(recommender, k=5)[0]


def test_diversity_spreads_the_list_and_keeps_its_head(recommender: Recommender) -> None:
    def spread(items: list[str]) -> float:
        vectors = recommender.content.embeddings[recommender.catalog.rows(items)]
        return float(1 - (vectors @ vectors.T)[np.triu_indices(len(items), 1)].mean())

    plain = answer(recommender, k=6)
    varied = answer(recommender, k=6, reranking=Reranking(diversity=0.5))
    assert varied[0] == plain[0]
    assert spread(varied) > spread(plain)


def test_a_discount_leads_away_from_what_is_popular(recommender: Recommender) -> None:
    popular = recommender.signals["popularity"].scores  # type: ignore[attr-defined]
    plain, discounted = (
        answer(recommender, k=8, reranking=Reranking(discount_popularity=discount)) for discount in (0.0, 3.0)
    )
    rows = recommender.catalog.rows
    assert popular[rows(discounted)].mean() < popular[rows(plain)].mean()


def test_calibration_follows_the_users_own_mix(recommender: Recommender) -> None:
    mixed = History("", ("red1", "caf1", "red2", "caf2"))
    found = answer(recommender, mixed, k=6, reranking=Reranking(calibration=0.95))
    assert sorted(item[:3] for item in found) == ["caf"] * 3 + ["red"] * 3


def test_a_batch_gives_what_single_calls_give(recommender: Recommender) -> None:
    wishes = {"filters": Filters(without=(("category", SERIES[4]),)), "reranking": Reranking(0.3, 2, 0.2, 0.2)}
    histories = list(make_histories(9, seed=4))
    together = recommender.recommend_many(histories, Settings(k=5, **wishes))
    for history, found in zip(histories, together, strict=True):
        assert answer(recommender, history, k=5, **wishes) == [entry.item.id for entry in found]
        assert [entry.rank for entry in found] == [1, 2, 3, 4, 5]
