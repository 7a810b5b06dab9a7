"""The reason beside a recommendation: evidence first, then a sentence that says only what the evidence says.

The evidence is the items of the user's own history that stand closest to the recommended one: taken near it by other
people, or alike in what their titles mean. The sentence names those and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec.catalog import Item


def nearest_evidence(
    history_rows: Sequence[int],
    together: NDArray[np.floating],
    alike: NDArray[np.floating],
    most: int = 2,
) -> list[int]:
    """Return the places in the history of the items that speak most for the recommendation.

    Args:
        history_rows: the history's item rows, oldest first.
        together: how often each was taken near the recommended item, shape (len(history_rows),).
        alike: cosine similarity of each to the recommended item, shape (len(history_rows),).
        most: how many places to return at most.

    Returns:
        Places, the strongest evidence first; each item once.
    """
    if not history_rows:
        return []
    top = together.max()
    strength = (together / top if top > 0 else together) + alike
    places: list[int] = []
    for place in np.argsort(-strength, kind="stable").tolist():
        if history_rows[place] not in [history_rows[other] for other in places]:
            places.append(place)
        if len(places) == most:
            break
    return places


def evidence_sentence(item: Item, evidence: Sequence[Item], taken_together: bool) -> str:
    """Return the sentence that states the evidence.

    Args:
        item: what is recommended.
        evidence: items of the user's history, the strongest first; may be empty.
        taken_together: whether other people took the evidence near the item, or it is merely alike.
    """
    if not evidence:
        return f"“{item.title}” is popular, and there is no history yet to go by."
    names = " and ".join(f"“{other.title}”" for other in evidence)
    if taken_together:
        return f"“{item.title}” is often chosen close to {names}, which you chose."
    return f"“{item.title}” is close in kind to {names}, which you chose."
