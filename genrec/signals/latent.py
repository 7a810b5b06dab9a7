"""Latent factors: items taken by users of similar taste, even by users who share no item with the history.

Popular items and long histories are scaled down before factoring; otherwise they fill the few dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import svds

from genrec.data.catalog import Catalog
from genrec.data.splits import History
from genrec.errors import DataError
from genrec.signals.arrays import Arrays, FloatArray, check_decay, history_matrix, padded, similarities


@dataclass(frozen=True, slots=True, eq=False)
class Latent:
    """Truncated singular value decomposition of the users-by-items matrix; a history is projected, not looked up.

    score(j) = sum over history items i of decay^age(i) * n(i) * (v(i) . v(j)), with v the right singular vectors of
    the matrix of users and items after division by sqrt(items of the user) and by count(item)^power, and
    n(i) = count(i)^-power.

    Source: Cremonesi, Koren and Turrin, "Performance of recommender algorithms on top-N recommendation tasks", RecSys
    2010 (PureSVD), with the scaling of Nikolakopoulos et al., "EigenRec", Knowledge and Information Systems 58, 2019.

    Attributes:
        catalog: gives items their rows.
        factors: float32, shape (items, dimensions).
        scales: n(i), shape (items,).
        decay: weight of a history item relative to the next one, in [0, 1].
    """

    name: ClassVar[str] = "latent"
    catalog: Catalog
    factors: FloatArray
    scales: FloatArray
    decay: float

    @classmethod
    def fit(
        cls,
        catalog: Catalog,
        histories: Sequence[History],
        dimension: int = 64,
        power: float = 0.5,
        decay: float = 0.9,
    ) -> Self:
        """Factor the users-by-items matrix.

        Args:
            catalog: the items.
            histories: training histories.
            dimension: the most dimensions to keep; fewer if there are fewer users or items.
            power: how strongly popular items are scaled down: 0 not at all, 1 fully.
            decay: weight of a history item relative to the next one.

        Raises:
            DataError: a parameter is out of range.
        """
        check_decay(decay)
        if dimension < 1:
            raise DataError(f"dimension must be at least 1; given {dimension}")
        taken = history_matrix(catalog, histories, 1.0)
        taken.data[:] = 1.0
        scales = np.maximum(taken.sum(axis=0), 1.0) ** -power
        lengths = np.maximum(taken.sum(axis=1), 1.0) ** -0.5
        scaled = sparse.diags_array(lengths) @ taken @ sparse.diags_array(scales)
        kept = min(dimension, min(taken.shape) - 1)
        if kept < 1 or not taken.nnz:
            return cls(catalog, np.zeros((len(catalog), 1), np.float32), scales.astype(np.float32), decay)
        # By default, the solver draws a random start each time, and more if the matrix has a low rank; and a start
        # of ones has no part in dimensions that set one half of the items against the other.
        draw = np.random.default_rng(0)
        *_, right = svds(scaled.tocsr(), k=kept, v0=draw.standard_normal(min(taken.shape)), rng=draw)
        return cls(catalog, np.ascontiguousarray(right.T, dtype=np.float32), scales.astype(np.float32), decay)

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the projections, of either sign; an empty history gets zeros."""
        weights = history_matrix(self.catalog, histories, self.decay) @ sparse.diags_array(self.scales)
        return similarities((weights @ self.factors).astype(np.float32), self.factors)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {"factors": self.factors, "scales": self.scales, "decay": np.array([self.decay])}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        factors, scales = (padded(arrays[name], len(catalog)).astype(np.float32) for name in ("factors", "scales"))
        return cls(catalog, factors, scales, float(arrays["decay"][0]))
