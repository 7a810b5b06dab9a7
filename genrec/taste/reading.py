"""Reading a sentence about one's taste: the constraints that it states, and the rest, which is compared by meaning.

A constraint is read where the catalogue has what it is about, and is a filter: years, categories and prices that a
sentence names are kept to, unless too few items are left. What the sentence says beside is compared with the items as
a whole, by the text encoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.rows import IntArray
from genrec.taste.attributes import Attributes, key_of
from genrec.taste.grammar import Grammar, Matcher, Span, Token, tokens_of

Kind = Literal["category", "years", "price"]
RELEASED_FIRST: tuple[Kind, ...] = ("category", "price", "years")
"""The order in which constraints are released, the last first: a western of another decade is still a western."""

_LONGEST_NAME = 8
"""The most words of a category's name that are tried, and of a title's twice as many."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What a sentence asks of every item.

    Attributes:
        kind: "category", "years" or "price".
        names: categories, one of which an item has; empty for the other kinds.
        spans: lowest and highest values, in one of which an item's value lies; infinite where open.
        negated: whether items that this holds for are those that are not wanted.
    """

    kind: Kind
    names: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    negated: bool = False

    def passing(self, attributes: Attributes) -> NDArray[np.bool_]:
        """Return which items meet it, shape (items,); an unknown year or price meets only a negation."""
        if self.kind == "category":
            parts = [attributes.members[name] for name in self.names]
        else:
            values = attributes.years if self.kind == "years" else attributes.prices
            parts = [(values >= low) & (values <= high) for low, high in self.spans]
        has: NDArray[np.bool_] = np.logical_or.reduce(parts)
        return ~has if self.negated else has

    def to_words(self) -> str:
        """Return it as people read it, such as "1970 to 1979" or "not Horror"."""
        said = self.names or tuple(map(_words_of_span, self.spans))
        text = ("price " if self.kind == "price" else "") + " or ".join(said)
        return f"not {text}" if self.negated else text


@dataclass(frozen=True, slots=True)
class Heard:
    """What was understood of a sentence.

    Attributes:
        constraints: those that the list keeps to.
        released: those that it does not keep to, because too few items would be left.
        compared: what is compared with the items by meaning.
        first: the rows of items that meet even what is released; they lead the list. Empty if nothing is released.
    """

    constraints: tuple[Constraint, ...] = ()
    released: tuple[Constraint, ...] = ()
    compared: str = ""
    first: tuple[int, ...] = ()

    @property
    def understood(self) -> str:
        """The constraints that are kept to, as people read them; empty if there are none."""
        return "; ".join(one.to_words() for one in self.constraints)

    @property
    def let_go(self) -> str:
        """The constraints that are not kept to, as people read them; empty if there are none."""
        return "; ".join(one.to_words() for one in self.released)


@dataclass(frozen=True, slots=True)
class _Place:
    """A constraint and where it stands: the first token, the one after the last, and the rest's cut."""

    constraint: Constraint
    start: int
    end: int


