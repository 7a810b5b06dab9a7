"""RecBole's atomic files, in the form in which RecBole publishes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from genrec.data.prepared import prepare
from genrec.data.raw import Columns, read_catalogue
from genrec.errors import DataError

LOG = """user_id:token\titem_id:token\trating:float\ttimestamp:float
196\t242\t3\t881250949
186\t302\t3\t891717742
196\t302\t1\t881250950
22\t377\t1\t878887116
"""
ITEMS = """item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq
242\tKolya\t1996\tComedy
302\tL.A. Confidential\t1997\tCrime Film-Noir Mystery Thriller
377\tHeavyweights\t1994\tChildren's Comedy
"""


def write(folder: Path, log: str = LOG, items: str = ITEMS) -> tuple[Path, Path]:
    (folder / "films.inter").write_text(log, encoding="utf-8")
    (folder / "films.item").write_text(items, encoding="utf-8")
    return folder / "films.inter", folder / "films.item"


def test_types_are_taken_off_and_blank_lists_divided_but_titles_are_whole(tmp_path: Path) -> None:
    data = prepare(*write(tmp_path))
    item = data.catalog["302"]
    assert item.title == "L.A. Confidential"
    assert item.categories == ("Crime", "Film-Noir", "Mystery", "Thriller")
    assert dict(item.attributes) == {"release_year": "1997"}
    (history,) = [one for one in data.histories if one.user == "196"]
    assert (history.items, history.times) == (("242", "302"), (881250949, 881250950))


def test_columns_may_be_named_with_their_types_or_without(tmp_path: Path) -> None:
    files = write(tmp_path)
    typed = Columns(user="user_id:token", title="movie_title:token_seq", category="class:token_seq")
    plain = Columns(user="user_id", title="movie_title", category="class")
    one, other = (prepare(*files, columns=columns) for columns in (typed, plain))
    assert one.catalog.items == other.catalog.items
    assert one.histories == other.histories


def test_a_row_that_is_wrong_is_told_by_its_line(tmp_path: Path) -> None:
    log, items = write(tmp_path, log=LOG + "1\t242\t3\n")
    with pytest.raises(DataError, match=re.escape("films.inter line 6")):
        prepare(log, items)


def test_new_items_may_come_so_too(tmp_path: Path) -> None:
    _, items = write(tmp_path)
    assert [item.title for item in read_catalogue(items, Columns())] == ["Kolya", "L.A. Confidential", "Heavyweights"]


def test_a_header_of_which_a_part_has_types_is_left_as_it_is(tmp_path: Path) -> None:
    _, items = write(tmp_path, items="id\ttitle\tnote:token\n242\tKolya\ta\n302\tHeat\tb\n377\tAlien\tc\n")
    assert dict(read_catalogue(items, Columns())[0].attributes) == {"note:token": "a"}
