"""Matrix factorisation for implicit feedback as a baseline; the library `implicit` finds the item factors.

The library is needed for fitting only. To score a history, its factors are solved here, exactly. So any history can be
scored, also one outside training, and its scores do not depend on the other histories of the call.
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
from genrec.errors import DataError, MissingExtra
from genrec.signals.arrays import Arrays, FloatArray, check_decay, events, history_matrix, padded, similarities


@dataclass(frozen=True, slots=True, eq=False)
class ALS:
    """Inner product of the item's factors and the history's, fitted to taken = 1 and all others = 0.

    An event has the confidence 1 + alpha, in scoring 1 + alpha * decay^age; an item that was not taken has 1.

    Source: Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008.

    Attributes:
        catalog: gives items their rows.
        factors: float32, shape (items, dimensions).
        regularization: the weight of the squared length of factors.
        alpha: how much more an event counts than its absence.
        decay: weight of a history item relative to the next one, in [0, 1]; in scoring only.
    """

    name: ClassVar[str] = "als"
    catalog: Catalog
    factors: FloatArray
    regularization: float
    alpha: float
    decay: float

    @classmethod
    def fit(
        cls,
        catalog: Catalog,
        histories: Sequence[History],
        dimension: int = 64,
        regularization: float = 1.0,
        alpha: float = 10.0,
        decay: float = 0.9,
        iterations: int = 15,
        seed: int = 0,
    ) -> Self:
        """Factorise the users-by-items matrix.

        Args:
            catalog: the items.
            histories: training histories, one for each user.
            dimension: the number of factors.
            regularization: the weight of the squared length of factors.
            alpha: how much more an event counts than its absence.
            decay: weight of a history item relative to the next one, in scoring.
            iterations: how often users and items are solved in turn.
            seed: the seed of the initial factors.

        Raises:
            DataError: a parameter is out of range.
            MissingExtra: `implicit` is not installed.
        """
        check_decay(decay)
        if dimension < 1 or iterations < 1 or regularization <= 0 or alpha <= 0:
            raise DataError(
                "als needs at least 1 dimension and 1 iteration, and positive regularization and alpha; "
                f"given {dimension}, {iterations}, {regularization} and {alpha}"
            )
        try:
            from implicit.cpu.als import AlternatingLeastSquares
            from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
        except ImportError:
            raise MissingExtra("baselines", "The als baseline") from None
        users, rows = events(catalog, histories)
        confidence = np.ones(len(rows), dtype=np.float32)
        taken = sparse.coo_array((confidence, (users, rows)), shape=(len(histories), len(catalog))).tocsr()
        taken.data[:] = 1 + alpha
        # The library requires this: its own threads and those of BLAS would compete for the cores.
        with threadpool_limits(1, "blas"):
            model = AlternatingLeastSquares(
                factors=dimension, regularization=regularization, iterations=iterations, random_state=seed
            )
            model.fit(sparse.csr_matrix(taken), show_progress=False)
        return cls(catalog, np.asarray(model.item_factors, dtype=np.float32), regularization, alpha, decay)

    def score(self, histories: Sequence[History]) -> FloatArray:
        """Return the scores; an empty history gets zeros."""
        items = self.factors.astype(np.float64)
        common = items.T @ items + self.regularization * np.eye(items.shape[1])
        weights = history_matrix(self.catalog, histories, self.decay)
        solved = np.zeros((len(histories), items.shape[1]))
        for row in range(len(histories)):
            taken = slice(weights.indptr[row], weights.indptr[row + 1])
            own, extra = items[weights.indices[taken]], self.alpha * weights.data[taken]
            solved[row] = np.linalg.solve(common + (own.T * extra) @ own, own.T @ (1 + extra))
        return similarities(solved.astype(np.float32), self.factors)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays that `from_arrays` needs."""
        return {"factors": self.factors, "parameters": np.array([self.regularization, self.alpha, self.decay])}

    @classmethod
    def from_arrays(cls, catalog: Catalog, arrays: Arrays) -> Self:
        """Build from the arrays of `to_arrays`, for the same catalogue or one with items appended."""
        regularization, alpha, decay = map(float, arrays["parameters"])
        return cls(catalog, padded(arrays["factors"], len(catalog)).astype(np.float32), regularization, alpha, decay)
