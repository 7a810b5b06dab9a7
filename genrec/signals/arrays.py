"""Histories as sparse matrices, and functions that signals share to count, prune, multiply and save arrays.

This module knows rows and numbers, not the meaning of a signal. A history's scores must not depend on how many are
scored together, but the rounding of a matrix product does. So sparse products are summed row by row here, and dense
products have one fixed shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from genrec.data.catalog import Catalog
from genrec.data.history_batch import HistoryBatch
from genrec.data.rows import IntArray
from genrec.data.splits import History
from genrec.errors import ArtefactError, DataError

FloatArray = NDArray[np.float32]
Arrays = Mapping[str, NDArray[np.generic]]

BLOCK = 32
"""Histories in one dense product. All products have this shape, since another shape may round differently."""


def events(catalog: Catalog, histories: Sequence[History]) -> tuple[IntArray, IntArray]:
    """Return, for every event, the number of its history and the row of its item, each of shape (events,)."""
    batch = HistoryBatch.of(catalog, histories)
    return np.repeat(np.arange(len(batch)), batch.lengths), batch.rows


def history_matrix(catalog: Catalog, histories: Sequence[History], decay: float) -> sparse.csr_array:
    """Return each history as weights of its items: decay^age, where the last item has age 0; repeats add up.

    Args:
        catalog: gives items their rows; it holds every item of the histories.
        histories: oldest first; an empty one is a row of zeros.
        decay: weight of an item relative to the next one, in [0, 1]; with 0 only the last item counts.

    Returns:
        float64 array of shape (histories, items).
    """
    batch = HistoryBatch.of(catalog, histories)
    ages = np.repeat(batch.ends[1:], batch.lengths) - 1 - np.arange(len(batch.rows))
    weights = np.power(float(decay), ages)
    # Copies, since repeats are summed in place.
    matrix = sparse.csr_array((weights, batch.rows.copy(), batch.ends.copy()), shape=(len(batch), len(catalog)))
    matrix.sum_duplicates()
    return matrix


def item_counts(catalog: Catalog, histories: Sequence[History]) -> IntArray:
    """Return how often each item was taken, of shape (items,); a user who took it twice counts twice."""
    return np.bincount(events(catalog, histories)[1], minlength=len(catalog))


def check_decay(decay: float) -> None:
    """Check that a decay lies in [0, 1].

    Raises:
        DataError: the decay lies outside; above 1, older items would weigh more than newer ones.
    """
    if not 0 <= decay <= 1:
        raise DataError(f"decay must lie between 0 (the last item alone) and 1 (all items alike); given {decay}")


def largest_in_rows(matrix: sparse.coo_array, k: int) -> sparse.csr_array:
    """Keep each row's K largest values; among equal values, those in lower columns."""
    rows, columns = matrix.coords
    order = np.lexsort((columns, -matrix.data, rows))
    starts = np.searchsorted(rows[order], np.arange(matrix.shape[0]))
    places = np.arange(len(order)) - starts[rows[order]]
    kept = order[places < k]
    return sparse.coo_array((matrix.data[kept], (rows[kept], columns[kept])), shape=matrix.shape).tocsr()


def single_precision(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return the matrix in float32 with sorted column indices."""
    matrix = matrix.astype(np.float32)
    matrix.sort_indices()
    return matrix


def similarities(vectors: FloatArray, items: FloatArray) -> FloatArray:
    """Return the inner products of vectors and items, of shape (vectors, items).

    Computed in blocks of one shape, so that a vector's products are the same to the last bit in every batch.
    """
    products = np.empty((len(vectors), len(items)), dtype=np.float32)
    block = np.zeros((BLOCK, items.shape[1]), dtype=np.float32)
    for start in range(0, len(vectors), BLOCK):
        part = vectors[start : start + BLOCK]
        block[: len(part)] = part
        products[start : start + BLOCK] = (block @ items.T)[: len(part)]
    return products


def padded(values: NDArray[np.generic], items: int) -> NDArray[np.generic]:
    """Return the values, one row for each item, with rows of zeros for items that were appended to the catalogue.

    Raises:
        ArtefactError: there are more rows than items.
    """
    if len(values) > items:
        raise ArtefactError(
            f"the saved signal knows {len(values)} items, the catalogue has {items}; "
            "use the catalogue it was fitted on, or that one with items appended"
        )
    return np.concatenate([values, np.zeros((items - len(values), *values.shape[1:]), dtype=values.dtype)])


def sparse_to_arrays(matrix: sparse.csr_array) -> dict[str, NDArray[np.generic]]:
    """Return a square matrix as plain arrays; `sparse_from_arrays` is the inverse."""
    return {
        "values": matrix.data,
        "columns": matrix.indices.astype(np.int32),
        "row_ends": matrix.indptr.astype(np.int64),
    }


def sparse_from_arrays(arrays: Arrays, items: int) -> sparse.csr_array:
    """Build a matrix of shape (items, items); rows and columns that were not saved are empty.

    Raises:
        ArtefactError: the saved matrix has more items.
    """
    ends = arrays["row_ends"].astype(np.int64)
    known = padded(np.ones(len(ends) - 1), items)
    ends = np.concatenate([ends, np.full(len(known) - len(ends) + 1, ends[-1])])
    values, columns = arrays["values"].astype(np.float32), arrays["columns"].astype(np.int32)
    return sparse.csr_array((values, columns, ends), shape=(items, items))
