"""Tuning and ranking of baselines, by the same rules as for genrec itself.

All learn from the same training histories, rank the same candidates (the whole catalogue), leave out the same items and
break ties by the same shuffle. Their parameters are tuned by random search on validation cases with a stated number of
tries, so that the comparison is fair. The search does not read the test cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from genrec.baselines.registry import (
    BASELINES,
    SEQUENCE_MODELS,
    Material,
    Settings,
    find_baseline,
    fit_baseline,
    sequence_epochs,
)
from genrec.data.catalog import Catalog
from genrec.data.rows import NO_ITEM, IntArray, tie_order
from genrec.data.splits import Case, Split
from genrec.errors import ConfigError, DataError
from genrec.evaluation.metrics import RANK_METRICS, ranks_of_targets
from genrec.signals.simple import Signal, top_items

__all__ = [
    "BASELINES",
    "Material",
    "Settings",
    "Tuned",
    "baseline_lists",
    "fit_baseline",
    "ranked_lists",
    "sample_cases",
    "tune",
]

T = TypeVar("T")

CHUNK = 256
"""Cases scored at once; bounds the memory for any number of cases."""

TUNING_CASES = 5000
"""The most validation cases that a search uses: a seeded sample, the same for all baselines."""

TUNING_METRIC = "ndcg@10"
PATIENCE = 4
"""A sequence model's training ends after this many validations in a row without improvement."""

LOOK_EVERY = 5
"""Epochs of a sequence model between two validations."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """The result of a search.

    Attributes:
        name: the baseline.
        settings: the best settings; a sequence model's include the best number of epochs.
        value: their figure on the validation cases.
        metric: the name of the figure.
        tried: how many settings were tried; for a sequence model, each with training ended early.
        cases: how many validation cases were used.
    """

    name: str
    settings: Settings
    value: float
    metric: str
    tried: int
    cases: int

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {**asdict(self), "settings": dict(self.settings), "value": round(self.value, 6)}


def baseline_lists(
    names: Sequence[str],
    material: Material,
    cases: Sequence[Case],
    k: int,
    seed: int = 0,
    settings: Mapping[str, Settings] | None = None,
    exclude_seen: bool = True,
) -> dict[str, list[list[str]]]:
    """Fit baselines and let each rank the catalogue for the same cases.

    Args:
        names: names from `BASELINES`.
        material: the data from which they learn; it must not hold the cases' targets.
        cases: the cases to rank for.
        k: the length of a list.
        seed: the seed of the baselines, and of the order among equal scores.
        settings: for each name, parameters that differ from the defaults, as `tune` found them.
        exclude_seen: leave out the items of the case's history.

    Returns:
        For each name, one list of item ids for each case, best first.
    """
    chosen = settings or {}
    return {
        name: ranked_lists(
            fit_baseline(name, material, chosen.get(name), seed), material.catalog, cases, k, seed, exclude_seen
        )
        for name in names
    }


def ranked_lists(
    signal: Signal, catalog: Catalog, cases: Sequence[Case], k: int, seed: int = 0, exclude_seen: bool = True
) -> list[list[str]]:
    """Return the K items that a signal scores highest for each case, as ids, best first."""
    order, ids, lists = tie_order(len(catalog), seed), catalog.ids, []
    for histories in _chunks([case.history for case in cases]):
        seen = [catalog.rows(history.items) if exclude_seen else [] for history in histories]
        for rows in top_items(signal.score(histories), k, seen, order):
            lists.append([ids[row] for row in rows if row != NO_ITEM])
    return lists


def tune(
    name: str,
    split: Split,
    catalog: Catalog,
    budget: int,
    seed: int = 0,
    embeddings: NDArray[np.float32] | None = None,
    on_best: Callable[[Signal], None] | None = None,
) -> Tuned:
    """Search a baseline's settings on validation cases: the defaults, then random draws from the values to try.

    Args:
        name: one of `BASELINES`.
        split: only its training histories and validation cases are read.
        catalog: the candidates.
        budget: how many settings are tried, at most; a baseline without parameters tries one.
        seed: the seed of the draws, the baseline, and the sample of cases.
        embeddings: item vectors, for the baselines that read titles.
        on_best: called with the fitted baseline each time it is the best so far, before training continues. So its
            recommendations can be kept without fitting it again.

    Raises:
        ConfigError: there is no such baseline, or the budget is below 1.
        DataError: the split has no validation cases.
    """
    if budget < 1:
        raise ConfigError([f"a search needs a budget of at least 1; given {budget}"])
    if not split.valid:
        raise DataError("there are no validation cases to tune on; a user needs at least three events to give one")
    material = Material(catalog, split.train, embeddings)
    cases = sample_cases(split.valid, TUNING_CASES, seed)
    draws = _draws(name, budget, seed)
    best, best_value = dict(draws[0]), -1.0
    for settings in draws:
        highest, stale = -1.0, 0
        for chosen, signal in _stages(name, material, settings, seed):
            value = _figure(signal, catalog, cases, seed)
            if value > best_value:
                best, best_value = dict(chosen), value
                if on_best is not None:
                    on_best(signal)
            highest, stale = max(highest, value), 0 if value > highest else stale + 1
            if stale == PATIENCE:
                break
    return Tuned(name, best, best_value, TUNING_METRIC, len(draws), len(cases))


def _stages(name: str, material: Material, settings: Settings, seed: int) -> Iterator[tuple[Settings, Signal]]:
    """Yield the fitted baseline with its settings; a baseline with epochs is yielded after every few of them."""
    if name not in SEQUENCE_MODELS:
        yield settings, fit_baseline(name, material, settings, seed)
        return
    epochs = enumerate(sequence_epochs(name, material, settings, seed), 1)
    for epoch, model in islice(epochs, LOOK_EVERY - 1, None, LOOK_EVERY):
        yield {**settings, "epochs": epoch}, model


def sample_cases(cases: Sequence[Case], count: int, seed: int) -> tuple[Case, ...]:
    """Return a seeded sample without replacement, in the order of the cases; all cases if there are no more."""
    kept = np.sort(np.random.default_rng(seed).permutation(len(cases))[:count])
    return tuple(cases[number] for number in kept)


def _figure(signal: Signal, catalog: Catalog, cases: Sequence[Case], seed: int) -> float:
    """Return NDCG@10 of a full ranking without the items of the history."""
    order, ranks = tie_order(len(catalog), seed), []
    for chunk in _chunks(cases):
        scores = signal.score([case.history for case in chunk])
        for row, case in enumerate(chunk):
            scores[row, catalog.rows(case.history.items)] = -np.inf
        targets: IntArray = np.array(catalog.rows(case.target for case in chunk), dtype=np.int64)
        ranks.append(ranks_of_targets(scores, targets, order))
    return float(RANK_METRICS["ndcg"](np.concatenate(ranks), 10).mean())


def _draws(name: str, budget: int, seed: int) -> list[Settings]:
    """Return the defaults and then distinct random settings, at most `budget` in all."""
    baseline = find_baseline(name)
    rng = np.random.default_rng(seed)
    draws = [dict(baseline.defaults)]
    # A small space may have fewer settings than the budget allows; repeated draws are not counted.
    for _ in range(20 * budget):
        if len(draws) == budget:
            break
        drawn = {key: values[int(rng.integers(len(values)))] for key, values in baseline.choices.items()}
        if (settings := {**baseline.defaults, **drawn}) not in draws:
            draws.append(settings)
    return list(draws)


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
