"""The number of people who took an item, or both of two items: whole numbers, computed from the signals of a run.

A run keeps no log, but the counts can be computed from its signals: popularity is log(1 + count), and the similarity of
neighbours is a count over a known divisor. If any result is not a whole number, no counts are returned. That happens if
people took items more than once, so that events and people differ, or if the run was made with another divisor.

A nearly right number is not used, because a reader can check a claim such as "212 other people".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.signals.neighbours import ItemKNN
from genrec.signals.simple import Popularity

MOST_PEOPLE = 200_000
"""Above this, a logarithm in single precision no longer identifies the whole number."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """The numbers of people who took items, in the training histories.

    Attributes:
        takers: int64 [items]; the number of people who took each item; 0 if unknown.
        both: int64, shape (items, items); the number who took both; 0 if unknown.
    """

    takers: NDArray[np.int64]
    both: sparse.csr_array

    def of_both(self, row: int, other: int) -> int:
        """Return the number of people who took both of two items, given by row."""
        start, end = self.both.indptr[row : row + 2]
        place = start + int(np.searchsorted(self.both.indices[start:end], other))
        return int(self.both.data[place]) if place < end and self.both.indices[place] == other else 0


def people_of(neighbours: ItemKNN, popularity: Popularity, shrink: float, known: int) -> People | None:
    """Return the counts, or None if they cannot be computed.

    Args:
        neighbours: the similarity of items by the people who took them.
        popularity: the popularity of each item.
        shrink: the amount added to the cosine's divisor.
        known: the number of items at training; items added later have borrowed evidence.
    """
    counts = np.expm1(popularity.scores[:known].astype(np.float64))
    takers = np.rint(counts)
    pairs = sparse.csr_array(neighbours.similarity[:known, :known]).tocoo()
    rows, columns = pairs.coords
    if not len(rows) or takers.max(initial=0.0) > MOST_PEOPLE:
        return None
    both = pairs.data.astype(np.float64) * (np.sqrt(takers[rows] * takers[columns]) + shrink)
    whole = np.rint(both)
    # Single precision keeps seven digits.
    if (np.abs(both - whole) > 1e-3 + 1e-6 * both).any() or (whole > np.minimum(takers[rows], takers[columns])).any():
        return None
    size = len(popularity.scores)
    counted = sparse.csr_array(sparse.coo_array((whole.astype(np.int64), (rows, columns)), shape=(size, size)))
    counted.sort_indices()
    kept = np.zeros(size, np.int64)
    proven = np.unique(rows)
    kept[proven] = takers[proven]
    return People(kept, counted)
