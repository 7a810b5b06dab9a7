"""The score of an item that nobody took, beside known ones; `genrec.ranking.new_items_fit` fits it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class NewItems:
    """The score of a new item.

    Attributes:
        fused: weight of the fused score.
        model: weight of the language model's log-likelihood beside it.
        offset: what is added.
        cases: how many cases with an answer that was pretended to be new they were fitted on.
    """

    fused: float
    model: float
    offset: float
    cases: int

    def applied(
        self, scores: NDArray[np.float32], likelihoods: NDArray[np.float32], new: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        """Return scores with those of new items changed, shape (candidates,).

        Args:
            scores: the fused scores.
            likelihoods: the model's log-likelihoods.
            new: which candidates are new.
        """
        changed = self.fused * scores + self.model * likelihoods + self.offset
        return np.where(new, changed, scores).astype(np.float32)

    def lower_by(self, amount: float) -> NewItems:
        """Return terms whose offset is lower."""
        return replace(self, offset=round(self.offset - amount, 6))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Self:
        """Build from the result of `to_json`."""
        return cls(**entry)
