"""Who to recommend for: any stretch of any kind of users, and a bad line told before the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from genrec.batch import users as users_module
from genrec.batch.users import open_users, shard_span
from genrec.data.prepared import load_prepared
from genrec.data.splits import History
from genrec.errors import ArtefactError, ConfigError, DataError


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users_module, "USERS_READ", 7)
    monkeypatch.setattr(users_module, "LINES_PER_MARK", 4)


@pytest.fixture
def histories(toy_data: Path) -> list[History]:
    return [History(history.user, history.items) for history in load_prepared(toy_data).histories]


@pytest.mark.parametrize("kind", ["all", "parquet", "jsonl", "txt"])
def test_any_stretch_of_any_kind(kind: str, toy_data: Path, tmp_path: Path, histories: list[History]) -> None:
    path = tmp_path / f"users.{kind}"
    if kind == "parquet":
        columns = {"items": [list(one.items) for one in histories], "user": [one.user for one in histories], "x": 1}
        pl.DataFrame(columns).write_parquet(path)
    elif kind == "jsonl":
        lines = [json.dumps({"user": one.user, "items": one.items, "x": 1}) for one in histories]
        path.write_text("\n\n".join(lines) + "\r\n", encoding="utf-8-sig")
    elif kind == "txt":
        path.write_text(" \n".join(one.user for one in histories), encoding="utf-8")
    users = open_users("all" if kind == "all" else str(path), lambda: toy_data)
    assert users.count == len(histories) == 60
    for start, stop in ((0, 60), (0, 1), (3, 29), (28, 32), (59, 60), (60, 60)):
        found = [History(one.user, one.items) for one in users.histories(start, stop)]
        assert found == histories[start:stop]


def test_ids_may_be_numbers_and_hold_any_sign(toy_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text('{"user": 7, "items": [1, "a\\u2028b"]}\n{"user": "a\u2028b", "items": []}\n', encoding="utf-8")
    wanted = [History("7", ("1", "a\u2028b")), History("a\u2028b", ())]
    assert list(open_users(str(path), lambda: toy_data).histories(0, 2)) == wanted
    table = tmp_path / "users.parquet"
    pl.DataFrame({"user": [7, 8], "items": [[1], None]}).write_parquet(table)
    assert list(open_users(str(table), lambda: toy_data).histories(0, 2)) == [History("7", ("1",)), History("8", ())]


def test_listed_users_whom_the_data_does_not_know_are_empty(toy_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_text("nobody\nu0003\n\nu0001\n", encoding="utf-8")
    users = open_users(str(path), lambda: toy_data)
    assert [(one.user, bool(one.items)) for one in users.histories(0, users.count)] == [
        ("nobody", False), ("u0003", True), ("u0001", True),
    ]  # fmt: skip
    path.write_text("nobody\n", encoding="utf-8")
    with pytest.raises(DataError, match="none of the 1 users"):
        open_users(str(path), lambda: toy_data)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[1]", "line 2: "),
        ('{"user": 1}', "line 2: there is no 'items'"),
        ('{"user": 1, "items": "red1"}', "line 2: items must be a list"),
        ('{"user": null, "items": []}', "line 2: user and items must be texts"),
        ('{"user": {"id": 1}, "items": []}', "line 2: user and items must be texts"),
        ('{"user": 1, "items": [NaN]}', "line 2: user and items must be texts"),
        ('{"user": "\\ud800", "items": []}', "line 2: .*surrogates not allowed"),
        ("nonsense", "line 2: Expecting value"),
        ("[" * 100_000, "line 2: .*recursion"),
        ("9" * 5000, "line 2: Exceeds the limit"),
    ],
)
def test_a_bad_line_is_told_before_the_work(line: str, problem: str, tmp_path: Path, toy_data: Path) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text('{"user": 1, "items": []}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"users\.jsonl {problem}.*; expected"):
        open_users(str(path), lambda: toy_data)


def test_files_that_hold_no_users(tmp_path: Path, toy_data: Path) -> None:
    def opened(path: Path) -> Any:
        return open_users(str(path), lambda: toy_data)

    for name in ("users.txt", "users.jsonl", "users.parquet"):
        with pytest.raises(DataError, match=rf"cannot read .*{name}"):
            opened(tmp_path / name)
        with pytest.raises(DataError, match=r"cannot read"):
            opened(tmp_path)
    (tmp_path / "users.jsonl").write_text("\n \n", encoding="utf-8")
    with pytest.raises(DataError, match="is empty"):
        opened(tmp_path / "users.jsonl")
    (tmp_path / "users.txt").write_bytes(b"u\0\n")
    with pytest.raises(DataError, match="1 of 1 lines"):
        opened(tmp_path / "users.txt")
    (tmp_path / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot read"):
        opened(tmp_path / "users.parquet")


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"user": ["a"]}, r"has user \(String\); expected"),
        ({"user": ["a"], "items": ["x"]}, r"items \(String\); expected"),
        ({"user": [["a"]], "items": [["x"]]}, r"user \(List"),
        ({"user": ["a"], "items": [[["x"]]]}, r"items \(List"),
        ({"user": ["a", None, None], "items": [["x"]] * 3}, "row 2: .*null .in 2 rows"),
        ({"user": ["a", "b", "c"], "items": [["x"], [], ["x", None]]}, "row 3: .*null"),
        ({"user": pl.Series([], dtype=pl.String), "items": pl.Series([], dtype=pl.List(pl.String))}, "is empty"),
    ],
)
def test_tables_that_are_not_of_users(columns: dict[str, Any], problem: str, tmp_path: Path, toy_data: Path) -> None:
    path = tmp_path / "users.parquet"
    pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(DataError, match=problem):
        open_users(str(path), lambda: toy_data)


def test_a_damaged_data_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="there is no folder"):
        open_users("all", lambda: tmp_path / "none")


@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("shards", [1, 3, 8])
def test_shards_cover_every_user_once_in_order(count: int, shards: int) -> None:
    spans = [shard_span(f"{index}/{shards}", count) for index in range(1, shards + 1)]
    assert [place for span in spans for place in range(*span)] == list(range(count))
    assert max(stop - start for start, stop in spans) - min(stop - start for start, stop in spans) <= 1


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3", "", "\u0661/\u0662"])
def test_shards_that_are_none(shard: str) -> None:
    with pytest.raises(ConfigError, match="expected i/n with i from 1 to n"):
        shard_span(shard, 10)


def test_folders_categories_and_decimals_are_users_too(toy_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "parts.parquet"
    folder.mkdir()
    for part, kind in enumerate((pl.String, pl.Categorical)):
        frame = pl.DataFrame({"user": [f"p{part}"], "items": [["red1"]]}).with_columns(pl.col("user").cast(kind))
        frame.write_parquet(folder / f"part-{part}.parquet")
        alone = tmp_path / f"alone[{part}].parquet"
        frame.write_parquet(alone)
        assert [one.user for one in open_users(str(alone), lambda: toy_data).histories(0, 1)] == [f"p{part}"]
    frame.with_columns(pl.col("user").cast(pl.String)).write_parquet(folder / "part-1.parquet")
    users = open_users(str(folder), lambda: toy_data)
    assert [(one.user, one.items) for one in users.histories(0, users.count)] == [("p0", ("red1",)), ("p1", ("red1",))]
    lines = tmp_path / "users.jsonl"
    lines.write_text('{"user": 7.0, "items": [1.0, "2.0"]}\n')
    assert list(open_users(str(lines), lambda: toy_data).histories(0, 1)) == [History("7", ("1", "2"))]


@pytest.mark.parametrize("header", ["user", "user_id", "customerId", '"user"'])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_header_is_no_user_and_that_is_told(
    header: str, quote: str, toy_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "users.csv"
    path.write_text(f"\ufeff{header}\r\n{quote}u0001{quote}\r\nu0002\r\n", encoding="utf-8")
    users = open_users(str(path), lambda: toy_data)
    assert [one.user for one in users.histories(0, users.count)] == ["u0001", "u0002"]
    assert "names the column and is no user" in caplog.text
