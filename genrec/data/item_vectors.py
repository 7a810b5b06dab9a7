"""Vectors of items that a user brings, or that are made of pictures: kept with the data, one kind beside another.

Each kind (a name such as `poster`) has a vector for some of the items. It is a signal of its own (`vectors-poster`:
how near an item's vector is to those of the history), with a weight that is fitted like every other's.

Read are `.npy` (with a file of ids beside it), Parquet (columns `item` and `vector`) and safetensors (a tensor
`vectors` and the ids in the metadata); nothing is ever unpickled.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import Catalog
from genrec.errors import ArtefactError, DataError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
WIDEST = 16_384
"""The most numbers in a vector."""

Given = str | Path | tuple[Sequence[str], Any]
"""A file, or ids and an array of shape (ids, width)."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemVectors:
    """Vectors of a catalogue's items, by kind.

    Attributes:
        vectors: by name, float32, shape (items, width), in catalogue order; zeros where an item has none.
        present: by name, bool, shape (items,); which items have one.
    """

    vectors: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds, in their order."""
        return tuple(self.vectors)

    def centred(self, name: str) -> NDArray[np.float32]:
        """Return a kind's vectors without their mean, of length 1, shape (items, width); zeros where there is none.

        Without the mean: what all items share (the grey of most pictures) tells none from another.
        """
        vectors, present = self.vectors[name].astype(np.float64), self.present[name]
        if present.sum() > 1:
            vectors = np.where(present[:, None], vectors - vectors[present].mean(axis=0), 0.0)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.where(lengths > 1e-9, vectors / np.maximum(lengths, 1e-9), 0.0).astype(np.float32)

    def together(self) -> NDArray[np.float32]:
        """Return all kinds side by side, each centred and of length 1, shape (items, sum of widths).

        An item has zeros where it has no vector of a kind.
        """
        return np.concatenate([self.centred(name) for name in self.names], axis=1)

    def take(self, rows: Sequence[int]) -> ItemVectors:
        """Return the vectors of some rows, in their order; row -1 stands for an item without any."""
        places = np.asarray(rows, np.int64)
        known = places >= 0
        vectors = {
            name: np.where(known[:, None], one[places], 0).astype(np.float32) for name, one in self.vectors.items()
        }
        return ItemVectors(vectors, {name: one[places] & known for name, one in self.present.items()})

    def save(self, path: Path) -> None:
        """Write all kinds into one safetensors file."""
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {f"vectors/{name}": self.vectors[name] for name in self.names}
        arrays |= {f"present/{name}": self.present[name] for name in self.names}
        path.write_bytes(save(arrays, {"names": json.dumps(self.names)}))

    @classmethod
    def load(cls, path: Path, items: int) -> ItemVectors:
        """Read what `save` wrote.

        Args:
            path: the file.
            items: how many items the catalogue has.

        Raises:
            ArtefactError: the file is damaged, or is of another catalogue.
        """
        from safetensors import safe_open

        try:
            with safe_open(path, "numpy") as file:
                names = json.loads(file.metadata()["names"])
                vectors = {name: file.get_tensor(f"vectors/{name}") for name in names}
                present = {name: file.get_tensor(f"present/{name}") for name in names}
        except Exception as error:  # safetensors raises several types, some of its own
            raise ArtefactError(f"{path} cannot be read ({error}); prepare the data again") from error
        if any(len(one) != items for one in (*vectors.values(), *present.values())):
            raise ArtefactError(
                f"{path} is of another catalogue than the {items:,} items beside it; prepare the data again"
            )
        return cls(vectors, present)


def given_vectors(given: Mapping[str, Given], catalog: Catalog) -> tuple[ItemVectors | None, list[str]]:
    """Read vectors and put them in catalogue order.

    Args:
        given: by name, a file, or ids and an array.
        catalog: the items.

    Returns:
        The vectors (None if none are given), and notes for the report.

    Raises:
        DataError: a name or a file is invalid, or its rows and its ids do not fit together or to the catalogue.
    """
    vectors, present, notes = {}, {}, []
    for name, one in given.items():
        if not NAME.fullmatch(name):
            raise DataError(
                f"the vectors are named {name[:60]!r}, expected up to 40 small letters, digits, - and _; name them so"
            )
        ids, rows = _read(Path(one)) if isinstance(one, str | Path) else (list(map(str, one[0])), one[1])
        where = f"the vectors {name!r}" + (f" in {one}" if isinstance(one, str | Path) else "")
        vectors[name], present[name] = placed(where, ids, rows, catalog)
        missing = len(catalog) - int(present[name].sum())
        without = f"; {missing:,} items have none" if missing else ""
        notes.append(f"vectors {name}: {len(catalog) - missing:,} items, width {vectors[name].shape[1]}{without}")
    return (ItemVectors(vectors, present) if vectors else None), notes


def placed(
    where: str, ids: Sequence[str], rows: Any, catalog: Catalog
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return vectors in catalogue order, and which items have one.

    Raises:
        DataError: they are no matrix of finite numbers with a row for each id, or an id is unknown or given twice.
    """
    try:
        matrix = np.asarray(rows)
    except ValueError:  # rows of several widths
        matrix = np.empty(0, object)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiub" or not 0 < matrix.shape[1] <= WIDEST:
        found = (
            f"an array of shape {matrix.shape} and type {matrix.dtype}"
            if matrix.dtype != object
            else "rows of several widths"
        )
        raise DataError(
            f"{where} are {found}, expected numbers of shape (items, 1 to {WIDEST}); give each item one row"
        )
    if len(matrix) != len(ids):
        raise DataError(
            f"{where} have {len(matrix):,} rows and {len(ids):,} ids, expected one id for each row; make them agree"
        )
    if not len(ids):
        raise DataError(f"{where} are empty, expected at least one row; leave them out or give some")
    if twice := [item for item, count in Counter(ids).items() if count > 1]:
        raise DataError(
            f"{where} name {len(twice):,} ids more than once, such as {twice[0][:60]!r}; give each item one row"
        )
    if unknown := [item for item in ids if item not in catalog]:
        raise DataError(
            f"{where} name {len(unknown):,} ids that the catalogue does not have, such as {unknown[0][:60]!r}; "
            "leave them out, or add the items to the catalogue"
        )
    with np.errstate(over="ignore"):
        single = matrix.astype(np.float32)
    if not (finite := np.isfinite(single).all(axis=1)).all():
        row = int(np.argmin(finite))
        raise DataError(
            f"{where} have {int((~finite).sum()):,} rows with NaN or infinity, such as that of {ids[row][:60]!r}; "
            "leave these rows out: an item may have no vector"
        )
    vectors, present = np.zeros((len(catalog), single.shape[1]), np.float32), np.zeros(len(catalog), np.bool_)
    places = catalog.rows(ids)
    vectors[places], present[places] = single, True
    return vectors, present


