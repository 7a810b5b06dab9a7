"""Signals: each scores every item of the catalogue for a history, from one kind of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from genrec.splits import History


class Signal(Protocol):
    """One kind of evidence; a user adds one by writing a class with these two members."""

    name: ClassVar[str]

    def score(self, histories: Sequence[History]) -> NDArray[np.float32]:
        """Return a score for each history and each item, in catalogue order; higher is better.

        Returns:
            float32 array of shape (len(histories), len(catalog)).
        """
        ...
