"""Accuracy of ranked lists: is the item that came next in the list, and how high?

Each metric has two forms. The plain functions take one ranked list of item ids and the target or targets; they are the
definitions. The array functions (`RANK_METRICS`) take the rank of each case's single target and serve whole
evaluations. A test checks that the two agree.

Easy to get wrong, and the rules here:

- Every case counts. A missing or short list, or an unknown item, is a miss, and the denominator stays the number of
  cases.
- A repeated item counts at its first place; its repeats keep their places and are misses. So no list can score more
  than one without repeats, and NDCG cannot exceed the hit rate.
- Ties between scores are broken by one seeded shuffle of the catalogue (`tie_order`). It is the same for every user and
  every system and does not know the targets. So a scorer that gives all items one score is as good as chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from genrec.data.rows import NO_ITEM, FloatArray, IntArray

Targets = str | Collection[str]
"""One right item, or several."""


MISS = math.inf
"""The rank of a target that is not in the list: 1/rank is then 0, and rank <= K is false for every K."""


def hit_rate(ranked: Sequence[str], targets: Targets, k: int) -> float:
    """Return 1 if any target is among the first K items, else 0.

    Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22(1), 2004, section 6.2. An empty
    list, or no target, gives 0. With one target, it equals `recall`.
    """
    return float(any(_hits(ranked, targets, k)))


def recall(ranked: Sequence[str], targets: Targets, k: int) -> float:
    """Return the share of the targets that are among the first K items: hits / |targets|.

    Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008, section 8.3. No target gives 0.
    """
    return _share(sum(_hits(ranked, targets, k)), len(_as_set(targets)))


def precision(ranked: Sequence[str], targets: Targets, k: int) -> float:
    """Return the share of the first K places that hold a target: hits / K.

    Manning, Raghavan and Schütze, 2008, section 8.4. The divisor is K even for a shorter list: an empty place is a
    miss.
    """
    return sum(_hits(ranked, targets, k)) / k


def ndcg(ranked: Sequence[str], targets: Targets, k: int) -> float:
    """Return the normalised discounted cumulative gain at K, with gain 1 for a target and 0 otherwise.

    DCG = sum over hits at rank r of 1 / log2(r + 1), divided by the DCG of the best possible list, which has
    min(|targets|, K) hits at the top. Järvelin and Kekäläinen, ACM TOIS 20(4), 2002, in the form with log2(r + 1)
    that sequential recommendation uses. With one target at rank r <= K it is 1 / log2(r + 1). No target gives 0.
    """
    gain = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(_hits(ranked, targets, k), 1) if hit)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(_as_set(targets)), k) + 1))
    return gain / best if best else 0.0


def reciprocal_rank(ranked: Sequence[str], targets: Targets, k: int) -> float:
    """Return 1 / rank of the first target among the first K items, or 0; its mean over cases is MRR at K.

    Voorhees, "The TREC-8 question answering track report", 1999.
    """
    return next((1 / rank for rank, hit in enumerate(_hits(ranked, targets, k), 1) if hit), 0.0)


def average_precision(ranked: Sequence[str], targets: Targets, k: int) -> float:
    """Return the mean over all targets of the precision at the target's rank; its mean over cases is MAP at K.

    AP = sum over hits at rank r <= K of precision at r, divided by |targets|: trec_eval's `map_cut`. Targets outside
    the first K add nothing, and the divisor is not cut to K, so with more than K targets 1 is out of reach. With one
    target it equals `reciprocal_rank`. No target gives 0.
    """
    found, total = 0, 0.0
    for rank, hit in enumerate(_hits(ranked, targets, k), 1):
        if hit:
            found += 1
            total += found / rank
    return _share(total, len(_as_set(targets)))


RANK_METRICS: Mapping[str, Callable[[FloatArray, int], FloatArray]] = MappingProxyType(
    {
        "hr": lambda ranks, k: (ranks <= k).astype(np.float64),
        "ndcg": lambda ranks, k: np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0),
        "mrr": lambda ranks, k: np.where(ranks <= k, 1 / ranks, 0.0),
        "recall": lambda ranks, k: (ranks <= k).astype(np.float64),
        "precision": lambda ranks, k: (ranks <= k) / k,
        "map": lambda ranks, k: np.where(ranks <= k, 1 / ranks, 0.0),
    }
)
"""Each metric at K for all cases at once, from float64 ranks of shape (cases,), first = 1, `MISS` if not found.

A case has one target, so recall equals hr, map equals mrr, and precision is hr / K. They are listed under their own
names for readers who look for them.
"""


def ranks_in_lists(lists: IntArray, targets: IntArray) -> FloatArray:
    """Return the rank of each case's target in its list.

    Args:
        lists: catalogue rows, best first, of shape (cases, places); `NO_ITEM` where a place is empty or wrong.
        targets: the catalogue row of each case's target, of shape (cases,); one outside the catalogue is `NO_ITEM`
            and always a miss.

    Returns:
        float64 array of shape (cases,): 1 for the first place, `MISS` where the target is not in the list.
    """
    found = (lists == targets[:, None]) & (targets[:, None] != NO_ITEM)
    if found.shape[1] == 0:
        return np.full(len(lists), MISS)
    return np.where(found.any(axis=1), found.argmax(axis=1) + 1.0, MISS)


def without_repeats(lists: IntArray) -> IntArray:
    """Return the lists with every repeat of an item turned into `NO_ITEM`; its first occurrence stays in place."""
    cleaned = lists.copy()
    for place in range(1, lists.shape[1]):
        repeats = (lists[:, :place] == lists[:, place, None]).any(axis=1)
        cleaned[repeats, place] = NO_ITEM
    return cleaned


def rank_of_target(scores: NDArray[np.floating], target: int, order: IntArray) -> float:
    """Return the rank of one item in a full ranking of the catalogue: 1 + items above it + ties ordered before it.

    Args:
        scores: one score for each item, higher is better, of shape (items,). An excluded item has -inf, and NaN
            counts as excluded too.
        target: the item's row.
        order: what `tie_order` returned for this catalogue.

    Returns:
        The rank, from 1; `MISS` if the target itself is excluded.
    """
    return float(ranks_of_targets(scores[None, :], np.array([target]), order)[0])


def ranks_of_targets(scores: NDArray[np.floating], targets: IntArray, order: IntArray) -> FloatArray:
    """Return `rank_of_target` for many cases at once.

    Args:
        scores: shape (cases, items); -inf or NaN where an item is excluded.
        targets: the row of each case's target, of shape (cases,).
        order: what `tie_order` returned, of shape (items,).
    """
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    # Comparisons with NaN are false, so an item without a score is never above the target.
    above = (scores > own).sum(axis=1)
    tied_before = ((scores == own) & (order[None, :] < order[targets][:, None])).sum(axis=1)
    excluded = np.isnan(own[:, 0]) | np.isneginf(own[:, 0])
    return np.where(excluded, MISS, 1.0 + above + tied_before)


def _hits(ranked: Sequence[str], targets: Targets, k: int) -> list[bool]:
    """Return for each of the first K places whether it holds a target that no earlier place held."""
    if k < 1:
        raise ValueError(f"k is a number of places, at least 1; given {k}")
    wanted, hits = set(_as_set(targets)), []
    for item in ranked[:k]:
        hits.append(item in wanted)
        wanted.discard(item)
    return hits


def _as_set(targets: Targets) -> frozenset[str]:
    # A string is a collection of its letters; as a target it is one id.
    return frozenset([targets]) if isinstance(targets, str) else frozenset(targets)


def _share(part: float, whole: int) -> float:
    return part / whole if whole else 0.0
