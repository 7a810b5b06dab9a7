"""Table files: all formats read alike, and every broken row keeps its line number."""

import base64
import json
import warnings
import zlib
from pathlib import Path

import polars as pl
import pytest

from genrec.data.tables import open_table, read_columns, read_records
from genrec.errors import DataError

WANTED = {"user": "who", "item": "what"}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path: Path) -> list[tuple[int, str, str]]:
    frame, dropped = read_columns(open_table(path), WANTED)
    assert not dropped
    return frame.rows()


def test_the_four_formats_give_the_same_cells(tmp_path: Path) -> None:
    frame = pl.DataFrame({"who": ["1", "é", "👩‍🚀"], "other": [1.5, None, 2.0], "what": ["a b", "7", "ملك"]})
    frame.write_csv(tmp_path / "log.csv")
    frame.write_csv(tmp_path / "log.tsv", separator="\t")
    frame.write_ndjson(tmp_path / "log.jsonl")
    frame.write_parquet(tmp_path / "log.parquet")
    expected = [("1", "a b"), ("é", "7"), ("👩‍🚀", "ملك")]
    first = {"log.csv": 2, "log.tsv": 2, "log.jsonl": 1, "log.parquet": 1}
    for name, line in first.items():
        assert rows(tmp_path / name) == [(line + place, *cells) for place, cells in enumerate(expected)], name


def test_line_numbers_count_blank_lines_and_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", "\n who , what \r\n1,a\r\n\r\n   \r\n2,b")
    assert rows(path) == [(3, "1", "a"), (6, "2", "b")]
    path = write(tmp_path, "log.jsonl", '\n{"who": "1", "what": "a"}\n\n{"what": "b", "who": "2"}')
    assert rows(path) == [(2, "1", "a"), (4, "2", "b")]


def test_quoted_cells_may_hold_separators_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", '"who","what"\n"1","a, ""b""\nc"\n\n2,d\n')
    assert rows(path) == [(2, "1", 'a, "b"\nc'), (5, "2", "d")]


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    assert rows(write(tmp_path, "log.csv", "\ufeffwho,what\n1,a\n")) == [(2, "1", "a")]
    assert rows(write(tmp_path, "log.jsonl", '\ufeff{"who": 1, "what": "a"}\n')) == [(1, "1", "a")]


def test_numbers_become_ids_without_a_decimal_point(tmp_path: Path) -> None:
    pl.DataFrame({"who": [7.0, None, 8.5], "what": [1, 2, 3]}).write_parquet(tmp_path / "log.parquet")
    assert rows(tmp_path / "log.parquet") == [(1, "7", "1"), (2, None, "2"), (3, "8.5", "3")]
    for blank in ("", "\n"):  # without and with the blank line that sends the file to the slow reader
        path = write(tmp_path, "log.jsonl", '{"who": 7.0, "what": 1}\n' + blank + '{"who": true, "what": 2.5}\n')
        assert [row[1:] for row in rows(path)] == [("7", "1"), ("true", "2.5")]


def test_a_parquet_file_may_have_a_column_named_line(tmp_path: Path) -> None:
    pl.DataFrame({"line": ["x"], "what": ["a"]}).write_parquet(tmp_path / "log.parquet")
    frame, _ = read_columns(open_table(tmp_path / "log.parquet"), {"user": "line", "item": "what"})
    assert frame.rows() == [(1, "x", "a")]


@pytest.mark.parametrize("quote", ["", '"'])
def test_rows_of_the_wrong_width_are_told_with_their_lines(tmp_path: Path, quote: str) -> None:
    path = write(tmp_path, "log.csv", f"who,what\n{quote}1{quote},a\n2\n3,b,c\n\n4,d\n5,e,f\n")
    frame, dropped = read_columns(open_table(path), WANTED)
    assert frame.rows() == [(2, "1", "a"), (6, "4", "d")]
    told = {(entry.reason, entry.count, entry.lines) for entry in dropped}
    assert told == {("1 cell where 2 are expected", 1, (3,)), ("3 cells where 2 are expected", 2, (4, 7))}


def test_a_quote_mark_inside_a_cell_is_told_and_the_next_line_is_read(tmp_path: Path) -> None:
    frame, dropped = read_columns(open_table(write(tmp_path, "log.csv", 'who,what\n1,"a"b\n2,c\n')), WANTED)
    assert frame.rows() == [(3, "2", "c")]
    assert dropped[0].lines == (2,)
    assert "without being doubled" in dropped[0].reason


