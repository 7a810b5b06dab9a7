"""Evidence: the items of the user's own history that support a recommendation, and the weight of each.

These items are the closest to the recommended item (other people took them near it, or their titles have a similar
meaning), or a measurement shows that they moved the language model towards it (`genrec.explain.influence`).
`genrec.explain.grammar` decides which claims are made about them.

An item that moved the model away from the recommendation is never cited, however large its influence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Item
from genrec.errors import ConfigError
from genrec.explain.influence import Influence

Explain = Literal["none", "sentence", "measured", "words"]
"""No explanation; a sentence from evidence near the item; a sentence from the items that moved the language model,
measured by leaving them out; the same evidence in the language model's own words, checked."""

Language = Literal["en", "zh"]
Tone = Literal["plain", "warm"]
Length = Literal["short", "long"]
Kind = Literal["again", "together", "alike", "given", "moved", "taste", "popular"]
"""The kinds of evidence: the user took the item itself before; other people took the cited item near it; the two are
similar; the cited item is in the history and no more is known; it moved the language model towards the item. Without a
history: the item is close to the taste that the user describes; the item is popular."""

MOST_EVIDENCE: dict[Length, int] = {"short": 2, "long": 3}
"""How many items are cited at most."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How explanations are worded.

    Attributes:
        language: English or Chinese.
        tone: matter-of-fact or warm.
        length: one sentence that cites at most two items, or up to three sentences that cite at most three.
        style: the text of a style file (`genrec.explain.style`) that replaces the language's own style; the text and
            not the path, so that a job notices a change.

    Raises:
        ConfigError: there is no such language, tone or length; the message lists all problems.
    """

    language: Language = "en"
    tone: Tone = "plain"
    length: Length = "short"
    style: str = ""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}; expected {', '.join(get_args(choices))}; choose one of them"
            for name, value, choices in (
                ("language", self.language, Language),
                ("tone", self.tone, Tone),
                ("length", self.length, Length),
            )
            if value not in get_args(choices)
        ]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence for one recommendation.

    Attributes:
        items: items of the user's history, the strongest first; empty if there is no history.
        kind: the kind of evidence.
        weights: the weight of each item, in the same order; all equal if left out.
    """

    items: tuple[Item, ...]
    kind: Kind
    weights: tuple[float, ...] = ()

    def weights_by_item(self) -> dict[str, float]:
        """Return each item's share of the evidence, by its id; the shares sum to 1."""
        weights = self.weights or (1.0,) * len(self.items)
        total = sum(weights) or 1.0
        return {item.id: weight / total for item, weight in zip(self.items, weights, strict=True)}


def nearest_evidence(
    history_rows: Sequence[int],
    together: NDArray[np.floating],
    alike: NDArray[np.floating],
    most: int = 2,
) -> list[int]:
    """Return the places in the history of the items that support the recommendation most.

    Args:
        history_rows: the history's item rows, oldest first.
        together: how often each was taken near the recommended item, shape (len(history_rows),).
        alike: cosine similarity of each to the recommended item, shape (len(history_rows),).
        most: the largest number of places to return.

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


def measured_evidence(influences: Sequence[Influence], most: int = 2) -> Evidence:
    """Return the items that moved the model most towards a recommendation, each once; those against it are left out.

    Args:
        influences: the influences on one recommendation, the strongest first.
        most: how many at most.
    """
    best: dict[str, Influence] = {}
    for one in influences:
        if one.weight > 0 and one.item.id not in best and len(best) < most:
            best[one.item.id] = one
    return Evidence(tuple(one.item for one in best.values()), "moved", tuple(one.weight for one in best.values()))
