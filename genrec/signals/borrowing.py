"""Borrowed evidence for new items: counted signals treat each new item as the mean of the nearest known items.

Nobody has taken a new item, so every counted signal would give it 0, and the fusion would read that as evidence against
the item. It borrows until the next training gives it its own evidence. `benchmarks/new_items.py` measures the effect of
borrowing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.data.catalog import Catalog
from genrec.errors import DataError
from genrec.signals.again import Again
from genrec.signals.arrays import FloatArray, similarities, single_precision
from genrec.signals.latent import Latent
from genrec.signals.registry import complete, own_signals
from genrec.signals.simple import Content, CoOccurrence, ItemKNN, Popularity, Signal

NEIGHBOURS = 2
"""How many known items a new item borrows from; chosen from one to three on validation, under an earlier fusion."""


def borrowing(new: FloatArray, known: FloatArray, neighbours: int = NEIGHBOURS) -> sparse.csr_array:
    """Return each new item's weights over the known items that it borrows from, proportional to the cosine.

    Args:
        new: the new items' vectors, of length 1, shape (new items, dimensions).
        known: the known items' vectors, shape (known items, dimensions).
        neighbours: how many known items a new one borrows from; only known items with a cosine above 0 count.

    Returns:
        Shape (new items, known items); rows sum to 1, or to 0 if no known item has a cosine above 0.
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
    """Return a run's signals over the larger catalogue; scores among known items stay the same.

    Args:
        signals: those of `genrec.signals.registry`.
        catalog: the known items and the new ones, in this order.
        vectors: the vectors of all items, shape (items, dimensions).
        borrowed: the weights that `borrowing` returned.

    Raises:
        DataError: there is a signal of the user's own, which genrec cannot extend to new items.
    """
    return _mixed(
        signals, catalog, vectors, sparse.csr_array(sparse.vstack([sparse.eye_array(borrowed.shape[1]), borrowed]))
    )


def signals_pretended(
    signals: Mapping[str, Signal], catalog: Catalog, vectors: FloatArray, rows: NDArray[np.int64]
) -> dict[str, Signal]:
    """Return a run's signals as if nobody had taken some of its items: they borrow from the others.

    Args:
        signals: those of `genrec.signals.registry`.
        catalog: the items.
        vectors: their vectors, shape (items, dimensions).
        rows: the rows of the items that are pretended to be new.
    """
    known = np.setdiff1d(np.arange(len(catalog)), rows)
    lent = borrowing(vectors[rows], vectors[known]).tocoo()
    ones = np.ones(len(known))
    places = (np.concatenate((known, rows[lent.row])), np.concatenate((known, known[lent.col])))
    size = len(catalog)
    mix = sparse.coo_array((np.concatenate((ones, lent.data)), places), shape=(size, size)).tocsr()
    return _mixed(signals, catalog, vectors, mix)


def _mixed(
    signals: Mapping[str, Signal], catalog: Catalog, vectors: FloatArray, mix: sparse.csr_array
) -> dict[str, Signal]:
    """Return signals in which each item's evidence is a mean of the evidence of some items.

    Args:
        signals: those of `genrec.signals.registry`.
        catalog: the items that they will know.
        vectors: their vectors.
        mix: the weights, of shape (items that they will know, items that they know).
    """
    counted: dict[str, Signal] = {}
    for name, signal in own_signals(signals).items():
        # A new item without a vector of its own is similar to nothing in that kind; titles say nothing of pictures.
        counted[name] = Content.from_arrays(catalog, signal.to_arrays())  # type: ignore[attr-defined]
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
    """Return a co-occurrence without borrowed evidence: of the first `known` items only."""
    if known == len(signal.catalog):
        return signal
    keep = sparse.diags_array((np.arange(len(signal.catalog)) < known).astype(np.float32))
    return replace(signal, pairs=single_precision(sparse.csr_array(keep @ signal.pairs @ keep)))
