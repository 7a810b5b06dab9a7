"""New items and new users, recommendable at once and without training.

**A new item** has a title and nothing else. Its label joins the trie, so the language model can write it; its vector
joins the index; and since nobody took it, every signal counted from histories would be silent about it, which the
fusion reads as evidence against it. So it borrows: it takes part in each counted signal as the weighted mean of the
`NEIGHBOURS` known items whose titles are nearest, until the next training gives it evidence of its own.

**A new user** has one item (a history like any other), or a sentence about their taste. The sentence is compared with
titles and categories by the index's own text encoder, and it stands in the language model's prompt where the oldest
item would. Both orders are fused by reciprocal ranks, since no validation case has such a sentence.

The easy mistake is to give a new item zeros: everything that is counted then speaks against it. What borrowing is worth
is measured by `benchmarks/new_items.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.data.catalog import Catalog, Item
from genrec.errors import DataError
from genrec.evaluation.slices import COMMON_CATEGORY
from genrec.signals.again import Again
from genrec.signals.arrays import FloatArray, similarities, single_precision
from genrec.signals.latent import Latent
from genrec.signals.registry import complete
from genrec.signals.simple import CoOccurrence, ItemKNN, Popularity, Signal
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie

NEIGHBOURS = 2
"""How many known items lend a new one their evidence; of one to three, chosen on validation under an earlier fusion."""

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors of shape (texts, dimensions), of length 1: the index's own encoder."""


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """Everything of a run that knows its items: what grows when items are added.

    Attributes:
        catalog: the items.
        trie: their token sequences.
        index: their vectors.
        signals: every signal but the language model, by name.
    """

    catalog: Catalog
    trie: TokenTrie
    index: ItemIndex
    signals: dict[str, Signal]


def stock_with_items(
    stock: Stock, new: Sequence[Item], answers: Callable[[Sequence[str]], list[tuple[int, ...]]], encode: Encode
) -> Stock:
    """Append items; what is given stays as it is.

    Args:
        stock: what there is.
        new: items with ids and titles; their labels are made here.
        answers: labels to token sequences, terminators included; see `PromptEncoder.answers`.
        encode: titles to vectors.

    Raises:
        DataError: there is no item, an id is given twice or known already, a title is empty, or a signal of the
            user's own cannot grow, or the model could not tell a new item from another.
    """
    if not new:
        raise DataError("no items are given to add; give at least one with an id and a title")
    if known := [item.id for item in new if item.id in stock.catalog]:
        raise DataError(f"item {known[0]!r} is in the catalogue already ({len(known)} such items); leave it out")
    catalog = stock.catalog.with_items(new)
    added = catalog.items[len(stock.catalog) :]
    vectors = encode([item.title for item in added])
    index = stock.index.copy()
    index.add([item.id for item in added], vectors)
    known_vectors = stock.index.vectors(stock.catalog.ids)
    borrowed = borrowing(index.vectors([item.id for item in added]), known_vectors)
    trie = stock.trie.with_sequences(answers([item.label for item in added]))
    leaves = trie.leaf[len(stock.catalog) :]
    if (alike := trie.items_below[leaves] > 1).any():
        item = added[int(np.argmax(alike))]
        raise DataError(
            f"the tokenizer makes the same tokens of {int(alike.sum())} new items as of others, such as {item.id!r} "
            f"({item.label[:60]!r}); the model could not tell them apart: give them other titles"
        )
    return Stock(
        catalog,
        trie,
        index,
        signals_with_items(stock.signals, catalog, index.vectors(catalog.ids), borrowed),
    )


def borrowing(new: FloatArray, known: FloatArray, neighbours: int = NEIGHBOURS) -> sparse.csr_array:
    """Return how much of each known item's evidence each new item borrows: in proportion to the cosine.

    Args:
        new: the new items' vectors, of length 1, shape (new items, dimensions).
        known: the known items' vectors, shape (known items, dimensions).
        neighbours: how many known items lend to a new one; only such with a cosine above 0 do.

    Returns:
        Shape (new items, known items); rows sum to 1, or to 0 where no known item is alike.
    """
    cosines = similarities(new, known)
    columns = np.argsort(-cosines, axis=1, kind="stable")[:, :neighbours]
    weights = np.maximum(np.take_along_axis(cosines, columns, axis=1), 0.0).astype(np.float64)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    rows = np.repeat(np.arange(len(new)), columns.shape[1])
    matrix = sparse.csr_array((weights.ravel(), (rows, columns.ravel())), shape=cosines.shape)
    matrix.eliminate_zeros()
    return matrix


def signals_with_items(
    signals: dict[str, Signal], catalog: Catalog, vectors: FloatArray, borrowed: sparse.csr_array
) -> dict[str, Signal]:
    """Return a run's signals over the larger catalogue; known items keep their scores among themselves.

    Args:
        signals: those of `genrec.signals.registry`.
        catalog: the known items and the new ones, in this order.
        vectors: the vectors of all, shape (items, dimensions).
        borrowed: what `borrowing` returned.

    Raises:
        DataError: there is a signal of the user's own, of which nobody here knows how it grows.
    """
    mix = sparse.csr_array(sparse.vstack([sparse.eye_array(borrowed.shape[1]), borrowed]))
    counted: dict[str, Signal] = {}
    for name, signal in signals.items():
        if isinstance(signal, CoOccurrence):
            pairs = single_precision(sparse.csr_array(mix @ signal.pairs @ mix.T))
            counted[name] = replace(signal, catalog=catalog, pairs=pairs)
        elif isinstance(signal, ItemKNN):
            similarity = single_precision(sparse.csr_array(mix @ signal.similarity @ mix.T))
            counted[name] = replace(signal, catalog=catalog, similarity=similarity)
        elif isinstance(signal, Latent):
            factors, scales = (mix @ signal.factors).astype(np.float32), (mix @ signal.scales).astype(np.float32)
            counted[name] = replace(signal, catalog=catalog, factors=factors, scales=scales)
        elif isinstance(signal, Again):
            counted[name] = replace(signal, catalog=catalog)
        elif isinstance(signal, Popularity):
            counted[name] = Popularity((mix @ signal.scores).astype(np.float32))
    grown = complete(counted, catalog, vectors)
    if foreign := [name for name in signals if name not in grown]:
        raise DataError(
            f"the signal {foreign[0]!r} is your own and cannot grow by itself; take it out of `signals`, "
            "add the items, and put in one that knows them"
        )
    return {name: grown[name] for name in signals}


def counted_part(signal: CoOccurrence, known: int) -> CoOccurrence:
    """Return a co-occurrence without what was borrowed: of the first `known` items only."""
    if known == len(signal.catalog):
        return signal
    keep = sparse.diags_array((np.arange(len(signal.catalog)) < known).astype(np.float32))
    return replace(signal, pairs=single_precision(sparse.csr_array(keep @ signal.pairs @ keep)))


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
