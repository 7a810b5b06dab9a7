"""Metrics beyond accuracy: coverage of the catalogue, novelty, diversity and calibration of the lists.

All functions take `lists`: int64 catalogue rows, best first, of shape (cases, K), with `NO_ITEM` (-1) for a place that
is empty, repeated or unknown. They use all places that they are given, so cut the lists to K before. Functions that
judge each list return float64 of shape (cases,), with NaN if the figure is undefined (such as the mean novelty of an
empty list); a mean over cases leaves NaN out.

Higher is not better by itself: a random list is the most novel, diverse and covering of all. Read these figures beside
the hit rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.data.categories import CALIBRATION_SMOOTHING
from genrec.data.rows import NO_ITEM, FloatArray, IntArray

GROUNDING_WAYS = ("exact", "normalised", "nearest", "rejected")
"""How a text becomes an item: it is a label, it is one after normalising, it is near one, or it matches none."""

CHUNK = 2048
"""Lists that are processed together if the work grows with K x K; bounds memory, changes no result."""


def exposure(lists: IntArray, items: int) -> IntArray:
    """Return how often each item of the catalogue is recommended, of shape (items,)."""
    return np.bincount(lists[lists != NO_ITEM], minlength=items)


def coverage(lists: IntArray, items: int) -> float:
    """Return the share of the catalogue that is recommended to at least one case.

    Ge, Delgado-Battenfeld and Jannach, RecSys 2010 ("catalog coverage"). It grows with the number of cases: compare
    systems on the same cases only.
    """
    return float(np.count_nonzero(exposure(lists, items)) / items)


def gini(counts: IntArray) -> float:
    """Return the Gini coefficient of recommendations over items: 0 if all are shown equally often, near 1 if only one.

    G = sum over i of (2 i - n - 1) x_i / (n sum x), x sorted upwards, i from 1, over the whole catalogue, items never
    shown included. Fleder and Hosanagar, Management Science 55(5), 2009. NaN if nothing was recommended.
    """
    total = counts.sum()
    if total == 0:
        return float("nan")
    number = len(counts)
    weights = 2 * np.arange(1, number + 1) - number - 1
    return float((weights * np.sort(counts)).sum() / (number * total))


def novelty(lists: IntArray, takers: IntArray, users: int) -> FloatArray:
    """Return the mean self-information of the listed items, in bits: -log2 p(item).

    p is the share of training users who took the item, Zhou et al., PNAS 107(10), 2010; one user is added to both
    counts, so that an item nobody took has a finite novelty. NaN for a list without items.

    Args:
        lists: shape (cases, K).
        takers: how many training users took each item, of shape (items,).
        users: how many training users there are.
    """
    return _mean_over_list(lists, -np.log2((takers + 1) / (users + 1)))


def average_popularity(lists: IntArray, takers: IntArray) -> FloatArray:
    """Return the mean number of training users who took the listed items; NaN for a list without items.

    Yin et al., "Challenging the long tail recommendation", VLDB 2012.
    """
    return _mean_over_list(lists, takers.astype(np.float64))


def category_diversity(lists: IntArray, categories: NDArray[np.bool_]) -> FloatArray:
    """Return the mean over all pairs in the list of 1 - Jaccard similarity of their categories.

    Ziegler et al., WWW 2005 (intra-list similarity), with Jaccard on category sets. Items without a category are left
    out; NaN where fewer than two are left.

    Args:
        lists: shape (cases, K).
        categories: whether an item has a category, of shape (items, categories).
    """
    words = _as_words(categories)
    known = np.asarray(categories.any(axis=1))
    result = np.full(len(lists), np.nan)
    first, second = np.triu_indices(lists.shape[1], k=1)
    for start in range(0, len(lists), CHUNK):
        rows = lists[start : start + CHUNK]
        usable = (rows != NO_ITEM) & known[rows]
        held = words[rows]
        pairs = usable[:, first] & usable[:, second]
        both = np.bitwise_count(held[:, first] & held[:, second]).sum(axis=2, dtype=np.int64)
        either = np.bitwise_count(held[:, first] | held[:, second]).sum(axis=2, dtype=np.int64)
        distances = np.where(pairs, 1 - both / np.maximum(either, 1), 0.0)
        result[start : start + CHUNK] = _divide(distances.sum(axis=1), pairs.sum(axis=1))
    return result


def embedding_diversity(lists: IntArray, embeddings: NDArray[np.floating]) -> FloatArray:
    """Return the mean over all pairs in the list of 1 - cosine similarity of their embeddings.

    Ziegler et al., WWW 2005. The sum over pairs comes from the length of the summed unit vectors,
    |sum e|^2 = m + 2 sum over pairs of cosine, so it takes no K x K work. NaN where fewer than two items are listed.

    Args:
        lists: shape (cases, K).
        embeddings: shape (items, dimensions), not necessarily of unit length; a zero vector has cosine 0 with all.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros(embeddings.shape), where=lengths > 0)
    listed = _membership(lists, len(embeddings))
    squares = (listed @ unit) ** 2
    own = listed @ (unit**2).sum(axis=1)
    size = (lists != NO_ITEM).sum(axis=1)
    pairs = size * (size - 1) / 2
    return np.asarray(1 - _divide((squares.sum(axis=1) - own) / 2, pairs))


