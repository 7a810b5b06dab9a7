"""Recommendations from elsewhere: every format gives the same lists, and a fault is told with its place."""

import json
import logging

import polars as pl
import pytest

from genrec.data.splits import Case, History
from genrec.errors import DataError
from genrec.evaluation.list_files import lists_for_cases, read_recommendations

WANTED = {"7": ("x", "y"), "8": ("z",)}
FLAT = pl.DataFrame({"user": [7, 8, 7], "item": ["y", "z", "x"], "rank": [2, 1, 1]})


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_json_lines_as_genrec_writes_them(tmp_path):
    rows = [
        {"user": "7", "recommendations": [{"rank": 1, "item": "x", "title": "X"}, {"rank": 2, "item": "y"}]},
        {"user": 8, "recommendations": [{"item": "z"}]},
        {"user": "9", "recommendations": []},
    ]
    path = write(tmp_path / "r.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_recommendations(path) == WANTED


def test_ranks_in_json_outweigh_the_order_in_the_line(tmp_path):
    row = {"user": "7", "recommendations": [{"rank": 2, "item": "y"}, {"rank": 1, "item": "x"}]}
    assert read_recommendations(write(tmp_path / "r.jsonl", json.dumps(row))) == {"7": ("x", "y")}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_flat_tables(tmp_path, suffix):
    path = tmp_path / f"r.{suffix}"
    if suffix == "parquet":
        FLAT.write_parquet(path)
    else:
        FLAT.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    assert read_recommendations(path) == WANTED


def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path):
    row = json.dumps({"user": "7", "recommendations": [{"item": "x"}]})
    assert read_recommendations(write(tmp_path / "r.jsonl", "\ufeff" + row)) == {"7": ("x",)}
    assert read_recommendations(write(tmp_path / "r.csv", "\ufeffuser,item,rank\n7,x,1\n")) == {"7": ("x",)}


def test_leading_zeros_of_ids_survive(tmp_path):
    assert read_recommendations(write(tmp_path / "r.csv", "user,item,rank\n007,010,1\n")) == {"007": ("010",)}


def test_a_folder_of_parquet_shards_with_nested_recommendations(tmp_path):
    folder = tmp_path / "r.parquet"
    folder.mkdir()
    for user, items in WANTED.items():
        nested = [{"rank": rank, "item": item} for rank, item in enumerate(items, 1)]
        pl.DataFrame({"user": [user], "recommendations": [nested]}).write_parquet(folder / f"part-{user}.parquet")
    assert read_recommendations(folder) == WANTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.jsonl", '{"user": "7", "recommendations": [{"item": "x"}]}\nnot json\n', "line 2: expected"),
        ("r.jsonl", '{"user": "7", "items": ["x"]}\n', r"line 1: expected .*KeyError: 'recommendations'"),
        ("r.jsonl", '{"user": "7", "recommendations": ["x"]}\n', "line 1: expected"),
        ("r.jsonl", '{"user": "7", "recommendations": [{"item": "x", "rank": NaN}]}\n', "a rank is not a number"),
        ("r.jsonl", '{"user": "7", "recommendations": [{"item": "x"}]}\n' * 2, "line 2: user '7' has a second line"),
        ("r.csv", "user,item\n7,x\n", "no column rank; expected user, item, rank, found user, item"),
        ("r.csv", "user,item,rank\n7,x,1\n7,y,first\n", "row 2: user, item and rank must be given"),
        ("r.csv", "user,item,rank\n7,,1\n", "row 1"),
        ("r.csv", "user,item,rank\n", "holds no recommendations"),
        ("r.csv", "", "cannot read"),
        ("r.parquet", "not parquet", "is not a Parquet file"),
        ("r.xlsx", "?", "format of .* is not known"),
    ],
)
def test_faults_are_told_with_their_place(tmp_path, name, text, message):
    with pytest.raises(DataError, match=message):
        read_recommendations(write(tmp_path / name, text))


def test_a_missing_file_and_an_empty_folder(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        read_recommendations(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match="cannot read"):
        read_recommendations(tmp_path)


def test_a_user_without_a_list_stays_in_the_evaluation(caplog):
    cases = [Case(History(user, ("a",)), "x") for user in ("8", "9", "7")]
    with caplog.at_level(logging.WARNING):
        assert lists_for_cases(cases, WANTED, "theirs.csv") == [("z",), (), ("x", "y")]
    assert "theirs.csv has no list for 1 of 3 users; each counts as a miss" in caplog.text


def test_ids_of_another_kind_are_noticed():
    cases = [Case(History("u7", ("a",)), "x")]
    with pytest.raises(
        DataError, match=r"none of the 2 users in theirs.csv \(7, 8\) is among the 1 evaluated ones \(u7\)"
    ):
        lists_for_cases(cases, WANTED, "theirs.csv")
