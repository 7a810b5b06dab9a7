"""Files as people have them: packed, in any encoding and dialect, with times, ids, lists and titles in every form."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.catalog import clean_title, normalise_label
from genrec.data.checks import check_data
from genrec.data.cleaning import Cleaning
from genrec.data.dialects import Dialect, dialects_of
from genrec.data.encoding_guess import guess_encoding
from genrec.data.listed_cells import split_cell, style_of
from genrec.data.prepared import PreparedData, prepare
from genrec.data.raw import Columns
from genrec.data.times import parse_times
from genrec.errors import ConfigError, DataError

ROWS = [
    (f"u{user}", f"{(user + n) % 4 + 1:03d}", str(1_700_000_000 + user * 100 + n))
    for user in range(5)
    for n in range(4)
]
TITLES = {"001": "Teapot", "002": "Cup", "003": "Teekanne für zwei", "004": "Mug"}


def text(separator: str = ",", end: str = "\n") -> str:
    return end.join(map(separator.join, [("user", "item", "time"), *ROWS])) + end


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("id,title\n" + "".join(f"{key},{title}\n" for key, title in TITLES.items()), encoding="utf-8")
    return path


def told(data: PreparedData) -> str:
    return "\n".join((*data.report.notes, *data.report.warnings))


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("log.csv", content)
    return buffer.getvalue()


def zstd(content: bytes) -> bytes:
    import pyarrow as pa

    return _stream(pa, content)


def _stream(pa: object, content: bytes) -> bytes:
    sink = pa.BufferOutputStream()  # type: ignore[attr-defined]
    with pa.CompressedOutputStream(sink, "zstd") as stream:  # type: ignore[attr-defined]
        stream.write(content)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped, zstd])
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_a_packed_file_is_read_whatever_its_suffix(
    tmp_path: Path, items: Path, pack: Callable[[bytes], bytes], name: str
) -> None:
    (tmp_path / name).write_bytes(pack(text().encode()))
    data = prepare(interactions=tmp_path / name, items=items)
    assert data.report.interactions == 20
    assert "is packed with" in told(data)


@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("utf-8-sig", "紅茶壺"),
        ("utf-16", "紅茶壺"),
        ("utf-16-le", "Teekanne für zwei"),
        ("utf-32", "紅茶壺"),
        ("gb18030", "紅茶壺, 咖啡杯"),
        ("big5", "紅茶壺, 咖啡杯"),
        ("cp932", "となりのトトロ"),
        ("euc_kr", "살인의 추억"),
        ("cp1252", "Don\u2019t panic, Jürgen €5"),
        ("cp1251", "Война и мир"),
        ("koi8_r", "Война и мир"),
        ("cp1250", "Příběh žlutého koně"),
        ("cp1253", "Ελληνικά βιβλία"),
        ("cp1255", "שלום עולם"),
    ],
)
def test_an_encoding_is_recognised_and_told(tmp_path: Path, encoding: str, title: str) -> None:
    (tmp_path / "log.csv").write_text(text(), encoding="utf-8")
    rows = [f"{key};{title} {key}" for key in TITLES]
    (tmp_path / "items.csv").write_bytes("\r\n".join(["id;title", *rows, ""]).encode(encoding))
    data = prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv")
    assert [item.title for item in data.catalog] == [f"{title} {key}" for key in TITLES]
    assert "semicolons" in told(data)
    assert encoding == "utf-8-sig" or "--encoding" in told(data) or "mark at its start" in told(data)


def test_an_encoding_that_is_named_is_believed(tmp_path: Path, items: Path) -> None:
    (tmp_path / "log.csv").write_text(text(), encoding="utf-8")
    items.write_bytes("id,title\n001,5\u20ac\n002,b\n003,c\n004,d\n".encode("iso8859-15"))
    dialects = dialects_of(None, ["items=iso8859-15"])
    assert prepare(interactions=tmp_path / "log.csv", items=items, dialects=dialects).catalog["001"].title == "5€"
    with pytest.raises(DataError, match="there is no encoding 'klingon'"):
        dialects_of(None, ["klingon"])
    with pytest.raises(ConfigError, match="expected one character"):
        Dialect(separator="::")


@pytest.mark.parametrize("text_in", ["café", "Amélie", "Crème brûlée", "MÜNCHEN", "5£ mug"])
def test_western_text_is_western(text_in: str) -> None:
    assert guess_encoding(text_in.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("first", ["", "sep=?\r\n"])
def test_a_separator_is_recognised(tmp_path: Path, items: Path, separator: str, first: str) -> None:
    path = tmp_path / "log.csv"
    path.write_text(first.replace("?", separator) + text(separator, "\r\n"), encoding="utf-8")
    data = prepare(interactions=path, items=items)
    assert (data.report.users, data.report.interactions) == (5, 20)
    assert separator == "," or "separate" in told(data)


def test_old_line_ends_and_rows_of_nothing(tmp_path: Path, items: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text(end="\r"), encoding="utf-8", newline="")
    assert prepare(interactions=path, items=items).report.interactions == 20
    path.write_text(text() + "\n \n,,\n", encoding="utf-8")
    assert prepare(interactions=path, items=items).report.interactions == 20


@pytest.mark.parametrize("fault", [b"Tea\0pot", b"Caf\xe9", b"\xff\xfe", b"\0"])
def test_a_bad_byte_is_one_line(tmp_path: Path, fault: bytes) -> None:
    (tmp_path / "log.csv").write_text("user,item\nu,1\nu,3\n", encoding="utf-8")
    items = tmp_path / "items.csv"
    items.write_bytes("id,title\n1,für\n".encode() + b"2," + fault + b"\n" + "3,杯\n".encode())
    with pytest.raises(DataError, match=r"items\.csv line 3: .*--skip-bad-rows"):
        prepare(interactions=tmp_path / "log.csv", items=items)
    data = prepare(interactions=tmp_path / "log.csv", items=items, cleaning=Cleaning(skip_bad_rows=True))
    assert data.catalog.ids == ("1", "3")


NEWS = ["Rain", '"Lantern Hill" wins', "Ferry", '12" pipes', '"Bees', 'says the mayor"', '"whole"']


@pytest.mark.parametrize("picked", [slice(None), slice(0, 3), slice(3, 6), slice(4, 5), slice(6, 7)])
def test_a_tab_separated_file_has_no_quotes(tmp_path: Path, picked: slice) -> None:
    titles = NEWS[picked]
    (tmp_path / "items.tsv").write_text("id\ttitle\n" + "".join(f"{n}\t{t}\n" for n, t in enumerate(titles)))
    (tmp_path / "log.csv").write_text("user,item\nu,0\n")
    data = prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.tsv")
    assert [item.title for item in data.catalog] == titles
    assert "--quotes" in told(data)


@pytest.mark.parametrize("titles", [['say "a" b', "c"], ["two\nlines", "c"], ["a\ttab", "c"]])
def test_a_tab_separated_file_that_quotes_proves_it(tmp_path: Path, titles: list[str]) -> None:
    with (tmp_path / "items.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([("id", "title"), *enumerate(titles)])
    (tmp_path / "log.csv").write_text("user,item\nu,0\n")
    data = prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.tsv")
    assert [item.title for item in data.catalog] == [" ".join(title.split()) for title in titles]


def test_an_open_quote_takes_no_rows_with_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\nu,1\n")
    items = tmp_path / "items.csv"
    items.write_text('id,title,year\n1,a,1990\n2,"b,1991\n3,c,1992\n4,d",1993\n')
    data = prepare(interactions=tmp_path / "log.csv", items=items, cleaning=Cleaning(skip_bad_rows=True))
    assert "3" in data.catalog
    plain = prepare(interactions=tmp_path / "log.csv", items=items, dialects=dialects_of(None, None, quotes=False))
    assert [item.title for item in plain.catalog] == ["a", '"b', "c", 'd"']


def test_a_cell_may_be_as_long_as_it_likes(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item\nu,1\n")
    (tmp_path / "items.csv").write_text(f'id,title,text\n1,a,"{"x, " * 100_000}"\n')
    assert (
        len(prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv").catalog["1"].attributes["text"])
        > 200_000
    )


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "escaped"])
@pytest.mark.parametrize("ids", [[7.0, 8.0], [2**53 + 1, 2**53 + 2], [2**63, 2**63 + 1], [8.5, 9.25]])
def test_one_meaning_of_ids(tmp_path: Path, kind: str, ids: list[float]) -> None:
    items = pl.DataFrame({"id": ["1", "2"], "title": ["a", "b"]})
    items.write_csv(tmp_path / "items.csv")
    path = tmp_path / f"log.{'jsonl' if kind == 'escaped' else kind}"
    rows = [{"user": user, "item": item} for user in ids for item in (1.0, 2.0)]
    if kind == "parquet":
        pl.DataFrame(
            rows, schema={"user": pl.Float64 if isinstance(ids[0], float) else pl.UInt64, "item": pl.Float64}
        ).write_parquet(path)
    elif kind == "csv":
        path.write_text("user,item\n" + "".join(f"{row['user']},{row['item']}\n" for row in rows))
    else:
        note = {"note": "é"} if kind == "escaped" else {}
        path.write_text("\n".join(json.dumps({**row, **note}) for row in rows))
    histories = prepare(interactions=path, items=tmp_path / "items.csv").histories
    assert {history.user for history in histories} == {str(one).removesuffix(".0") for one in ids}
    assert all(history.items == ("1", "2") for history in histories)


@pytest.mark.parametrize("nested", ['{"id": 7}', "[7]", '[{"id": 7}]'])
@pytest.mark.parametrize("end", ["\n", "\n\n"])
def test_a_nested_id_is_refused_with_its_field(tmp_path: Path, items: Path, nested: str, end: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"user": ' + nested + ', "item": "001"}' + end)
    with pytest.raises(DataError, match=r"log\.jsonl line 1: a list or object .*'user'"):
        prepare(interactions=path, items=items)


@pytest.mark.parametrize("name", ["log[2024]", "log*", "log?x", "log (1)", "{a,b}"])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_path_is_a_path(tmp_path: Path, items: Path, name: str, suffix: str) -> None:
    frame = pl.DataFrame({"user": ["right"], "item": ["001"]})
    for folder_name, user in ((name, "right"), ("log2", "wrong"), ("logyx", "wrong"), ("a", "wrong")):
        with (tmp_path / f"{folder_name}{suffix}").open("wb") as file:
            one = frame.with_columns(user=pl.lit(user))
            {".csv": one.write_csv, ".jsonl": one.write_ndjson, ".parquet": one.write_parquet}[suffix](file)
    assert prepare(interactions=tmp_path / f"{name}{suffix}", items=items).histories[0].user == "right"


def test_a_folder_of_parts_is_one_table(tmp_path: Path, items: Path) -> None:
    folder = tmp_path / "parts.parquet"
    folder.mkdir()
    for part, kind in enumerate((pl.String, pl.Categorical, pl.String)):
        frame = pl.DataFrame({"user": [f"u{part}"], "item": ["001"], "time": [1_700_000_000 + part]})
        frame.with_columns(pl.col("user").cast(kind)).write_parquet(folder / f"part-{part}.parquet")
    (folder / "_SUCCESS").write_text("")
    assert [one.user for one in prepare(interactions=folder, items=items).histories] == ["u0", "u1", "u2"]
    frame.drop("item").write_parquet(folder / "part-9.parquet")
    with pytest.raises(DataError, match=r"part-9\.parquet has no column 'item'"):
        prepare(interactions=folder, items=items)


NOON = 1_709_294_400  # 2024-03-01 12:00 UTC


@pytest.mark.parametrize(
    "written",
    [
        "2024-03-01 12:00:00 UTC", "2024-03-01 05:00:00-07", "2024-03-01 20:00:00 +0800", "2024-3-1 12:00",
        "20240301120000", "202403011200", "20240301T120000Z", "Fri, 01 Mar 2024 12:00:00 GMT",
        "Fri, 1 Mar 2024 14:00:00 +0200", "Mar 1, 2024 12:00 PM", "01-Mar-2024 12:00", "Fri Mar  1 12:00:00 2024",
        "2024年3月1日 12:00", "45352.5", "2024/03/01 12:00:00,000", "1.3.2024 12:00", "1709294400", "1709294400000",
        "1709294400000000", "1.7092944e9",
    ],
)  # fmt: skip
def test_common_forms_of_a_time(written: str) -> None:
    assert parse_times(pl.Series([written])).seconds.to_list() == [NOON]


@pytest.mark.parametrize(
    "written", ["2024-02-30", "2024-03-01 25:00", "2024-13-01", "2024-03-01 12:00 EST", "32/01/2024", "soon", "12:00"]
)
def test_what_is_no_time(written: str) -> None:
    assert parse_times(pl.Series([written])).seconds.to_list() == [None]


@pytest.mark.parametrize("scale", [1000, 10**6, 10**9])
@pytest.mark.parametrize("few", [1, 4, 9])
def test_units_are_judged_by_row_and_mixed_ones_told(scale: int, few: int) -> None:
    seconds = [NOON + n * 1000 for n in range(10)]
    cells = [str(one if n < few else one * scale) for n, one in enumerate(seconds)]
    times = parse_times(pl.Series(cells), pl.Series(range(2, 12)))
    assert times.seconds.to_list() == seconds
    assert "each was read in its own unit" in times.warnings[0]


def test_a_day_and_a_month_are_not_guessed() -> None:
    assert parse_times(pl.Series(["03/04/2024"])).seconds.to_list() == [None]
    assert "--day-first" in parse_times(pl.Series(["03/04/2024"])).refusal
    april, march = 1_712_102_400, 1_709_510_400
    assert parse_times(pl.Series(["03/04/2024"]), day_first=True).seconds[0] == april
    assert parse_times(pl.Series(["03/04/2024"]), day_first=False).seconds[0] == march
    decided = parse_times(pl.Series(["03/04/2024", "31/03/2024"]))
    assert decided.seconds[0] == april
    assert "day, month, year" in decided.warnings[0]


@pytest.mark.parametrize("strange", ["17000", "-2500000000", "1900-01-01", "2190-01-01", "7000000000"])
def test_unlikely_times_are_told_by_prepare_and_doctor(tmp_path: Path, items: Path, strange: str) -> None:
    (tmp_path / "log.csv").write_text(text() + f"u9,001,{strange}\n")
    data = prepare(interactions=tmp_path / "log.csv", items=items)
    assert "1 row (22) has a time that lies" in told(data)
    found = {finding.name: finding for finding in check_data(data)}
    assert found["likely-times"].count == 1
    assert found["reading"].severity == "warning"


GENRES = [("Drama", "Romance"), ("Animation",), (), ("Comedy", "Drama"), ("Children's", "Comedy")]


@pytest.mark.parametrize(
    "write",
    [
        lambda one: str(list(one)),
        lambda one: json.dumps(one),
        lambda one: str([{"id": n, "name": name} for n, name in enumerate(one)]),
        lambda one: "[" + " ".join(f'"{name}"' for name in one) + "]",
        lambda one: "{" + ",".join(f'"{name}"' for name in one) + "}",
        "|".join, "; ".join, ", ".join, " > ".join,
        lambda one: "|".join(one) or "(no genres listed)",
        lambda one: ",".join(one) or "N/A",
    ],
)  # fmt: skip
def test_lists_in_cells_are_recognised(tmp_path: Path, write: Callable[[tuple[str, ...]], str]) -> None:
    with (tmp_path / "items.csv").open("w", newline="") as file:
        rows = [(n, f"Title {n}", write(genres)) for n, genres in enumerate(GENRES)]
        csv.writer(file).writerows([("id", "title", "genres"), *rows])
    (tmp_path / "log.csv").write_text("user,item\nu,0\n")
    data = prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv")
    assert [item.categories for item in data.catalog] == GENRES
    assert "--category-lists" in told(data)


@pytest.mark.parametrize("name", ["Home, Garden", "Tom &amp; Jerry; Friends", "Sausages/Sandwiches", "AT&T"])
def test_a_name_with_a_sign_in_it_is_one_category(name: str) -> None:
    cells = [name, name, "Toys", "Books"]
    assert style_of(cells) == "none"
    assert list(split_cell(name, "none")) == [name]


def test_a_style_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text('id,title,genres\n0,a,"Home, Garden"\n1,b,"Home, Bath"\n')
    (tmp_path / "log.csv").write_text("user,item\nu,0\n")
    columns = Columns(category_lists="none")
    data = prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv", columns=columns)
    assert data.catalog["0"].categories == ("Home, Garden",)


SAME = [
    "Cafe\u0301 Blue",
    "Café\u200b Blue",
    "\ufeffCafé Blue",
    "Café\u00a0Blue",
    "Café\u2800Blue",
    "C\u00adafé Blue",
    "\u202eCafé Blue\u202c",
]


@pytest.mark.parametrize("title", SAME)
def test_what_cannot_be_seen_makes_no_difference(title: str) -> None:
    assert clean_title(title) == "Café Blue"
    assert normalise_label(title) == normalise_label("café blue")


@pytest.mark.parametrize("title", ["\u200b", "\u200d\u200c", "\u3164", "\u2800 \u00ad", "\ufeff\u202e", "\U000e0041"])
def test_a_title_of_nothing_is_empty(tmp_path: Path, title: str) -> None:
    (tmp_path / "items.csv").write_text(f"id,title\n1,a\n2,{title}\n", encoding="utf-8")
    (tmp_path / "log.csv").write_text("user,item\nu,1\n")
    with pytest.raises(DataError, match=r"items\.csv line 3: no title"):
        prepare(interactions=tmp_path / "log.csv", items=tmp_path / "items.csv")


@pytest.mark.parametrize(
    "title",
    ["👩‍🚀 ملك", "👨‍👩‍👧 day", "می‌خواهم", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f", "क्‍ष"],
)
def test_joiners_that_join_stay(title: str) -> None:
    assert clean_title(title) == title


JSON_VALUES = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.none(),
    st.text(max_size=4),
    st.sampled_from(["1.0", "1e5", "[x"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(JSON_VALUES, min_size=1, max_size=5))
def test_the_fast_and_the_exact_reader_of_json_agree(
    tmp_path_factory: pytest.TempPathFactory, users: list[object]
) -> None:
    from genrec.data.tables import open_table, read_columns

    folder = tmp_path_factory.mktemp("json")
    lines = [json.dumps({"user": user, "item": 1}, ensure_ascii=False) for user in users]
    (folder / "fast.jsonl").write_text("\n".join(lines), encoding="utf-8", errors="replace")
    (folder / "exact.jsonl").write_text("\n".join([*lines, "", ""]), encoding="utf-8", errors="replace")
    found = [
        read_columns(open_table(folder / name), {"user": "user"})[0]["user"].fill_null("")
        for name in ("fast.jsonl", "exact.jsonl")
    ]
    assert found[0].to_list() == found[1].to_list()
