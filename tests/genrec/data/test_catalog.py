"""Labels: short, unique, readable, and the same every time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec.data.catalog import Catalog, Item, clean_title, make_labels, normalise_label
from genrec.errors import DataError


def labels(*titles: str | tuple[str, dict[str, str]]) -> list[str]:
    pairs = [title if isinstance(title, tuple) else (title, {}) for title in titles]
    return make_labels([Item(str(n), title, attributes=known) for n, (title, known) in enumerate(pairs)])


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("5&amp;quot; brush", '5" brush'),
        ("  a\t b\r\nc\u00a0d ", "a b c d"),
        ("cafe\u0301", "caf\u00e9"),
        ("red\x1b[31m\x00", "red[31m"),
        ("\ud800half", "half"),
        ("AT&T", "AT&T"),
        ("👩‍🚀 ملك", "👩‍🚀 ملك"),
    ],
)
def test_titles_are_cleaned(written: str, read: str) -> None:
    assert clean_title(written) == read


def test_an_attribute_is_added_only_where_titles_meet() -> None:
    sabrina = [("Sabrina", {"year": "1954", "brand": "P"}), ("sabrina", {"year": "1995", "brand": "P"})]
    assert labels(("Toy Story", {"year": "1995"}), *sabrina) == ["Toy Story", "Sabrina (1954)", "sabrina (1995)"]


def test_an_attribute_that_all_share_is_not_added() -> None:
    same = {"year": "1997"}
    assert labels(("Deceiver", {**same, "cut": "long"}), ("Deceiver", {**same, "cut": "short"})) == [
        "Deceiver (long)",
        "Deceiver (short)",
    ]


@pytest.mark.parametrize("name", ["asin", "source_id", "image_url", "ISBN", "id"])
def test_what_only_identifies_never_enters_a_label(name: str) -> None:
    assert labels(("Soap", {name: "X1"}), ("Soap", {name: "X2"})) == ["Soap", "Soap (2)"]


@pytest.mark.parametrize("value", ["far too long a text", "x" * 41])
def test_a_long_attribute_never_enters_a_label(value: str) -> None:
    assert labels(("Soap", {"text": value}), ("Soap", {"text": value + "!"})) == ["Soap", "Soap (2)"]
    assert labels(("Soap", {"grid": "4"}), ("Soap", {"grid": "5"})) == ["Soap (4)", "Soap (5)"]


def test_a_long_title_is_cut_to_as_few_words_as_set_it_apart() -> None:
    words = [f"w{n}" for n in range(40)]
    one, two = " ".join(words), " ".join([*words[:10], "other", *words[11:]])
    assert labels(one) == [" ".join(words[:8])]
    assert labels(one, two) == [" ".join(words[:16]), " ".join([*words[:10], "other", *words[11:16]])]
    assert labels(one, one) == [" ".join(words[:32]), " ".join(words[:32]) + " (2)"]


def test_a_cut_leaves_no_open_bracket_and_no_hanging_comma() -> None:
    assert labels("Shanghai Triad (Yao a yao yao dao waipo qiao)") == ["Shanghai Triad"]
    assert labels("essie luxe effects polish, shine of the times, .46 fl oz") == [
        "essie luxe effects polish, shine of the times"
    ]
    assert labels("(one two three four five six seven eight nine)") == ["(one two three four five six seven eight"]


def test_a_title_without_blanks_is_cut_between_characters() -> None:
    assert labels("千" * 500) == ["千" * 96]
    family = "👨‍👩‍👧"
    (label,) = labels(family * 60)
    assert label == family * (len(label) // len(family))
    assert 80 < len(label) <= 96


def test_many_namesakes_are_numbered_in_linear_time() -> None:
    start = time.process_time()
    made = labels(*["Untitled"] * 20_000)
    assert time.process_time() - start < 5
    assert (made[0], made[1], made[-1]) == ("Untitled", "Untitled (2)", "Untitled (20000)")


def test_a_number_never_meets_a_title_that_ends_in_it() -> None:
    assert labels("Heat (2)", "Heat", "Heat", "Heat") == ["Heat (2)", "Heat", "Heat (3)", "Heat (4)"]


TITLES = st.text(st.sampled_from("abA ()2é,"), min_size=1, max_size=30).filter(lambda text: bool(clean_title(text)))


@given(st.lists(st.tuples(TITLES, st.sampled_from(["", "1995", "2"])), max_size=12), st.lists(TITLES, max_size=4))
def test_labels_are_unique_and_new_items_leave_the_old_labels_alone(
    pairs: list[tuple[str, str]], new: list[str]
) -> None:
    items = [Item(str(n), title, attributes={"year": year}) for n, (title, year) in enumerate(pairs)]
    catalog = Catalog.from_items(items)
    larger = catalog.with_items(Item(f"new{n}", title) for n, title in enumerate(new))
    assert larger.items[: len(items)] == catalog.items
    assert len({normalise_label(label) for label in larger.labels}) == len(larger)
    assert all(label.strip() for label in larger.labels)


def test_a_new_item_is_told_from_an_old_namesake_by_its_attribute() -> None:
    catalog = Catalog.from_items([Item("a", "Sabrina", attributes={"year": "1954"})])
    assert catalog.with_items([Item("b", "Sabrina", attributes={"year": "1995"})]).labels == (
        "Sabrina",
        "Sabrina (1995)",
    )


def test_a_catalogue_answers_by_id_and_by_row() -> None:
    catalog = Catalog.from_items([Item("b", "Two"), Item("a", "One", categories=("x",), attributes={"year": "1"})])
    assert (len(catalog), catalog.ids, catalog.labels) == (2, ("b", "a"), ("Two", "One"))
    assert catalog["a"] is catalog.items[catalog.row("a")]
    assert catalog.rows(["a", "b", "a"]) == [1, 0, 1]
    assert "a" in catalog
    assert "One" not in catalog
    with pytest.raises(DataError, match="'c' is not among the 2 items"):
        catalog.row("c")
    assert [Item.from_json(item.to_json()) for item in catalog] == list(catalog)


def test_what_cannot_be_a_catalogue() -> None:
    with pytest.raises(DataError, match="given more than once: a"):
        Catalog.from_items([Item("a", "One"), Item("a", "Two")])
    with pytest.raises(DataError, match="'a' has an empty title"):
        Catalog.from_items([Item("a", " &nbsp; ")])
    with pytest.raises(DataError, match="'c' has an empty title"):
        Catalog.from_items([Item("a", "One")]).with_items([Item("c", "")])
    with pytest.raises(DataError, match="needs a label"):
        Catalog([Item("a", "One")])
