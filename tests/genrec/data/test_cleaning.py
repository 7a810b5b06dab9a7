"""The rules that turn a raw log into ordered events, each on a log small enough to do by hand."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data.catalog import Item
from genrec.data.cleaning import Cleaning, CleanLog, clean, k_core, make_histories
from genrec.data.raw import RawData
from genrec.errors import ConfigError, DataError

ITEMS = tuple(Item(item_id, f"Title {item_id}") for item_id in "zyxabc")


def raw(*events: tuple[str | None, ...], names: tuple[str, ...] = ("user", "item", "time")) -> RawData:
    schema = {"line": pl.UInt32, **dict.fromkeys(names, pl.String)}
    rows = [(line, *event) for line, event in enumerate(events, start=2)]
    return RawData("toy", ITEMS, pl.DataFrame(rows, schema=schema, orient="row"), "log.csv")


def histories(log: CleanLog) -> dict[str, tuple[str, ...]]:
    return {history.user: history.items for history in make_histories(log)}


def dropped(log: CleanLog) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(entry.reason, entry.count, entry.lines) for entry in log.dropped]


def test_events_are_ordered_by_time_and_keep_their_seconds() -> None:
    log = clean(raw(("u", "a", "30"), ("v", "x", "5"), ("u", "b", "10"), ("u", "c", "20.7")), Cleaning())
    made = make_histories(log)
    assert [(history.user, history.items, history.times) for history in made] == [
        ("u", ("b", "c", "a"), (10, 20, 30)),
        ("v", ("x",), (5,)),
    ]


def test_equal_times_keep_the_files_order_and_never_the_items() -> None:
    # Neither the ids (a < z) nor the catalogue (z, y, x, a, b, c) nor their reverses give this order.
    order = ("b", "z", "a", "y", "c")
    log = clean(raw(*(("u", item, "7") for item in order)), Cleaning())
    assert histories(log) == {"u": order}


def test_times_are_ordered_below_the_second_though_whole_seconds_are_kept() -> None:
    log = clean(raw(("u", "a", "1700000000900"), ("u", "b", "1700000000100")), Cleaning())
    assert make_histories(log)[0].items == ("b", "a")
    assert make_histories(log)[0].times == (1_700_000_000, 1_700_000_000)


def test_without_times_the_files_order_is_the_order() -> None:
    log = clean(raw(("u", "c"), ("v", "a"), ("u", "a"), ("u", "c"), names=("user", "item")), Cleaning())
    assert histories(log) == {"u": ("c", "a", "c"), "v": ("a",)}
    assert make_histories(log)[0].times == ()
    assert log.repeated == 1
    assert any("no times" in note for note in log.notes)


def test_users_are_ordered_as_numbers_only_if_all_are_numbers() -> None:
    assert clean(raw(("10", "a", "1"), ("9", "a", "1")), Cleaning()).users == ("9", "10")
    assert clean(raw(("10", "a", "1"), ("9", "a", "1"), ("9b", "a", "1")), Cleaning()).users == ("10", "9", "9b")
    assert clean(raw(("10", "a", "1"), ("07", "a", "1"), ("7", "a", "1")), Cleaning()).users == ("07", "10", "7")


def test_exact_duplicates_go_and_repeats_stay() -> None:
    events = (("u", "a", "1"), ("u", "b", "1"), ("u", "a", "1"), ("u", "a", "2"), ("v", "a", "1"))
    kept = clean(raw(*events), Cleaning())
    assert histories(kept) == {"u": ("a", "b", "a"), "v": ("a",)}
    assert (kept.repeated, dropped(kept)) == (1, [("an exact duplicate of an earlier row", 1, (4,))])
    without = clean(raw(*events), Cleaning(keep_repeats=False))
    assert histories(without) == {"u": ("a", "b"), "v": ("a",)}
    assert (without.repeated, dropped(without)[1]) == (1, ("an item that its user had taken before", 1, (5,)))


def test_the_repeat_left_out_is_the_later_in_time_not_in_the_file() -> None:
    log = clean(raw(("u", "a", "9"), ("u", "b", "5"), ("u", "a", "1")), Cleaning(keep_repeats=False))
    assert histories(log) == {"u": ("a", "b")}
    assert dropped(log) == [("an item that its user had taken before", 1, (2,))]


def test_ratings_below_the_least_go() -> None:
    events = (("u", "a", "4"), ("u", "b", "3.5"), ("u", "c", "5"))
    log = clean(raw(*events, names=("user", "item", "rating")), Cleaning(min_rating=4))
    assert histories(log) == {"u": ("a", "c")}
    assert dropped(log) == [("rating below 4", 1, (3,))]


BAD = [
    (("", "a", "1"), "no user"),
    ((None, "a", "1"), "no user"),
    (("NaN", "a", "1"), "no user"),
    (("u", "", "1"), "no item"),
    (("u", "q", "1"), "an item that is not in the catalogue"),
    (("u", "a", ""), "no time"),
    (("u", "a", "yesterday"), "not a time; expected Unix seconds"),
]


@pytest.mark.parametrize(("event", "reason"), BAD)
def test_a_row_that_cannot_be_used_is_an_error_unless_skipped(event: tuple[str | None, ...], reason: str) -> None:
    data = raw(("u", "a", "1"), event, ("u", "b", "2"), event)
    with pytest.raises(DataError, match=rf"^log\.csv line 3 and 1 more: {reason}.*--skip-bad-rows") as caught:
        clean(data, Cleaning())
    assert "\n" not in str(caught.value)
    log = clean(data, Cleaning(skip_bad_rows=True))
    assert histories(log) == {"u": ("a", "b")}
    assert [(count, lines) for _, count, lines in dropped(log)] == [(2, (3, 5))]
    assert dropped(log)[0][0].startswith(reason)


def test_all_kinds_of_fault_are_told_in_one_line_and_a_row_counts_once() -> None:
    with pytest.raises(DataError) as caught:
        clean(raw(("", "q", "never"), ("u", "q9", "never"), ("u", "a", "never")), Cleaning())
    assert str(caught.value).startswith(
        "log.csv line 2: no user; log.csv line 3: an item that is not in the catalogue (item 'q9'); "
        "log.csv line 4: not a time"
    )


def test_no_user_id_is_told() -> None:
    with pytest.raises(DataError) as caught:
        clean(raw(("secret-user", "q", "1")), Cleaning())
    assert "secret-user" not in str(caught.value)


def test_a_rating_that_is_no_number() -> None:
    data = raw(("u", "a", "5"), ("u", "b", "good"), names=("user", "item", "rating"))
    with pytest.raises(DataError, match="line 3: no rating, or none that is a number"):
        clean(data, Cleaning(min_rating=1))
    with pytest.raises(DataError, match="toy has no ratings"):
        clean(raw(("u", "a", "5")), Cleaning(min_rating=1))


def test_the_core_is_found_by_repetition() -> None:
    # Item 2 has two events, but one is of user 2, who has one only; without them item 2 and then user 1 fall.
    user = np.array([0, 0, 1, 1, 2, 3, 3])
    item = np.array([0, 1, 1, 2, 2, 0, 1])
    assert k_core(user, item, 2).tolist() == [True, True, False, False, False, True, True]
    assert k_core(user, item, 1).all()
    assert not k_core(user, item, 4).any()
    assert k_core(user[:0], item[:0], 2).tolist() == []


def test_lines_are_told_in_file_order_whatever_the_order_of_events() -> None:
    events = [(user, "a", str(time)) for user, time in zip("ihgfedcb", range(8, 0, -1), strict=True)]
    log = clean(raw(*events, ("z", "x", "1"), ("z", "y", "1"), ("y", "x", "1"), ("y", "y", "1")), Cleaning(k_core=2))
    assert dropped(log) == [("outside the 2-core", 8, (2, 3, 4, 5, 6))]


def test_the_core_shrinks_the_catalogue_and_is_told() -> None:
    events = [("u", "a", "1"), ("u", "b", "2"), ("v", "a", "1"), ("v", "b", "2"), ("w", "c", "1")]
    log = clean(raw(*events), Cleaning(k_core=2))
    assert log.catalog.ids == ("a", "b")
    assert histories(log) == {"u": ("a", "b"), "v": ("a", "b")}
    assert dropped(log) == [("outside the 2-core", 1, (6,))]
    assert "the 2-core left out 1 users and 4 items" in log.notes
    assert clean(raw(*events), Cleaning()).catalog.ids == tuple("zyxabc")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=40), st.integers(2, 4))
def test_every_user_and_item_of_the_core_has_k_events_and_no_larger_core_exists(
    pairs: list[tuple[int, int]], k: int
) -> None:
    user, item = np.array([p[0] for p in pairs], dtype=int), np.array([p[1] for p in pairs], dtype=int)
    keep = k_core(user, item, k)
    left = set(range(len(pairs)))
    while True:
        events = {e: min(sum(user[o] == user[e] for o in left), sum(item[o] == item[e] for o in left)) for e in left}
        if all(count >= k for count in events.values()):
            break
        left -= {min(e for e, count in events.items() if count < k)}
    assert set(np.flatnonzero(keep)) == left


def test_nothing_left_says_what_took_it() -> None:
    with pytest.raises(DataError, match=r"no event of log\.csv is left .*outside the 5-core, line 2.; check"):
        clean(raw(("u", "a", "1")), Cleaning(k_core=5))
    with pytest.raises(DataError, match=r"no event of log\.csv is left .it has no rows."):
        clean(raw(), Cleaning())


def test_a_source_with_an_id_twice_is_refused() -> None:
    data = RawData("toy", (*ITEMS, ITEMS[0]), raw().events, "log.csv")
    with pytest.raises(DataError, match="toy gives an item id more than once"):
        clean(data, Cleaning())


def test_impossible_settings_are_all_told() -> None:
    with pytest.raises(ConfigError, match=r"min_rating is nan.*k_core is -1"):
        Cleaning(min_rating=float("nan"), k_core=-1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("uvw"), st.sampled_from("zyxabc"), st.integers(0, 4)), min_size=1))
def test_ordering_is_the_stable_sort_of_the_file_by_time(events: list[tuple[str, str, int]]) -> None:
    log = clean(raw(*((user, item, str(time)) for user, item, time in events)), Cleaning())
    expected: dict[str, tuple[str, ...]] = {}
    for user in sorted({event[0] for event in events}):
        own = list(dict.fromkeys(event for event in events if event[0] == user))
        expected[user] = tuple(item for _, item, _ in sorted(own, key=lambda event: event[2]))
    assert histories(log) == expected
