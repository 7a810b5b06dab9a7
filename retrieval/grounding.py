"""Generated texts to catalogue items: by the exact title, then the normalised title, then the nearest vector.

This module knows titles, vectors and scores, but no users or models. Every match records how it was found.

Items that share a title stay different items: their title matches all of them, in catalogue order. So with k = 1 the
first in catalogue order is returned, and with a larger k the others follow it directly.

One neighbour for each beam is not enough: several beams may mean the same item, and seen items are removed, so fewer
than k items would be left. `Grounder.ground_generations` adds further neighbours until there are k.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders import Encoder
from retrieval.errors import RetrievalError
from retrieval.index import ItemIndex

How = Literal["exact", "normalised", "nearest"]

_TAG = re.compile(r"</?[a-z][^<>]*>")
_INVERTED_ARTICLE = re.compile(r"^(.+), (the|a|an)(?=$| \(\d{4}\)$)")
_YEAR = re.compile(r"\s*[(\[](?:1[89]|20)\d\d[)\]]$")
_APOSTROPHES = "'`\u2018\u2019\u02bc"
_EMOJI_STYLES = "\ufe0e\ufe0f"


@dataclass(frozen=True, slots=True)
class Match:
    """An item that a text was grounded to.

    Attributes:
        item: the item's id.
        score: the cosine similarity of text and item, -1 to 1; 1 where the text is the item's title.
        how: by the exact title, the normalised title, or as the nearest by similarity.
    """

    item: str
    score: float
    how: How

    def to_json(self) -> dict[str, Any]:
        """Return the match as plain JSON values; `from_json` is its inverse."""
        return {"item": self.item, "score": self.score, "how": self.how}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Match:
        """Build a match from what `to_json` returned.

        Raises:
            RetrievalError: `how` is not one of the three ways.
        """
        if data["how"] not in get_args(How):
            raise RetrievalError(f"how is {data['how']!r}, expected one of {', '.join(get_args(How))}")
        return cls(item=str(data["item"]), score=float(data["score"]), how=data["how"])


def normalise_title(text: str, year: bool = True) -> str:
    """Return the form in which two titles count as the same.

    HTML entities are resolved and tags dropped; Unicode compatibility forms (NFKC) and case are folded; "Matrix, The"
    becomes "the matrix"; "&" becomes "and"; apostrophes vanish, other punctuation becomes white space, and that is
    collapsed; invisible characters (writing direction, joiners) vanish. Symbols and emoji stay, so "C++" is not "C";
    and a title that is nothing but punctuation keeps it.

    Args:
        text: any text.
        year: keep a year in brackets at the end; a bare number always stays ("Blade Runner 2049").
    """
    folded = unicodedata.normalize("NFKC", html.unescape(text)).casefold()
    folded = "".join(filter(_is_visible, unicodedata.normalize("NFKC", folded)))
    folded = " ".join(_TAG.sub(" ", folded).split())
    titled = _INVERTED_ARTICLE.sub(r"\2 \1", folded)
    if not year:
        titled = _YEAR.sub("", titled) or titled
    kept = (_unpunctuated(character) for character in titled.replace("&", " and "))
    return " ".join("".join(kept).split()) or folded


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) != "Cf" and character not in _EMOJI_STYLES


def _unpunctuated(character: str) -> str:
    if character in _APOSTROPHES:
        return ""
    return " " if unicodedata.category(character).startswith("P") else character


class Grounder:
    """Finds the items that texts mean.

    A text is compared with titles as they are (but for white space around it), then normalised, then normalised with
    the year at the end dropped, then by its vector. Where it names an item, further matches are the neighbours of
    that item; otherwise of the text. A text without content matches nothing.

    Args:
        ids: item ids, in catalogue order.
        titles: one title per item.
        index: the items' vectors, made by the same encoder; what is removed from it is not matched any more.
        encoder: encodes the texts that are not an item's title.
        labels: a second name per item, as the language model knows it.
        threshold: a nearest item less similar than this is no match; there is no limit where None.

    Raises:
        RetrievalError: the numbers of ids, titles and labels differ, or the encoder does not fit the index.
    """

    def __init__(
        self,
        ids: Sequence[str],
        titles: Sequence[str],
        index: ItemIndex,
        encoder: Encoder,
        labels: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> None:
        if encoder.dimension != index.dimension:
            raise RetrievalError(
                f"the encoder {encoder.name} gives {encoder.dimension} numbers, the index has {index.dimension}; "
                "use the encoder that the index was built with"
            )
        self._index = index
        self._encoder = encoder
        self._threshold = -1.0 if threshold is None else threshold
        self._exact: dict[str, list[str]] = {}
        self._normalised: dict[str, list[str]] = {}
        self._without_year: dict[str, list[str]] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._register(ids, titles, labels)

    def add(self, ids: Sequence[str], titles: Sequence[str], labels: Sequence[str] | None = None) -> None:
        """Add new items to the index and to the known titles; no training is needed.

        Raises:
            RetrievalError: the numbers of ids, titles and labels differ, or an item is in the index already.
        """
        _check_lengths(ids, titles, labels)
        self._index.add(ids, self._encoder.encode(titles))
        self._register(ids, titles, labels)

    def ground(self, text: str, k: int = 1) -> list[Match]:
        """Return the k best matches of a text; see `ground_many`."""
        return self.ground_many([text], k)[0]

    def ground_many(self, texts: Sequence[str], k: int = 1) -> list[list[Match]]:
        """Return the k best matches of each text: exact ones, then normalised ones, then the nearest.

        Args:
            texts: any texts.
            k: how many; fewer come back for a text without content, where nearest items lie below the threshold, or
                where the index holds fewer.

        Raises:
            RetrievalError: k is below 1.
        """
        _check_count(k)
        results = [self._named(text)[:k] for text in texts]
        short = [place for place, named in enumerate(results) if len(named) < k and texts[place].strip()]
        near = self._nearest([texts[place] for place in short], [results[place] for place in short], k, ())
        for place, matches in zip(short, near, strict=True):
            trusted = [match for match in matches if match.score >= self._threshold]
            results[place] = (results[place] + trusted)[:k]
        return results

    def ground_generations(
        self, generations: Sequence[tuple[str, float]], k: int, exclude: Collection[str] = ()
    ) -> list[tuple[Match, str]]:
        """Fuse one user's generated texts into k different items.

        First every text in turn, the one with the best score first, gives the items whose title it is, or else its
        nearest item if that is not below the threshold. Then, in rounds, every text in turn gives its next nearest
        item. Among texts of equal score the more similar item goes first. A text whose items are all excluded gives
        neighbours only. Where no text has any content, items come in catalogue order, with similarity 0.

        Args:
            generations: texts with the language model's scores, higher is better; of equal texts the best counts.
            k: how many items; fewer come back only where the index holds fewer that are not excluded. The threshold
                orders, but does not shorten.
            exclude: ids that must not come back.

        Returns:
            The matches, best first, each with the text it came from.

        Raises:
            RetrievalError: k is below 1.
        """
        _check_count(k)
        best: dict[str, float] = {}
        for text, score in generations:
            best[text] = max(score, best.get(text, score))
        texts = [text for text in sorted(best, key=best.__getitem__, reverse=True) if text.strip()]
        named = [self._named(text) for text in texts]
        seen = set(exclude)
        offers = [_Offers(best[text], text, _without(own, seen)) for text, own in zip(texts, named, strict=True)]
        certain = list(takewhile(lambda place: named[place], range(len(texts))))
        if len({match.item for place in certain for match in offers[place].first}) >= k:
            return _fuse(offers[: len(certain)], k)  # enough without a single vector
        for offer, own, near in zip(offers, named, self._nearest(texts, named, k, seen), strict=True):
            if not own and near and near[0].score >= self._threshold:
                offer.first.append(near.pop(0))
            offer.further.extend(near)
        if not offers:
            nowhere = np.zeros((1, self._index.dimension), dtype=np.float32)
            text = next(iter(best), "")
            offers = [_Offers(0.0, text, [], _matches(self._index.search(nowhere, k, [seen]))[0])]
        return _fuse(offers, k)

    def _named(self, text: str) -> list[Match]:
        """Return the items whose title the text is: the exact ones, then those that are so normalised.

        The year at the end is dropped only where nothing matches with it: "Sabrina (1954)" is not "Sabrina (1995)".
        """
        exact = self._exact.get(text.strip(), [])
        normalised = self._normalised.get(normalise_title(text), [])
        if not exact and not normalised:
            normalised = self._without_year.get(normalise_title(text, year=False), [])
        matches = {item: Match(item, 1.0, "exact") for item in exact}
        for item in normalised:
            matches.setdefault(item, Match(item, 1.0, "normalised"))
        return [match for item, match in matches.items() if item in self._index]

    def _nearest(
        self, texts: Sequence[str], named: Sequence[Sequence[Match]], k: int, hidden: Collection[str]
    ) -> list[list[Match]]:
        """Return k neighbours of each text, or of the first item that it names, other than those it names."""
        if not texts:
            return []
        vectors = np.empty((len(texts), self._index.dimension), dtype=np.float32)
        known = [place for place, own in enumerate(named) if own]
        unknown = [place for place, own in enumerate(named) if not own]
        vectors[known] = self._index.vectors([named[place][0].item for place in known])
        vectors[unknown] = self._encoder.encode([texts[place] for place in unknown])
        return _matches(self._index.search(vectors, k, [{*hidden, *(match.item for match in own)} for own in named]))

    def _register(self, ids: Sequence[str], titles: Sequence[str], labels: Sequence[str] | None) -> None:
        """Enter the items' names into the three tables, in the order given."""
        _check_lengths(ids, titles, labels)
        for item, title, label in zip(ids, titles, labels or titles, strict=True):
            self._forget(item)
            self._names[item] = (title, label)
            for table, key in self._entries(item):
                table.setdefault(key, []).append(item)

    def _forget(self, item: str) -> None:
        """Take an item's names out of the tables, if it has any."""
        for table, key in self._entries(item):
            table[key].remove(item)
        self._names.pop(item, None)

    def _entries(self, item: str) -> list[tuple[dict[str, list[str]], str]]:
        """Return each table with each key under which it lists the item, once."""
        entries: dict[tuple[int, str], tuple[dict[str, list[str]], str]] = {}
        for name in self._names.get(item, ()):
            for table, key in (
                (self._exact, name.strip()),
                (self._normalised, normalise_title(name)),
                (self._without_year, normalise_title(name, year=False)),
            ):
                if key:  # a blank name is no name
                    entries[id(table), key] = (table, key)
        return list(entries.values())


