"""The fast ways by columns give what the careful ways row by row give."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrec.data import event_columns, tables, times
from genrec.data.catalog import Catalog, Item
from genrec.data.cleaning import Cleaning, CleanLog, clean, make_histories
from genrec.data.codes import coded, stable_order
from genrec.data.event_columns import count_split, frame_of_histories, histories_frame, users_with_few_left
from genrec.data.ids import tidy_ids
from genrec.data.raw import RawData
from genrec.data.splits import make_split
from genrec.errors import DataError

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
CELL = st.text('ab1 ,"\r;\t\x1c\u00a0\u00e9', max_size=4)
QUOTED = CELL.map(lambda cell: '"' + cell.replace('"', '""') + '"')
LINES = st.lists(st.lists(st.one_of(CELL, QUOTED), min_size=1, max_size=4), min_size=1, max_size=5)
WHOLE = st.lists(st.lists(st.one_of(QUOTED, st.text("ab1 ", max_size=3)), min_size=3, max_size=3), min_size=1)


@MANY
@given(st.one_of(LINES, WHOLE), st.sampled_from(["\n", "\r\n"]))
def test_quoted_lines_are_read_as_the_csv_module_reads_them(rows: list[list[str]], end: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.write_text(end.join(["user,item,time", *map(",".join, rows), '"u","i","1"', ""]), newline="")
        wanted = {"item": "item", "user": "user"}

        def read() -> object:
            table = tables.open_table(path)
            frame, bad = tables.read_columns(table, wanted)
            return frame.rows(), frame.schema, bad, table.remarks

        found = _result(read)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tables, "read_clean_lines", lambda *_: None)
            assert found == _result(read)


def test_a_file_with_every_cell_quoted_is_read_by_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text('user,item\n"u","an ""i"", here"\n\n"",""\nv,w\n')
    monkeypatch.setattr(tables, "_csv_rows", None)
    frame, bad = tables.read_columns(tables.open_table(path), {"user": "user", "item": "item"})
    assert frame.rows() == [(2, "u", 'an "i", here'), (5, "v", "w")]
    assert not bad


SECONDS = st.integers(1_400_000_000, 1_500_000_000)
NUMBER = st.one_of(SECONDS, SECONDS.map(lambda second: second * 1000), st.integers(-5, 2**62))


@MANY
@given(st.one_of(st.lists(SECONDS, min_size=1), st.lists(NUMBER, min_size=1)), st.booleans())
def test_plain_times_are_read_as_all_others(values: list[int], as_text: bool) -> None:
    column = pl.Series("time", values, dtype=pl.Int64)
    text = column.cast(pl.String)
    fast = times.parse_times(text if as_text else column)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(times, "_plain_numbers", lambda _: None)
        careful = times.parse_times(text)
    assert fast.seconds.equals(careful.seconds)
    assert (fast.note, fast.warnings, fast.refusal) == (careful.note, careful.warnings, careful.refusal)


@MANY
@given(st.lists(st.integers(-(2**63), 2**63 - 1)) | st.lists(st.integers(-3, 3)) | st.lists(st.integers(0, 2**20)))
def test_numbers_are_ordered_by_digits_as_by_comparing(keys: list[int]) -> None:
    array = np.array(keys, dtype=np.int64)
    assert (stable_order(array) == np.argsort(array, kind="stable")).all()


IDS = st.sampled_from(["1", "2", "7.0", "7", "1.23E+11", "NA", "-1", "e\u0301", "\u00e9", "a\u200b", "a", None])


@MANY
@given(st.lists(st.tuples(IDS, IDS), min_size=1))
def test_ids_held_once_are_tidied_as_text(rows: list[tuple[str | None, str | None]]) -> None:
    events = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String}, orient="row").with_row_index("line", 1)
    text, notes, warnings = tidy_ids("log", events)
    held, held_notes, held_warnings = tidy_ids("log", coded(events))
    assert held.cast({"user": pl.String, "item": pl.String}).equals(text)
    assert (held_notes, held_warnings) == (notes, warnings)


MOMENTS = st.sampled_from(["1400000000", "1400000001", "1400000001.5", "-1.5", "-2.5", "0", "-0", "1400000002"])
EVENTS = st.lists(st.tuples(st.sampled_from(["a", "b", "10", "9"]), st.sampled_from("123"), MOMENTS), min_size=1)
CATALOGUE = tuple(Item(name, f"title {name}") for name in "321")


def _log(rows: list[tuple[str, str, str]], timed: bool = True, cleaning: Cleaning | None = None) -> CleanLog:
    events = pl.DataFrame(rows, schema=dict.fromkeys(("user", "item", "time"), pl.String), orient="row")
    events = events.with_row_index("line", 2)
    raw = RawData("log", CATALOGUE, events if timed else events.drop("time"), "log")
    return clean(raw, cleaning or Cleaning())


@MANY
@given(EVENTS, st.booleans(), st.booleans())
def test_events_are_ordered_and_left_out_as_row_by_row(
    rows: list[tuple[str, str, str]], timed: bool, keep: bool
) -> None:
    log = _log(rows, timed, Cleaning(keep_repeats=keep))
    there = {user for user, _, _ in rows}
    users = sorted(there, key=int) if all(map(str.isdigit, there)) else sorted(there)
    lines = sorted(enumerate(rows), key=lambda row: (users.index(row[1][0]), float(row[1][2]) if timed else 0.0))
    seen: set[tuple[object, ...]] = set()
    taken: set[tuple[str, str]] = set()
    expected, repeated = [], 0
    for _, (user, item, moment) in lines:
        if timed and (user, item, float(moment)) in seen:
            continue
        seen.add((user, item, float(moment)))
        repeated += (user, item) in taken
        if keep or (user, item) not in taken:
            expected.append((user, item, int(np.floor(float(moment))) if timed else None))
        taken.add((user, item))
    found = [
        (one.user, item, one.times[place] if timed else None)
        for one in make_histories(log)
        for place, item in enumerate(one.items)
    ]
    assert found == expected
    assert log.repeated == repeated


@MANY
@given(EVENTS, st.booleans(), st.sampled_from(["leave-one-out", "global-time"]), st.integers(1, 4))
def test_splits_are_counted_as_they_are_made(
    rows: list[tuple[str, str, str]], timed: bool, name: str, few: int
) -> None:
    log = _log(rows, timed)
    histories = make_histories(log)
    assert histories_frame(log).equals(frame_of_histories(histories))

    def counted() -> object:
        counts = count_split(name, log)
        return counts.train, counts.longest, counts.valid, counts.test, counts.repeated

    def made() -> object:
        split = make_split(name, histories)
        longest = max((len(history.items) for history in split.train), default=0)
        repeated = sum(case.target in case.history.items for case in split.valid)
        return len(split.train), longest, len(split.valid), len(split.test), repeated

    assert _result(counted) == _result(made)
    assert users_with_few_left(log, few) == sum(
        len(log.catalog) - len(set(history.items)) < few for history in histories
    )


def test_histories_are_written_as_they_were(tmp_path: Path) -> None:
    """Polars makes the same file of the arrays as of lists of texts."""
    log = _log([("a", "1", "1400000000"), ("b", "2", "1400000001"), ("a", "3", "1400000002")])
    histories = make_histories(log)
    old = pl.DataFrame(
        [
            pl.Series("user", [history.user for history in histories], dtype=pl.String),
            pl.Series("items", [history.items for history in histories], dtype=pl.List(pl.String)),
            pl.Series("times", [history.times for history in histories], dtype=pl.List(pl.Int64)),
        ]
    )
    old.write_parquet(tmp_path / "old.parquet", row_group_size=1024)
    histories_frame(log).write_parquet(tmp_path / "new.parquet", row_group_size=1024)
    assert (tmp_path / "new.parquet").read_bytes() == (tmp_path / "old.parquet").read_bytes()
    assert isinstance(log.catalog, Catalog)


def test_histories_of_many_users_are_the_same_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for timed in (True, False):
        log = _log([(str(user), "123"[user % 3], str(1_400_000_000 + user)) for user in range(1, 12)] * 2, timed)
        whole = histories_frame(log)
        with monkeypatch.context() as patch:
            patch.setattr(event_columns, "USERS_IN_ONE_PIECE", 3)
            patch.setattr(event_columns, "USERS_PER_PIECE", 4)
            pieces = histories_frame(log)
        assert pieces.n_chunks() == 3
        assert pieces.equals(whole)


def _result(work: object) -> object:
    try:
        return work()  # type: ignore[operator]
    except DataError as error:
        return str(error).replace("\n", " ")
