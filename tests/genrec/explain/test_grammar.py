"""The grammar of reasons: what is said is so, agrees, and does not begin as the sentence before."""

# ruff: noqa: E501, RUF001 - catalogues, tables, Chinese

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec import Catalog, ConfigError, Item
from genrec.explain.check import Checker, citations_are_valid
from genrec.explain.claims import LEAST_MORE, Claim, HistoryFacts, Said, claims_about
from genrec.explain.evidence import Evidence, Kind, Length, Tone
from genrec.explain.facts import CatalogueFacts, follows, part_of, prices_are_close
from genrec.explain.grammar import Grammar, Reason, beginning
from genrec.explain.names import name_of, named
from genrec.explain.style import load_style, parse_style, shipped_style, with_article

FILMS = Catalog.from_items(
    [
        Item("jaws", "Jaws", categories=("Horror",), attributes={"year": "1975", "director": "Spielberg"}),
        Item("jaws2", "Jaws 2", categories=("Horror",), attributes={"year": "1978", "director": "Szwarc"}),
        Item("duel", "Duel", categories=("Thriller",), attributes={"year": "1971", "director": "Spielberg"}),
        Item("et", "E.T.", categories=("Children's",), attributes={"year": "1982", "director": "Spielberg", "price": "9.90"}),
        Item("doc", "What's Up, Doc?", categories=("Comedy",), attributes={"year": "1972", "price": "10.50"}),
        Item("help", "Help!", categories=("Comedy", "Musical"), attributes={"year": "1965"}),
        Item("heat", "Heat", categories=("Thriller",), attributes={"year": "1995", "price": "40"}),
        Item("trek1", "Star Trek: First Contact", categories=("Sci-Fi",), attributes={"year": "1996"}),
        Item("trek2", "Star Trek: Generations", categories=("Sci-Fi",), attributes={"year": "1994"}),
        Item("trek3", "Star Trek: Insurrection", categories=("Sci-Fi",), attributes={"year": "1998"}),
        Item("plain", "Untitled"),
    ]
)  # fmt: skip
FACTS = CatalogueFacts(FILMS)
BASES: tuple[Kind, ...] = ("moved", "together", "alike", "given")


def grammar(language: str = "en", **options: Any) -> Grammar:
    return Grammar(FACTS, shipped_style(language), **options)


def tell(item: str, *cited: str, history: Sequence[str] = (), kind: Kind = "moved", **options: Any) -> Reason:
    taken = [FILMS[one] for one in (*history, *cited)]
    evidence = Evidence(tuple(FILMS[one] for one in cited), kind)
    return grammar(**options).reasons([FILMS[item]], [evidence], taken)[0]


@pytest.mark.parametrize(
    ("item", "cited", "said", "value"),
    [
        ("jaws2", ["jaws"], "sequel", "Jaws"),
        ("et", ["duel"], "maker", "Spielberg"),
        ("trek1", ["trek2"], "series", "Star Trek"),
        ("heat", ["duel"], "category", "Thriller"),
        ("help", ["doc"], "category", "Comedy"),
        ("plain", ["heat"], "newest", ""),
    ],
)
def test_the_most_telling_thing_is_said(item: str, cited: list[str], said: Said, value: str) -> None:
    reason = tell(item, *cited)
    assert (reason.claims[0].said, reason.claims[0].value) == (said, value)
    assert value in reason.text
    assert [name_of(FILMS[item]), *(name_of(FILMS[one]) for one in cited)] == sorted(
        named(reason.text), key=lambda name: name != name_of(FILMS[item])
    )


def test_more_of_the_history_is_counted_once_each_and_named_ones_are_not() -> None:
    reason = tell("et", "jaws", history=["duel", "duel", "heat"])
    assert (reason.claims[0].said, reason.claims[0].count) == ("maker-more", 1)
    assert "one more" in reason.text or "one other" in reason.text


def test_a_long_standing_interest_is_in_both_halves_of_the_history() -> None:
    many = Catalog.from_items(
        Item(str(place), f"Film {place} x", categories=("A" if place < 6 else "B",)) for place in range(12)
    )
    facts = CatalogueFacts(many)

    def count(order: Sequence[int]) -> int:
        history = HistoryFacts(facts, [many[str(place)] for place in order])
        found = claims_about(many["0"], [many["1"]], history, "moved")
        return max((claim.count for claim in found if claim.said == "category-more"), default=0)

    assert count([1, 2, 6, 7, 3, 4]) == 3
    assert count([6, 7, 8, 9, 1, 2, 3, 4]) == 0  # all of them new
    assert count([1, 6, 7, 2]) == 0 < LEAST_MORE


