"""The catalogue: items, their labels, and their order.

A label is the short unique text by which the language model names an item. It is the title, cut to its first words. If
two cut titles are the same, more words are kept. If the titles themselves are the same, an attribute is added (year
first), and if they are still the same, a number. So items that share a title stay distinct items, by a rule that
depends only on the catalogue.

An item's row (its place in the catalogue) is valid only within one catalogue. So items are saved, shown and passed
between packages by their id.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from genrec.errors import DataError

DISTINGUISHING_ATTRIBUTES = ("year", "release_year", "brand", "author", "artist")
"""Attributes tried first, in this order, to distinguish two items that would share a label; then the others by name."""

LABEL_WORDS = (8, 16, 32)
"""A longer title is cut, in its label only, to the first of these word counts that makes it unique."""


@dataclass(frozen=True, slots=True)
class Item:
    """An item that can be recommended.

    Attributes:
        id: the catalogue's own identifier.
        title: the full title, as people read it.
        label: the unique short text by which the model names the item; set by `Catalog.from_items`.
        categories: the item's categories, the most general first; empty where unknown.
        attributes: all other columns of the catalogue, as text.

    Example:
        >>> from genrec import Item
        >>> Item("242", "Kolya", categories=("Comedy",), attributes={"year": "1996"}).title
        'Kolya'
    """

    id: str
    title: str
    label: str = ""
    categories: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the item as plain JSON values; `from_json` is its inverse."""
        return {
            "id": self.id,
            "title": self.title,
            "label": self.label,
            "categories": list(self.categories),
            "attributes": dict(self.attributes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Item:
        """Build an item from what `to_json` returned."""
        return cls(
            id=str(data["id"]),
            title=str(data["title"]),
            label=str(data.get("label", "")),
            categories=tuple(str(category) for category in data.get("categories", ())),
            attributes={str(key): str(value) for key, value in data.get("attributes", {}).items()},
        )


class Catalog:
    """An ordered, immutable collection of items with unique ids and unique labels.

    Build one with `Catalog.from_items`, which assigns the labels.

    Args:
        items: items with labels.

    Raises:
        DataError: two items have the same id, or an item has no label.

    Example:
        >>> from genrec import Catalog, Item
        >>> films = [Item("1", "Heat", attributes={"year": "1995"}), Item("2", "Heat", attributes={"year": "1986"})]
        >>> catalog = Catalog.from_items([*films, Item("3", "Kolya")])
        >>> catalog.labels
        ('Heat (1995)', 'Heat (1986)', 'Kolya')
        >>> catalog["3"].title, catalog.row("3")
        ('Kolya', 2)
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = tuple(items)
        self._rows = {item.id: row for row, item in enumerate(self._items)}
        if len(self._rows) != len(self._items):
            twice = [item_id for item_id, count in Counter(item.id for item in self._items).items() if count > 1]
            raise DataError(f"item ids must be unique; given more than once: {', '.join(sorted(twice)[:5])}")
        if any(not item.label for item in self._items):
            raise DataError("every item needs a label; build the catalogue with Catalog.from_items")
        # Cached, since they are needed once per user.
        self._ids = tuple(self._rows)
        self._labels = tuple(item.label for item in self._items)

    @classmethod
    def from_items(cls, items: Iterable[Item]) -> Catalog:
        """Build a catalogue and give every item its unique label.

        Raises:
            DataError: an id is given twice, or a title is empty.
        """
        items = _titled(items)
        labels = make_labels(items)
        return cls(replace(item, label=label) for item, label in zip(items, labels, strict=True))

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._rows

    def __getitem__(self, item_id: str) -> Item:
        return self._items[self.row(item_id)]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, in catalogue order."""
        return self._items

    @property
    def ids(self) -> tuple[str, ...]:
        """All item ids, in catalogue order."""
        return self._ids

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in catalogue order."""
        return self._labels

    def row(self, item_id: str) -> int:
        """Return the item's place in catalogue order.

        Raises:
            DataError: no item has this id.
        """
        try:
            return self._rows[item_id]
        except KeyError:
            raise DataError(f"item {item_id!r} is not among the {len(self)} items of the catalogue") from None

    def rows(self, item_ids: Iterable[str]) -> list[int]:
        """Return the places of several items."""
        return [self.row(item_id) for item_id in item_ids]

    def with_items(self, new: Iterable[Item]) -> Catalog:
        """Return a catalogue with items appended; existing labels do not change.

        Raises:
            DataError: an id is given twice, or a title is empty.
        """
        new = _titled(new)
        labels = make_labels(new, taken=[item.label for item in self._items])
        added = [replace(item, label=label) for item, label in zip(new, labels, strict=True)]
        return Catalog((*self._items, *added))


def clean_title(text: str) -> str:
    """Return the text in one line, as people read it.

    HTML entities are decoded. Letters and their accents are composed (Unicode NFC). White space is collapsed, including
    line breaks and blanks of every width. Invisible characters are removed: control characters, lone surrogates,
    zero-width and bidirectional marks. Joiners stay where they join: in emoji, and in scripts that need them.
    """
    # Twice, since catalogues exported through two systems contain "&amp;quot;".
    text = html.unescape(html.unescape(text)) if "&" in text else text
    if text.isascii():
        return _UNPRINTABLE.sub("", " ".join(text.split()))
    if text.isprintable() and not _PRINTABLE_YET_UNSEEN.search(text):
        return " ".join(unicodedata.normalize("NFC", text).split())  # true of most titles; takes a third of the time
    text = unicodedata.normalize("NFC", _BLANK.sub(" ", _INVISIBLE.sub("", text)))
    return _UNPRINTABLE.sub("", " ".join(_LOOSE_JOINERS.sub("", text).split()))


def normalise_label(text: str) -> str:
    """Return the form in which labels are compared: visible characters only, case-folded, white space collapsed."""
    if not text.isascii():
        if not text.isprintable() or _PRINTABLE_YET_UNSEEN.search(text):
            text = _BLANK.sub(" ", _UNSEEN.sub("", text))
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.casefold().split())


def make_labels(items: Sequence[Item], taken: Iterable[str] = ()) -> list[str]:
    """Return one unique label per item, in order.

    Args:
        items: items with titles; their labels are ignored.
        taken: labels that are in use and must not be assigned again.
    """
    titles = [clean_title(item.title) for item in items]
    used = {normalise_label(label) for label in taken}
    labels = [_cut(title, LABEL_WORDS[0]) for title in titles]
    for count in LABEL_WORDS[1:]:
        for row in chain.from_iterable(_clashing(labels, used)):
            labels[row] = _cut(titles[row], count)
    names = sorted({name for item in items for name in item.attributes if not _IDENTIFIER.search(name)})
    ordered = [name for name in DISTINGUISHING_ATTRIBUTES if name in names]
    ordered += [name for name in names if name not in DISTINGUISHING_ATTRIBUTES]
    for name in ordered:
        groups = _clashing(labels, used)
        if not groups:
            break
        for rows in groups:
            values = [_short_value(items[row].attributes.get(name, "")) for row in rows]
            # A value that all of them share would make the labels longer but not distinct.
            if len(set(values)) > 1 or normalise_label(labels[rows[0]]) in used:
                for row, value in zip(rows, values, strict=True):
                    labels[row] = f"{labels[row]} ({value})" if value else labels[row]
    return _numbered(labels, used)


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")
"""Fillers and the blank of Braille, which look like a space but are not white space in Unicode."""
_PRINTABLE_YET_UNSEEN = re.compile("[\u034f\u115f\u1160\u2800\u3164\ufe00-\ufe0f\uffa0]")
_INVISIBLE = re.compile(
    "(?<!\U0001f3f4)(?<![\U000e0020-\U000e007f])[\U000e0020-\U000e007f]+"  # but in flags of regions
    "|[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001]"
)
_LOOSE_JOINERS = re.compile("(?:^|(?<=[\\s\x21-\u024f]))[\u200c\u200d]+|[\u200c\u200d]+(?=$|[\\s\x21-\u024f])")
"""Joiners beside blanks and Latin letters, where they join nothing."""
_UNSEEN = re.compile("[\u200c\u200d\ufe00-\ufe0f]|" + _INVISIBLE.pattern)
_IDENTIFIER = re.compile(r"(?i)(^|[_\W])(id|url|link|image|asin|isbn|sku|ean|upc)$")
"""Attributes that identify or picture an item without describing it; they are never used in a label."""


def _titled(items: Iterable[Item]) -> tuple[Item, ...]:
    items = tuple(items)
    for item in items:
        if not clean_title(item.title):
            raise DataError(f"item {item.id!r} has an empty title; give it one or leave the item out")
    return items


def _cut(title: str, words: int) -> str:
    """Return the title's first words, without an unclosed bracket or a trailing comma.

    A word counts for at most 12 characters, so that a title in a script without blanks is cut too.
    """
    text = " ".join(title.split(" ")[:words])
    limit = 12 * words
    if len(text) > limit:
        end = limit
        while end > 1 and (unicodedata.category(text[end])[0] == "M" or "\u200d" in text[end - 1 : end + 1]):
            end -= 1  # never cut between a letter and its accent, or within an emoji of several parts
        blank = text.rfind(" ", 0, end + 1)
        text = text[: blank if blank > 0 else end]
    if len(text) == len(title):
        return title
    if text.count("(") > text.count(")"):
        text = text[: text.rindex("(")] or text
    return text.rstrip(" ,;:/&-\u2013\u2014") or text


def _short_value(text: str) -> str:
    """Return an attribute's value if it is short enough for a label, else nothing."""
    value = clean_title(text)
    return value if len(value.split()) <= 4 and len(value) <= 40 else ""


def _clashing(labels: Sequence[str], used: set[str]) -> list[list[int]]:
    """Return the rows that share a label with each other or with a label in use, one group per label."""
    groups: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        groups.setdefault(normalise_label(label), []).append(row)
    return [rows for label, rows in groups.items() if len(rows) > 1 or label in used]


def _numbered(labels: Sequence[str], used: set[str]) -> list[str]:
    """Return the labels; those equal to an earlier label, or to a label in use, get a number."""
    given, result, last = set(used), [], Counter[str]()
    for label in labels:
        candidate = label
        while normalise_label(candidate) in given:
            # The count continues where it stopped; else a thousand equal labels would take a million steps.
            last[normalise_label(label)] += 1
            candidate = f"{label} ({last[normalise_label(label)] + 1})"
        given.add(normalise_label(candidate))
        result.append(candidate)
    return result