@pytest.mark.parametrize("filler", ["", "x" * 200_000])
def test_an_unclosed_quote_never_swallows_the_rest_of_the_file(tmp_path: Path, filler: str) -> None:
    path = write(tmp_path, "log.csv", f'who,what\n1,a\n2,"b\n3,c\n4,{filler}d\n')
    frame, dropped = read_columns(open_table(path), WANTED)
    assert frame.rows() == [(2, "1", "a"), (4, "3", "c"), (5, "4", f"{filler}d")]
    assert dropped[0].lines == (3,)
    assert "a quote mark is opened and not closed" in dropped[0].reason


def test_a_stray_quote_that_closes_later_says_how_many_lines_it_took(tmp_path: Path) -> None:
    path = write(tmp_path, "log.csv", 'who,what\n1,"a\n2,b\n3,c",d\n4,e\n')
    frame, dropped = read_columns(open_table(path), WANTED)
    assert frame.rows() == [(5, "4", "e")]
    assert (dropped[0].lines, dropped[0].example) == ((2,), "the row runs from line 2 to 4")


def test_broken_json_lines_are_told(tmp_path: Path) -> None:
    lines = ['{"who": 1, "what": "a"}', '{"who": 2,', "[1]", '{"who": [1], "what": "b"}', '{"who": 3, "what": "c"}']
    frame, dropped = read_columns(open_table(write(tmp_path, "log.jsonl", "\n".join(lines))), WANTED)
    assert frame.rows() == [(1, "1", "a"), (5, "3", "c")]
    assert [(entry.lines, entry.reason.split(",")[0]) for entry in dropped] == [
        ((2,), "not valid JSON"),
        ((3,), "not a JSON object"),
        ((4,), "a list or object where text or a number is expected"),
    ]


def test_half_characters_in_json_name_nobody(tmp_path: Path) -> None:
    path = write(tmp_path, "log.jsonl", '{"who": "\\ud800x", "what": "\\u00e9"}\n{"who": "?x", "what": "\\u00e9"}\n')
    frame, dropped = read_columns(open_table(path), WANTED)
    assert frame.rows() == [(2, "?x", "é")]
    assert dropped[0].reason == "half a character (a lone surrogate), in 'who'"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "is empty; expected a header"),
        ("log.csv", b"\n \n", "is empty; expected a header"),
        ("log.jsonl", b"\n", "holds no rows .it is empty."),
        ("log.jsonl", b'[{"who": 1}]', "its line 1 is not a JSON object"),
        ("log.parquet", b"", "is empty; expected a Parquet"),
        ("log.parquet", b"who,what\n1,a\n", "is not a Parquet file"),
        ("log.parquet", b"PAR1 and then nothing of the kind PAR1", "cannot read .* as Parquet .* it is damaged"),
        ("log.csv", b"PAR1\0\0", "is a Parquet file; rename it to log.parquet"),
        ("log.csv", b"PK\x03\x04", "is packed and damaged"),
        ("log.csv", b"SQLite format 3\0" + bytes(99), "is an SQLite database; export the table as CSV"),
        ("log.csv", b"\x80\x04\x95" + bytes(99), "is a Python pickle, which genrec never opens"),
        ("log.csv", bytes(range(256)) * 9, "is not a text file in an encoding that is known"),
        ("log.csv", b"\x1f\x8b\x08", "is packed and damaged"),
        ("log.csv", b'who,"what\n1,a\n', "the header cannot be read"),
        ("log.xlsx", b"who,what\n1,a\n", "is a spreadsheet; save the sheet as CSV UTF-8"),
        ("log.csv.gz", b"\x1f\x8b", "is packed and damaged"),
        ("log.json", b'[{"who": 1}]', "of one JSON array: jq"),
    ],
)
def test_a_file_that_is_something_else_is_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_columns(open_table(write(tmp_path, name, content)), WANTED)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("log.csv", "log.jsonl", "log.parquet"):
        with pytest.raises(DataError, match=rf"cannot read .*{name}: No such file"):
            open_table(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="Is a directory"):
        open_table(tmp_path / "folder.csv")