def test_what_is_shared_is_shared_by_all_that_are_named_for_it() -> None:
    """The leading claim covers one; the other is named for having moved the model, and for nothing else."""
    reason = tell("et", "duel", "heat")
    (first, rest) = reason.claims
    assert (first.said, first.items) == ("maker", (FILMS["duel"],))
    assert (rest.said, rest.items) == ("moved", (FILMS["heat"],))
    assert reason.text.index("Duel") < reason.text.index("Heat")
    assert reason.cited == (FILMS["duel"], FILMS["heat"])


def test_people_are_counted_only_where_the_log_counts_them() -> None:
    told = {tell("plain", "heat", people=lambda item, other, count=count: count).claims[0].said for count in (0, 2)}
    assert "people" not in told
    reason = tell("plain", "heat", people=lambda item, other: 1234)
    assert reason.claims[0] == replace(reason.claims[0], said="people", count=1234)
    assert "1,234" in reason.text


def test_a_price_is_close_or_nothing_is_said_of_it() -> None:
    assert prices_are_close(FACTS[FILMS["et"]], FACTS[FILMS["doc"]])
    assert not prices_are_close(FACTS[FILMS["et"]], FACTS[FILMS["heat"]])
    assert not prices_are_close(FACTS[FILMS["et"]], FACTS[FILMS["jaws"]])


def test_without_a_history_there_is_still_a_true_sentence() -> None:
    nothing = Evidence((), "popular")
    (known,) = grammar(takers=lambda item: 57).reasons([FILMS["heat"]], [nothing], [])
    assert "57 people" in known.text
    (unknown,) = grammar(takers=lambda item: 0).reasons([FILMS["heat"]], [nothing], [])
    assert unknown.claims[0].said == "nothing"
    (rare,) = grammar(is_popular=lambda item: False).reasons([FILMS["heat"]], [nothing], [])
    assert rare.claims[0].said == "nothing"
    (taste,) = grammar().reasons([FILMS["trek1"]], [Evidence((), "taste")], [], taste="quiet sci-fi, no comedy")
    assert (taste.claims[0].said, taste.claims[0].value) == ("taste-category", "Sci-Fi")
    (other,) = grammar().reasons([FILMS["heat"]], [Evidence((), "taste")], [], taste="something quiet")
    assert other.claims[0].said == "taste"


def test_what_is_bought_again_is_counted() -> None:
    history = [FILMS["heat"]] * 3 + [FILMS["jaws"]]
    (often, once) = grammar().reasons([FILMS["heat"], FILMS["jaws"]], [Evidence((), "again")] * 2, history)
    assert (often.claims[0].count, "three times" in often.text) == (3, True)
    assert once.claims[0].said == "again"


def test_a_new_item_is_called_new() -> None:
    assert "new" in tell("plain", "heat", is_new=lambda item: True).text.casefold()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("tone", get_args(Tone))
@pytest.mark.parametrize("length", get_args(Length))
def test_a_list_varies_and_passes_its_own_check(language: str, tone: Tone, length: Length) -> None:
    taken = [FILMS[one] for one in ("jaws", "duel", "help", "trek2", "heat")]
    items = [FILMS[one] for one in ("jaws2", "et", "doc", "trek1", "trek3", "plain")]
    evidence = [
        Evidence(pair, "moved", (3.0, 1.0)) for pair in itertools.islice(itertools.permutations(taken, 2), len(items))
    ]
    told = grammar(language, people=lambda item, other: 12).reasons(items, evidence, taken, tone, length)
    checker = Checker(FILMS)
    for one, two in itertools.pairwise(told):
        assert beginning(one.text) != beginning(two.text)
    for item, reason, found in zip(items, told, evidence, strict=True):
        problems = checker.problems(reason.text, item, taken, found.items, "u1", reason.claims, language)
        assert [one for one in problems if one != "it does not begin with the item"] == []
        assert {one.id for one in reason.cited} <= {one.id for one in found.items}
    assert len({reason.text for reason in told}) == len(told)
    assert told == grammar(language, people=lambda item, other: 12).reasons(items, evidence, taken, tone, length)


