"""Taste in words: what English and Chinese sentences state, read against small catalogues made by hand."""

# ruff: noqa: RUF001 - Chinese marks

from __future__ import annotations

import math

import numpy as np
import pytest

from genrec import Catalog, Item
from genrec.taste.grammar import shipped_grammar, tokens_of
from genrec.taste.reading import Constraint, TasteWords

NOBODY = np.array([], np.int64)


def film(name: str, year: int | str, *categories: str) -> Item:
    return Item(name, name, categories=categories, attributes={"year": str(year)})


FILMS = TasteWords(
    Catalog.from_items(
        [
            film("Solaris", 1972, "Sci-Fi", "Drama"),
            film("Alien", 1979, "Sci-Fi", "Horror"),
            film("Annie Hall", 1977, "Comedy", "Romance"),
            film("Manhattan", 1979, "Comedy", "Romance", "Drama"),
            film("Heat", 1995, "Crime", "Drama"),
            film("Toy Story", 1995, "Animation", "Children's", "Comedy"),
            film("Scream", 1996, "Horror"),
            film("2001: A Space Odyssey", 1968, "Sci-Fi"),
            film("Laura", 1944, "Film-Noir", "Crime"),
            film("Lost", "unknown", "Drama"),
            film("Metropolis", 1927, "Sci-Fi"),
            film("Titanic", 1997, "Romance", "Drama"),
        ]
    ),
    shipped_grammar(),
)
SHOP = TasteWords(
    Catalog.from_items(
        Item(str(price), f"Cream {price}", categories=("Skin Care",), attributes={"price": f"${price}.00"})
        for price in (5, 15, 25, 50)
    ),
    shipped_grammar(),
)


@pytest.mark.parametrize(
    ("sentence", "understood"),
    [
        ("quiet science fiction from the seventies", "Sci-Fi; 1970 to 1979"),
        ("some sci-fi of the 1970s", "Sci-Fi; 1970 to 1979"),
        ("SCI FI from the '70s", "Sci-Fi; 1970 to 1979"),
        ("films of the 70's", "1970 to 1979"),
        ("comedies from 1979", "Comedy; 1979"),
        ("a romantic comedy", "Romance; Comedy"),
        ("comedies or dramas", "Comedy or Drama"),
        ("film noir from the nineteen forties", "Film-Noir; 1940 to 1949"),
        ("kids films", "Children's"),
        ("drama before 1950", "Drama; up to 1949"),
        ("drama older than the nineties", "Drama; up to 1989"),
        ("drama since 1990", "Drama; from 1990"),
        ("drama after the seventies", "Drama; from 1980"),
        ("from 1970 to 1975", "1970 to 1975"),
        ("between the sixties and the eighties", "1960 to 1989"),
        ("sixties or nineties", "1960 to 1969 or 1990 to 1999"),
        ("early nineties crime", "1990 to 1993; Crime"),
        ("crime from the mid-1990s", "Crime; 1993 to 1996"),
        ("late 90s", "1996 to 1999"),
        ("20th century romance", "1901 to 2000; Romance"),
        ("films of the last ten years", "1988 to 1997"),
        ("films of the last two decades", "1978 to 1997"),
        ("drama, but no horror", "Drama; not Horror"),
        ("not horror or comedy", "not Horror or Comedy"),
        ("crime without romance from the nineties", "Crime; not Romance; 1990 to 1999"),
        ("nothing before 1980", "from 1980"),
        ("anything but the nineties", "not 1990 to 1999"),
        ("not only horror", "Horror"),
        ("films like 2001: A Space Odyssey", ""),
        ("something like Toy Story, no horror", "not Horror"),
        ("a film without violence", ""),
        ("under $20", ""),  # no film has a price
        ("七十年代的科幻片", "1970 to 1979; Sci-Fi"),
        ("上世纪90年代的爱情片", "1990 to 1999; Romance"),
        ("1970年到1975年的剧情片，不要恐怖片", "1970 to 1975; Drama; not Horror"),
        ("一九四四年的犯罪片", "1944; Crime"),
        ("最近十年的动画", "1988 to 1997; Animation"),
        ("1960年以前的", "up to 1959"),
        ("科幻或者喜剧", "Sci-Fi or Comedy"),
    ],
)
def test_what_a_sentence_states(sentence: str, understood: str) -> None:
    assert FILMS.read(sentence).understood == understood


