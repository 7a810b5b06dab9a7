"""Any bytes where genrec expects a file of users or a run folder: an error of ours, or what was meant; no traceback."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from genrec.batch.job import recommend_all
from genrec.batch.users import open_users
from genrec.cli.main import is_users_mistake
from genrec.errors import DataError, GenrecError
from genrec.recommender import Recommender
from genrec.settings import Settings

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, suffix: str, content: bytes) -> Path:
    path = folder / f"users{suffix}"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def good_parquet() -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame({"user": ["a", "b", "c"], "items": [["red1"], ["red1", "red2"], []]}).write_parquet(buffer)
    return buffer.getvalue()


GOOD_LINES = b'{"user": "a", "items": ["red1"]}\n{"user": 2, "items": [3, "red2"]}\n'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["user", "items", "x"]), inner),
    max_leaves=8,
)
LINES = st.lists(VALUES.map(lambda value: json.dumps(value).encode()), max_size=4).map(b"\n".join)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with some bytes changed, or cut, or with a stretch put in."""
    place = draw(st.integers(0, len(content)))
    kind = draw(st.sampled_from(["change", "cut", "insert"]))
    if kind == "cut":
        return content[:place]
    new = draw(st.binary(min_size=1, max_size=8))
    return content[:place] + new + content[place + (len(new) if kind == "change" else 0) :]


def opened_or_told(path: Path, data: Path) -> None:
    """Open users; where that succeeds, all of them must come."""
    try:
        users = open_users(str(path), lambda: data)
    except DataError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert "expected" in told or "give user ids" in told or "fill or drop" in told
        assert "\n" not in told
        return
    found = list(users.histories(0, users.count))
    assert len(found) == users.count > 0
    assert all(isinstance(item, str) for one in found for item in (one.user, *one.items))


@given(st.binary(max_size=80) | LINES | damaged(GOOD_LINES))
@example(GOOD_LINES)
@FEW
def test_lines_of_users(toy_data: Path, folder: Path, content: bytes) -> None:
    opened_or_told(write(folder, ".jsonl", content), toy_data)


@given(st.binary(max_size=80) | damaged(b"u0001\nu0002\n"))
@example(b"u0001\n")
@FEW
def test_lists_of_users(toy_data: Path, folder: Path, content: bytes) -> None:
    opened_or_told(write(folder, ".txt", content), toy_data)


@given(st.binary(max_size=80) | damaged(good_parquet()))
@example(good_parquet())
@FEW
def test_tables_of_users(toy_data: Path, folder: Path, content: bytes) -> None:
    opened_or_told(write(folder, ".parquet", content), toy_data)


@contextmanager
def damage(path: Path, content: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.fixture(scope="module")
def run(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the toy run, file by file linked, to be damaged."""
    import shutil

    return shutil.copytree(toy_run, tmp_path_factory.mktemp("fuzzed") / "run")


def loaded(run: Path) -> tuple[Recommender | None, Exception]:
    try:
        return Recommender.from_pretrained(run, "cpu", "fp32"), Exception()
    except Exception as error:
        return None, error


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_in_a_run_is_told_and_nothing_written(run: Path, folder: Path, data: st.DataObject) -> None:
    files = sorted(path for path in run.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    before = path.read_bytes()
    content = data.draw(damaged(before))
    out = folder / "out.jsonl"
    with damage(path, content):
        recommender, told = loaded(run)
    if recommender is None:
        assert is_users_mistake(told), repr(told)
        assert not os.path.lexists(out)
        return
    # Only a manifest whose meaning is the same, such as one with another space, may pass.
    assert path.name == "genrec.json" or content == before
    recommend_all(recommender, lambda start: iter(()), out, Settings(), fingerprint={})
    for file in folder.glob("out.jsonl*"):
        file.unlink()


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_damaged_manifest_never_means_something_else(run: Path, data: st.DataObject) -> None:
    from genrec.storage.folders import read_manifest

    path = run / "genrec.json"
    meant = read_manifest(run, "run", verify=False)
    with damage(path, data.draw(damaged(path.read_bytes()))):
        try:
            found = read_manifest(run, "run", verify=False)
        except GenrecError:
            return
    assert {**found, "checksum": ""} == {**meant, "checksum": ""} or "checksum" not in found