def test_the_second_of_a_series_in_a_list_is_one_more() -> None:
    bare = Catalog.from_items(Item(item.id, item.title) for item in FILMS)
    evidence = [Evidence((bare["trek2"],), "given")] * 2
    told = Grammar(CatalogueFacts(bare), shipped_style("en"))
    first, second = told.reasons([bare["trek1"], bare["trek3"]], evidence, [bare["trek2"]])
    assert first.claims[0].said == second.claims[0].said == "series"
    assert "One more from Star Trek" in second.text or second.text.startswith("Still with Star Trek")


def test_a_sentence_does_not_end_in_two_marks() -> None:
    style = parse_style(shipped_text("en").replace("{item} is the next one.", "{item}."))
    pairs = [(one, other) for one, other in itertools.permutations(FILMS.items, 2) if one.title.endswith(("?", "!"))]
    for item, other in pairs:
        (reason,) = Grammar(FACTS, style).reasons([other], [Evidence((item,), "moved")], [item])
        assert "?”." not in reason.text
        assert "!”." not in reason.text


def shipped_text(language: str) -> str:
    from genrec.explain import style

    return style._shipped_text(language)


@pytest.mark.parametrize(
    ("title", "words", "part"),
    [
        ("Jaws 2", "jaws", 2), ("The Godfather: Part II", "the godfather", 2), ("Star Trek VI: The End", "star trek", 6),
        ("Jaws", "jaws", None), ("1984", "1984", None), ("Nail Polish 12 Pack", "nail polish 12 pack", None),
        ("流浪地球2", "流浪地球", 2), ("庆余年第三部", "庆余年", 3), ("Area 51", "area 51", None),
    ],
)  # fmt: skip
def test_parts_are_read_from_titles(title: str, words: str, part: int | None) -> None:
    assert part_of(title) == (words, part)


def test_a_part_follows_the_one_before_and_no_other() -> None:
    one, two, three = (CatalogueFacts(FILMS)[Item(name, name)] for name in ("Red 1", "Red 2", "Red 3"))
    assert follows(two, one)
    assert not follows(three, one)
    assert not follows(one, two)
    assert follows(two, FACTS[Item("red", "Red")])


def test_names_are_what_many_titles_begin_with_and_no_phrase() -> None:
    titles = [
        *(f"Neutrogena {one}" for one in ("Soap", "Gel", "Cream", "Oil", "Wipes", "Mask", "Toner", "Scrub", "Balm", "Foam")),
        *("Once Upon a Time", "Once Upon a Forest", "Once Upon a Dream"), *(f"The Last {one}" for one in "ABCDE"),
        "Alien", "Alien: Resurrection", "Alien 3",
    ]  # fmt: skip
    catalog = Catalog.from_items(Item(str(place), title) for place, title in enumerate(titles))
    facts = CatalogueFacts(catalog)
    found = {item.title: facts[item].series for item in catalog}
    assert found["Neutrogena Soap"] == ("Neutrogena",)
    assert found["Alien"] == found["Alien 3"] == ("Alien",)
    assert found["Once Upon a Time"] == found["The Last A"] == ()


def test_attributes_that_say_nothing_are_not_said() -> None:
    items = [Item("1", "One", attributes={"brand": "Unknown", "year": "?"}), Item("2", "Two", attributes={"brand": "  "}),
             Item("3", "Three", attributes={"brand": "“Evil” {x}"}), Item("4", "Four", attributes={"brand": "x" * 80})]  # fmt: skip
    facts = CatalogueFacts(Catalog.from_items(items))
    assert {facts[item].maker for item in items} == {""}


def test_a_or_an_goes_by_the_sound() -> None:
    words = {"OPI": "an", "NYX": "an", "Action": "an", "Comedy": "a", "Universal": "a", "hour": "an", "X-ray": "an",
             "Euro": "a", "8-ball": "an", "1990s": "a", "UNESCO": "a", "Urban": "an", "One": "a"}  # fmt: skip
    assert {word: with_article(word).split()[0] for word in words} == words


