"""Items as catalogue rows: array types, and the best rows of scores under one rule for ties."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


IntArray = NDArray[np.int64]


NO_ITEM = -1
"""A place in a list of catalogue rows that holds no item of the catalogue, or repeats one."""


def tie_order(items: int, seed: int) -> IntArray:
    """Return the shuffle of the catalogue by which equal scores are ordered, of shape (items,).

    The item with the lower number comes first among equals. One shuffle serves all users and all systems of an
    evaluation. It does not depend on targets, so it favours none, and two systems with equal scores get the same lists.
    """
    return np.random.default_rng(seed).permutation(items)


def top_rows(scores: NDArray[np.floating], k: int, order: IntArray) -> IntArray:
    """Return the rows of each case's K best items, best first, ties by the same rule as `rank_of_target`.

    Args:
        scores: shape (cases, items); -inf or NaN where an item is excluded.
        k: the number of rows to return.
        order: the result of `tie_order`, of shape (items,).

    Returns:
        int64 array of shape (cases, k); `NO_ITEM` if fewer than K items are left.
    """
    by_tie = np.argsort(order)
    top = np.full((len(scores), k), NO_ITEM, dtype=np.int64)
    for case, row in enumerate(scores):
        # Put in tie order first: a stable sort then keeps equals in that order.
        values = np.nan_to_num(row[by_tie], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        floor = np.partition(values, -k)[-k] if k < len(values) else -np.inf
        kept = np.flatnonzero((values >= floor) & (values > -np.inf))
        best = kept[np.argsort(-values[kept], kind="stable")[:k]]
        top[case, : len(best)] = by_tie[best]
    return top