def serendipity(lists: IntArray, targets: IntArray, expected: IntArray) -> FloatArray:
    """Return 1 if the list holds the target and the popularity list does not, else 0.

    Ge, Delgado-Battenfeld and Jannach, RecSys 2010: useful recommendations that a primitive system would not have
    made. The primitive system is popularity, seen items left out. Divided by the one target instead of by K, so
    that it reads beside the hit rate: the part of it that popularity does not explain.

    Args:
        lists: shape (cases, K).
        targets: the row of each target, of shape (cases,).
        expected: the primitive system's lists, of shape (cases, K).
    """
    wanted = targets[:, None]
    found = ((lists == wanted) & (wanted != NO_ITEM)).any(axis=1)
    obvious = (expected == wanted).any(axis=1)
    return np.where(found & ~obvious, 1.0, 0.0)


def calibration(
    lists: IntArray, histories: FloatArray, weights: sparse.csr_array, alpha: float = CALIBRATION_SMOOTHING
) -> FloatArray:
    """Return the Kullback-Leibler divergence of the list's categories from the history's; 0 is perfect, lower better.

    C = sum over g of p(g) ln(p(g) / q~(g)), q~ = (1 - alpha) q + alpha p, where p and q are the mean category
    distributions of the history and of the list. Steck, "Calibrated recommendations", RecSys 2018, equations 1 to 4,
    all history items weighing the same. A list without categories has q = 0 and the worst value, -ln(alpha). NaN
    where the history has no category.

    Args:
        lists: shape (cases, K).
        histories: p, from `category_distribution`, of shape (cases, categories).
        weights: each item's own distribution, from `category_weights`, of shape (items, categories).
        alpha: the smoothing.
    """
    mixed = (1 - alpha) * category_distribution(_membership(lists, weights.shape[0]), weights) + alpha * histories
    ratio = np.divide(histories, mixed, out=np.ones_like(mixed), where=histories > 0)
    divergence = (histories * np.log(ratio)).sum(axis=1)
    return np.asarray(np.where(histories.sum(axis=1) > 0, divergence, np.nan))


def category_weights(categories: NDArray[np.bool_]) -> sparse.csr_array:
    """Return each item's distribution over its categories, all alike: p(g|i) of Steck 2018; zeros if it has none."""
    sizes = np.maximum(categories.sum(axis=1, keepdims=True), 1)
    return sparse.csr_array(categories / sizes)


def category_distribution(membership: sparse.csr_array, weights: sparse.csr_array) -> FloatArray:
    """Return the mean category distribution of each row's items, of shape (rows, categories).

    Items without a category are left out of the mean; zeros where no item is left.

    Args:
        membership: how often each row holds each item, of shape (rows, items).
        weights: from `category_weights`.
    """
    sums = np.asarray((membership @ weights).todense(), dtype=np.float64)
    totals = sums.sum(axis=1, keepdims=True)
    shares: FloatArray = np.divide(sums, totals, out=np.zeros_like(sums), where=totals > 0)
    return shares


def text_shares(hows: Iterable[str]) -> Mapping[str, float]:
    """Return the share of the generated texts that became an item in each way.

    Args:
        hows: for each generated text, how it became an item (`GROUNDING_WAYS`, or another word, which is then listed).

    Returns:
        The shares, which sum to 1; those of `GROUNDING_WAYS` are there even if 0. Empty if nothing was generated.
    """
    counts = Counter(hows)
    total = sum(counts.values())
    ordered = [*GROUNDING_WAYS, *sorted(set(counts) - set(GROUNDING_WAYS))]
    return {how: counts[how] / total for how in ordered} if total else {}


def membership_of(rows: Sequence[Sequence[int]], items: int) -> sparse.csr_array:
    """Return how often each sequence holds each item, sparse, of shape (sequences, items)."""
    lengths = [len(sequence) for sequence in rows]
    columns = np.fromiter((row for sequence in rows for row in sequence), dtype=np.int64, count=sum(lengths))
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(len(rows), items))


def _membership(lists: IntArray, items: int) -> sparse.csr_array:
    held = lists != NO_ITEM
    starts = np.concatenate([[0], np.cumsum(held.sum(axis=1))])
    columns = lists[held]
    return sparse.csr_array((np.ones(len(columns)), columns, starts), shape=(len(lists), items))


def _mean_over_list(lists: IntArray, values: FloatArray) -> FloatArray:
    held = lists != NO_ITEM
    return _divide(np.where(held, values[lists], 0.0).sum(axis=1), held.sum(axis=1))


def _divide(total: FloatArray, number: NDArray[np.number]) -> FloatArray:
    quotient: FloatArray = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
    return quotient


def _as_words(categories: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack each item's categories into 64-bit words: set sizes are then bit counts, fast for any number of lists."""
    padded = np.zeros((len(categories), -(-max(categories.shape[1], 1) // 64) * 64), dtype=np.bool_)
    padded[:, : categories.shape[1]] = categories
    return np.packbits(padded, axis=1).view(np.uint64)