def test_a_cut_parquet_file_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "log.parquet"
    pl.DataFrame({"who": list(map(str, range(500))), "what": ["a"] * 500}).write_parquet(path)
    whole = path.read_bytes()
    for size in (8, 100, len(whole) // 2, len(whole) - 5):
        with pytest.raises(DataError), warnings.catch_warnings():
            read_columns(open_table(write(tmp_path, "cut.parquet", whole[:size])), WANTED)


GREEDY = (
    "c-o~?&ubGw6n^`o+fY+Up)>5l9u^@>ily1zCe3cq!}f=@nrad%MLcb~*>oYlNYYdfLX;kg^w>iwUc7k}K~PU32qGdL{1f~Ga`YlN"
    "Gf6bL1$>8@_r3Scmv826a&EyyB0A$xBa37N0Esur-`cIm9DL>p3Jud*PNi2ewj-E^Kr5y>16oWKcDkx9U4YYwrsiJEa|n=ztVQ$y"
    "#gK#~bp;Z9=*WC%3`Jv40H~(SiBmCaw{!j;07aEFNHK-*d=$kpe#YZpoPNgXkue40@wtGWa-$}{ed3@uOHkIUHniGdwODFu|NLGy"
    "4f7JD%h6RaBAmca_y||P=^EXW<FE0dTNzy+x}6=BapW;L*&U|ZVY^ad*Z3gfx4hmH^zZxx+R7YHU%;S?gFwN+0gHE|JZ1cx&4{3="
    "m`txiGMe@Tbk5Nn@yfNEVzXXvBat|a^Yn$|kX31q!oJx-1<Q)6Eb6C%I_W_0@ifBtR6;uFFD3Q=-vD1sBN@MzPyz543Cnr}zY^!^"
    "rR1nvDBRs!ZS5bFs-FCVOVUX1yCgR0Vs{9Bm>*zPy6w6xcb)Bd_iB#xkB(@4+jYwW-ZtG?ag8oJyM$!l|0~+(t=(`3(eE?pZ&i%q"
    ");*GKw5XLVEv_>bJMR|qOmwqMr0AaS|JcSrD#`rhX^Wlm_VO;scXIWL*KBEt#-sK@y|$orO3hYSuW8njxnyXG;$c|vwM^g`R?%M$"
    "0^iC6fo=I_%F5WD;dqvl4gxF4cqQMl7L-LYSUTGo^1bHB-~11GHQ(m"
)
"""A Parquet file with some bytes changed, found by fuzzing: Polars 2.1 asks for two exabytes and dies of it."""


def test_damage_that_asks_for_all_memory_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, "items.parquet", zlib.decompress(base64.b85decode(GREEDY)))
    with pytest.raises(DataError, match=r"cannot read .*items\.parquet as Parquet .*; it is damaged"):
        read_records(open_table(path))
    with pytest.raises(DataError, match="it is damaged"):
        read_columns(open_table(path), {"title": "title"})


def test_a_parquet_column_without_text_is_told(tmp_path: Path) -> None:
    pl.DataFrame({"who": [["a"]], "what": ["b"]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"column 'who' holds List\(String\), expected text, numbers or times"):
        read_columns(open_table(tmp_path / "log.parquet"), WANTED)


def test_records_keep_lists_and_the_columns_of_late_lines(tmp_path: Path) -> None:
    lines = [json.dumps({"id": number}) for number in range(1500)] + ['{"id": 1500, "tags": ["a", ["b"]]}']
    table = open_table(write(tmp_path, "items.jsonl", "\n".join(lines)), all_keys=True)
    records, _ = read_records(table)
    assert table.columns == ("id", "tags")
    assert records[-1] == (1501, {"id": 1500, "tags": ["a", ["b"]]})
    pl.DataFrame({"id": [1], "tags": [["a", "b"]]}).write_parquet(tmp_path / "items.parquet")
    assert read_records(open_table(tmp_path / "items.parquet"))[0] == [(1, {"id": 1, "tags": ["a", "b"]})]


def test_two_columns_of_one_name_in_a_delimited_catalogue_do_not_mix(tmp_path: Path) -> None:
    records, _ = read_records(open_table(write(tmp_path, "items.csv", "id,title\n1,x\n")))
    assert records == [(2, {"id": "1", "title": "x"})]
