"""Near duplicates and overlaps: users with (almost) the same items, titles that occur inside other texts.

Both are fast enough for whole data sets, because neither compares all pairs. Users are compared only if their MinHash
signatures meet (Broder, "On the resemblance and containment of documents", 1997). Each text is read once against a tree
of all titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BANDS, ROWS_PER_BAND = 8, 4
"""A pair with Jaccard index j meets in at least one band with probability 1 - (1 - j^4)^8: 0.9998 at j = 0.9."""

_WORD = re.compile(r"\w+")


def similar_pairs(sets: Sequence[frozenset[int]], least: float, seed: int = 0) -> list[tuple[int, int]]:
    """Find pairs of sets that are nearly equal.

    Every set that has a near duplicate is in at least one returned pair (MinHash misses one with a small probability).
    Not all pairs of a large cluster are returned, so that the work stays linear in the number of sets.

    Args:
        sets: sets of numbers from 0 up; empty sets are never duplicates.
        least: the Jaccard index from which two sets count as similar.
        seed: of the hash functions.

    Returns:
        Pairs of indices in `sets`, the smaller first, in ascending order.
    """
    filled = [place for place, members in enumerate(sets) if members]
    if len(filled) < 2:
        return []
    flat = np.fromiter((member for place in filled for member in sets[place]), dtype=np.int64)
    starts = np.cumsum([0, *(len(sets[place]) for place in filled[:-1])])
    generator = np.random.default_rng(seed)
    pairs: set[tuple[int, int]] = set()
    for _ in range(BANDS):
        keys = np.zeros(len(filled), dtype=np.uint64)
        for _ in range(ROWS_PER_BAND):
            hashes = _mixed(np.arange(flat.max() + 1, dtype=np.uint64) + generator.integers(1 << 62, dtype=np.uint64))
            keys = _mixed(keys ^ np.minimum.reduceat(hashes[flat], starts))
        order = np.argsort(keys, kind="stable")
        same = keys[order[1:]] == keys[order[:-1]]
        first = np.maximum.accumulate(np.where(np.concatenate(([True], ~same)), np.arange(len(order)), 0))
        for place in np.flatnonzero(same) + 1:
            for other in {place - 1, first[place]}:
                one, two = sorted((filled[order[other]], filled[order[place]]))
                pairs.add((one, two))
    return sorted(pair for pair in pairs if jaccard(sets[pair[0]], sets[pair[1]]) >= least)


def jaccard(one: frozenset[int], two: frozenset[int]) -> float:
    """Return the size of the intersection over that of the union; 0 for two empty sets."""
    union = len(one | two)
    return len(one & two) / union if union else 0.0


class TitleFinder:
    """Finds which of many titles occur, word for word, inside a text.

    Titles of one word or of fewer than eight characters are ignored: "Big" is in "The Big Sleep" by chance.

    Args:
        titles: the titles to look for; case and punctuation are ignored.
    """

    def __init__(self, titles: Iterable[str]) -> None:
        self._root: dict[str, Any] = {}
        for title in titles:
            words = _words(title)
            if len(words) > 1 and sum(map(len, words)) >= 8:
                node = self._root
                for word in words:
                    node = node.setdefault(word, {})
                node[""] = " ".join(words)  # no word is empty, so this key marks an end

    def find(self, text: str) -> set[str]:
        """Return the titles in the text, in the form of `title_key`."""
        words = _words(text)
        found: set[str] = set()
        for start in range(len(words)):
            node = self._root
            for word in words[start:]:
                if word not in node:
                    break
                node = node[word]
                if "" in node:
                    found.add(node[""])
        return found


def title_key(title: str) -> str:
    """Return a title's words, lower case and without punctuation, as `TitleFinder.find` returns them."""
    return " ".join(_words(title))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well-scattered hashes (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
