"""Re-ranking on request: a varied, calibrated or less popular list from more candidates than places.

One greedy choice serves all settings. For each place, the candidate with the highest gain is taken:

    gain(i | S) = (1 - d - c) relevance(i) - d max over j in S of cos(i, j) - c KL(p, q(S + i))

    d   diversity      Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents
                       and producing summaries", SIGIR 1998; their lambda is 1 - d
    c   calibration    Steck, "Calibrated recommendations", RecSys 2018, equations 3 and 6; its lambda is c
    p   the categories of the user's own history;  q(S + i)   the categories of the list with i

With c = 0 this is MMR, with d = 0 it is Steck's greedy algorithm, with both 0 the order of relevance.

Relevance is scaled from 1 for a user's best candidate to 0 for the worst, so that a setting means the same for every
user. Fused scores have no scale of their own to compare with a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.categories import CALIBRATION_SMOOTHING, COMMON_CATEGORY, category_matrix
from genrec.data.rows import FloatArray, IntArray
from genrec.errors import ConfigError

CANDIDATES_PER_PLACE = 5
LEAST_CANDIDATES = 50


@dataclass(frozen=True, slots=True)
class Reranking:
    """Requirements for a list beyond its scores; by default the order stays.

    Attributes:
        diversity: 0 to 1; the weight of an item's dissimilarity to the items above it in the list.
        max_per_category: the most items of one category in a list. If no other candidate is left to fill the
            list, the limit rises by one, so the list still has k items.
        discount_popularity: from 0; this number times the item's popularity is subtracted from relevance. Popularity is
            log(1 + takers), scaled from 0 to 1, so this is the logarithm of a division by a power of popularity (Steck,
            "Item popularity and recommendation accuracy", RecSys 2011). At 1, the penalty of the most popular item is
            the whole range of relevance.
        calibration: 0 to 1; the weight of agreement between the list's mix of categories and the user's own. It is
            not applied to a user whose history has no category.
    """

    diversity: float = 0.0
    max_per_category: int | None = None
    discount_popularity: float = 0.0
    calibration: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}, expected a number from 0 to 1"
            for name, value in (("diversity", self.diversity), ("calibration", self.calibration))
            if not 0 <= value <= 1
        ]
        if not problems and self.diversity + self.calibration > 1:
            problems.append(
                f"diversity {self.diversity} and calibration {self.calibration} are together more than 1, "
                "which leaves relevance no weight; lower one of them"
            )
        if self.max_per_category is not None and self.max_per_category < 1:
            problems.append(f"max_per_category is {self.max_per_category}, expected at least 1")
        if not 0 <= self.discount_popularity < float("inf"):
            problems.append(f"discount_popularity is {self.discount_popularity}, expected a number from 0")
        if problems:
            raise ConfigError(problems)

    @property
    def asked(self) -> bool:
        """Whether any setting differs from its default."""
        return self != Reranking()

    def candidates(self, k: int) -> int:
        """Return the number of candidates from which k items are chosen: k without re-ranking."""
        return max(LEAST_CANDIDATES, CANDIDATES_PER_PLACE * k) if self.asked else k


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """The data of the catalogue's items for re-ranking.

    Attributes:
        vectors: shape (items, dimensions), each of length 1, or of zeros (similar to no other item).
        categories: bool, shape (items, categories); categories that nearly all items have are left out: they
            distinguish no items, and no list could keep a limit on them.
        popularity: shape (items,), 0 for an item that no user took, 1 for the most popular.
    """

    vectors: NDArray[np.float32]
    categories: NDArray[np.bool_]
    popularity: FloatArray

    @classmethod
    def of(cls, catalog: Catalog, vectors: NDArray[np.float32], popularity: NDArray[np.floating]) -> ItemFacts:
        """Gather the facts.

        Args:
            catalog: the items, with their categories.
            vectors: shape (items, dimensions).
            popularity: from 0, such as log(1 + takers), shape (items,).
        """
        categories = category_matrix(catalog)
        telling = categories.mean(axis=0) <= COMMON_CATEGORY
        takers = np.asarray(popularity, np.float64)
        return cls(vectors, categories[:, telling], takers / max(float(takers.max(initial=0.0)), 1e-12))


def rerank(
    rows: IntArray,
    scores: NDArray[np.floating],
    k: int,
    wishes: Reranking,
    facts: ItemFacts,
    history: Sequence[int] | IntArray,
) -> IntArray:
    """Choose a list from scored candidates.

    Args:
        rows: the candidates' catalogue rows, each once, shape (n,), best first.
        scores: their scores, higher is better, shape (n,).
        k: places in the list.
        wishes: the re-ranking settings.
        facts: the items' data.
        history: the rows of the user's own history.

    Returns:
        Places in `rows`, shape (min(k, n),), in the list's order. Equal gains keep the candidates' order.
    """
    size = min(k, len(rows))
    if not wishes.asked:
        return np.arange(size)
    vectors, categories = facts.vectors[rows], facts.categories[rows]
    relevance = scaled(scores) - wishes.discount_popularity * facts.popularity[rows]
    weights = distributions(categories)
    wanted = category_mix(facts.categories[list(history)])
    calibration = wishes.calibration if wanted.any() else 0.0
    own = (1 - wishes.diversity - calibration) * relevance
    nearest = np.full(len(rows), -1.0)  # the highest cosine to an item of the list so far; equal for all at first
    listed = np.zeros(weights.shape[1])  # the sum of the list's category distributions
    counts = np.zeros(categories.shape[1], np.int64)
    limit = wishes.max_per_category
    left = np.ones(len(rows), np.bool_)
    chosen: list[int] = []
    while len(chosen) < size:
        gains = own - wishes.diversity * nearest
        if calibration:
            gains = gains - calibration * divergence(wanted, listed + weights)
        allowed = left.copy()
        if limit is not None:
            while not (allowed := left & ~(categories & (counts >= limit)).any(axis=1)).any():
                limit += 1
        place = int(np.argmax(np.where(allowed, gains, -np.inf)))
        chosen.append(place)
        left[place] = False
        nearest = np.maximum(nearest, vectors @ vectors[place])
        listed += weights[place]
        counts += categories[place]
    return np.array(chosen, np.int64)


def scaled(scores: NDArray[np.floating]) -> FloatArray:
    """Return the scores scaled linearly so that the best is 1 and the worst 0; zeros if all are equal."""
    values = np.asarray(scores, np.float64)
    if not len(values) or not (spread := values.max() - values.min()) > 0:
        return np.zeros(len(values))
    return np.asarray((values - values.min()) / spread, np.float64)


def distributions(values: NDArray[np.generic]) -> FloatArray:
    """Return each row divided by its sum; rows of zeros are unchanged."""
    numbers = values.astype(np.float64)
    totals = numbers.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(numbers, totals, out=np.zeros_like(numbers), where=totals > 0), np.float64)


def category_mix(categories: NDArray[np.bool_]) -> FloatArray:
    """Return the mean of items' own category distributions, p(g|u) of Steck 2018; zeros if no item has one.

    Args:
        categories: shape (items, categories); an item without a category is left out.
    """
    return distributions(distributions(categories).sum(axis=0))


def divergence(wanted: FloatArray, listed: FloatArray) -> FloatArray:
    """Return the Kullback-Leibler divergence of lists' categories from the wanted; see `beyond_accuracy.calibration`.

    Args:
        wanted: p, shape (categories,), with sum 1.
        listed: for each list, the sum of its items' category distributions, shape (lists, categories).
    """
    alpha = CALIBRATION_SMOOTHING
    held = wanted > 0
    p = wanted[held]
    q = (1 - alpha) * distributions(listed)[:, held] + alpha * p
    return np.asarray((p * np.log(p / q)).sum(axis=1), np.float64)
