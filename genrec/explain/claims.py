"""The claims that can be made for a recommendation; each is supported by the history, the catalogue or the log.

A claim names items of the user's own history and states how the recommended item is related to them. This module finds
all claims that are true. `genrec.explain.grammar` chooses among them, by the share of the evidence that a claim covers
and by the claims that the list has already made.

Items are counted, not events, so that an item taken twice does not count as two choices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from genrec.data.catalog import Item
from genrec.explain.facts import CatalogueFacts, ItemFacts, follows, prices_are_close

Said = Literal[
    "sequel", "maker", "maker-more", "series", "series-more", "category-era", "category", "category-more", "era",
    "price", "people", "together", "newest", "new", "moved", "alike", "given", "again", "again-count", "taste",
    "taste-category", "popular", "popular-count", "nothing",
]  # fmt: skip
"""The kinds of claims; "it" is the recommended item:

    sequel          it is the next part after the named item, by the number in its title
    maker           it and all the named items have this maker; "-more": so have `count` more items of the history
    series          the same for a series, or for a name that titles begin with
    category        the same for a category; "-era": and for a decade
    era             the same for a decade alone
    price           its price is close to that of all the named items
    people          `count` other people took it and the named item
    together        it was taken near the named items in other histories
    newest          the named items are among the user's newest three, and they moved the model towards it
    new             it was added to the catalogue after the training
    moved           the named items moved the model towards it
    alike           its title is similar to theirs
    given           the named items are in the history for which it was recommended
    again           the user took it before; "-count": `count` times
    taste           it is close to the taste that the user describes; "-category": the taste names its category
    popular         it is among the most taken items; "-count": `count` people took it
    nothing         there is no evidence
"""

WITHOUT_NAMES: frozenset[str] = frozenset(
    {"again", "again-count", "taste", "taste-category", "popular", "popular-count", "nothing"}
)
"""Claims that name no item of the history."""

NEWEST_ITEMS = 3
LEAST_PEOPLE = 3
"""A claim about fewer people than this is not made: they are weak evidence, and they might be recognised."""
LEAST_MORE = 2
"""How many more items of a history must have a category for it to be called a long-standing interest."""

STRENGTHS: dict[str, float] = {
    "sequel": 14.0, "maker-more": 8.0, "series-more": 8.0, "series": 7.5, "maker": 7.0, "category-era": 3.6,
    "category-more": 4.2, "category": 3.4, "people": 4.6, "new": 6.0, "newest": 3.4, "price": 2.0, "together": 2.6,
    "era": 2.2, "moved": 2.6, "alike": 2.4, "given": 1.8,
}  # fmt: skip
"""How much a reader learns from each kind of claim; set by judgement."""

_RAREST = 2.5  # what a category's rarity adds at most


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim about a recommended item.

    Attributes:
        said: the kind of claim; see `Said`.
        items: the items of the history that it names.
        value: the maker, series, category or price; for an era, the decade's first year.
        era: the decade's first year, beside a category.
        count: people, more items, or times.
        strength: how much a reader learns from it.
    """

    said: Said
    items: tuple[Item, ...] = ()
    value: str = ""
    era: str = ""
    count: int = 0
    strength: float = 0.0

    @property
    def feature(self) -> str:
        """The subject of the claim, so that a list does not repeat it; empty if the claim has none."""
        return f"{self.value} {self.era}".strip() if self.said not in ("price", "taste-category") else ""


class HistoryFacts:
    """The catalogue's facts about a whole history; read once for each list.

    Args:
        facts: the facts of the catalogue.
        items: the history, oldest first.
    """

    def __init__(self, facts: CatalogueFacts, items: Sequence[Item]) -> None:
        self.facts = facts
        self.items = tuple(items)
        self.different = tuple(dict.fromkeys(item.id for item in items))
        by_id = {item.id: item for item in items}
        self.newest = frozenset(item.id for item in items[-NEWEST_ITEMS:])
        self._holding: dict[tuple[str, str], list[str]] = {}
        for place in self.different:
            own = facts[by_id[place]]
            for key in (("maker", own.maker), *(("series", one) for one in own.series),
                        *(("category", one) for one in own.categories)):  # fmt: skip
                if key[1]:
                    self._holding.setdefault(key, []).append(place)

    def more(self, kind: str, value: str, named: Sequence[Item], *, lasting: bool = False) -> int:
        """Return how many items of the history, besides the named ones, have a value.

        Args:
            kind: maker, series or category.
            value: the maker, series or category itself.
            named: items that are not counted.
            lasting: return 0 unless the value occurs in both the older and the newer half of the history.
        """
        holding = self._holding.get((kind, value), [])
        if lasting:
            half = len(self.different) // 2
            older = set(self.different[:half])
            if len({item in older for item in holding}) < 2:
                return 0
        return len(set(holding) - {item.id for item in named})


