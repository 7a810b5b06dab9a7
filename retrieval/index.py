"""An index over item vectors: the nearest items by cosine similarity, on FAISS.

This module knows item ids and vectors, but no texts. `structures.choose_kind` chooses the structure by the number of
items and logs the choice; the caller can also set it. Items are added, updated and removed without retraining.

A removed item's row stays and is skipped (a tombstone), since an HNSW graph cannot lose a node; all kinds work this
way. When most rows are tombstones, the structure is refilled with the others.

FAISS's result lists are not final: they are too short after removed and excluded items are taken out, and the order
among equal scores depends on the batch. So the candidates are scored again here, one by one. Equal scores keep
catalogue order. If too few candidates are left, more are fetched, at last by reading every vector.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders import normalise_rows
from retrieval.errors import RetrievalError
from retrieval.storage import StoredIndex, read_index, write_index
from retrieval.structures import CHUNK, KINDS, POINTS_PER_LIST, Kind, Structure, choose_kind, list_count

logger = logging.getLogger(__name__)

SLACK = 4
"""Candidates fetched beyond the requested ones, so that ties at the border are found."""

WIDENING = 8
"""How many times more candidates the second try fetches; the third reads every vector."""

TIE = 1e-6
"""FAISS's scores may differ by this much from batch to batch."""

BLOCK_BYTES = 64 * 2**20
"""The most memory for the candidates' vectors at a time."""


