"""Filters by category, attribute, price and availability decide which items may be recommended.

A list has k items whenever k items of the catalogue pass the filters, because filters are applied before the search
for candidates. A filter is a condition on items, not on users. It is never relaxed: if fewer than k items pass, the
list is shorter, and the caller reports it.

An unknown value does not pass. An item without a price is in no price range, and an item without the attribute does not
have the required value. Availability is the exception: a missing date means no limit.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog, Item, normalise_label
from genrec.data.rows import IntArray
from genrec.errors import ConfigError

CATEGORY = "category"
"""The key that matches any of an item's categories."""

PRICE = "price"
AVAILABLE_FROM, AVAILABLE_UNTIL = "available_from", "available_until"
"""Attributes that hold the first and the last day on which an item is available, as YYYY-MM-DD."""

_NUMBER = re.compile(r"\D*?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)\D*")


@dataclass(frozen=True, slots=True)
class Filters:
    """Conditions that every recommended item meets; without conditions all items pass.

    Attributes:
        only: (key, value) pairs. For each key, an item has one of the values given for it. A key is `category` or
            an attribute; letter case is ignored.
        without: (key, value) pairs, none of which an item has.
        lowest_price: the lowest price allowed; None for no limit.
        highest_price: the highest price allowed; None for no limit.
        available_on: a day, as YYYY-MM-DD, on which an item is available.
    """

    only: tuple[tuple[str, str], ...] = ()
    without: tuple[tuple[str, str], ...] = ()
    lowest_price: float | None = None
    highest_price: float | None = None
    available_on: str = ""

    def __post_init__(self) -> None:
        low, high = self.lowest_price, self.highest_price
        if low is not None and high is not None and not low <= high:
            raise ConfigError([f"the price range is {low:g} to {high:g}, expected the lower price first"])
        if self.available_on and _day(self.available_on) is None:
            raise ConfigError([f"available_on is {self.available_on!r}, expected a day such as 2026-05-31"])

    @property
    def asked(self) -> bool:
        """Whether any condition is set."""
        return self != Filters()

    def passing(self, catalog: Catalog) -> NDArray[np.bool_]:
        """Return which items pass, shape (items,).

        Raises:
            ConfigError: a key or a value is one that no item has, or no item passes.
        """
        if problems := list(self._problems(catalog)):
            raise ConfigError(problems)
        mask = np.fromiter(map(self._passes, catalog), np.bool_, len(catalog))
        if not mask.any():
            raise ConfigError([f"none of the {len(catalog)} items passes the filters; ask for less"])
        return mask

    def _passes(self, item: Item) -> bool:
        wanted: dict[str, set[str]] = {}
        for key, value in self.only:
            wanted.setdefault(key, set()).add(normalise_label(value))
        if any(not values & _values(item, key) for key, values in wanted.items()):
            return False
        if any(normalise_label(value) in _values(item, key) for key, value in self.without):
            return False
        if self._has_price_range and not self._is_affordable(price_of(item)):
            return False
        return not self.available_on or _is_available(item, self.available_on)

    @property
    def _has_price_range(self) -> bool:
        return self.lowest_price is not None or self.highest_price is not None

    def _is_affordable(self, price: float | None) -> bool:
        if price is None or (self.lowest_price is not None and price < self.lowest_price):
            return False
        return self.highest_price is None or price <= self.highest_price

    def _problems(self, catalog: Catalog) -> Iterator[str]:
        """Yield conditions that must be errors: a misspelt value would silently exclude every item, or none."""
        keys = {key for item in catalog for key in item.attributes}
        for key, value in (*self.only, *self.without):
            if key != CATEGORY and key not in keys:
                yield f"no item has the attribute {key!r}; there are: {', '.join([CATEGORY, *sorted(keys)])}"
                continue
            known = {found for item in catalog for found in _values(item, key)}
            if normalise_label(value) not in known:
                near = difflib.get_close_matches(normalise_label(value), sorted(known), n=3) or sorted(known)[:3]
                yield f"no item has the {key} {value!r}; there is, for example: {', '.join(near) or 'none'}"
        if self._has_price_range and all(price_of(item) is None for item in catalog):
            yield f"no item has a {PRICE} that is a number; leave the price range out"
        if self.available_on:
            for item in catalog:
                for name in (AVAILABLE_FROM, AVAILABLE_UNTIL):
                    if (text := item.attributes.get(name, "").strip()) and _day(text) is None:
                        yield f"item {item.id!r} has the {name} {text[:40]!r}, expected a day such as 2026-05-31"
                        return


class FilteredOut:
    """The rows that filters exclude for all users; the last result is cached, because a job repeats its filters.

    Args:
        catalog: the items.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._last: tuple[Filters, IntArray] | None = None

    def rows(self, filters: Filters) -> IntArray:
        """Return the item rows that do not pass, ascending.

        Raises:
            ConfigError: a key or a value is one that no item has, or no item passes.
        """
        if self._last is None or self._last[0] != filters:
            self._last = (filters, np.flatnonzero(~filters.passing(self._catalog)))
        return self._last[1]


def price_of(item: Item) -> float | None:
    """Return the one number in the item's `price`, such as "$1,299.50"; None for no number or several."""
    found = _NUMBER.fullmatch(item.attributes.get(PRICE, ""))
    return float(found[1].replace(",", "")) if found else None


def parse_condition(text: str) -> tuple[str, str]:
    """Read KEY=VALUE.

    Raises:
        ConfigError: there is no key or no value.
    """
    key, sign, value = (part.strip() for part in text.partition("="))
    if not key or not sign or not value:
        raise ConfigError([f"the filter is {text!r}, expected KEY=VALUE, such as category=Comedy"])
    return key, value


def parse_price_range(text: str) -> tuple[float | None, float | None]:
    """Read LOW-HIGH, where either may be left out: 5-20, -20, 5-.

    Raises:
        ConfigError: the text is not such a range.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)?\s*-\s*(\d+(?:\.\d+)?)?\s*", text)
    if found is None or not any(found.groups()):
        raise ConfigError([f"the price range is {text!r}, expected LOW-HIGH, such as 5-20, 5- or -20"])
    low, high = found.groups()
    return (float(low) if low else None, float(high) if high else None)


def _values(item: Item, key: str) -> set[str]:
    if key == CATEGORY:
        return set(map(normalise_label, item.categories))
    return {normalise_label(item.attributes[key])} if key in item.attributes else set()


def _is_available(item: Item, asked: str) -> bool:
    day = datetime.fromisoformat(asked).date()
    first = _day(item.attributes.get(AVAILABLE_FROM, "").strip())
    last = _day(item.attributes.get(AVAILABLE_UNTIL, "").strip())
    return (first is None or first <= day) and (last is None or day <= last)


def _day(text: str) -> date | None:
    try:
        return datetime.fromisoformat(text).date()
    except ValueError:
        return None
