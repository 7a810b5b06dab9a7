"""Parts of a report beside its figures: users and training losses.

They are plain values, made from rows of `recommend`'s JSON Lines and from a trainer's log; `page` only lays them out. A
page with every user is too heavy for a phone. So the page shows a seeded sample of users and says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genrec.data.catalog import Catalog
from genrec.data.splits import Case

USERS_SHOWN = 200
HISTORY_SHOWN = 30
TITLE_LENGTH = 160
"""Longer titles end in an ellipsis on the page (the catalogue keeps them whole)."""


@dataclass(frozen=True, slots=True)
class ShownItem:
    """One recommendation as a reader sees it.

    Attributes:
        rank: its place, from 1.
        title: the item's title.
        is_target: whether the user took it next.
        score: the final score; None where there is none.
        signals: the evidence for it, by name.
        how: how a generated text became this item; empty where no text did.
        generated: the text the language model wrote; empty where it wrote none.
        explanation: the sentence that says why.
        parts: what the score is made of, and what the item lacks to be first, as one line.
    """

    rank: int
    title: str
    is_target: bool = False
    score: float | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    how: str = ""
    generated: str = ""
    explanation: str = ""
    parts: str = ""


@dataclass(frozen=True, slots=True)
class UserPage:
    """One user's part of the report.

    Attributes:
        user: the user's id.
        history_length: how many items the history has.
        history: titles of its last `HISTORY_SHOWN` items, oldest first.
        target: title of the item that the user took next.
        recommendations: the recommendations, best first.
    """

    user: str
    history_length: int
    history: tuple[str, ...]
    target: str
    recommendations: tuple[ShownItem, ...]


@dataclass(frozen=True, slots=True)
class LossPoint:
    """The loss at one step of training, on the training examples, the validation examples, or both."""

    step: int
    train: float | None = None
    valid: float | None = None


def user_pages(
    cases: Sequence[Case],
    rows: Iterable[Mapping[str, Any]],
    catalog: Catalog,
    *,
    limit: int = USERS_SHOWN,
    seed: int = 0,
) -> tuple[UserPage, ...]:
    """Return the pages of a seeded sample of the users, in the order of the cases.

    Args:
        cases: the evaluated cases; a page shows the case's history and target.
        rows: lines of `genrec recommend`'s JSONL, read one at a time; users without a case are skipped.
        catalog: has the titles; an id that it does not have is shown as it is.
        limit: the most users.
        seed: the seed of the sample.
    """
    picked = np.random.default_rng(seed).permutation(len(cases))[:limit]
    chosen = {cases[place].history.user: cases[place] for place in sorted(picked)}
    listed = {user: row for row in rows if (user := str(row["user"])) in chosen}
    return tuple(_user_page(case, listed.get(user, {"recommendations": ()}), catalog) for user, case in chosen.items())


def loss_points(log: Iterable[Mapping[str, Any]]) -> tuple[LossPoint, ...]:
    """Return the losses in a trainer's log; entries without a step, or without a finite loss, are skipped.

    Args:
        log: entries such as `{"step": 10, "loss": 2.5}` and `{"step": 10, "eval_loss": 2.7}`, as `transformers`
            trainers write them; `valid_loss` is read as `eval_loss` is.
    """
    points = []
    for entry in log:
        train, valid = _finite(entry.get("loss")), _finite(entry.get("eval_loss", entry.get("valid_loss")))
        if "step" in entry and (train is not None or valid is not None):
            points.append(LossPoint(int(entry["step"]), train, valid))
    return tuple(points)


def _user_page(case: Case, row: Mapping[str, Any], catalog: Catalog) -> UserPage:
    items = tuple(
        ShownItem(
            rank=int(entry.get("rank", place)),
            title=_title(str(entry["item"]), catalog),
            is_target=str(entry["item"]) == case.target,
            score=_finite(entry.get("score")),
            signals=_signals(entry.get("signals") or {}),
            how=str(entry.get("how") or ""),
            generated=_cut(str(entry.get("generated") or "")),
            explanation=str(entry.get("explanation") or ""),
            parts=_parts_line(entry.get("waterfall") or {}),
        )
        for place, entry in enumerate(row["recommendations"], 1)
    )
    history = case.history.items
    return UserPage(
        user=case.history.user,
        history_length=len(history),
        history=tuple(_title(item, catalog) for item in history[-HISTORY_SHOWN:]),
        target=_title(case.target, catalog),
        recommendations=items,
    )


def _parts_line(waterfall: Mapping[str, Any]) -> str:
    """Return a waterfall as one line, the largest parts first; nothing where there is none."""
    if not waterfall:
        return ""
    parts = sorted(waterfall["parts"].items(), key=lambda part: -abs(part[1]))
    line = "score = " + " ".join(f"{value:+.3g} {name}" for name, value in parts)
    first = waterfall["to_be_first"]
    needs = " and ".join(first["needs"])
    return f"{line}; {first['gap']:.3g} behind the first, ahead of it with its {needs}" if needs else line


def _signals(raw: Mapping[str, Any]) -> dict[str, float]:
    numbers = {str(name): _finite(value) for name, value in raw.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _title(item: str, catalog: Catalog) -> str:
    return _cut(catalog[item].title) if item in catalog else item


def _cut(text: str) -> str:
    return text if len(text) <= TITLE_LENGTH else text[: TITLE_LENGTH - 1] + "…"


def _finite(value: Any) -> float | None:
    """Return a number that JSON can hold, or None: a page with NaN in its data would not open."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None
