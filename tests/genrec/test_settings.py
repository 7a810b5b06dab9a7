"""Settings refuse what cannot be meant, and `recommend` and `recommend_many` take the same options."""

from __future__ import annotations

import inspect
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from genrec import ConfigError, History, Recommender, Settings
from genrec.explain.evidence import Wording
from tests.toyworld import make_catalog


@pytest.fixture(scope="module")
def recommender(toy_run: Path) -> Recommender:
    return Recommender.from_pretrained(toy_run, precision="fp32")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"k": 0}, "k is 0; expected a whole number from 1"),
        ({"k": True}, "k is True; expected a whole number"),
        ({"beams": 2.5}, "beams is 2.5; expected a whole number"),
        ({"batch_size": -1}, "batch_size is -1; expected a whole number"),
        ({"mode": "fast"}, "mode is 'fast'; expected constrained, free"),
        ({"explain": "poem"}, "explain is 'poem'; expected none, sentence, measured, words"),
        ({"exclude_seen": "no"}, "exclude_seen is 'no'; expected True, False or None"),
        ({"wording": "zh"}, r"wording is a str; expected Wording; give genrec.explain.evidence.Wording\(...\)"),
        ({"filters": {"only": ()}}, "filters is a dict; expected Filters"),
        ({"reranking": 0.3}, "reranking is a float; expected Reranking"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Settings(**wrong)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(k=0, beams=0, mode="fast", explain="poem")  # type: ignore[arg-type]
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("wrong", [{"language": "de"}, {"tone": "cold"}, {"length": "longest"}])
def test_a_wording_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"; expected .*; choose one of them"):
        Wording(**wrong)


def test_an_unknown_option_is_told_with_the_nearest(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match="recommend has no option 'filter'; did you mean 'filters'"):
        recommender.recommend(["Night Train 1"], filter=None)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="recommend_many has no option 'beam'; did you mean 'beams'"):
        recommender.recommend_many([["Night Train 1"]], beam=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="has no option 'zzz'; there are history, k, taste"):
        recommender.recommend(["Night Train 1"], zzz=3)  # type: ignore[call-arg]


def test_one_and_many_take_the_same_options_with_the_same_defaults() -> None:
    one, many = (
        {name: entry.default for name, entry in inspect.signature(function).parameters.items()}
        for function in (Recommender.recommend, Recommender.recommend_many)
    )
    own = {"self", "history", "histories", "taste", "settings"}
    assert {name: one[name] for name in one if name not in own} == {
        name: many[name] for name in many if name not in own
    }
    # Those of `Settings` too, but for explaining; see there.
    options = {name: one[name] for name in one if name not in own}
    assert Settings(**options) == Settings(explain="sentence")


def test_many_are_recommended_for_as_one_is(recommender: Recommender) -> None:
    titles, ids = ["Night Train 1", "Night Train 2"], make_catalog().ids[:3]
    together = recommender.recommend_many([titles, History("", ids)], k=4, beams=5)
    alone = [recommender.recommend(titles, 4, beams=5), recommender.recommend(ids, 4, beams=5)]
    for one, other in zip(chain(*together), chain(*alone), strict=True):
        assert (one.rank, one.item, one.how, one.explanation) == (other.rank, other.item, other.how, other.explanation)
        assert one.score == pytest.approx(other.score, abs=1e-2)  # sums of another order, in bf16 where `auto` is that
    assert all(entry.explanation for entry in together[0])


def test_settings_and_options_are_not_mixed(recommender: Recommender) -> None:
    with pytest.raises(ConfigError, match="put the options into the Settings"):
        recommender.recommend_many([["Night Train 1"]], Settings(), k=3)
