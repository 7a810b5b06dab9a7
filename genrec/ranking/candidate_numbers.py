"""The number of candidates from each source, and the share of cases whose target is among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrec.ranking.cases import asked_of
from genrec.ranking.fusion import CANDIDATES
from genrec.ranking.model_cases import ModelTable
from genrec.ranking.proof import paired
from genrec.ranking.without_model import TRIED_TOGETHER

TRIED_EACH = 20
"""The most candidates that each signal adds by itself, while the best number is sought."""


def members(asked: ModelTable, together: int, each: int) -> NDArray[np.bool_]:
    """Return which rows are candidates, bool [rows], for these numbers of candidates from the signals."""
    table = asked.table
    inside = np.concatenate([asked_of(case.found) for case in table.cases]) | (table.places(asked.evidence) < together)
    if each:
        for number in range(table.values.shape[1]):
            inside |= table.places(table.values[:, number]) < each
    return inside


def fewest(asked: ModelTable, scores: NDArray[np.floating]) -> tuple[int, int]:
    """Return the fewest candidates, from all signals together and from each, that are not proven too few."""
    tried = [(CANDIDATES, 0), (CANDIDATES, TRIED_EACH), (TRIED_TOGETHER, 0), (TRIED_TOGETHER, TRIED_EACH)]
    gains = [asked.table.gains(scores, asked.k, members(asked, *numbers)) for numbers in tried]
    best = int(np.argmax([own.mean() for own in gains]))
    return next(numbers for numbers, own in zip(tried, gains, strict=True) if not paired(gains[best], own).proves)


def recalls_of(asked: ModelTable, together: int, each: int) -> dict[str, float]:
    """Return, for each source, the share of cases whose target it proposes."""
    table = asked.table

    def share(inside: NDArray[np.bool_]) -> float:
        return round(float((inside[table.target] & (table.target >= 0)).mean()), 4)

    own = np.concatenate([asked_of(case.found) for case in table.cases])
    recalls = {
        "all together": share(members(asked, together, each)),
        f"the signals together ({together})": share(table.places(asked.evidence) < together),
        "the language model": share(own),
    }
    for number, name in enumerate(asked.fit.fusion.signals):
        recalls[f"{name} ({TRIED_EACH})"] = share(table.places(table.values[:, number]) < TRIED_EACH)
    return recalls
