"""Figures for the quality of explanations: faithfulness, validity and variety.

Faithfulness compares two falls of the item's log-likelihood under the recommending model: without the cited items, and
without as many random items of the history. An explanation that cites irrelevant items scores 1. Random items are drawn
from the same newest items as the evidence, the cited ones included. Older items matter less, so drawing from them would
make the figure too high.

Faithfulness is a ratio of means over users, because a single random fall near 0 would dominate a mean of ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from genrec.data.catalog import Item
from genrec.data.splits import History
from genrec.evaluation.texts import (
    coverage_ratio,
    distinct,
    feature_diversity,
    features_in,
    matching_ratio,
    unique_ratio,
    words_of,
)
from genrec.evaluation.uncertainty import Estimate, FloatArray, bootstrap_means, bootstrap_ratio
from genrec.explain.check import citations_are_valid
from genrec.explain.evidence import Explain
from genrec.explain.influence import NEWEST, log_likelihoods
from genrec.explain.writer import Explanation
from genrec.ranking.ranker import Ranked
from genrec.recommender import Recommender
from genrec.report.explanation_figures import FIGURES
from genrec.settings import Settings

DRAWS = 5
"""The number of random sets with which each recommendation's cited items are compared."""

COMPARED: tuple[Explain, ...] = ("sentence", "measured", "words")


@dataclass(frozen=True, slots=True)
class Drops:
    """The falls of the log-likelihood of one user's recommendations, in nats.

    Attributes:
        cited: float64 [recommendations]; without the cited items; NaN if no cited item is in the prompt.
        random: float64 [recommendations]; without as many random items, a mean over draws; NaN in the same cases.
    """

    cited: FloatArray
    random: FloatArray


def drops_of(
    recommender: Recommender,
    history: History,
    items: Sequence[Item],
    cited: Sequence[Sequence[Item]],
    seed: int = 0,
    draws: int = DRAWS,
) -> Drops:
    """Measure how much the cited items matter to the recommending model.

    Args:
        recommender: the run with the model.
        history: one user's history.
        items: the recommended items.
        cited: for each of these, the items of the history that its explanation cites.
        seed: the seed of the random items.
        draws: the number of random sets for each recommendation.
    """
    nothing = np.full(len(items), np.nan)
    if not history.items or not items:
        return Drops(nothing, nothing)
    parts = recommender.encoder.parts([recommender.catalog[item].label for item in history.items])
    kept = history.items[len(history.items) - len(parts.items) :]
    newest = sorted(set(kept[-NEWEST:]))
    draw = np.random.default_rng([seed, len(history.items)])
    variants: list[tuple[int, ...]] = [()]
    spans = []
    for own in cited:
        present = [item.id for item in own if item.id in kept]
        spans.append(len(variants) if present else 0)
        if present:
            size = min(len(present), len(newest))
            at_random_sets = [draw.choice(newest, size, replace=False).tolist() for _ in range(draws)]
            variants += [_places(kept, chosen) for chosen in (present, *at_random_sets)]
    rows = np.array(recommender.catalog.rows(item.id for item in items), np.int64)
    scores = log_likelihoods(recommender.decoder, parts, rows, variants).astype(np.float64)
    falls = scores[0] - scores
    with_items = nothing.copy()
    at_random = nothing.copy()
    for place, start in enumerate(spans):
        if start:
            with_items[place] = falls[start, place]
            at_random[place] = falls[start + 1 : start + 1 + draws, place].mean()
    return Drops(with_items, at_random)