@dataclass(frozen=True, slots=True)
class _Offers:
    """The items that one generated text can give: in the first turn, and one by one afterwards."""

    score: float
    text: str
    first: list[Match]
    further: list[Match] = field(default_factory=list)


def _fuse(offers: Sequence[_Offers], k: int) -> list[tuple[Match, str]]:
    """Take first all first turns, then one further item of each text in rounds, until there are k different items."""
    taken: dict[str, tuple[Match, str]] = {}
    turn = [(offer.score, match, offer.text) for offer in offers for match in offer.first]
    queues = [iter(offer.further) for offer in offers]
    while True:
        for _, match, text in sorted(turn, key=lambda offered: (-offered[0], -offered[1].score)):
            taken.setdefault(match.item, (match, text))
        if len(taken) >= k:
            return list(taken.values())[:k]
        turn = []
        for offer, queue in zip(offers, queues, strict=True):
            fresh = next((match for match in queue if match.item not in taken), None)
            if fresh is not None:
                turn.append((offer.score, fresh, offer.text))
        if not turn:
            return list(taken.values())


def _matches(found: tuple[list[list[str]], list[NDArray[np.float32]]]) -> list[list[Match]]:
    """Turn an index's search result into matches."""
    return [
        [Match(item, min(1.0, max(-1.0, float(score))), "nearest") for item, score in zip(ids, scores, strict=True)]
        for ids, scores in zip(*found, strict=True)
    ]


def _without(matches: Sequence[Match], items: Collection[str]) -> list[Match]:
    return [match for match in matches if match.item not in items]


def _check_count(k: int) -> None:
    if k < 1:
        raise RetrievalError(f"k is {k}, expected at least 1")


def _check_lengths(ids: Sequence[str], titles: Sequence[str], labels: Sequence[str] | None) -> None:
    if len(titles) != len(ids) or (labels is not None and len(labels) != len(ids)):
        what = f"{len(titles)} titles" if labels is None else f"{len(titles)} titles and {len(labels)} labels"
        raise RetrievalError(f"{len(ids)} ids for {what}; give one of each for every item")