@dataclass(eq=False)
class TasteWords:
    """Reads sentences against one catalogue.

    Attributes:
        catalog: the items.
        grammar: the words; see `genrec.taste.grammar`.
    """

    catalog: Catalog
    grammar: Grammar

    @cached_property
    def attributes(self) -> Attributes:
        """The catalogue's attributes, read once."""
        return Attributes.of(self.catalog, self.grammar)

    def hear(self, sentence: str, excluded: IntArray, k: int) -> tuple[Heard, IntArray]:
        """Read a sentence, and release what would leave too few items.

        While fewer than k items remain, a constraint is released that is enough: years before prices, prices before
        categories, and what is not wanted last. If none alone is enough, it is the one without which most remain.

        Args:
            sentence: what the user says.
            excluded: int64; the rows that cannot be recommended anyway.
            k: how many items are asked for.

        Returns:
            What was understood, and the rows that cannot be recommended now, ascending.
        """
        read = self.read(sentence)
        kept, released = list(read.constraints), list[Constraint]()
        masks = {one: one.passing(self.attributes) for one in kept}
        allowed = np.ones(len(self.catalog), np.bool_)
        allowed[excluded] = False

        def left(constraints: Sequence[Constraint]) -> NDArray[np.bool_]:
            both: NDArray[np.bool_] = np.logical_and.reduce([allowed, *(masks[one] for one in constraints)])
            return both

        asked = min(k, int(allowed.sum()))
        while kept and left(kept).sum() < asked:
            without = {one: int(left([other for other in kept if other != one]).sum()) for one in kept}
            # Of equals, the one that is named last is released.
            freed = max(
                reversed(kept),
                key=lambda one: (not one.negated, min(without[one], asked), RELEASED_FIRST.index(one.kind)),
            )
            kept.remove(freed)
            released.append(freed)
        compared = _without_negations(self, sentence) if released else read.compared
        first = np.flatnonzero(left(read.constraints)).tolist() if released else []
        heard = Heard(tuple(kept), tuple(released), compared, tuple(first))
        return heard, np.flatnonzero(~left(kept))

    def read(self, sentence: str) -> Heard:
        """Return what a sentence states, with nothing released."""
        places = self._places(sentence)
        rest = _cut(sentence, [(one.start, one.end) for one in places])
        idle = {phrase[0] for phrase in self.grammar.words.get("idle", ())}
        if all(token.text in idle or not token.text[0].isalnum() for token in tokens_of(rest)):
            rest = _without_negations(self, sentence)
        return Heard(tuple(dict.fromkeys(one.constraint for one in places)), (), rest)

    def _places(self, sentence: str) -> list[_Place]:
        """Return the constraints with their places in the sentence, as letters."""
        tokens = tokens_of(sentence)
        reader = _Reader(self.grammar, self.attributes, tokens)
        return [
            replace(one, start=tokens[one.start].start, end=tokens[one.end - 1].end) for one in reader.constraints()
        ]


class _Reader:
    """Reads one sentence from its first token to its last."""

    def __init__(self, grammar: Grammar, attributes: Attributes, tokens: Sequence[Token]) -> None:
        self._grammar, self._attributes, self._tokens = grammar, attributes, tokens
        self._matcher = Matcher(grammar, tokens, attributes.century_of)
        self._has = {"years": bool(np.isfinite(attributes.years).any())}
        self._has["price"] = bool(np.isfinite(attributes.prices).any())

    def constraints(self) -> list[_Place]:
        """Return the constraints that the sentence states, in their order."""
        found: list[_Place] = []
        at, tokens, grammar = 0, self._tokens, self._grammar
        while at < len(tokens):
            if (end := max(grammar.ends("not_negations", tokens, at), self._title(at))) > at:
                at = end
            elif (one := self._negated(at)) is not None or (one := self._alternatives(at, at, False)) is not None:
                found.append(one)
                at = one.end
            else:
                at += 1
        return found

    def _negated(self, at: int) -> _Place | None:
        """Return what a negation at a token is about; None if there is none, or if it is about something else."""
        plain = self._constraint(at)  # "no more than $20", "not before 1990" are no negations
        end = self._grammar.ends("negations", self._tokens, at)
        if end == at or plain is not None:
            return None
        for start in (end, self._grammar.skip(("articles", "fillers"), self._tokens, end)):
            if (one := self._alternatives(at, start, True)) is not None:
                return one
        return None

    def _alternatives(self, start: int, at: int, negated: bool) -> _Place | None:
        """Return a constraint and those of its kind that follow it with a connector: "comedy or drama"."""
        if (first := self._constraint(at)) is None:
            return None
        constraint, end = first.constraint, first.end
        while constraint.kind != "price":
            following = self._grammar.skip(("connectors", "articles"), self._tokens, end)
            if self._grammar.ends("connectors", self._tokens, end) == end:
                break
            other = self._constraint(following)
            if other is None or other.constraint.kind != constraint.kind:
                break
            constraint = replace(
                constraint,
                names=tuple(dict.fromkeys((*constraint.names, *other.constraint.names))),
                spans=tuple(dict.fromkeys((*constraint.spans, *other.constraint.spans))),
            )
            end = other.end
        after = self._grammar.ends("negations_after", self._tokens, end)
        return _Place(_negation_of(constraint) if negated or after > end else constraint, start, after)

    def _constraint(self, at: int) -> _Place | None:
        """Return the longest single constraint that begins at a token."""
        found = [self._category(at)]
        kinds: tuple[Kind, ...] = ("years", "price")
        for kind in kinds:
            if self._has[kind] and (best := self._matcher.best(kind, at)) is not None:
                end, meaning, spans = best
                span = MEANINGS[meaning](self._attributes, spans)
                found.append(_Place(Constraint(kind, spans=(span,)), at, end))
        return max((one for one in found if one is not None), key=lambda one: one.end, default=None)

    def _category(self, at: int) -> _Place | None:
        if at >= len(self._tokens) or not self._tokens[at].text[0].isalnum():
            return None
        for end in range(min(at + _LONGEST_NAME, len(self._tokens)), at, -1):
            name = self._attributes.names.get(key_of(self._tokens[at:end]))
            if name is not None and (self._tokens[end - 1].text[0].isalnum()):
                return _Place(Constraint("category", (name,)), at, end)
        return None

    def _title(self, at: int) -> int:
        """Return where a title of the catalogue ends that is named after a word such as "like"; `at` without one."""
        start = self._grammar.ends("after_titles", self._tokens, at)
        if start > at:
            for end in range(min(start + 2 * _LONGEST_NAME, len(self._tokens)), start, -1):
                if key_of(self._tokens[start:end]) in self._attributes.titles:
                    return end
        return at


