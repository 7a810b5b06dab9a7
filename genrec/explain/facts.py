"""The catalogue's facts about items, in the form that a reason can use: maker, series, part, category, decade, price.

Most facts come from attributes. Series and parts are also read from titles: if many titles begin with the same words
("Star Trek", "Neutrogena"), these words are a name, and a number after the same words ("Jaws", "Jaws 2") is a part. A
name found in this way is part of the title, so a sentence that states it is true.

Not every common beginning is a name: "The Last" and "Once Upon a" are not. A name must stand at the beginning of nearly
all titles that contain it, and it must not begin or end as a phrase does.
"""

# ruff: noqa: RUF001 - Chinese marks

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from genrec.data.catalog import Catalog, Item, clean_title
from genrec.data.categories import COMMON_CATEGORY
from genrec.explain.names import WORD

MAKERS = ("brand", "author", "artist", "director", "maker", "manufacturer", "designer", "band", "creator", "studio",
          "publisher", "channel")  # fmt: skip
"""Attributes that name the maker of an item; the first that an item has is used."""

SERIES = ("series", "franchise", "collection", "saga")
YEARS = ("year", "release_year", "published", "release_date", "date")
PRICE = "price"

NEAR_PRICE = 0.15
"""The largest difference of two prices that are called close, as a share of the higher price."""

MOST_NAME_WORDS = 3
LEAST_TITLES = {1: 10, 2: 3, 3: 3}
"""How many titles must begin with so many words before these count as a name."""
BEGINNING = 0.9
"""Of the titles that contain the words, the least share that must begin with them; phrases also occur within titles."""
CONTINUED = 0.7
"""Where so many of a name's titles go on with the same word, the word belongs to the name."""

_LONGEST_VALUE = 40
_SAYS_NOTHING = frozenset({"", "unknown", "n/a", "na", "none", "null", "nan", "various", "other", "-", "?"})
_ARTICLES = frozenset({"the", "a", "an", "my", "all", "new", "in", "on", "of", "for", "how", "what", "this", "that",
                       "le", "la", "les", "il", "der", "das", "el", "set", "pack"})  # fmt: skip
