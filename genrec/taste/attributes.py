"""The catalogue's own attributes, as a sentence may name them: years, prices and categories of all items."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog, Item
from genrec.data.categories import COMMON_CATEGORY
from genrec.ranking.filters import price_of
from genrec.signals.arrays import FloatArray
from genrec.taste.grammar import Grammar, Token, tokens_of

YEARS = ("year", "release_year", "publication_year", "published", "release_date", "date")
"""Attributes that hold a year or a day; the first of which an item has a year is used."""

_YEAR = re.compile(r"(?<!\d)(1\d{3}|20\d{2})(?!\d)")
_LEAST_LETTERS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Attributes:
    """What the catalogue knows of its items.

    Attributes:
        years: float32 [items]; not a number where unknown.
        prices: float32 [items]; likewise.
        members: bool [items] for each category that distinguishes items.
        names: the category that a key names; see `key_of`.
        titles: the keys of titles of several words, or with a number.
    """

    years: FloatArray
    prices: FloatArray
    members: Mapping[str, NDArray[np.bool_]]
    names: Mapping[str, str]
    titles: frozenset[str]

    @classmethod
    def of(cls, catalog: Catalog, grammar: Grammar) -> Attributes:
        """Read the catalogue."""
        found: dict[str, list[int]] = {}
        for row, item in enumerate(catalog):
            for name in item.categories:
                found.setdefault(name, []).append(row)
        members = {}
        for name, rows in sorted(found.items()):
            if len(rows) <= COMMON_CATEGORY * len(catalog):
                members[name] = np.zeros(len(catalog), np.bool_)
                members[name][rows] = True
        years = np.array([_year_of(item) for item in catalog], np.float32)
        prices = np.array([np.nan if (price := price_of(item)) is None else price for item in catalog], np.float32)
        return cls(years, prices, members, _names(members, grammar), frozenset(_titles(catalog)))

    def century_of(self, tens: int) -> int:
        """Return the year in which a decade begins, such as 1970 for 70: of the century with the most items in it."""
        starts = [century + tens for century in (2000, 1900, 1800)]
        counts = [int(((self.years >= start) & (self.years <= start + 9)).sum()) for start in starts]
        if not any(counts):
            return 1900 + tens
        return starts[counts.index(max(counts))]


def key_of(tokens: Sequence[Token]) -> str:
    """Return what a phrase is compared by: its words without plural, hyphen, genitive and case, written as one."""
    words = [token.text for token in tokens if token.text[0].isalnum() and token.text != "s"]
    return "".join(map(_singular, words))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _names(categories: Mapping[str, NDArray[np.bool_]], grammar: Grammar) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in categories:
        if len(key := key_of(tokens_of(name))) >= _LEAST_LETTERS:
            names.setdefault(key, name)
    for group in grammar.synonyms:
        keys = [key_of(tokens_of(phrase)) for phrase in group]
        if (meant := next((names[key] for key in keys if key in names), None)) is not None:
            for key in keys:
                names.setdefault(key, meant)
    return names


def _titles(catalog: Catalog) -> set[str]:
    found = set()
    for item in catalog:
        tokens = tokens_of(item.title)
        if len(tokens) > 1 or any(token.number is not None for token in tokens):
            found.add(key_of(tokens))
    return found - {""}


def _year_of(item: Item) -> float:
    for name in YEARS:
        if (year := _YEAR.search(item.attributes.get(name, ""))) is not None:
            return float(year[1])
    return np.nan
