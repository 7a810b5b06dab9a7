"""How good explanations are, in figures: faithful, valid, and not all the same.

Faithfulness asks the model that recommends: how far does the item's log-likelihood fall when the cited items are taken
out of the history, and how far when as many random ones are? An explanation that cites what does not matter scores 1.
Random items are drawn from the same newest ones that evidence is looked for in, the cited ones among them: drawn from
older ones, they would matter less, and the figure would flatter.

The easy mistake is a mean of ratios: a single random drop near 0 would decide it. It is a ratio of means over users.
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
"""How many random sets of items each recommendation's cited ones are compared with."""

COMPARED: tuple[Explain, ...] = ("sentence", "measured", "words")


@dataclass(frozen=True, slots=True)
class Drops:
    """How far the log-likelihood of one user's recommendations falls, in nats.

    Attributes:
        cited: float64 [recommendations]; without the cited items; NaN where none is cited that is in the prompt.
        random: float64 [recommendations]; without as many random ones, a mean over draws; NaN likewise.
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
    """Measure what citations are worth to the model that recommends.

    Args:
        recommender: whose model.
        history: of one user.
        items: what was recommended.
        cited: for each of these the items of the history that its explanation cites.
        seed: of the random items.
        draws: how many random sets are drawn for each recommendation.
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
        recommender: who recommended and explained.
        histories: whose.
        answers: what `recommend_with_parts` gave, with explanations; intervals are over users.
        seed: of random items and of the bootstrap.

    Returns:
        The figures by name; one that is not defined (where nothing is cited, say) is left out.
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
        recommender: who recommends and explains.
        histories: whose.
        settings: how; what it says of explaining is not read.
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
    """Return an answer's items and what the explanation of each cites."""
    explanations: list[Explanation] = answer.explanations
    return [entry.item for entry in answer.recommendations], [one.cited for one in explanations]


def _feature(explanation: Explanation) -> str:
    """Return the first thing of the catalogue that the evidence speaks of; nothing where it speaks of none."""
    return next((claim.value for claim in explanation.claims if claim.feature and not claim.value.isdigit()), "")


def _places(kept: Sequence[str], chosen: Sequence[str]) -> tuple[int, ...]:
    """Return every place of some items: an item taken twice is left out twice."""
    return tuple(place for place, item in enumerate(kept) if item in set(chosen))


def _mean(values: Sequence[float] | FloatArray) -> float:
    """Return the mean of what is known; NaN where nothing is."""
    known = np.array(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")
