"""Vectors that a user brings: read, placed, refused with what to do, kept, and a signal of their own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

import genrec
from genrec import ArtefactError, Catalog, ConfigError, DataError, Item
from genrec.cli.prepare import named_files
from genrec.data.item_vectors import ItemVectors, given_vectors
from genrec.data.prepared import VECTORS, load_prepared
from genrec.signals.borrowing import borrowing, signals_with_items
from genrec.signals.registry import check_savable, fit_signals, load_signals, save_signals, vector_signals
from tests.toyworld import make_catalog, make_histories

FEW = Catalog.from_items([Item(name, name.upper()) for name in "abcd"])
ROWS = np.array([[1, 0], [0, 1], [3, 4]], np.float32)
IDS = ["c", "a", "d"]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"own.{kind}"
    if kind == "npy":
        np.save(path, ROWS.astype(np.float16))
        (folder / "own.ids.txt").write_text("\n".join(IDS) + "\n", encoding="utf-8")
    elif kind == "parquet":
        pl.DataFrame({"item": IDS, "vector": ROWS.tolist()}).write_parquet(path)
    else:
        save_file({"vectors": ROWS}, path, {"ids": json.dumps(IDS)})
    return path


@pytest.mark.parametrize("kind", ["npy", "parquet", "safetensors"])
def test_every_kind_of_file_gives_the_same(kind: str, tmp_path: Path) -> None:
    found, notes = given_vectors({"poster": write(tmp_path, kind)}, FEW)
    assert found is not None
    assert found.vectors["poster"].tolist() == [[0, 1], [0, 0], [1, 0], [3, 4]]
    assert found.present["poster"].tolist() == [True, False, True, True]
    assert notes == ["vectors poster: 3 items, width 2; 1 items have none"]


def test_kinds_stand_side_by_side_without_their_mean() -> None:
    given: dict[str, Any] = {"one": (IDS, ROWS), "two": (["a", "b"], [[2.0], [4.0]])}
    found, _ = given_vectors(given, FEW)
    assert found is not None
    together = found.together()
    assert (together.shape, together.dtype) == ((4, 3), np.float32)
    assert together[0, 2] == -1  # below the mean of its kind
    assert together[1].tolist() == [0, 0, 1]  # no vector of the first kind, above the mean of the second
    assert np.linalg.norm(together[:, :2], axis=1) == pytest.approx([1, 0, 1, 1])
    taken = found.take([3, -1])
    assert taken.vectors["one"].tolist() == [[3, 4], [0, 0]]
    assert taken.present["one"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("ids", "rows", "told"),
    [
        (["a", "b"], ROWS, "3 rows and 2 ids, expected one id for each row"),
        (["a", "b", "x"], ROWS, "1 ids that the catalogue does not have, such as 'x'"),
        (["a", "b", "a"], ROWS, "1 ids more than once, such as 'a'"),
        (IDS, ROWS * np.array([[1], [np.nan], [1]]), "1 rows with NaN or infinity, such as that of 'a'"),
        (IDS, ROWS.astype(np.float64) * 1e300, "NaN or infinity"),
        (IDS, [[1], [1, 2], [3]], "rows of several widths"),
        (IDS, [["x"], ["y"], ["z"]], "expected numbers of shape"),
        (IDS, np.zeros(3), "expected numbers of shape"),
        (IDS, np.zeros((3, 0)), "expected numbers of shape"),
        ([], np.zeros((0, 2)), "are empty"),
    ],
)
def test_what_does_not_fit_is_refused(ids: list[str], rows: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        given_vectors({"poster": (ids, rows)}, FEW)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(path: Path, told: str, name: str = "poster") -> None:
        with pytest.raises(DataError, match=told):
            given_vectors({name: path}, FEW)

    refused(tmp_path / "none.npy", "there is no file")
    refused(tmp_path / "own.pkl", "expected .npy, .parquet, .safetensors")
    refused(write(tmp_path, "npy"), "expected up to 40 small letters", "Poster!")
    (tmp_path / "own.ids.txt").unlink()
    refused(tmp_path / "own.npy", "needs its items' ids in own.ids.txt")
    write(tmp_path, "npy")
    np.save(tmp_path / "own.npy", np.array([{}, {}, {}], object), allow_pickle=True)
    refused(tmp_path / "own.npy", "cannot be read as .npy")  # never unpickled
    (tmp_path / "own.npy").write_bytes(pickle.dumps([1]))
    refused(tmp_path / "own.npy", "cannot be read as .npy")
    path = tmp_path / "own.parquet"
    pl.DataFrame({"id": IDS}).write_parquet(path)
    refused(path, "has the columns id, expected item and vector")
    pl.DataFrame({"item": IDS, "vector": [[1.0], [1.0, 2.0], [1.0]]}).write_parquet(path)
    refused(path, "vectors of the widths 1, 2")
    path.write_bytes(b"PAR1")
    refused(path, "cannot be read as .parquet")
    save_file({"vectors": ROWS}, tmp_path / "own.safetensors")
    refused(tmp_path / "own.safetensors", "needs a tensor 'vectors' and 'ids'")


def test_name_and_file() -> None:
    assert named_files(["a=x.npy", "b=y=z.npy"]) == {"a": Path("x.npy"), "b": Path("y=z.npy")}
    for wrong in (["x.npy"], ["=x.npy"], ["a="], ["a=x", "a=y"]):
        with pytest.raises(ConfigError, match=r"expected NAME=FILE|given twice"):
            named_files(wrong)


def test_they_are_kept_with_the_data(tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u"] * 3, "item": ["a", "b", "c"], "time": [1, 2, 3]}).write_csv(tmp_path / "log.csv")
    pl.DataFrame({"item": list("abcd"), "title": list("ABCD")}).write_csv(tmp_path / "items.csv")
    given = {"poster": write(tmp_path, "parquet")}
    out = tmp_path / "data"
    data = genrec.prepare(tmp_path / "log.csv", tmp_path / "items.csv", out=out, item_vectors=given)
    assert "vectors poster: 3 items, width 2; 1 items have none" in data.report.notes
    loaded = load_prepared(out).vectors
    assert loaded is not None
    assert data.vectors is not None
    assert loaded.names == ("poster",)
    assert np.array_equal(loaded.together(), data.vectors.together())
    with pytest.raises(ArtefactError, match="of another catalogue"):
        ItemVectors.load(out / VECTORS, 5)
    (tmp_path / "x").write_bytes(b"no")
    with pytest.raises(ArtefactError, match="prepare the data again"):
        ItemVectors.load(tmp_path / "x", 4)


def test_each_kind_is_a_signal_that_is_saved_and_grows(tmp_path: Path) -> None:
    catalog, random = make_catalog(), np.random.default_rng(0)
    titles = random.normal(size=(len(catalog), 4)).astype(np.float32)
    titles /= np.linalg.norm(titles, axis=1, keepdims=True)
    found, _ = given_vectors({"poster": (catalog.ids, random.normal(size=(len(catalog), 3)))}, catalog)
    signals = fit_signals(catalog, make_histories(20), titles, own=vector_signals(catalog, found))
    assert list(signals)[-1] == "vectors-poster"
    check_savable(signals, titles)
    save_signals(tmp_path / "signals.safetensors", signals)
    loaded = load_signals(tmp_path / "signals.safetensors", catalog, titles)
    asked = make_histories(5)
    assert list(loaded) == list(signals)
    assert np.array_equal(loaded["vectors-poster"].score(asked), signals["vectors-poster"].score(asked))
    larger = catalog.with_items([Item("new", "New")])
    lent = borrowing(titles[:1], titles)
    grown = signals_with_items(signals, larger, np.vstack([titles, titles[:1]]), lent)
    scores = grown["vectors-poster"].score(asked)
    assert np.array_equal(scores[:, :-1], signals["vectors-poster"].score(asked))
    assert not scores[:, -1].any()  # it has no picture