def claims_about(
    item: Item,
    cited: Sequence[Item],
    history: HistoryFacts,
    basis: Said,
    people: Callable[[Item, Item], int] | None = None,
    *,
    new: bool = False,
) -> list[Claim]:
    """Return every claim about an item that its cited evidence supports.

    Args:
        item: the recommended item.
        cited: items of the history, the strongest evidence first; at least one.
        history: the facts about the history.
        basis: why the cited items are evidence: moved, together, alike or given.
        people: how many people took both of two items; None if the log does not show it.
        new: whether the item was added after the training.
    """
    facts = history.facts
    own, others = facts[item], {one.id: facts[one] for one in cited}
    sharing = _Sharing(tuple(cited), others)
    found = [
        Claim(basis, tuple(cited)),
        Claim("sequel", sharing(lambda other: follows(own, other))[:1], own.series[0] if own.series else ""),
        *_makers_and_series(own, sharing, history),
        *_categories(own, sharing, history),
        Claim("price", sharing(lambda other: prices_are_close(own, other)), own.price_text),
        Claim("newest", tuple(one for one in cited if one.id in history.newest and basis == "moved")),
        Claim("new", tuple(cited) if new else ()),
    ]
    if people is not None:
        most, one = max(((people(item, one), one) for one in cited), key=lambda pair: pair[0])
        found.append(Claim("people", (one,) if most >= LEAST_PEOPLE else (), count=most))
    strengths = ((claim, STRENGTHS[claim.said] + claim.strength) for claim in found if claim.items)
    return [replace(claim, strength=strength) for claim, strength in strengths]


class _Sharing:
    """Returns the cited items that meet a condition."""

    def __init__(self, cited: tuple[Item, ...], facts: Mapping[str, ItemFacts]) -> None:
        self._cited = cited
        self._facts = facts

    def __call__(self, has: Callable[[ItemFacts], bool]) -> tuple[Item, ...]:
        return tuple(one for one in self._cited if has(self._facts[one.id]))


def _makers_and_series(own: ItemFacts, sharing: _Sharing, history: HistoryFacts) -> Iterator[Claim]:
    """Yield a claim for a shared maker and one for the broadest shared series, with the count of further items."""
    items = sharing(lambda other: other.maker == own.maker != "")
    count = history.more("maker", own.maker, items) if items else 0
    yield Claim("maker-more" if count else "maker", items, own.maker, count=count)
    for series in own.series:
        if items := sharing(lambda other, one=series: one in other.series):  # type: ignore[misc]
            count = history.more("series", series, items)
            yield Claim("series-more" if count else "series", items, series, count=count)
            return


def _categories(own: ItemFacts, sharing: _Sharing, history: HistoryFacts) -> Iterator[Claim]:
    """Yield claims for each shared category (alone, lasting, and with the decade), and one for the decade alone."""
    decade = str(own.decade) if own.decade else ""
    same = sharing(lambda other: other.decade == own.decade is not None)
    yield Claim("era", same, decade)
    for category in own.categories:
        rarity = min(history.facts.rarity(category), _RAREST)
        if not (items := sharing(lambda other, one=category: one in other.categories)):  # type: ignore[misc]
            continue
        yield Claim("category", items, category, strength=rarity)
        yield Claim("category-era", tuple(one for one in items if one in same), category, decade, strength=rarity)
        count = history.more("category", category, items, lasting=True)
        if count >= LEAST_MORE:
            yield Claim("category-more", items, category, count=count, strength=rarity / 2)


assert set(STRENGTHS) | WITHOUT_NAMES == set(get_args(Said))  # noqa: S101 - one strength for each
