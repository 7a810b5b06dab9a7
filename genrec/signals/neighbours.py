"""Signals from items taken together: in sequence (`CoOccurrence`) and by the same users (`ItemKNN`).

Both multiply a history, weighted by recency, with a sparse item-by-item matrix of counts. Import them from
`genrec.signals.simple`.

Events carry the number of their history, so that the end of one history and the start of the next never count as a
pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.data.catalog import Catalog
from genrec.data.splits import History
from genrec.errors import DataError
from genrec.signals.arrays import (
    Arrays,
    FloatArray,
    check_decay,
    events,
    history_matrix,
    largest_in_rows,
    single_precision,
    sparse_from_arrays,
    sparse_to_arrays,
)

BLOCK_ITEMS = 1024
"""Items compared with all others at once; bounds the memory of `ItemKNN.fit`."""


@dataclass(frozen=True, slots=True, eq=False)
class CoOccurrence:
    """Items taken shortly after, or shortly before, the items of the history: the strongest signal without content.

    score(j) = sum over history items i of decay^age(i) * pairs(i, j) / count(j)^power, where pairs(i, j) sums, over all
    training histories, 1/distance for each j that follows i within the window, and backward/distance for each j that
    precedes it. Distance is counted in events; age is 0 for the last item. The order of events counts, not only the
    set of items; this is why it is better than `ItemKNN`.

    Attributes:
        catalog: gives items their rows.
        pairs: pairs(i, j) / count(j)^power, of shape (items, items).
        decay: weight of a history item relative to the next one, in [0, 1].
    """

    name: ClassVar[str] = "co-occurrence"
    catalog: Catalog
    pairs: sparse.csr_array
    decay: float

    @classmethod
    def fit(
        cls,
        catalog: Catalog,
        histories: Sequence[History],
        window: int = 5,
        backward: float = 0.6,
        power: float = 0.5,
        decay: float = 0.8,
    ) -> Self:
        """Count which items are taken near each other.

        Args:
            catalog: the items.
            histories: training histories, oldest item first.
            window: how many events apart two items may be.
            backward: weight of a pair in reverse order of time.
            power: how strongly popular items are scaled down: 0 not at all, 1 fully.
            decay: weight of a history item relative to the next one.

        Raises:
            DataError: a parameter is out of range.
        """
        check_decay(decay)
        if window < 1 or backward < 0:
            raise DataError(f"window must be at least 1 and backward at least 0; given {window} and {backward}")
        users, rows = events(catalog, histories)
        size = len(catalog)
        pairs = sparse.csr_array((size, size), dtype=np.float64)
        for distance in range(1, window + 1):
            same = users[distance:] == users[:-distance]
            earlier, later = rows[:-distance][same], rows[distance:][same]
            ones = np.full(len(earlier), 1 / distance)
            forward = sparse.coo_array((ones, (earlier, later)), shape=(size, size)).tocsr()
            pairs = pairs + forward + backward * forward.T.tocsr()
        counts = np.maximum(np.bincount(rows, minlength=size), 1.0)
        return cls(catalog, single_precision(pairs @ sparse.diags_array(counts**-power).tocsr()), decay)

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the scores; items without a pair in the history get 0."""
        return single_precision(history_matrix(self.catalog, histories, self.decay) @ self.pairs).toarray()

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {**sparse_to_arrays(self.pairs), "decay": np.array([self.decay])}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        return cls(catalog, sparse_from_arrays(arrays, len(catalog)), float(arrays["decay"][0]))


@dataclass(frozen=True, slots=True, eq=False)
class ItemKNN:
    """Cosine similarity between the sets of users who took two items, summed over the history with recency decay.

    score(j) = sum over history items i that are among the `neighbours` most similar to j of decay^age(i) * s(i, j),
    with s(i, j) = users of both / (sqrt(users of i * users of j) + shrink).

    Source: Deshpande and Karypis, "Item-based top-N recommendation algorithms", ACM TOIS 22(1), 2004; neighbours are
    kept per candidate, as RecBole 1.2.1 does (which has decay 1 and leaves the validation item out of the history).

    Attributes:
        catalog: gives items their rows.
        similarity: s(i, j) with i in rows and j in columns, of shape (items, items).
        decay: weight of a history item relative to the next one, in [0, 1].
    """

    name: ClassVar[str] = "item-knn"
    catalog: Catalog
    similarity: sparse.csr_array
    decay: float

    @classmethod
    def fit(
        cls,
        catalog: Catalog,
        histories: Sequence[History],
        neighbours: int = 100,
        shrink: float = 0.0,
        decay: float = 0.9,
    ) -> Self:
        """Compare every two items by their users.

        Args:
            catalog: the items.
            histories: training histories.
            neighbours: how many similar items are kept for each item.
            shrink: added to the cosine's divisor, so that few shared users count little.
            decay: weight of a history item relative to the next one.

        Raises:
            DataError: a parameter is out of range.
        """
        check_decay(decay)
        if neighbours < 1 or shrink < 0:
            raise DataError(f"neighbours must be at least 1 and shrink at least 0; given {neighbours} and {shrink}")
        users, rows = events(catalog, histories)
        ones = np.ones(len(rows))
        taken = sparse.coo_array((ones, (users, rows)), shape=(len(histories), len(catalog))).tocsr()
        taken.data[:] = 1.0
        norms = np.sqrt(taken.sum(axis=0))
        blocks = [sparse.csr_array((0, len(catalog)))]
        # In blocks of rows, each pruned to its neighbours immediately: all pairs together may not fit in memory.
        for start in range(0, len(catalog), BLOCK_ITEMS):
            block = (taken[:, start : start + BLOCK_ITEMS].T @ taken).tocoo()
            targets, others = block.coords
            block.data /= norms[targets + start] * norms[others] + shrink
            block.data[targets + start == others] = 0.0
            block.eliminate_zeros()
            blocks.append(largest_in_rows(block, neighbours))
        return cls(catalog, single_precision(sparse.csr_array(sparse.vstack(blocks).T)), decay)

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the scores; items without a neighbour in the history get 0."""
        return single_precision(history_matrix(self.catalog, histories, self.decay) @ self.similarity).toarray()

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {**sparse_to_arrays(self.similarity), "decay": np.array([self.decay])}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        return cls(catalog, sparse_from_arrays(arrays, len(catalog)), float(arrays["decay"][0]))