def _read(path: Path) -> tuple[list[str], Any]:
    readers = {".npy": _read_npy, ".parquet": _read_parquet, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise DataError(f"the vectors are in {path}, expected {', '.join(readers)}; convert the file to one of these")
    if not path.is_file():
        raise DataError(f"there is no file {path}; give the vectors' file")
    try:
        return readers[path.suffix](path)
    except DataError:
        raise
    except Exception as error:  # each library has errors of its own
        raise DataError(f"{path} cannot be read as {path.suffix} ({str(error)[:200]}); write it again") from error


def _read_npy(path: Path) -> tuple[list[str], Any]:
    ids = path.with_suffix(".ids.txt")
    if not ids.is_file():
        raise DataError(
            f"{path} needs its items' ids in {ids.name} beside it, one a line in the order of the rows; write it"
        )
    lines = ids.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()], np.load(path, allow_pickle=False)


def _read_parquet(path: Path) -> tuple[list[str], Any]:
    import polars as pl

    frame = pl.read_parquet(path, glob=False)
    if not {"item", "vector"} <= set(frame.columns):
        raise DataError(f"{path} has the columns {', '.join(frame.columns)}, expected item and vector; name them so")
    widths = {None if one is None else len(one) for one in frame["vector"]}
    if len(widths) > 1 or None in widths:
        shown = ", ".join(str(one) for one in sorted(widths, key=str)[:5])
        raise DataError(f"{path} has vectors of the widths {shown}, expected one width; give each item one row of it")
    return frame["item"].cast(pl.String).to_list(), np.array(frame["vector"].to_list())


def _read_safetensors(path: Path) -> tuple[list[str], Any]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        told = file.metadata() or {}
        if "vectors" not in file.keys() or "ids" not in told:  # noqa: SIM118 - no mapping
            raise DataError(
                f"{path} needs a tensor 'vectors' and 'ids' (a JSON list) in its metadata; write it with both"
            )
        return list(map(str, json.loads(told["ids"]))), file.get_tensor("vectors")