@pytest.mark.parametrize(
    ("sentence", "understood"),
    [
        ("skin care under $20", "price up to 20"),
        ("something for less than 20 dollars", "price up to 20"),
        ("no more than 1,299.50 euros", "price up to 1299.5"),
        ("over $20", "price from 20"),
        ("nothing over $20", "price up to 20"),
        ("between 10 and 30 dollars", "price 10 to 30"),
        ("$10 - $30", "price 10 to 30"),
        ("20元以下", "price up to 20"),
        ("20到50元", "price 20 to 50"),
        ("from the seventies", ""),  # no product has a year, and all are skin care
    ],
)
def test_prices(sentence: str, understood: str) -> None:
    assert SHOP.read(sentence).understood == understood


def test_the_items_that_meet_it() -> None:
    heard, left_out = FILMS.hear("science fiction from the seventies, no horror", NOBODY, 1)
    assert [FILMS.catalog.ids[row] for row in range(12) if row not in left_out] == ["Solaris"]
    assert (heard.released, left_out.dtype) == ((), np.int64)
    _, left_out = SHOP.hear("under $20", NOBODY, 2)
    assert left_out.tolist() == [2, 3]


def test_an_unknown_year_meets_a_negation_only() -> None:
    lost = FILMS.catalog.row("Lost")
    for sentence, passes in (("since 1900", False), ("anything but the nineties", True)):
        assert (lost not in FILMS.hear(sentence, NOBODY, 1)[1]) is passes


def test_too_few_items_release_a_constraint_and_it_is_said() -> None:
    heard, left_out = FILMS.hear("science fiction from the seventies, no horror", NOBODY, 3)
    # Without the years three are left (Solaris, 2001, Metropolis), as without the category.
    assert (heard.understood, heard.let_go) == ("Sci-Fi; not Horror", "1970 to 1979")
    assert len(FILMS.catalog) - len(left_out) == 3
    assert [FILMS.catalog.ids[row] for row in heard.first] == ["Solaris"]  # it is all that was asked, and leads
    assert "seventies" in heard.compared
    assert "horror" not in heard.compared
    # Items that cannot be recommended anyway do not count.
    seen = np.array(FILMS.catalog.rows(["Solaris", "Metropolis"]), np.int64)
    heard, left_out = FILMS.hear("science fiction", seen, 3)
    assert (heard.understood, heard.let_go, left_out.tolist()) == ("", "Sci-Fi", sorted(seen.tolist()))
    # Where fewer items than asked for can be recommended at all, only what removes some is released.
    assert FILMS.hear("not horror", NOBODY, 99)[0].let_go == "not Horror"


def test_the_rest_is_compared_and_what_is_unwanted_is_not() -> None:
    assert FILMS.read("quiet science fiction from the seventies").compared == "quiet"
    assert FILMS.read("dramas about the sea, no horror").compared == "about the sea"
    # Nothing else is said: then the sentence is compared, without what is not wanted.
    assert FILMS.read("dramas from the nineties, no horror").compared == "dramas from the nineties"
    assert FILMS.read("no horror").compared == "no horror"
    assert FILMS.read("quiet films about the sea").compared == "quiet films about the sea"


def test_a_decade_is_of_the_century_that_the_catalogue_has() -> None:
    books = TasteWords(Catalog.from_items([film("Emma", 1815, "Novel"), film("Dracula", 1897)]), shipped_grammar())
    assert books.read("the nineties").understood == "1890 to 1899"
    assert books.read("the thirties").understood == "1930 to 1939"  # it has none of either


def test_a_category_of_nearly_all_is_not_read() -> None:
    assert SHOP.read("skin care").constraints == ()


def test_names_that_only_the_catalogue_has() -> None:
    words = TasteWords(
        Catalog.from_items([Item("1", "A", categories=("Mystery & Thrillers",)), Item("2", "B", categories=("绘本",))]),
        shipped_grammar(),
    )
    assert words.read("mystery and thriller").understood == ""  # "and" is no part of the name
    assert words.read("mystery thriller").understood == "Mystery & Thrillers"
    assert words.read("绘本").understood == "绘本"


@pytest.mark.parametrize(
    "sentence", ["", "²x ½ 9" * 9, "9" * 300, "no " * 100, "from the " * 40, "\u0661\u0669\u0667\u0660s", "- - ,"]
)
def test_odd_sentences_are_left_whole(sentence: str) -> None:
    FILMS.hear(sentence, NOBODY, 3)
    SHOP.hear(sentence, NOBODY, 3)


def test_tokens_and_words() -> None:
    assert [token.text for token in tokens_of("Don’t 1,299.50 '70s 七十年代!")] == [
        "don't", "1,299.50", "70", "s", "七十", "年", "代", "!",
    ]  # fmt: skip
    open_above = Constraint("years", spans=((1990.0, math.inf),))
    assert open_above.to_words() == "from 1990"
