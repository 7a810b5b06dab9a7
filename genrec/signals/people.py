"""How many people took an item, and how many took both of two: whole numbers, read back from the signals of a run.

A run keeps no log. But popularity is log(1 + count), and the similarity of neighbours is a count over a known divisor,
so both can be turned back. What comes out must be whole numbers everywhere; where it is not (people took things again,
so that events and people differ, or the run was made with another divisor), nothing is said.

The trap is a number that is nearly right: "212 other people" is a claim that somebody may check.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.signals.neighbours import ItemKNN
from genrec.signals.simple import Popularity

MOST_PEOPLE = 200_000
"""Above this, a logarithm in single precision no longer says which whole number it was."""


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Who took what, in the training histories.

    Attributes:
        takers: int64 [items]; how many people took each item, 0 where that is not known.
        both: int64, shape (items, items); how many took both, 0 where that is not known.
    """

    takers: NDArray[np.int64]
    both: sparse.csr_array

    def of_both(self, row: int, other: int) -> int:
        """Return how many people took both of two items, by their rows."""
        start, end = self.both.indptr[row : row + 2]
        place = start + int(np.searchsorted(self.both.indices[start:end], other))
        return int(self.both.data[place]) if place < end and self.both.indices[place] == other else 0


def people_of(neighbours: ItemKNN, popularity: Popularity, shrink: float, known: int) -> People | None:
    """Return the counts, or None where they cannot be told.

    Args:
        neighbours: the similarity of items by the people who took them.
        popularity: how often each was taken.
        shrink: what was added to the cosine's divisor.
        known: how many of the items were there at the training; what was added later has borrowed its evidence.
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
