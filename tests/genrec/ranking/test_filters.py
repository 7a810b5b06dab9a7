"""Filters: which items pass, what is refused, and that nothing is ever relaxed."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from genrec.data.catalog import Catalog, Item
from genrec.errors import ConfigError
from genrec.ranking.filters import Filters, parse_condition, parse_price_range, price_of

SHOP = Catalog.from_items(
    [
        Item("0", "Red Lipstick", categories=("Makeup", "Lips"), attributes={"price": "$9.99", "brand": "Revlon"}),
        Item("1", "Soap", categories=("Bath",), attributes={"price": "1,299.50 USD", "brand": "Dove"}),
        Item("2", "Shampoo", categories=("Hair", "Bath"), attributes={"price": "20"}),
        Item("3", "Comb", attributes={"available_from": "2026-01-01", "available_until": "2026-06-30"}),
        Item("4", "Brush", categories=("Hair",), attributes={"price": "$5 - $9", "available_from": "2026-03-01T08:00"}),
    ]
)


def passing(**wishes):
    return [item.id for item, kept in zip(SHOP, Filters(**wishes).passing(SHOP), strict=True) if kept]


def test_nothing_asked_lets_all_pass():
    assert passing() == ["0", "1", "2", "3", "4"]
    assert not Filters().asked
    assert Filters(highest_price=3).asked


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"only": (("category", "hair"),)}, ["2", "4"]),
        ({"only": (("category", "Hair"), ("category", "BATH"))}, ["1", "2", "4"]),  # any of a key's values
        ({"only": (("category", "Bath"), ("brand", "dove"))}, ["1"]),  # every key
        ({"without": (("category", "Bath"),)}, ["0", "3", "4"]),  # an item without a category has none to exclude
        ({"without": (("category", "Bath"), ("brand", "Revlon"))}, ["3", "4"]),
        ({"only": (("category", "Hair"),), "without": (("category", "Bath"),)}, ["4"]),
        ({"lowest_price": 9.99, "highest_price": 20}, ["0", "2"]),  # both ends included; unknown prices fail
        ({"lowest_price": 21}, ["1"]),
        ({"highest_price": 10}, ["0"]),
        ({"available_on": "2026-01-01"}, ["0", "1", "2", "3"]),
        ({"available_on": "2025-12-31"}, ["0", "1", "2"]),
        ({"available_on": "2026-06-30"}, ["0", "1", "2", "3", "4"]),
        ({"available_on": "2026-07-01"}, ["0", "1", "2", "4"]),
    ],
)
def test_who_passes(wishes, expected):
    assert passing(**wishes) == expected


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("$9.99", 9.99), ("1,299.50 USD", 1299.5), ("EUR 20", 20), ("", None), ("free", None), ("$5 - $9", None),
        ("12,50 €", None), ("1.299,00", None), ("1,234,567", 1234567),
    ],
)  # fmt: skip
def test_a_price_is_read_only_where_it_is_certain(text, price):
    assert price_of(Item("x", "X", attributes={"price": text})) == price


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"only": (("colour", "red"),)}, "no item has the attribute 'colour'; there are: category, available_from"),
        ({"only": (("category", "Hare"),)}, "no item has the category 'Hare'; there is, for example: hair"),
        ({"without": (("brand", "Nivea"),)}, "no item has the brand 'Nivea'"),
        ({"only": (("category", "Lips"), ("brand", "Dove"))}, "none of the 5 items passes the filters; ask for less"),
    ],
)
def test_what_cannot_be_meant_is_refused(wishes, message):
    with pytest.raises(ConfigError, match=message):
        passing(**wishes)


def test_all_problems_come_at_once():
    with pytest.raises(ConfigError) as caught:
        passing(only=(("colour", "red"), ("category", "Hare")))
    assert len(caught.value.problems) == 2


def test_a_catalogue_without_prices_or_with_strange_dates_is_told():
    plain = Catalog.from_items([Item("0", "Alien", attributes={"available_from": "soon"})])
    with pytest.raises(ConfigError, match="no item has a price that is a number"):
        Filters(highest_price=3).passing(plain)
    with pytest.raises(ConfigError, match="item '0' has the available_from 'soon', expected a day such as"):
        Filters(available_on="2026-01-01").passing(plain)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"lowest_price": 5, "highest_price": 2}, "the price range is 5 to 2, expected the lower price first"),
        ({"highest_price": float("nan"), "lowest_price": 1}, "the price range is 1 to nan"),
        ({"available_on": "31.5.2026"}, r"available_on is '31\.5\.2026', expected a day such as"),
    ],
)
def test_impossible_conditions_are_refused(wishes, message):
    with pytest.raises(ConfigError, match=message):
        Filters(**wishes)


def test_reading_conditions_and_ranges():
    assert parse_condition(" category = Science Fiction ") == ("category", "Science Fiction")
    assert parse_condition("title=a=b") == ("title", "a=b")
    assert parse_price_range("5-20.5") == (5.0, 20.5)
    assert parse_price_range("-20") == (None, 20.0)
    assert parse_price_range(" 5 - ") == (5.0, None)
    for wrong in ("category", "=x", "x="):
        with pytest.raises(ConfigError, match="expected KEY=VALUE"):
            parse_condition(wrong)
    for wrong in ("", "-", "5", "a-b", "5-6-7"):
        with pytest.raises(ConfigError, match="expected LOW-HIGH"):
            parse_price_range(wrong)


def test_filters_are_plain_values():
    filters = Filters(only=(("category", "Hair"),), highest_price=3.0, available_on="2026-01-01")
    assert json.loads(json.dumps(asdict(filters), allow_nan=False))["only"] == [["category", "Hair"]]
