"""genrec's results: recommendations, and the texts from which they came."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from genrec.data.catalog import Item

if TYPE_CHECKING:
    import polars as pl

How = Literal["exact", "normalised", "nearest", "again", "collaborative", "taste", "popularity"]
"""How an item came to be recommended: the model's text is its label (exact), is so after normalising, is nearest to
it; or the user took it before; or it came from other people's histories, from what the user says of their taste, or
from popularity alone."""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """What one item's score is made of.

    Attributes:
        parts: what each signal, the model ("lm") and what is the same for all ("base") add; they sum to the score.
        gap: how far the score is below that of the list's first item; below 0 where re-ranking moved the first one up.
        needs: the parts in which this item would have to be as good as the first one to be ahead of it: the fewest
            that are enough, the largest difference first. Empty for the first item, and where nothing is needed.
    """

    parts: Mapping[str, float]
    gap: float = 0.0
    needs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` is its inverse."""
        parts = {name: round(value, 7) for name, value in self.parts.items()}
        return {"parts": parts, "to_be_first": {"gap": round(self.gap, 7), "needs": list(self.needs)}}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Waterfall:
        """Build from what `to_json` returned."""
        first = entry["to_be_first"]
        return cls(dict(entry["parts"]), float(first["gap"]), tuple(first["needs"]))


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One place in a user's list.

    Attributes:
        rank: from 1.
        item: what is recommended.
        score: the fused score; comparable within one list only.
        signals: the value of each signal for the item; None if the signal does not know the item.
        how: how the item was found.
        generated: the text that the language model wrote; empty where the item is not the model's.
        explanation: why, in a sentence; empty unless asked for.
        waterfall: what the score is made of; None unless asked for.

    Example:
        >>> from genrec import Recommender
        >>> rec = Recommender.from_pretrained("runs/films")
        >>> first = rec.recommend(["Night Train 1", "Night Train 2"], k=5)[0]
        >>> first.rank, first.item.title, first.how
        (1, 'Night Train 3', 'exact')
    """

    rank: int
    item: Item
    score: float
    signals: Mapping[str, float | None]
    how: How
    generated: str = ""
    explanation: str = ""
    waterfall: Waterfall | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the recommendation as one entry of `recommend`'s output."""
        entry: dict[str, Any] = {
            "rank": self.rank,
            "item": self.item.id,
            "title": self.item.title,
            "score": round(self.score, 6),
            "signals": {name: None if value is None else round(value, 5) for name, value in self.signals.items()},
            "how": self.how,
            "generated": self.generated,
        }
        if self.explanation:
            entry["explanation"] = self.explanation
        if self.waterfall is not None:
            entry["waterfall"] = self.waterfall.to_json()
        return entry

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], item: Item) -> Recommendation:
        """Build a recommendation from what `to_json` returned and the catalogue's item."""
        return cls(
            rank=int(entry["rank"]),
            item=item,
            score=float(entry["score"]),
            signals=dict(entry["signals"]),
            how=entry["how"],
            generated=str(entry["generated"]),
            explanation=str(entry.get("explanation", "")),
            waterfall=Waterfall.from_json(entry["waterfall"]) if entry.get("waterfall") else None,
        )


class Recommendations(list[Recommendation]):
    """One user's list, best first: a list of `Recommendation`s like any other, which notebooks show as a table.

    Example:
        >>> from genrec import Recommender
        >>> rec = Recommender.from_pretrained("runs/films")
        >>> found = rec.recommend(["Night Train 1", "Night Train 2"], k=5)
        >>> len(found), found.to_polars()["title"][0]
        (5, 'Night Train 3')

    Attributes:
        understood: the constraints that a taste states and that the list keeps to, such as "Sci-Fi; 1970 to 1979".
        released: those that it does not keep to, because fewer items than asked for meet them.
    """

    def __init__(self, entries: Iterable[Recommendation] = (), understood: str = "", released: str = "") -> None:
        super().__init__(entries)
        self.understood, self.released = understood, released

    def heard(self) -> list[str]:
        """Return what was understood of a taste as lines for people; none if no constraint was stated."""
        told = (("understood", self.understood), ("released, since too few items are such", self.released))
        return [f"{how}: {what}" for how, what in told if what]

    def to_polars(self) -> pl.DataFrame:
        """Return the list as a Polars frame, a row for each place, best first.

        Returns:
            Columns `rank` (int), `item` and `title` (text), `score` (float), `signals` (a struct of floats, null where
            a signal says nothing), `how`, `generated` and `explanation` (text).
        """
        import polars as pl

        rows = [
            {
                "rank": entry.rank,
                "item": entry.item.id,
                "title": entry.item.title,
                "score": entry.score,
                "signals": dict(entry.signals),
                "how": entry.how,
                "generated": entry.generated,
                "explanation": entry.explanation,
            }
            for entry in self
        ]
        signals = pl.Struct(dict.fromkeys(self[0].signals if self else (), pl.Float64()))
        schema = {"rank": pl.Int64(), "score": pl.Float64(), "signals": signals}
        names = ("rank", "item", "title", "score", "signals", "how", "generated", "explanation")
        return pl.DataFrame(rows, schema={name: schema.get(name, pl.String()) for name in names})

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{entry.rank}</td><td>{escape(entry.item.title)}</td><td>{entry.score:.3f}</td>"
            f"<td>{escape(entry.explanation)}</td></tr>"
            for entry in self
        )
        return f"<table><tr><th></th><th>title</th><th>score</th><th>why</th></tr>{rows}</table>"
