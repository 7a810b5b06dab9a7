"""The FAISS structures of an `ItemIndex`: their choice, training and search breadth.

A structure knows rows (the order in which vectors were added), not item ids. All its vectors have length 1.

    flat     every vector is compared: exact, nothing to train
    hnsw     a graph of neighbours over the full vectors (Malkov and Yashunin, 2016, arXiv:1603.09320)
    ivf-pq   lists of 4-bit product-quantised vectors; the best of them compared again in 16 bits
             (Jegou et al., 2011; the 4-bit kernels: André et al., 2015)

A search breadth that finds 99 % of the neighbours in one catalogue finds 80 % in another. So it is measured when the
structure is built, on the catalogue's own vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

faiss: Any = typed_faiss  # its stub lacks the search parameters and gives index_factory's result too general a type

Kind = Literal["flat", "hnsw", "ivf-pq"]
KINDS: tuple[Kind, ...] = get_args(Kind)

FAISS_TYPES = {"flat": faiss.IndexFlatIP, "hnsw": faiss.IndexHNSWFlat, "ivf-pq": faiss.IndexRefine}

FLAT_LIMIT = 50_000
"""Up to this many items every vector is compared: some milliseconds a query at most, and exact."""

HNSW_LIMIT = 200_000
"""Up to this many items a graph is built, in about a minute on 2 cores; ten times more take over ten minutes."""

TARGET_RECALL = 0.99
"""The share of the exact ten nearest that the measured search breadth must find."""

LINKS = 32
BUILD_BREADTH = 100
MAX_CANDIDATES = 1024
MAX_LISTS = 8192
CANDIDATES = 320
POINTS_PER_LIST = 48
PROBE_QUERIES = 512
STRAY = 0.45
CHUNK = 65_536


def choose_kind(count: int) -> Kind:
    """Return the kind of structure for a catalogue of `count` items: flat, then HNSW, then IVF-PQ."""
    if count <= FLAT_LIMIT:
        return "flat"
    return "hnsw" if count <= HNSW_LIMIT else "ivf-pq"


class Structure:
    """A FAISS index of one kind, and how broadly to search it.

    Attributes:
        kind: which structure it is.
        faiss: the FAISS index.
        breadth: candidates kept (hnsw) or lists read (ivf-pq) in a search; 0 for flat.
    """

    def __init__(self, kind: Kind, index: Any, breadth: int) -> None:
        self.kind = kind
        self.faiss = index
        self.breadth = breadth
        # What the vectors can be read back from: IVF-PQ's own codes are too coarse for that.
        self._store = faiss.downcast_index(index.refine_index) if kind == "ivf-pq" else index

    @classmethod
    def train(cls, kind: Kind, sample: NDArray[np.float32], capacity: int) -> Structure:
        """Return an empty structure, trained where its kind needs that.

        Args:
            kind: which structure.
            sample: vectors like those to come, shape (n, d); at least one for ivf-pq.
            capacity: how many vectors it will hold.
        """
        dimension = sample.shape[1]
        if kind == "flat":
            return cls(kind, faiss.IndexFlatIP(dimension), 0)
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(dimension, LINKS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = BUILD_BREADTH
            return cls(kind, index, 64)
        lists = max(1, min(list_count(capacity), len(sample) // POINTS_PER_LIST))
        parts = max(part for part in range(1, max(1, dimension // 2) + 1) if dimension % part == 0)
        index = faiss.index_factory(dimension, f"IVF{lists},PQ{parts}x4fs,Refine(SQfp16)", faiss.METRIC_INNER_PRODUCT)
        inverted = faiss.downcast_index(faiss.extract_index_ivf(index))
        # FAISS warns about few training points; for a small catalogue that is no fault.
        inverted.cp.min_points_per_centroid = inverted.pq.cp.min_points_per_centroid = 1
        index.train(np.resize(sample, (max(len(sample), 16), dimension)))  # a 4-bit code needs 16 points
        # Room for all of them at once: growing by doubling would need twice the memory for a moment.
        store = faiss.downcast_index(index.refine_index)
        store.codes.resize(capacity * store.code_size)
        store.codes.resize(0)
        return cls(kind, index, max(1, lists // 128))

    @property
    def description(self) -> str:
        """The kind, and how broadly it is searched, in words."""
        if self.kind == "flat":
            return "flat (exact)"
        if self.kind == "hnsw":
            return f"hnsw ({self.breadth} candidates kept)"
        return f"ivf-pq ({self.breadth} of {self._lists()} lists read)"

    def __len__(self) -> int:
        return int(self.faiss.ntotal)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Append vectors of shape (n, d)."""
        self.faiss.add(np.ascontiguousarray(vectors))

    def copy(self) -> Structure:
        """Return a copy of the structure; changes of one do not affect the other."""
        return Structure(self.kind, faiss.deserialize_index(faiss.serialize_index(self.faiss)), self.breadth)

    def refill(self, rows: NDArray[np.int64]) -> None:
        """Keep only the vectors of these rows, in this order; what was trained stays."""
        kept = self.stored(rows)
        self.faiss.reset()
        if len(kept):
            self.add(kept)

    def stored(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of these rows, shape (len(rows), d), as exactly as the kind keeps them."""
        if len(rows) == 0:
            return np.empty((0, self.faiss.d), dtype=np.float32)
        return self._decoded(self._store.reconstruct_batch(np.ascontiguousarray(rows)))

    def chunks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield all vectors in pieces, each with the row at which it starts."""
        for start in range(0, len(self), CHUNK):
            yield start, self._decoded(self._store.reconstruct_n(start, min(CHUNK, len(self) - start)))

    def nearest(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the rows of each query's approximately nearest vectors.

        Args:
            queries: shape (q, d).
            count: how many, at most the number of vectors held.

        Returns:
            int64 array of shape (q, count), best first; -1 where the structure found no more.
        """
        parameters: Any = None
        if self.kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=max(self.breadth, count))
        elif self.kind == "ivf-pq":
            # Enough coarse candidates, or the ten best after the second look are not the ten nearest.
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=max(4.0, CANDIDATES / count),
                base_index_params=faiss.SearchParametersIVF(nprobe=self.breadth),
            )
        _, rows = self.faiss.search(np.ascontiguousarray(queries), count, params=parameters)
        return np.asarray(rows, dtype=np.int64)

    def calibrate(self, seed: int) -> float:
        """Widen the search until it finds `TARGET_RECALL` of the exact ten nearest; return the share found.

        The queries are the catalogue's own vectors, moved by part of the difference between two others: near an
        item but on none (cosine about 0.9), astray in the directions in which the catalogue itself varies, as a
        generated title is. Vectors themselves, or points between neighbours, are too easy to find.
        """
        if self.kind == "flat" or len(self) == 0:
            return 1.0
        count = min(10, len(self))
        generator = np.random.default_rng(seed)
        items, some, others = (self.stored(generator.integers(len(self), size=PROBE_QUERIES)) for _ in range(3))
        queries = np.asarray(items + STRAY * (some - others), dtype=np.float32)
        truth = self.exact(queries, count)
        limit = self._lists() if self.kind == "ivf-pq" else MAX_CANDIDATES
        while True:
            found = self.nearest(queries, count)
            recall = float((found[:, :, None] == truth[:, None, :]).any(axis=2).mean())
            if recall >= TARGET_RECALL or self.breadth >= limit:
                return recall
            self.breadth = min(limit, math.ceil(self.breadth * 1.5))

    def exact(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the rows of each query's `count` nearest vectors, shape (q, count), by reading every vector."""
        rows = np.empty((len(queries), 0), dtype=np.int64)
        scores = np.empty((len(queries), 0), dtype=np.float32)
        for start, vectors in self.chunks():
            found, places = faiss.knn(queries, vectors, min(count, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
            scores = np.concatenate([scores, found], axis=1)
            rows = np.concatenate([rows, places + start], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
            scores = np.take_along_axis(scores, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
        return rows

    def _lists(self) -> int:
        return int(faiss.extract_index_ivf(self.faiss).nlist)

    def _decoded(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Normalise vectors that were kept in 16 bits to length 1 again."""
        if self.kind != "ivf-pq":
            return vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def list_count(capacity: int) -> int:
    """Return how many lists IVF-PQ gets: the power of two nearest to 4 times the root of the number of items.

    At most `MAX_LISTS`: k-means' time grows with the square of the number of lists.
    """
    return int(min(MAX_LISTS, 2 ** round(math.log2(4 * math.sqrt(max(1, capacity))))))