def measure_explanations(
    recommender: Recommender, histories: Sequence[History], answers: Sequence[Ranked], seed: int = 0
) -> dict[str, Estimate]:
    """Return the figures of explanations; see `explanation_figures`.

    Args:
        recommender: the run that recommended and explained.
        histories: whose.
        answers: the results of `recommend_with_parts`, with explanations; intervals are over users.
        seed: of random items and of the bootstrap.

    Returns:
        The figures by name; an undefined figure (for example, if nothing is cited) is left out.
    """
    drops = [
        drops_of(recommender, history, *_recommended(answer), seed + place)
        for place, (history, answer) in enumerate(zip(histories, answers, strict=True))
    ]
    valid = [
        [
            citations_are_valid(one.text, item, [recommender.catalog[own] for own in history.items])
            for item, one in zip(_recommended(answer)[0], answer.explanations, strict=True)
        ]
        for history, answer in zip(histories, answers, strict=True)
    ]
    texts = [[one.text for one in answer.explanations] for answer in answers]
    vocabulary = recommender.explainer.facts.vocabulary
    held = [[features_in(text, vocabulary) for text in own] for own in texts]
    columns = {
        "drop_cited": [_mean(one.cited) for one in drops],
        "drop_random": [_mean(one.random) for one in drops],
        "drop_beyond_random": [_mean(one.cited - one.random) for one in drops],
        "citation_validity": [_mean(one) for one in valid],
        "written": [_mean([one.source != "sentence" for one in answer.explanations]) for answer in answers],
        "fallbacks": [_mean([bool(one.problems) for one in answer.explanations]) for answer in answers],
        "words": [_mean([len(words_of(text)) for text in own]) for own in texts],
        "usr": [unique_ratio(own) for own in texts],
        "div": [feature_diversity(own) for own in held],
        "fmr": [
            matching_ratio(own, [_feature(one) for one in answer.explanations])
            for own, answer in zip(held, answers, strict=True)
        ],
    }
    estimates = bootstrap_means(np.array(list(columns.values())).T, seed=seed)
    figures = dict(zip(columns, estimates, strict=True))
    cited, at_random = np.array(columns["drop_cited"]), np.array(columns["drop_random"])
    known = ~np.isnan(cited)
    figures["faithfulness"] = bootstrap_ratio(cited[known], at_random[known], seed=seed)
    everything = [text for own in texts for text in own]
    figures |= {f"distinct_{size}": Estimate(distinct(everything, size)) for size in (1, 2)}
    figures["usr_all"] = Estimate(unique_ratio(everything))
    figures["fcr"] = Estimate(coverage_ratio([one for own in held for one in own], set(vocabulary.values())))
    return {name: figures[name] for name in FIGURES if not np.isnan(figures[name].value)}


def compare_explanations(
    recommender: Recommender, histories: Sequence[History], settings: Settings, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Return the figures of every way to explain, on the same recommendations.

    Args:
        recommender: the run that recommends and explains.
        histories: whose.
        settings: how to recommend; the settings for explanations are ignored.
        seed: of random items and of the bootstrap.
    """
    answers = recommender.recommend_with_parts(histories, replace(settings, explain="none"))
    items = [[entry.item for entry in answer.recommendations] for answer in answers]
    figures: dict[str, dict[str, Estimate]] = {}
    for how in COMPARED:
        told = recommender.explainer.explain(histories, items, how, settings.wording, settings.batch_size)
        explained = [replace(answer, explanations=own) for answer, own in zip(answers, told, strict=True)]
        figures[how] = measure_explanations(recommender, histories, explained, seed)
    return figures


def _recommended(answer: Ranked) -> tuple[list[Item], list[tuple[Item, ...]]]:
    """Return an answer's items and the items that each explanation cites."""
    explanations: list[Explanation] = answer.explanations
    return [entry.item for entry in answer.recommendations], [one.cited for one in explanations]


def _feature(explanation: Explanation) -> str:
    """Return the first catalogue fact in the evidence; empty if there is none."""
    return next((claim.value for claim in explanation.claims if claim.feature and not claim.value.isdigit()), "")


def _places(kept: Sequence[str], chosen: Sequence[str]) -> tuple[int, ...]:
    """Return every position of the chosen items: an item taken twice is left out twice."""
    return tuple(place for place, item in enumerate(kept) if item in set(chosen))


def _mean(values: Sequence[float] | FloatArray) -> float:
    """Return the mean of the known values; NaN if there are none."""
    known = np.array(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
