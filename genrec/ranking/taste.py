"""A sentence about someone's taste, compared with titles and categories.

The sentence is compared by the index's own text encoder, and it stands in the language model's prompt where the oldest
item would. Both orders are fused by reciprocal ranks, since no validation case has such a sentence.
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
"""Texts to vectors of shape (texts, dimensions), of length 1: the index's own encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class TasteReader:
    """Compares sentences about someone's taste with items: with their titles, and with their categories' names.

    similarity(j) = (cos(sentence, title of j) + max over categories g of j of cos(sentence, g)) / 2, and the title's
    cosine alone for an item without a category that tells items apart.

    Attributes:
        titles: the items' vectors, of length 1, shape (items, dimensions).
        categories: the vectors of categories, shape (categories, dimensions).
        members: bool, shape (items, categories).
        encode: texts to vectors.
    """

    titles: FloatArray
    categories: FloatArray
    members: NDArray[np.bool_]
    encode: Encode

    @classmethod
    def of(cls, catalog: Catalog, titles: FloatArray, encode: Encode) -> TasteReader:
        """Encode the categories' names; each once, so this takes far less than the titles took."""
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
        """Return the similarity of each sentence and each item, shape (sentences, items), -1 to 1."""
        asked = self.encode(tastes)
        by_title = similarities(asked, self.titles)
        best = np.full_like(by_title, -np.inf)
        for column, cosines in enumerate(similarities(asked, self.categories).T):
            own = self.members[:, column]
            best[:, own] = np.maximum(best[:, own], cosines[:, None])
        return np.where(np.isfinite(best), (by_title + best) / 2, by_title).astype(np.float32)
