"""Data frames of every kind give what their files give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genrec.data.prepared import PreparedData, prepare
from genrec.errors import DataError
from tests import toyworld

KINDS = ("pandas", "polars", "lazy", "pyarrow", "reader", "duckdb", "interchange", "datasets")


def as_kind(frame: pl.DataFrame, kind: str) -> Any:
    if kind == "polars":
        return frame
    if kind == "lazy":
        return frame.lazy()
    if kind == "pyarrow":
        return frame.to_arrow()
    if kind == "reader":
        return frame.to_arrow().to_reader()
    if kind == "datasets":
        return pytest.importorskip("datasets").Dataset(frame.to_arrow())
    if kind == "duckdb":
        duckdb, table = pytest.importorskip("duckdb"), frame.to_arrow()
        return duckdb.connect().from_arrow(table)
    if kind == "interchange":
        return OnlyInterchange(frame.to_arrow())
    # As someone has it who filtered: an index with gaps is no column.
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(frame.to_dict(as_series=False), index=range(5, 5 + 2 * frame.height, 2))


class OnlyInterchange:
    """A frame that knows the older exchange alone."""

    def __init__(self, frame: Any) -> None:
        self.__dataframe__ = frame.__dataframe__


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return toyworld.write_files(tmp_path_factory.mktemp("frames"), users=12)


@pytest.fixture(scope="module")
def from_files(files: tuple[Path, Path]) -> PreparedData:
    return prepare(*files)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_gives_what_the_file_gives(kind: str, files: tuple[Path, Path], from_files: PreparedData) -> None:
    log, items = (as_kind(pl.read_csv(file), kind) for file in files)
    data = prepare(log, items)
    assert data.histories == from_files.histories
    assert data.catalog.items == from_files.catalog.items


def test_a_selected_data_set_gives_its_own_rows_in_their_order(files: tuple[Path, Path]) -> None:
    datasets = pytest.importorskip("datasets")
    log = datasets.Dataset(pl.read_csv(files[0]).drop("time").to_arrow())
    chosen = log.filter(lambda row: row["user"] == "u0003").select([2, 0, 1])
    (history,) = prepare(chosen, files[1]).histories
    rows = [row["item"] for row in log if row["user"] == "u0003"]
    assert history.items == (rows[2], rows[0], rows[1])


def test_splits_are_put_together_and_that_is_told(files: tuple[Path, Path], from_files: PreparedData) -> None:
    datasets = pytest.importorskip("datasets")
    log = datasets.Dataset(pl.read_csv(files[0]).to_arrow())
    parts = datasets.DatasetDict({"train": log.select(range(20)), "test": log.select(range(20, len(log)))})
    data = prepare(parts, files[1])
    assert data.histories == from_files.histories
    assert "interactions: the splits train, test were put together; genrec splits by itself" in data.report.notes


def test_class_labels_are_read_by_their_names(files: tuple[Path, Path]) -> None:
    datasets = pytest.importorskip("datasets")
    items = datasets.Dataset(pl.read_csv(files[1]).to_arrow()).class_encode_column("category")
    assert {item.categories for item in prepare(files[0], items).catalog} == {(name,) for name in toyworld.SERIES}


def test_what_cannot_be_read_is_told_in_one_line(files: tuple[Path, Path]) -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    mixed = pandas.DataFrame({"user": ["a", 1], "item": ["red1", "red2"]})
    with pytest.raises(
        DataError, match=r"the interactions cannot be read from a DataFrame .*give every column one type"
    ):
        prepare(mixed, files[1])
    log = datasets.Dataset(pl.read_csv(files[0]).to_arrow())
    with pytest.raises(DataError, match="IterableDataset, which is read once"):
        prepare(log.to_iterable_dataset(), files[1])
    parts = datasets.DatasetDict({"train": log, "test": log.remove_columns("time")})
    with pytest.raises(DataError, match="the splits of the interactions have different columns"):
        prepare(parts, files[1])
    with pytest.raises(DataError, match="dict is neither a file nor a data frame"):
        prepare({"user": []}, files[1])