_PART_WORD = r"(?:part|vol\.?|volume|episode|book|chapter|season)"
_PART = re.compile(
    rf"^(?P<name>.*?\w)(?:[:,]?\s+{_PART_WORD})?\s+(?P<part>\d{{1,2}}|[IVX]{{1,5}})(?=$|:)", re.IGNORECASE
)
_CHINESE_PART = re.compile(
    r"^(?P<name>.*?[\u3400-\u9fff])\s*(?:第(?P<word>[一二三四五六七八九十])[部季册集卷]|(?P<part>\d{1,2}))(?=$|[：:· ])"
)
_BARE_NUMBER = re.compile("[0-9]{1,2}|[ivx]{1,5}")
_ROMAN = {"II": 2, "III": 3, "IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10}
_NUMBER = re.compile(r"\D{0,3}(\d+(?:[.,]\d{1,2})?)\D{0,4}")


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """The catalogue's facts about one item; empty or None if there are none.

    Attributes:
        maker: who made it.
        series: the series it belongs to, the broadest first: fewer words are more certainly a name.
        part: its number in the series that its title names.
        numbered: the words of the title before that number.
        categories: the categories that distinguish items, the rarest first.
        decade: the first year of its decade.
        price: its price as a number.
        price_text: its price as the catalogue writes it.
    """

    maker: str = ""
    series: tuple[str, ...] = ()
    part: int | None = None
    numbered: str = ""
    categories: tuple[str, ...] = ()
    decade: int | None = None
    price: float | None = None
    price_text: str = ""


class CatalogueFacts:
    """The facts about all items of a catalogue; read once, then looked up.

    Args:
        catalog: the items.
    """

    def __init__(self, catalog: Catalog) -> None:
        held = Counter(category for item in catalog for category in set(item.categories))
        size = max(len(catalog), 1)
        self._shares = {
            category: count / size
            for category, count in held.items()
            # A category that holds all items, or one item, says nothing.
            if count > 1 and count / size <= COMMON_CATEGORY and _is_printable(category)
        }
        self._names = _leading_names([clean_title(item.title) for item in catalog])
        self._items = catalog.items
        self._known: dict[str, ItemFacts] = {}

    def __getitem__(self, item: Item) -> ItemFacts:
        """Return the facts about an item, which may also be of another catalogue."""
        if item.id not in self._known:
            self._known[item.id] = self._read(item)
        return self._known[item.id]

    @cached_property
    def vocabulary(self) -> dict[str, str]:
        """Everything that a reason may say of an item, but decades and prices, by its words (see `WORD`)."""
        values: set[str] = set(self._shares) | set(self._names.values())
        for item in self._items:
            own = self[item]
            values |= {own.maker, *own.series} - {""}
        return {" ".join(WORD.findall(value.casefold())): value for value in sorted(values)}

    def rarity(self, category: str) -> float:
        """Return how telling a category is: the negative logarithm of its share of the items."""
        return -math.log(self._shares.get(category, 1.0))

    def _read(self, item: Item) -> ItemFacts:
        title = clean_title(item.title)
        numbered, part = part_of(title)
        year = next((found for name in YEARS if (found := re.match("(1[89]|20)[0-9]{2}", _value(item, name)))), None)
        price_text = _value(item, PRICE)
        price = _NUMBER.fullmatch(price_text)
        return ItemFacts(
            maker=next((value for name in MAKERS if (value := _value(item, name))), ""),
            series=(*(value for name in SERIES if (value := _value(item, name))), *self._names_in(title)),
            part=part,
            numbered=numbered,
            categories=tuple(
                sorted(
                    {category for category in item.categories if category in self._shares},
                    key=lambda category: (self._shares[category], category),
                )
            ),
            decade=int(year.group()[:3] + "0") if year else None,
            price=float(price.group(1).replace(",", ".")) if price else None,
            price_text=price_text if price else "",
        )

    def _names_in(self, title: str) -> list[str]:
        words = _words_of(title)
        found = (self._names.get(tuple(words[:count]), "") for count in range(1, MOST_NAME_WORDS + 1))
        return [name for name in dict.fromkeys(found) if name]


def part_of(title: str) -> tuple[str, int | None]:
    """Return the words before a title's number, case-folded, and the number; the whole title if it has none."""
    found = _CHINESE_PART.match(title)
    if found:
        part = int(found["part"]) if found["part"] else " 一二三四五六七八九十".index(found["word"])
        return found["name"].casefold(), part
    found = _PART.match(title)
    if found:
        text = found["part"]
        part = int(text) if text.isdecimal() else _ROMAN.get(text, 0)
        if 0 < part <= 30:
            return found["name"].rstrip(" :,").casefold(), part
    return title.casefold(), None


def follows(item: ItemFacts, other: ItemFacts) -> bool:
    """Return whether an item is the next part after another: "Jaws 2" after "Jaws", "Night Train 3" after 2."""
    if item.part is None or item.numbered != other.numbered:
        return False
    return item.part == (other.part + 1 if other.part is not None else 2)


def prices_are_close(one: ItemFacts, other: ItemFacts) -> bool:
    """Return whether both have prices that are at most `NEAR_PRICE` apart."""
    if one.price is None or other.price is None or min(one.price, other.price) <= 0:
        return False
    return abs(one.price - other.price) <= NEAR_PRICE * max(one.price, other.price)


def _value(item: Item, name: str) -> str:
    """Return an attribute's value if a sentence can contain it, else an empty text."""
    value = clean_title(item.attributes.get(name, ""))
    return value if _is_printable(value) else ""


def _is_printable(value: str) -> bool:
    """Return whether a sentence can contain the value without quotation marks around it."""
    return (
        value.casefold() not in _SAYS_NOTHING
        and len(value) <= _LONGEST_VALUE
        and not re.search(
            r'[\x00-\x1f\x7f"“”„‟«»「」『』《》〈〉<>{}\[\]|\\`#*@_~^=\ufffd!?。！？;]|https?:|www\.', value
        )
        and any(character.isalnum() for character in value)
        and value == clean_title(value)
    )


def _words_of(title: str) -> list[str]:
    return [word.rstrip(":,-").casefold() for word in title.split()]


def _leading_names(titles: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Return the names that titles begin with, by their case-folded words, as most titles write them."""
    starts: Counter[tuple[str, ...]] = Counter()
    held: Counter[tuple[str, ...]] = Counter()
    forms: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    longest: Counter[tuple[str, ...]] = Counter()  # by how many titles a run of words is most often continued
    for title in titles:
        raw, words = title.split(), _words_of(title)
        for count in range(1, MOST_NAME_WORDS + 2):
            if len(words) >= count:
                starts[tuple(words[:count])] += 1
                forms[tuple(words[:count])][" ".join(raw[:count]).rstrip(":,-")] += 1
            held.update({tuple(words[place : place + count]) for place in range(len(words) - count + 1)})
    for run, count in starts.items():
        longest[run[:-1]] = max(longest[run[:-1]], count)
    names = {
        words: name
        for words, count in starts.items()
        if _begins_enough(words, count, held[words])
        # Where most go on with the same word, that is part of the name; or, as in "Once Upon a", it is no name.
        and longest[words] < CONTINUED * count
        and _is_name(name := forms[words].most_common(1)[0][0])
    }
    return {**names, **_continued_titles(titles)}


def _begins_enough(words: tuple[str, ...], begun: int, held: int) -> bool:
    """Return whether enough titles begin with the words, and hardly any contain them elsewhere, to make them a name."""
    telling = sum(word not in _ARTICLES for word in words)
    if len(words) > MOST_NAME_WORDS or not telling or words[-1] in _ARTICLES:
        return False
    return begun >= max(LEAST_TITLES[telling], BEGINNING * held)


def _continued_titles(titles: Sequence[str]) -> dict[tuple[str, ...], str]:
    """Return whole titles that others continue with a number or after a colon: "Alien", "Alien 3"."""
    whole = {tuple(_words_of(title)): title for title in titles if not title.endswith(tuple(":,-"))}
    names = {}
    for title in titles:
        raw, words = title.split(), _words_of(title)
        for count in range(1, min(MOST_NAME_WORDS, len(words) - 1) + 1):
            name = whole.get(tuple(words[:count]), "")
            goes_on = raw[count - 1].endswith(":") or _BARE_NUMBER.fullmatch(words[count])
            if name and goes_on and words[0] not in _ARTICLES and _is_name(name):
                names[tuple(words[:count])] = name
    return names


def _is_name(text: str) -> bool:
    """Return whether words can be a name: they are written as one, and are not a phrase that goes on."""
    first, last = text.split()[0], text.split()[-1]
    return _is_printable(text) and (first[0].islower() or not last[0].islower())