class ItemIndex:
    """Item ids and their vectors, searchable by cosine similarity.

    Build one with `ItemIndex.build` or `ItemIndex.load`. Catalogue order is the order in which ids were first added;
    an updated item keeps its place in it.
    """

    def __init__(
        self, structure: Structure, ids: Sequence[str], places: Sequence[int], removed: Sequence[int] = ()
    ) -> None:
        self._structure = structure
        self._ids = list(ids)  # by row
        self._places = np.asarray(places, dtype=np.int64)  # by row: the place in catalogue order
        self._live = np.ones(len(self._ids), dtype=bool)  # by row: not removed, not superseded
        self._live[np.asarray(removed, dtype=np.int64)] = False
        self._rows = {self._ids[row]: int(row) for row in np.flatnonzero(self._live)}

    @classmethod
    def build(
        cls,
        ids: Sequence[str],
        vectors: NDArray[np.floating],
        kind: Kind | None = None,
        capacity: int | None = None,
        seed: int = 0,
    ) -> ItemIndex:
        """Build an index.

        Args:
            ids: one id per item, in catalogue order, each once.
            vectors: shape (len(ids), d), of any length; they are normalised. A row of zeros is similar to nothing.
            kind: the structure inside; chosen by `choose_kind` where None.
            capacity: how many items there will be once more are added; as many as are given where None.
            seed: draws the sample on which ivf-pq is trained and the search breadth measured.

        Raises:
            RetrievalError: ids and vectors do not fit, or the kind is unknown.
        """
        if kind is not None and kind not in KINDS:
            raise RetrievalError(
                f"kind is {kind!r}, expected one of {', '.join(KINDS)}; leave it out to have it chosen"
            )
        _check_items(ids, vectors)
        capacity = max(len(ids), capacity or 0)
        kind = kind or choose_kind(capacity)
        if kind == "ivf-pq" and not ids:
            raise RetrievalError(
                "ivf-pq is trained on vectors and was given none; use flat or hnsw, or give some items"
            )
        sample = _sample(vectors, POINTS_PER_LIST * list_count(capacity), seed)
        index = cls(Structure.train(kind, sample, capacity), [], [])
        index._append(ids, vectors, np.arange(len(ids)))
        recall = index._structure.calibrate(seed)
        chosen = (
            f"chosen for {capacity:,} items" if kind == choose_kind(capacity) else f"as asked for {capacity:,} items"
        )
        logger.info("Item index: %s, %s; finds %.1f %% of the ten nearest", index.announcement, chosen, 100 * recall)
        return index

    @property
    def kind(self) -> Kind:
        """The structure inside: flat, hnsw or ivf-pq."""
        return self._structure.kind

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._structure.faiss.d)

    @property
    def announcement(self) -> str:
        """The structure inside, how broadly it is searched, and how many items it holds, in words."""
        return f"{self._structure.description}, {len(self):,} items of {self.dimension} numbers"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all items, in catalogue order."""
        rows = np.flatnonzero(self._live)
        return tuple(self._ids[row] for row in rows[np.argsort(self._places[rows])])

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def vectors(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Return the items' vectors, of length 1, shape (len(ids), d).

        They are the vectors given, normalised; of ivf-pq, rounded to 16 bits (an error of about 2e-4 in each number).

        Raises:
            RetrievalError: an item is not in the index.
        """
        return self._structure.stored(self._rows_of(ids))

    def search(
        self, vectors: NDArray[np.floating], k: int, exclude: Sequence[Collection[str]] | None = None
    ) -> tuple[list[list[str]], list[NDArray[np.float32]]]:
        """Return each query's k nearest items, best first; equal scores in catalogue order.

        Args:
            vectors: queries, shape (q, d), of any length; they are normalised.
            k: how many items; fewer come back only where the index holds fewer that are not excluded.
            exclude: for each query, ids that must not come back; ids that the index does not hold are ignored.

        Returns:
            For each query the ids, all different, and their cosine similarities (float32, -1 to 1).

        Raises:
            RetrievalError: the shapes do not fit, a number is not finite, or k is below 1.
        """
        _check_vectors(vectors, self.dimension)
        if k < 1:
            raise RetrievalError(f"k is {k}, expected at least 1")
        if exclude is not None and len(exclude) != len(vectors):
            raise RetrievalError(f"{len(exclude)} sets to exclude for {len(vectors)} queries; give one for each query")
        queries = normalise_rows(np.asarray(vectors, dtype=np.float32))
        hidden = [np.empty(0, dtype=np.int64)] * len(queries)
        for query, items in enumerate(exclude or ()):
            hidden[query] = np.asarray([self._rows[item] for item in items if item in self._rows], dtype=np.int64)
        ids: list[list[str]] = [[] for _ in queries]
        scores: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32) for _ in queries]
        for query, rows, found in self._found(queries, k, hidden):
            ids[query] = [self._ids[row] for row in rows]
            scores[query] = found
        return ids, scores

    def copy(self) -> ItemIndex:
        """Return a copy of the index; changes of one do not affect the other."""
        return ItemIndex(self._structure.copy(), self._ids, self._places.tolist(), np.flatnonzero(~self._live).tolist())

    def add(self, ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """Append new items to the catalogue's end.

        Raises:
            RetrievalError: ids and vectors do not fit, or an id is in the index (then `update` it).
        """
        _check_items(ids, vectors, self.dimension)
        known = [item for item in ids if item in self._rows]
        if known:
            raise RetrievalError(f"item {known[0]!r} is in the index already; use update to change its vector")
        first = int(self._places.max(initial=-1)) + 1
        self._append(ids, vectors, np.arange(first, first + len(ids)))

    def update(self, ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
        """Give items that are in the index new vectors; they keep their places in catalogue order.

        Raises:
            RetrievalError: ids and vectors do not fit, or an item is not in the index (then `add` it).
        """
        _check_items(ids, vectors, self.dimension)
        rows = self._rows_of(ids)
        self._live[rows] = False
        self._append(ids, vectors, self._places[rows])
        self._tidy()

    def remove(self, ids: Sequence[str]) -> None:
        """Take items out of the index.

        Raises:
            RetrievalError: an item is not in the index.
        """
        self._live[self._rows_of(ids)] = False
        for item in dict.fromkeys(ids):
            del self._rows[item]
        self._tidy()

    def save(self, folder: Path) -> None:
        """Write the index into a folder, as `index.faiss` and `index.json`.

        Raises:
            RetrievalError: the folder cannot be written.
        """
        removed = np.flatnonzero(~self._live).tolist()
        write_index(folder, StoredIndex(self._structure, self._ids, self._places.tolist(), removed))

    @classmethod
    def load(cls, folder: Path) -> ItemIndex:
        """Read an index that `save` wrote; its search results are the same.

        Raises:
            RetrievalError: the folder holds no index, or a damaged one.
        """
        stored = read_index(folder)
        return cls(stored.structure, stored.ids, stored.places, stored.removed)

    def _found(
        self, queries: NDArray[np.float32], k: int, hidden: Sequence[NDArray[np.int64]]
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float32]]]:
        """Yield (query, rows, scores) for each query, in any order."""
        total, live = len(self._ids), len(self._rows)
        if live == 0:
            return
        # Tombstones lie among the nearest rows as often as elsewhere.
        most = max((len(rows) for rows in hidden), default=0)
        fetch = math.ceil((k + most + SLACK) * total / live)
        left = list(range(len(queries)))
        for count in (min(total, fetch), min(total, WIDENING * fetch)):
            size = max(1, BLOCK_BYTES // (4 * self.dimension * count))
            unsettled: list[int] = []
            for start in range(0, len(left), size):
                block = left[start : start + size]
                rows, scores, border = self._ranked(queries[block], count, [hidden[query] for query in block])
                for place, query in enumerate(block):
                    available = live - len(hidden[query])
                    if _is_settled(scores[place], border[place], k, available):
                        kept = min(k, available)
                        yield query, rows[place, :kept], scores[place, :kept]
                    else:
                        unsettled.append(query)
            left = unsettled
        for query in left:
            yield (query, *self._scan(queries[query], k, hidden[query]))

    def _ranked(
        self, queries: NDArray[np.float32], count: int, hidden: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return `count` candidates of each query, ordered; what must not come back scores minus infinity and is last.

        Returns:
            rows and scores of shape (q, count); and the lowest score among each query's candidates, hidden ones too:
            no row that was not fetched is above it.
        """
        rows = self._structure.nearest(queries, count)
        known = np.maximum(rows, 0)
        scores = self._scored(queries, known)
        border = np.where(rows < 0, -np.inf, scores).min(axis=1)
        scores[(rows < 0) | ~self._live[known]] = -np.inf
        for place, forbidden in enumerate(hidden):
            if len(forbidden):
                scores[place, np.isin(rows[place], forbidden)] = -np.inf
        order = np.lexsort((self._places[known], -scores))
        return np.take_along_axis(known, order, axis=1), np.take_along_axis(scores, order, axis=1), border

    def _scored(self, queries: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the similarity of each query and each of its rows, both of shape (q, c).

        Not by a matrix product: there the last bits depend on where in the batch a row stands, and equal vectors
        would no longer have equal scores.
        """
        vectors = self._structure.stored(rows.ravel()).reshape(*rows.shape, self.dimension)
        return np.asarray(np.einsum("qd,qcd->qc", queries, vectors), dtype=np.float32)

    def _scan(
        self, query: NDArray[np.float32], k: int, hidden: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return one query's k nearest rows and their scores, by reading every vector."""
        closed = ~self._live
        closed[hidden] = True
        if not query.any():  # similar to nothing: all items are equal
            first = np.flatnonzero(~closed)
            return first[np.argsort(self._places[first])][:k], np.zeros(min(k, len(first)), dtype=np.float32)
        rows = np.empty(0, dtype=np.int64)
        scores = np.empty(0, dtype=np.float32)
        for start, vectors in self._structure.chunks():
            open_rows = np.flatnonzero(~closed[start : start + len(vectors)])
            rows = np.concatenate([rows, open_rows + start])
            scores = np.concatenate([scores, vectors[open_rows] @ query])
            if len(scores) > k:
                near = scores >= np.partition(scores, -k)[-k] - TIE
                rows, scores = rows[near], scores[near]
        scores = self._scored(query[None], rows[None])[0]
        order = np.lexsort((self._places[rows], -scores))[:k]
        return rows[order], scores[order]

    def _append(self, ids: Sequence[str], vectors: NDArray[np.floating], places: NDArray[np.int64]) -> None:
        """Add rows; the ids have been checked."""
        for start in range(0, len(ids), CHUNK):
            self._structure.add(_normalised(vectors[start : start + CHUNK]))
        self._rows.update(zip(ids, range(len(self._ids), len(self._ids) + len(ids)), strict=True))
        self._ids.extend(ids)
        self._places = np.concatenate([self._places, places])
        self._live = np.concatenate([self._live, np.ones(len(ids), dtype=bool)])

    def _tidy(self) -> None:
        """Refill the structure once tombstones are the majority, so that they never cost more than the items do."""
        rows = np.flatnonzero(self._live)
        if 2 * len(rows) >= len(self._ids):
            return
        self._structure.refill(rows)
        self._ids = [self._ids[row] for row in rows]
        self._places = self._places[rows]
        self._live = np.ones(len(rows), dtype=bool)
        self._rows = {item: row for row, item in enumerate(self._ids)}

    def _rows_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        try:
            return np.asarray([self._rows[item] for item in ids], dtype=np.int64)
        except KeyError as error:
            raise RetrievalError(
                f"item {error.args[0]!r} is not among the {len(self):,} items of the index; add it first"
            ) from None


def _is_settled(scores: NDArray[np.float32], border: np.float32, k: int, available: int) -> bool:
    """Return whether an ordered candidate list certainly begins with the structure's k best, ties included."""
    found = int(np.isfinite(scores).sum())
    return found >= available or (found >= k and bool(scores[k - 1] > border + TIE))


def _sample(vectors: NDArray[np.floating], count: int, seed: int) -> NDArray[np.float32]:
    """Return at most `count` of the vectors, normalised, drawn without repetition."""
    if len(vectors) <= count:
        return _normalised(vectors)
    rows = np.random.default_rng(seed).choice(len(vectors), count, replace=False)
    return _normalised(vectors[np.sort(rows)])


def _normalised(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return normalise_rows(np.asarray(vectors, dtype=np.float32))


def _check_items(ids: Sequence[str], vectors: NDArray[np.floating], dimension: int | None = None) -> None:
    """Check that there is one vector for each id, and that no id is given twice."""
    _check_vectors(vectors, dimension)
    if len(ids) != len(vectors):
        raise RetrievalError(f"{len(ids)} ids for {len(vectors)} vectors; give one vector for each item")
    if len(set(ids)) != len(ids):
        twice = next(item for item, count in Counter(ids).items() if count > 1)
        raise RetrievalError(f"item {twice!r} is given twice; give each id once")


def _check_vectors(vectors: NDArray[np.floating], dimension: int | None) -> None:
    """Check the shape, and that every number is finite."""
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise RetrievalError(f"vectors have shape {vectors.shape}, expected (number of texts, dimension)")
    if dimension is not None and vectors.shape[1] != dimension:
        raise RetrievalError(
            f"vectors have {vectors.shape[1]} numbers, the index has {dimension}; "
            "encode with the encoder that the index was built with"
        )
    for start in range(0, len(vectors), CHUNK):
        finite = np.isfinite(vectors[start : start + CHUNK]).all(axis=1)
        if not finite.all():
            raise RetrievalError(
                f"vector {start + int(np.argmin(finite))} holds a number that is not finite; correct it"
            )
