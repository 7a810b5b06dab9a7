"""Evaluation: every system's lists for the same cases, one table of figures, with intervals and paired tests.

This module knows no models. Each system gives one ranked list of item ids for each case, so all systems are judged
alike: genrec, a baseline, or a file of another system (see `list_files`).

Every figure is divided by the number of cases, not by the number of lists: a system must not gain by returning
nothing. Defects of its lists are counted beside the figures (`results.Answers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.data.catalog import Catalog
from genrec.data.categories import category_matrix
from genrec.data.rows import NO_ITEM, FloatArray, IntArray, tie_order
from genrec.data.splits import Case, History
from genrec.errors import DataError
from genrec.evaluation import beyond_accuracy as beyond
from genrec.evaluation.metrics import RANK_METRICS, ranks_in_lists, without_repeats
from genrec.evaluation.results import Answers, Exposure, Report, Slice
from genrec.evaluation.slices import POPULARITY_GROUPS, popularity_groups, slice_cases, takers_of
from genrec.evaluation.uncertainty import Difference, Estimate, bootstrap_means, holm, paired_tests

COMPARED = ("hr", "ndcg", "mrr")
"""Metrics with a paired test; recall, precision and map are these under other names where a case has one target."""

SLICED = ("hr", "ndcg")
CURVES = ("hr", "ndcg")

RULES = {
    "candidates": "the whole catalogue",
    "denominator": "all cases; a missing answer, an unknown item and a repeated item are misses",
    "single_target": "a case has one target, so recall equals hr, map equals mrr, and precision is hr / K",
    "ties": "equal scores are ordered by one seeded shuffle of the catalogue, the same for all users and systems",
    "intervals": "95 % percentile bootstrap over cases; none for coverage and gini, which describe all lists together",
    "tests": "two-sided sign-flip test on the same cases; p_adjusted is Holm's, over the systems of one figure",
    "popularity": "number of training users who took the item",
}
"""The meaning of the figures; written into every report's settings."""


@dataclass(frozen=True, slots=True)
class _Ground:
    """The data against which all systems are judged; made once for an evaluation."""

    items: int
    targets: IntArray
    takers: IntArray
    users: int
    expected: IntArray
    categories: NDArray[np.bool_]
    category_weights: sparse.csr_array
    history_categories: FloatArray
    embeddings: NDArray[np.floating] | None


