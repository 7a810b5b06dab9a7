"""Slices of the cases: by history length, popularity of the target, category, new and repeated targets.

Also the popularity groups of the catalogue, which show whether a system recommends popular or rare items. All depend
on the training log, the cases and the catalogue, never on a system's lists. A slicing with only one slice is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.categories import COMMON_CATEGORY
from genrec.data.rows import IntArray
from genrec.data.splits import Case, History

HISTORY_EDGES = (5, 10, 20, 50, 100)
TAKER_EDGES = (5, 20, 100, 500)

COLD = 5
"""An item that fewer training users took, or a user who took fewer items, is cold; a case may be both."""

MAX_CATEGORIES = 12
"""The most frequent categories among the targets get a slice each."""


POPULARITY_GROUPS = ((0.01, "top 1 %"), (0.05, "1-5 %"), (0.2, "5-20 %"), (0.5, "20-50 %"), (1.0, "last 50 %"))
"""The groups' upper bounds, as shares of the catalogue's items sorted from the most popular, and their names."""

Mask = NDArray[np.bool_]


def takers_of(train: Sequence[History], catalog: Catalog) -> IntArray:
    """Return how many training users took each item, of shape (items,); a user who took it twice counts once."""
    takers = np.zeros(len(catalog), dtype=np.int64)
    for history in train:
        takers[[catalog.row(item) for item in set(history.items) if item in catalog]] += 1
    return takers


def slice_cases(cases: Sequence[Case], catalog: Catalog, takers: IntArray) -> Mapping[str, Mapping[str, Mask]]:
    """Return the slicings by name, each with its slices by name; a slice is a mask of shape (cases,).

    Args:
        cases: the cases that are evaluated.
        catalog: has the categories; a target outside it counts as new and has no category.
        takers: from `takers_of`.
    """
    lengths = np.array([len(case.history.items) for case in cases])
    popularity = np.array([takers[catalog.row(case.target)] if case.target in catalog else 0 for case in cases])
    repeated = np.array([case.target in case.history.items for case in cases])
    slicings = {
        "history-length": _ranges(lengths, HISTORY_EDGES, least=0),
        "target-popularity": {"0": popularity == 0, **_ranges(popularity, TAKER_EDGES, least=1)},
        "new-items": {"new": popularity == 0, "in training": popularity > 0},
        "cold-start": {
            f"item with fewer than {COLD} takers": popularity < COLD,
            f"user with fewer than {COLD} items": lengths < COLD,
            "neither": (popularity >= COLD) & (lengths >= COLD),
        },
        "repeats": {"taken before": repeated, "first time": ~repeated},
        "category": _by_category(cases, catalog),
    }
    filled = {name: {label: mask for label, mask in slices.items() if mask.any()} for name, slices in slicings.items()}
    return {name: slices for name, slices in filled.items() if len(slices) > 1}


def popularity_groups(takers: IntArray, order: IntArray) -> IntArray:
    """Return the number of each item's group in `POPULARITY_GROUPS`, of shape (items,).

    Args:
        takers: from `takers_of`.
        order: from `metrics.tie_order`: the order of equally popular items.
    """
    ranked = np.lexsort((order, -takers))
    bounds = np.array([round(bound * len(takers)) for bound, _ in POPULARITY_GROUPS])
    groups = np.empty(len(takers), dtype=np.int64)
    groups[ranked] = np.searchsorted(bounds, np.arange(len(takers)), side="right")
    return groups


def _ranges(values: IntArray, edges: Sequence[int], least: int) -> dict[str, Mask]:
    """Cut whole numbers into [least, e1), [e1, e2), ..., [en, infinity), named by their ends."""
    starts = [least, *edges]
    masks = {}
    for start, stop in zip(starts, [*edges, None], strict=True):
        label = f"{start}+" if stop is None else f"{start}-{stop - 1}"
        masks[label] = (values >= start) if stop is None else (values >= start) & (values < stop)
    return masks


def _by_category(cases: Sequence[Case], catalog: Catalog) -> dict[str, Mask]:
    """Return a slice for each frequent category; a case is in every category that its target has."""
    among_items = Counter(category for item in catalog for category in set(item.categories))
    of_targets = [set(catalog[case.target].categories) if case.target in catalog else set() for case in cases]
    among_targets = Counter(category for categories in of_targets for category in categories)
    telling = [name for name in among_targets if among_items[name] <= COMMON_CATEGORY * len(catalog)]
    chosen = sorted(telling, key=lambda name: (-among_targets[name], name))[:MAX_CATEGORIES]
    return {name: np.array([name in categories for categories in of_targets]) for name in chosen}