def _negation_of(constraint: Constraint) -> Constraint:
    """Return what is left by a constraint; where one side is open, it is the other side: nothing before 1980."""
    if len(constraint.spans) == 1:
        ((low, high),) = constraint.spans
        step = 1 if constraint.kind == "years" else 0
        if math.isinf(low):
            return replace(constraint, spans=((high + step, math.inf),))
        if math.isinf(high):
            return replace(constraint, spans=((-math.inf, low - step),))
    return replace(constraint, negated=True)


def _last(attributes: Attributes, years: float) -> Span:
    newest = float(np.nanmax(attributes.years))
    return newest - years + 1, newest


MEANINGS: dict[str, Callable[[Attributes, Sequence[Span]], Span]] = {
    "within": lambda _, spans: spans[0],
    "between": lambda _, spans: (min(spans[0][0], spans[1][0]), max(spans[0][1], spans[1][1])),
    "before": lambda _, spans: (-math.inf, spans[0][0] - 1),
    "until": lambda _, spans: (-math.inf, spans[0][1]),
    "since": lambda _, spans: (spans[0][0], math.inf),
    "after": lambda _, spans: (spans[0][1] + 1, math.inf),
    "early": lambda _, spans: (spans[0][0], spans[0][0] + 3),
    "middle": lambda _, spans: (spans[0][0] + 3, spans[0][0] + 6),
    "late": lambda _, spans: (spans[0][0] + 6, spans[0][1]),
    "last": lambda attributes, spans: _last(attributes, spans[0][0]),
    "last_decades": lambda attributes, spans: _last(attributes, 10 * (spans[0][0] if spans else 1)),
}
"""What the patterns of the grammar's files mean: from their slots' values to a lowest and a highest value."""


def _words_of_span(span: Span) -> str:
    low, high = span
    if low == high:
        return f"{low:g}"
    if math.isinf(low):
        return f"up to {high:g}"
    return f"from {low:g}" if math.isinf(high) else f"{low:g} to {high:g}"


def _without_negations(words: TasteWords, sentence: str) -> str:
    """Return the sentence without what is not wanted; the whole sentence if nothing else is said."""
    places = [(one.start, one.end) for one in words._places(sentence) if one.constraint.negated]
    return _cut(sentence, places) or sentence


def _cut(sentence: str, places: Sequence[tuple[int, int]]) -> str:
    """Return the sentence without some stretches of letters."""
    kept, at = [], 0
    for start, end in [*places, (len(sentence), len(sentence))]:
        kept.append(sentence[at:start])
        at = end
    return " ".join(" ".join(kept).split()).strip(" ,;.\u3001\u3002\uff0c")