def test_a_shop_may_say_it_in_its_own_words(tmp_path: Any) -> None:
    file = tmp_path / "own.toml"
    file.write_text(shipped_text("en").replace("You chose", "You took"), encoding="utf-8")
    assert "You took" in load_style(file)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('language = "en"', "", "language is missing"),
        ("[forms.price]", "[forms.prise]", "forms.price is missing; .*forms.prise is not known"),
        (
            "{item} is the next one.",
            "{title} is the next one.",
            r"{title} cannot stand here; expected \{item\}, \{names\}",
        ),
        ("{item} is the next one.", "this is the next one.", "{item} must stand in it once"),
        ("{item} is the next one.", "“{item}” is the next one.", "“ stands for names only"),
        ("{item} is the next one.", "{item} is the next one", "does not end as a sentence does"),
        ('decade = "{year}s"', 'decade = "s"', "decade does not hold"),
        ("[rest]", "[rest]\nother = []", "rest.other is not known"),
        ('comma = ", "', "comma = 3", "comma is 3; expected a text"),
        ("[forms.sequel]", "[forms.sequel", "it is not TOML"),
    ],
)
def test_a_style_that_is_none_is_told_with_all_its_problems(tmp_path: Any, old: str, new: str, problem: str) -> None:
    file = tmp_path / "own.toml"
    assert old in shipped_text("en")
    file.write_text(shipped_text("en").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=f"own.toml: .*{problem}"):
        load_style(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_style(tmp_path / "none.toml")


HOSTILE = ["a “quoted” title", "{item} {0.__class__} {names}", "Who? Me!", "Ends in…", "”", "“", "x. And a 2", "第 2：部", "A: B",
           "<script>", "\u202eturned", "|a|b|", "{is|are}", "Part II", "1999", "   pad   ", "👨\u200d👩\u200d👧", "Über 3"]  # fmt: skip
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip())))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Item], int]:
    titles = draw(st.lists(TEXT, min_size=2, max_size=6, unique=True))
    items = []
    for place, title in enumerate(titles):
        attributes = draw(
            st.dictionaries(
                st.sampled_from(["brand", "series", "year", "price"]), st.one_of(st.just(""), TEXT), max_size=3
            )
        )
        categories = tuple(draw(st.lists(st.one_of(st.sampled_from(["Crime", "{x}", "a “b”", ""]), TEXT), max_size=2)))
        items.append(Item(str(place), title, categories=categories, attributes=attributes))
    return items, draw(st.integers(1, len(items)))


@settings(max_examples=150, deadline=None)
@given(
    worlds(),
    st.sampled_from(["en", "zh"]),
    st.sampled_from(get_args(Tone)),
    st.sampled_from(get_args(Length)),
    st.sampled_from(BASES),
)
def test_whatever_the_catalogue_every_sentence_is_true(
    world: tuple[list[Item], int], language: str, tone: Tone, length: Length, kind: Kind
) -> None:
    from genrec import DataError

    try:
        catalog = Catalog.from_items(world[0])
    except DataError:
        return  # a title of nothing that can be seen is refused before
    history = catalog.items[: world[1]]
    told = Grammar(CatalogueFacts(catalog), shipped_style(language), lambda item, other: 7).reasons(
        catalog.items, [Evidence(history[:2], kind)] * len(catalog), history, tone, length
    )
    facts = CatalogueFacts(catalog)
    for item, reason in zip(catalog.items, told, strict=True):
        assert citations_are_valid(reason.text, item, history)
        assert named(reason.text).count(name_of(item)) >= 1
        assert "\n" not in reason.text
        for claim in reason.claims:
            check_claim(claim, item, facts, history)


def check_claim(claim: Claim, item: Item, facts: CatalogueFacts, history: Sequence[Item]) -> None:
    """Judge a claim by the catalogue itself."""
    own = facts[item]
    assert {one.id for one in claim.items} <= {one.id for one in history}
    for one in claim.items:
        other = facts[one]
        match claim.said.removesuffix("-more"):
            case "maker":
                assert claim.value == own.maker == other.maker != ""
            case "series":
                assert claim.value in own.series
                assert claim.value in other.series
            case "category" | "category-era":
                assert claim.value in item.categories
                assert claim.value in one.categories
            case "era":
                assert own.decade == other.decade == int(claim.value)
            case "sequel":
                assert own.part == (other.part or 1) + 1
