"""Neighbours of what people complained of; each was silent, a traceback or wrong advice when it was first tried."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import json
import os
import pickle
import shutil
import uuid
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrec.batch.users import open_users
from genrec.data.cleaning import Cleaning
from genrec.data.dialects import Dialect
from genrec.data.listed_cells import checked_style, split_cell, style_of
from genrec.data.prepared import PreparedData, prepare, save_prepared
from genrec.data.raw import Columns
from genrec.data.splits import History
from genrec.data.times import parse_times
from genrec.errors import ArtefactError, ConfigError, DataError
from genrec.evaluation.list_files import read_recommendations

ITEMS = "id,title\n" + "".join(f"{number},T{number}\n" for number in range(1, 8))
LOG = b"user,item,time\nu,1,1700000000\nu,2,1700000001\nv,3,1700000002\n"


def told(data: PreparedData) -> str:
    return "\n".join((*data.report.notes, *data.report.warnings, *(entry.to_text() for entry in data.report.dropped)))


def prepared(
    folder: Path, log: bytes | str | pa.Table = LOG, items: str = ITEMS, name: str = "log.csv", **more: Any
) -> PreparedData:
    if isinstance(log, pa.Table):
        pq.write_table(log, folder / name)
    else:
        (folder / name).write_bytes(log if isinstance(log, bytes) else log.encode())
    (folder / "items.csv").write_text(items, encoding="utf-8")
    return prepare(interactions=folder / name, items=folder / "items.csv", **more)


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(name.replace("_dot_", "."), content)
    return buffer.getvalue()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue().to_pybytes())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv.zst", zstd(LOG * 9)[:-9], "is packed and damaged"),
        ("log.csv", b"7z\xbc\xaf\x27\x1c" + bytes(99), "is a 7z archive"),
        ("log.csv", b"Rar!\x1a\x07\x00" + bytes(99), "is a RAR archive"),
        ("log.csv", b"\x1f\x9d\x90" + b"abc" * 9, "is packed with compress"),
        ("log.csv", bytes(8) + b"DUCK" + bytes(99), "is a DuckDB database"),
        ("log.csv", b"ORC" + bytes(range(1, 200)), "is not a text file in an encoding"),
        ("log.csv", b"<!DOCTYPE html><html>404</html>", "is a web page and no table"),
        ("log.jsonl", b"\xef\xbb\xbf <?xml version='1.0'?><Error/>", "is XML and no table"),
        ("log.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "get it with git lfs pull"),
        ("log.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "get it with git lfs pull"),
        ("log.parquet", gzip.compress(b"PAR1", mtime=0), "is packed with gzip; unpack it first"),
        ("log.parquet", b"PARE" + bytes(20), "is an encrypted Parquet file"),
        ("log.csv", archive(mimetype=b"opendocument", content_dot_xml=b"x"), "a workbook of LibreOffice"),
        ("log.xlsx", b"PK", "is a spreadsheet; save the sheet"),
        ("log.csv", b"PK\x05\x06" + bytes(18), "an archive of 0 files"),
        ("log.csv", b"\xef\xbb\xbf", "is empty; expected a header"),
        ("log.csv", b'{"user": 1, "item": 2}\n', "give it the suffix .jsonl"),
        ("log.jsonl", LOG, "as of a delimited table"),
        ("log.jsonl", b"{'user': 'a'}\n", "as of Python's objects"),
        ("log.jsonl", b'{\n "user": "a"\n}\n', "as of objects over several lines: jq -c"),
        ("log.jsonl", b'[\n{"user": "a", "item": "1"},\n{"user": "b", "item": "1"}\n]\n', "of one JSON array: jq"),
        ("log.jsonl", b'{"user": "a", "item": "1", "item": "2"}\n', "line 1: the key 'item' stands there twice"),
        ("log.csv", b"u0,1,1700000000\nu0,2,1700000001\n", "if this is no header but a row"),
        ("log.csv", b"id;title, long\n1;a, b\n", "say with --separator"),
        ("log.csv", b"# exported today\nuser,item\nu,1\n", "if lines stand above the header"),
        ("log.csv", b"user,item\nu,007\n", "item '007'; the catalogue has '7'"),
        ("log.csv", "user,item\nu,1\u200b\n".encode(), "the catalogue has '1'"),
        ("log.csv", b"user,item\nu,2e+00\n", "the catalogue has '2'"),
        ("log.csv", b'user,item\n"a \\"b\\"",1\nu,2\n', "a quote mark is escaped with a backslash"),
        ("log.csv", b"user,item\n\\N,1\nu,2\n", "line 2: no user"),
        ("log.csv", b"user,item\nu,1\nv,2\n" + bytes(64), "line 4: a zero byte"),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_what_is_wrong_is_said_with_its_remedy(
    tmp_path: Path, name: str, content: bytes, message: str, skip: bool
) -> None:
    found = ""
    try:
        found = told(prepared(tmp_path, content, name=name, cleaning=Cleaning(skip_bad_rows=skip)))
    except DataError as error:
        found = str(error)
        assert "\n" not in found
    assert message.removeprefix("line 1: ").split(": ")[-1] in found


def test_packed_twice_or_beside_what_a_mac_adds(tmp_path: Path) -> None:
    assert prepared(tmp_path, gzip.compress(bz2.compress(LOG))).report.interactions == 3
    assert prepared(tmp_path, archive(log_dot_csv=LOG, _dot_DS_Store=b"x")).report.interactions == 3
    assert prepared(tmp_path, LOG.replace(b"\n", b"\r")[:-1] + b"\n").report.interactions == 3
    assert prepared(tmp_path, LOG.replace(b",", b"\x01")).report.interactions == 3


TYPES = {
    "zone": ({"time": pa.array([0, 1], pa.timestamp("us", tz="+05:30"))}, ["u", "v"]),
    "mars": ({"extra": pa.array([0, 1], pa.timestamp("us", tz="Mars/Phobos"))}, ["u", "v"]),
    "dates": ({"user": pa.array([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)])}, ["2024-01-01", "2024-01-02"]),
    "bytes": ({"user": [b"u", b"v"]}, ["u", "v"]),
    "uuids": ({"user": pa.array([uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes], pa.uuid())}, None),
    "decimals": ({"user": pa.array([Decimal("7.00"), Decimal("8.00")], pa.decimal256(50, 2))}, ["7", "8"]),
    "categories": ({"user": pa.array(["u", "v"]).dictionary_encode()}, ["u", "v"]),
    "booleans": ({"user": [True, False]}, ["false", "true"]),
    "dots": ({"user.id": [1, 2]}, ["u", "v"]),
}


@pytest.mark.parametrize("name", TYPES)
def test_parquet_of_every_kind(tmp_path: Path, name: str) -> None:
    columns, users = TYPES[name]
    table = pa.table({"user": ["u", "v"], "item": ["1", "2"], **columns})
    found = [history.user for history in prepared(tmp_path, table, name="log.parquet").histories]
    assert found == (users or [str(uuid.UUID(int=1)), str(uuid.UUID(int=2))])


def test_parquet_that_names_nothing(tmp_path: Path) -> None:
    for ids in (pa.array([b"\0" * 16, b"\1" * 16], pa.binary(16)), pa.array([b"\xff", b"\xfe"])):
        with pytest.raises(DataError, match="column 'user' holds bytes that are no text"):
            prepared(tmp_path, pa.table({"user": ids, "item": ["1", "2"]}), name="log.parquet")
    twice = pa.Table.from_arrays(
        [pa.array(["u"]), pa.array(["x"]), pa.array(["1"]), pa.array(["y"])], names=["user", "x", "item", "x"]
    )
    assert prepared(tmp_path, twice, name="log.parquet").report.users == 1
    narrow = pa.table({"user": pa.array([16777217.0, 3.0], pa.float32()), "item": ["1", "2"]})
    assert "decimals of 2^24" in told(prepared(tmp_path, narrow, name="log.parquet"))


def test_a_bad_row_of_a_folder_is_named_by_its_part(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for part, item in enumerate(("1", "2", "99")):
        pl.DataFrame({"user": ["u", "v"], "item": ["1", item]}).write_parquet(folder / f"part-{part}.parquet")
    (tmp_path / "items.csv").write_text(ITEMS)
    with pytest.raises(DataError, match=r"parts row 6: .*row 2 of part-2\.parquet"):
        prepare(interactions=folder, items=tmp_path / "items.csv")


def test_a_key_that_comes_late_is_read(tmp_path: Path) -> None:
    lines = ['{"user": "u", "item": "1"}'] * 1100 + ['{"user": "v", "item": "2", "time": 1700000000}']
    with pytest.raises(DataError, match=r"line 1 and 1,099 more: no time"):
        prepared(tmp_path, "\n".join(lines), name="log.jsonl")


def test_two_columns_of_one_name_in_a_catalogue_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the column 'brand' more than once"):
        prepared(tmp_path, items="id,title,brand,brand\n1,a,x,y\n")
    assert len(prepared(tmp_path, b"user,item\nu,1\n", items="id,title,,\n1,a,,\n").catalog) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1.23457E+11,1", "1.23457E+11,2"], "user ids that a spreadsheet rounded"),
        (["u,1", "u\u200b,2"], "differs from another only by what cannot be seen"),
        (["Jose\u0301,1", "José,2"], "differs from another only by what cannot be seen"),
        (["NA,1", "NA,2", "u,3"], "2 rows (2, 3) have the user 'NA'"),
    ],
)
def test_ids_that_look_wrong_are_told(tmp_path: Path, rows: list[str], message: str) -> None:
    assert message in told(prepared(tmp_path, "user,item\n" + "\n".join(rows)))


def test_a_header_of_numbers_is_told(tmp_path: Path) -> None:
    columns = Columns(user="u0", item="1")
    assert "holds numbers" in told(prepared(tmp_path, b"u0,1\nu0,2\n", columns=columns))


def test_a_film_called_none_has_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'None'; if that is its title, add a word"):
        prepared(tmp_path, items="id,title\n1,None\n")


@pytest.mark.parametrize(
    ("written", "seconds", "message"),
    [
        (["2024-03-01 12:00:00", "2024-03-01 12:00:00+02:00"], [1709294400, 1709287200], "1 row (1) has no time zone"),
        (["24-03-31", "24-04-30"], [1711843200, 1714435200], "read as year, month, day"),
        (["31-03-24", "30-04-24"], [1711843200, 1714435200], "read as day, month, year"),
        (["638448768000000000", "638448768010000000"], [1709280000, 1709280001], ".NET"),
        (["133537680000000000"], [1709294400], "Windows"),
        (["13353768000000000"], [1709294400], "WebKit"),
        (["2024-03-01t12:00:00z"], [1709294400], ""),
        (["1.70929E+12", "1.70929E+12"], [1709290000, 1709290000], "a spreadsheet rounded"),
    ],
)
def test_times_of_more_kinds(written: list[str], seconds: list[int], message: str) -> None:
    times = parse_times(pl.Series(written))
    assert times.seconds.to_list() == seconds
    assert message in "\n".join((times.note, *times.warnings))


def test_a_year_of_two_digits_is_not_guessed() -> None:
    times = parse_times(pl.Series(["24-03-01", "24-03-02"]))
    assert times.seconds.to_list() == [None, None]
    assert "write years with four digits" in times.refusal
    assert parse_times(pl.Series(["24-03-01"]), day_first=True).seconds[0] == 985392000


@pytest.mark.parametrize(
    "cells",
    [
        ["Drama\nComedy", "Drama"],
        ["Drama\tComedy", "Drama"],
        ["array(['Drama', 'Comedy'], dtype=object)", "array(['Drama'], dtype=object)"],
        ["('Drama', 'Comedy')", "set()", "()"],
        ["frozenset({'Comedy', 'Drama'})", "frozenset({'Drama'})"],
        ['{"/m/07s9rl0": "Drama", "/m/01z4y": "Comedy"}', '{"/m/07s9rl0": "Drama"}'],
        ['"[\\"Drama\\", \\"Comedy\\"]"', '"[\\"Drama\\"]"'],
        ["Drama、Comedy", "Drama"],
        ["Drama / Comedy", "Drama"],
        ["Drama » Comedy", "Drama"],
    ],
)
def test_more_ways_to_write_lists(cells: list[str]) -> None:
    assert sorted(split_cell(cells[0], style_of(cells))) == ["Comedy", "Drama"]


def test_an_object_with_an_id_alone_is_its_id() -> None:
    assert list(split_cell('[{"id": 18}]', "brackets")) == ["18"]
    assert checked_style("tab") == "\t"
    with pytest.raises(ConfigError, match="expected json"):
        checked_style("%")


def test_ratings_with_a_decimal_comma(tmp_path: Path) -> None:
    log = "user;item;rating\nu;1;4,5\nu;2;3,0\n"
    data = prepared(tmp_path, log, cleaning=Cleaning(min_rating=4.0))
    assert [history.items for history in data.histories] == [("1",)]


def test_the_catalogue_may_be_json_with_bytes_of_any_kind(tmp_path: Path) -> None:
    with (tmp_path / "items.jsonl").open("w") as file:
        file.write(json.dumps({"id": "\ud800", "title": "a"}) + "\n" + json.dumps({"id": "1", "title": "b"}) + "\n")
    (tmp_path / "log.csv").write_bytes(b"user,item\nu,1\n")
    with pytest.raises(DataError, match=r"items\.jsonl line 1: half a character"):
        prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.jsonl")


def test_a_pipe_and_an_empty_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "log.csv")
    (tmp_path / "items.csv").write_text(ITEMS)
    with pytest.raises(DataError, match=r"log\.csv is a pipe or a device"):
        prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv")
    (tmp_path / "below").mkdir()
    pl.DataFrame({"user": ["u"], "item": ["1"]}).write_parquet(tmp_path / "below" / "log.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="an empty name, or this very folder"):
        prepare(interactions=Path(), items=tmp_path / "items.csv")


def test_users_and_lists_are_read_however_they_are_written(tmp_path: Path) -> None:
    lines = json.dumps({"user": 7.0, "items": [True, 1.5, "x"]}) + "\n"
    for name, content in (("u.jsonl", lines.encode("utf-16")), ("u.jsonl.gz", gzip.compress(lines.encode()))):
        (tmp_path / name).write_bytes(content)
        users = open_users(str(tmp_path / name), lambda: tmp_path)
        assert list(users.histories(0, 1)) == [History("7", ("true", "1.5", "x"))]
        copied = pickle.loads(pickle.dumps(users))  # noqa: S301 - as it goes to Ray's workers
        assert copied.count == 1
    (tmp_path / "lists.csv").write_bytes("user;item;rank\nJosé;1;1\n".encode("latin-1"))
    read = read_recommendations(tmp_path / "lists.csv", Dialect(";", "latin-1"))
    assert read == {"José": ("1",)}
    pl.DataFrame({"user": [7.0, 1e16], "items": [[True], [False]]}).write_parquet(tmp_path / "u.parquet")
    found = list(open_users(str(tmp_path / "u.parquet"), lambda: tmp_path).histories(0, 2))
    assert found == [History("7", ("true",)), History("10000000000000000", ("false",))]


def test_a_list_with_several_cells_needs_its_separator(tmp_path: Path) -> None:
    data = tmp_path / "data"
    save_prepared(prepared(tmp_path), data)
    (tmp_path / "users.csv").write_text("name;user\nx;u\ny;v\n")
    with pytest.raises(DataError, match="say with --separator ';' what is between"):
        open_users(str(tmp_path / "users.csv"), lambda: data)
    users = open_users(str(tmp_path / "users.csv"), lambda: data, Dialect(";"))
    assert [history.user for history in users.histories(0, users.count)] == ["u", "v"]


def test_room_is_asked_for_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: (100, 99, 1))
    with pytest.raises(ArtefactError, match="the prepared data will take at least"):
        save_prepared(prepared(tmp_path), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("title", ["AmÃ©lie", "Am\ufffdlie", "Don\x92t panic", "\u00d0\u0153\u00d0\u00b8"])
def test_what_a_wrong_encoding_leaves_is_told(tmp_path: Path, title: str) -> None:
    data = prepared(tmp_path, b"user,item\nu,1\n", items=f"id,title\n1,{title}\n2,Amélie für zwei €5\n")
    assert "1 title holds what a wrong encoding leaves" in told(data)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user": "u", "items": ["1"], "items": ["2"]}', "line 1: the key 'items' stands there twice"),
        ('{"user": "", "items": ["1"]}', "line 1: the user is empty"),
        ('{"user": "u"}', "line 1: .*there is no 'items'"),
        ('[{"user": "u"}]', "line 1: not a JSON object"),
        ('{"user": "u", "taste": "\\u200b"}', "line 1: the taste has 0 characters"),
    ],
)
def test_a_line_of_users_that_says_nothing_is_told(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "users.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        open_users(str(tmp_path / "users.jsonl"), lambda: tmp_path)
