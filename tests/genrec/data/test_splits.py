"""Splits: what is held out, and that nothing held out is learnt from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec.data.splits import Case, History, global_time, leave_one_out, make_split
from genrec.errors import DataError


def history(user: str, *times: int) -> History:
    return History(user, tuple(f"{user}{place}" for place in range(len(times))), times)


def test_leave_one_out_by_hand() -> None:
    split = leave_one_out(
        [History("a", ("1", "2", "3", "4"), (5, 6, 7, 8)), History("b", ("1", "2")), History("c", ("9",))]
    )
    assert split.train == (History("a", ("1", "2"), (5, 6)), History("b", ("1", "2")), History("c", ("9",)))
    assert split.valid == (Case(History("a", ("1", "2"), (5, 6)), "3"),)
    assert split.test == (Case(History("a", ("1", "2", "3"), (5, 6, 7)), "4"),)
    assert split.cases("valid") == split.valid
    assert split.cases("test") == split.test


def test_global_time_by_hand() -> None:
    # Ten events; the last two (times 9 and 10) are the test window, the two before (7, 8) the validation window.
    histories = [history("a", 1, 2, 7, 9), history("b", 3, 8), history("c", 4, 5, 6), history("d", 10)]
    split = global_time(histories, valid_share=0.2, test_share=0.2)
    assert split.train == (history("a", 1, 2), history("b", 3), history("c", 4, 5, 6))
    assert split.valid == (Case(history("a", 1, 2), "a2"), Case(history("b", 3), "b1"))
    # User d's only event has no history to ask with; user a's test history holds the validation event.
    assert split.test == (Case(history("a", 1, 2, 7), "a3"),)


def test_equal_times_at_a_boundary_fall_on_one_side() -> None:
    histories = [history("a", 1, 2, 3, 4, 5, 8, 8, 8, 9, 9)]
    split = global_time(histories, valid_share=0.3, test_share=0.2)
    assert split.train == (history("a", 1, 2, 3, 4, 5),)
    assert split.valid[0].target == "a7"
    assert split.test[0].target == "a9"


@given(st.lists(st.lists(st.integers(0, 30), max_size=12).map(sorted), min_size=1, max_size=6))
def test_nothing_in_training_is_later_than_any_target(times: list[list[int]]) -> None:
    histories = [history(str(user), *own) for user, own in enumerate(times)]
    try:
        split = global_time(histories, valid_share=0.25, test_share=0.25)
    except DataError:
        return
    latest = {held.user: dict(zip(held.items, held.times, strict=True)) for held in histories}
    trained = [time for part in split.train for time in part.times]
    for case in (*split.valid, *split.test):
        assert max(trained) < latest[case.history.user][case.target]
        assert case.target not in case.history.items
    for case in split.valid:
        assert all(time <= latest[case.history.user][case.target] for time in case.history.times)


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ([History("a", ("1", "2"))], "needs a time for every event"),
        ([history("a", 1, 2), History("b", ("1",))], "needs a time for every event"),
        ([], "the log is empty"),
        ([history("a", 1, 3, 2)], "in time order"),
        ([history("a", 5, 5, 5, 5)], "share one time"),
    ],
)
def test_what_global_time_cannot_split(histories: list[History], message: str) -> None:
    with pytest.raises(DataError, match=message):
        global_time(histories)


def test_shares_must_leave_something() -> None:
    for valid, test in ((0.5, 0.5), (0, 0.1), (0.1, -0.1)):
        with pytest.raises(DataError, match="shares must be positive"):
            global_time([history("a", 1, 2)], valid, test)


def test_splits_are_made_by_name() -> None:
    histories = [history("a", *range(20))]
    assert make_split("leave-one-out", histories) == leave_one_out(histories)
    assert make_split("global-time", histories) == global_time(histories)


def test_a_history_has_a_time_for_each_item_or_none() -> None:
    with pytest.raises(DataError, match="2 items has 1 times"):
        History("a", ("1", "2"), (1,))
    for whole in (history("a", 1, 2), History("b", ("1",))):
        assert History.from_json(whole.to_json()) == whole
