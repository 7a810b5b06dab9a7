"""Categories as a matrix over the catalogue's rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog


def category_matrix(catalog: Catalog) -> NDArray[np.bool_]:
    """Return which item has which category, of shape (items, categories); categories are in order of their names."""
    names = tuple(sorted({category for item in catalog for category in item.categories}))
    columns = {name: column for column, name in enumerate(names)}
    matrix = np.zeros((len(catalog), len(names)), dtype=np.bool_)
    for row, item in enumerate(catalog):
        matrix[row, [columns[category] for category in item.categories]] = True
    return matrix


COMMON_CATEGORY = 0.9
"""A category that more than this share of the items have (the root of a tree) does not distinguish cases."""


CALIBRATION_SMOOTHING = 0.01
"""Steck's alpha: how much of the history's distribution is mixed into the list's, so that the divergence is finite."""