def evaluate_lists(
    cases: Sequence[Case],
    systems: Mapping[str, Sequence[Sequence[str]]],
    *,
    catalog: Catalog,
    train: Sequence[History],
    ks: Sequence[int] = (5, 10, 20),
    seed: int = 0,
    reference: str | None = "genrec",
    split: str = "test",
    embeddings: NDArray[np.floating] | None = None,
    hows: Mapping[str, Sequence[str]] | None = None,
    resamples: int = 1000,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Judge every system's lists for the same cases.

    Args:
        cases: the cases; their number is the denominator of every figure.
        systems: by name, one ranked list of item ids for each case, in the order of the cases, best first. A list may
            be empty, short, or hold unknown or repeated ids; `metrics` says how that counts. Places beyond the
            largest K are not read.
        catalog: the items that count as answers.
        train: the training histories, from which popularity is counted.
        ks: list lengths to report.
        seed: the seed of the bootstrap, the tests and the order among equally popular items.
        reference: the system with which each other one is compared; None for no comparisons.
        split: the part of the log that the cases come from.
        embeddings: item vectors in catalogue order, of shape (items, dimensions), for diversity by meaning.
        hows: for systems that generate text, how each text became an item.
        resamples: bootstrap draws.
        settings: further entries for the report, such as the data set and how seen items were treated.

    Raises:
        DataError: there is nothing to judge, or lists and cases do not match.
    """
    ks = tuple(sorted(set(ks)))
    _check(cases, systems, ks, reference)
    choices = {"ks": list(ks), "main_k": main_k(ks), "seed": seed, "resamples": resamples, "reference": reference}
    order = tie_order(len(catalog), seed)
    takers = takers_of(train, catalog)
    rows, answers = {}, {}
    for name, lists in systems.items():
        rows[name], answers[name] = _read_lists(cases, lists, catalog, places=ks[-1])
    ground = _ground(cases, catalog, takers, len(train), order, ks[-1], embeddings)
    ranks = {name: ranks_in_lists(lists, ground.targets) for name, lists in rows.items()}
    return Report(
        split=split,
        users=len(cases),
        systems=_figures(rows, ranks, ground, ks, seed, resamples),
        comparisons=_comparisons(ranks, ks, reference, seed, resamples) if reference else {},
        slices=_slices(slice_cases(cases, catalog, takers), ranks, ks, seed, resamples),
        exposure=_exposure(
            {name: lists[:, : main_k(ks)] for name, lists in rows.items()}, ground, popularity_groups(takers, order)
        ),
        curves={
            metric: {
                name: tuple(float(RANK_METRICS[metric](found, k).mean()) for k in range(1, ks[-1] + 1))
                for name, found in ranks.items()
            }
            for metric in CURVES
        },
        answers=answers,
        texts={name: beyond.text_shares(ways) for name, ways in (hows or {}).items()},
        settings={**RULES, **_settings(cases, ground, train), **choices, **(settings or {})},
    )


def main_k(ks: Sequence[int]) -> int:
    """Return the list length for slices and summaries: 10, or else the largest."""
    return 10 if 10 in ks else max(ks)


def _settings(cases: Sequence[Case], ground: _Ground, train: Sequence[History]) -> dict[str, int]:
    """Return the sizes that a reader needs to judge the figures."""
    known = ground.targets[ground.targets != NO_ITEM]
    return {
        "catalog_items": ground.items,
        "training_users": len(train),
        "training_interactions": sum(len(history.items) for history in train),
        "new_targets": len(cases) - int((ground.takers[known] > 0).sum()),
        "repeated_targets": sum(case.target in case.history.items for case in cases),
    }


def _check(
    cases: Sequence[Case], systems: Mapping[str, Sequence[Sequence[str]]], ks: Sequence[int], reference: str | None
) -> None:
    if not cases:
        raise DataError("there are no cases to evaluate; a user needs at least three events to be evaluated")
    if not systems:
        raise DataError("there are no systems to evaluate; give at least one set of lists")
    if not ks or ks[0] < 1:
        raise DataError(f"list lengths must be at least 1; given {', '.join(map(str, ks)) or 'none'}")
    for name, lists in systems.items():
        if len(lists) != len(cases):
            raise DataError(f"system {name!r} gave {len(lists)} lists for {len(cases)} cases; give one for each")
    if reference is not None and reference not in systems:
        raise DataError(f"the reference {reference!r} is not among the systems {', '.join(systems)}; name one of them")


def _read_lists(
    cases: Sequence[Case], lists: Sequence[Sequence[str]], catalog: Catalog, places: int
) -> tuple[IntArray, Answers]:
    """Turn ids into catalogue rows of shape (cases, places), and count the defects of the lists."""
    known = {item: row for row, item in enumerate(catalog.ids)}
    rows = np.full((len(cases), places), NO_ITEM, dtype=np.int64)
    unknown = seen = listed = 0
    for number, (case, ranked) in enumerate(zip(cases, lists, strict=True)):
        ranked = ranked[:places]
        found = [known.get(item, NO_ITEM) for item in ranked]
        rows[number, : len(found)] = found
        listed += len(found)
        unknown += found.count(NO_ITEM)
        history = set(case.history.items)
        seen += sum(item in history for item in ranked)
    clean = without_repeats(rows)
    filled = (clean != NO_ITEM).sum(axis=1)
    answers = Answers(
        missing=int((filled == 0).sum()),
        short=int((filled < min(places, len(catalog))).sum()),
        unknown=unknown,
        repeated=int(((rows != NO_ITEM) & (clean == NO_ITEM)).sum()),
        seen=seen,
    )
    return clean, answers


def _ground(
    cases: Sequence[Case],
    catalog: Catalog,
    takers: IntArray,
    users: int,
    order: IntArray,
    places: int,
    embeddings: NDArray[np.floating] | None,
) -> _Ground:
    if embeddings is not None and len(embeddings) != len(catalog):
        raise DataError(f"given {len(embeddings)} embeddings for {len(catalog)} items; give one for each, in order")
    histories = [[catalog.row(item) for item in case.history.items if item in catalog] for case in cases]
    categories = category_matrix(catalog)
    weights = beyond.category_weights(categories)
    return _Ground(
        items=len(catalog),
        targets=np.array([catalog.row(case.target) if case.target in catalog else NO_ITEM for case in cases]),
        takers=takers,
        users=users,
        expected=_most_popular(histories, np.lexsort((order, -takers)), places),
        categories=categories,
        category_weights=weights,
        history_categories=beyond.category_distribution(beyond.membership_of(histories, len(catalog)), weights),
        embeddings=embeddings,
    )


def _most_popular(histories: Sequence[Sequence[int]], by_popularity: IntArray, places: int) -> IntArray:
    """Return each case's most popular unseen items, the obvious recommendations."""
    lists = np.full((len(histories), places), NO_ITEM, dtype=np.int64)
    for case, history in enumerate(histories):
        head = by_popularity[: places + len(history)]
        unseen = head[~np.isin(head, history)][:places]
        lists[case, : len(unseen)] = unseen
    return lists


def _figures(
    rows: Mapping[str, IntArray],
    ranks: Mapping[str, FloatArray],
    ground: _Ground,
    ks: Sequence[int],
    seed: int,
    resamples: int,
) -> dict[str, dict[str, Estimate]]:
    """Return each system's figures: means over cases with intervals, and totals without."""
    figures = {}
    for name, lists in rows.items():
        by_case = {f"{metric}@{k}": of(ranks[name], k) for k in ks for metric, of in RANK_METRICS.items()}
        totals = {}
        for k in ks:
            by_case |= {f"{metric}@{k}": values for metric, values in _beyond_by_case(lists[:, :k], ground, k).items()}
            totals[f"coverage@{k}"] = beyond.coverage(lists[:, :k], ground.items)
            totals[f"gini@{k}"] = beyond.gini(beyond.exposure(lists[:, :k], ground.items))
        estimates = bootstrap_means(np.column_stack(list(by_case.values())), seed=seed, resamples=resamples)
        every = dict(zip(by_case, estimates, strict=True)) | {name: Estimate(value) for name, value in totals.items()}
        # A figure that is undefined for all cases (diversity if the catalogue has no categories) is left out.
        figures[name] = {figure: estimate for figure, estimate in every.items() if not np.isnan(estimate.value)}
    return figures


def _beyond_by_case(lists: IntArray, ground: _Ground, k: int) -> dict[str, FloatArray]:
    values = {
        "novelty": beyond.novelty(lists, ground.takers, ground.users),
        "popularity": beyond.average_popularity(lists, ground.takers),
        "category-diversity": beyond.category_diversity(lists, ground.categories),
        "serendipity": beyond.serendipity(lists, ground.targets, ground.expected[:, :k]),
        "calibration": beyond.calibration(lists, ground.history_categories, ground.category_weights),
    }
    if ground.embeddings is not None:
        values["embedding-diversity"] = beyond.embedding_diversity(lists, ground.embeddings)
    return values


def _comparisons(
    ranks: Mapping[str, FloatArray], ks: Sequence[int], reference: str, seed: int, resamples: int
) -> dict[str, dict[str, Difference]]:
    """Test the reference against each other system; correct each figure's p-values for the number of systems."""
    figures = [(metric, k) for k in ks for metric in COMPARED]
    others = [name for name in ranks if name != reference]
    if not others:
        return {}

    def columns(name: str) -> FloatArray:
        return np.column_stack([RANK_METRICS[metric](ranks[name], k) for metric, k in figures])

    first = np.tile(columns(reference), len(others))
    second = np.hstack([columns(name) for name in others])
    tests = paired_tests(first, second, seed=seed, resamples=resamples)
    names = [f"{metric}@{k}" for metric, k in figures]
    table = {
        name: dict(zip(names, tests[start : start + len(names)], strict=True))
        for name, start in zip(others, range(0, len(tests), len(names)), strict=True)
    }
    for figure in names:
        adjusted = holm([table[name][figure].p_value for name in others])
        for name, p_value in zip(others, adjusted, strict=True):
            table[name][figure] = replace(table[name][figure], p_adjusted=p_value)
    return table


def _slices(
    slicings: Mapping[str, Mapping[str, NDArray[np.bool_]]],
    ranks: Mapping[str, FloatArray],
    ks: Sequence[int],
    seed: int,
    resamples: int,
) -> dict[str, dict[str, Slice]]:
    """Return every system's figures at one K (10, or the largest) on each slice of the cases."""
    k = main_k(ks)
    names = [f"{metric}@{k}" for metric in SLICED]
    columns = np.column_stack([RANK_METRICS[metric](found, k) for found in ranks.values() for metric in SLICED])

    def judge(mask: NDArray[np.bool_]) -> Slice:
        estimates = iter(bootstrap_means(columns[mask], seed=seed, resamples=resamples))
        return Slice(int(mask.sum()), {name: {figure: next(estimates) for figure in names} for name in ranks})

    return {slicing: {label: judge(mask) for label, mask in slices.items()} for slicing, slices in slicings.items()}


def _exposure(rows: Mapping[str, IntArray], ground: _Ground, groups: IntArray) -> Exposure:
    number = len(POPULARITY_GROUPS)

    def shares(items: IntArray) -> tuple[float, ...]:
        counts = np.bincount(groups[items[items != NO_ITEM]], minlength=number)
        return tuple(float(count) for count in counts / max(1, counts.sum()))

    return Exposure(
        groups=tuple(name for _, name in POPULARITY_GROUPS),
        items=tuple(int(count) for count in np.bincount(groups, minlength=number)),
        targets=shares(ground.targets),
        systems={name: shares(lists) for name, lists in rows.items()},
    )
