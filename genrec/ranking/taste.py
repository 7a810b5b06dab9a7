"""A user's taste, a sentence, compared with titles and categories.

The index's own text encoder compares the sentence with the items. In the language model's prompt, the sentence takes
the place of the oldest item. Both orders are fused by reciprocal ranks, because no validation case has a taste.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.data.categories import COMMON_CATEGORY
from genrec.signals.arrays import FloatArray, similarities

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Encodes texts as vectors of shape (texts, dimensions), of length 1: the index's own encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class TasteReader:
    """Compares tastes with items: with their titles and the names of their categories.

    similarity(j) = (cos(sentence, title of j) + max over categories g of j of cos(sentence, g)) / 2, and the title's
    cosine alone for an item without a category; categories that nearly all items have are left out.

    Attributes:
        titles: the items' vectors, of length 1, shape (items, dimensions).
        categories: the vectors of categories, shape (categories, dimensions).
        members: bool, shape (items, categories).
        encode: encodes texts as vectors.
    """

    titles: FloatArray
    categories: FloatArray
    members: NDArray[np.bool_]
    encode: Encode

    @classmethod
    def of(cls, catalog: Catalog, titles: FloatArray, encode: Encode) -> TasteReader:
        """Encode the categories' names; each is encoded once, which takes far less time than the titles."""
        names = sorted({name for item in catalog for name in item.categories})
        place = {name: column for column, name in enumerate(names)}
        members = np.zeros((len(catalog), len(names)), np.bool_)
        for row, item in enumerate(catalog):
            members[row, [place[name] for name in item.categories]] = True
        telling = members.mean(axis=0) <= COMMON_CATEGORY
        kept = [name for name, tells in zip(names, telling, strict=True) if tells]
        vectors = encode(kept) if kept else np.zeros((0, titles.shape[1]), np.float32)
        return cls(titles, vectors, members[:, telling], encode)

    def similarities(self, tastes: Sequence[str]) -> FloatArray:
        """Return the similarity of each taste to each item, shape (sentences, items), -1 to 1."""
        asked = self.encode(tastes)
        by_title = similarities(asked, self.titles)
        best = np.full_like(by_title, -np.inf)
        for column, cosines in enumerate(similarities(asked, self.categories).T):
            own = self.members[:, column]
            best[:, own] = np.maximum(best[:, own], cosines[:, None])
        return np.where(np.isfinite(best), (by_title + best) / 2, by_title).astype(np.float32)
