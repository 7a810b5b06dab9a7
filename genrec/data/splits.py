"""Histories, evaluation cases, and the two ways to split a log: leave-one-out and global time.

Both splits are pure functions of the histories, so a split is never stored: it is recomputed with the same result. The
validation item is part of the history of the user's test case, and no test item is in training.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from genrec.data.catalog import clean_title
from genrec.errors import DataError

SplitName = Literal["leave-one-out", "global-time"]

NOTHING_TO_LEARN = (
    "no training history has two items, so there is nothing to learn (what is held out for validation and test is not "
    "in them); give a longer log"
)

LONGEST_TASTE = 300
"""The most characters of a user's taste; a longer text would push the history out of the prompt."""


Basis = Literal["items", "taste", "nothing"]
"""The basis of a user's list: the items that they took, only their taste, or nothing."""


@dataclass(frozen=True, slots=True)
class History:
    """The items that one user took, oldest first.

    Attributes:
        user: the user's id; it is the key in outputs and is never part of a prompt.
        items: item ids, oldest first.
        times: Unix seconds, one for each item; empty if the source has only an order.
        taste: a sentence in which the user says what they like; empty if there is none.

    Raises:
        DataError: there are times, but not one for each item.

    Example:
        >>> from genrec import History
        >>> History("u1", ("nig1", "nig2", "nig3"), (1000, 1001, 1002)).until(2).items
        ('nig1', 'nig2')
    """

    user: str
    items: tuple[str, ...]
    times: tuple[int, ...] = ()
    taste: str = ""

    def __post_init__(self) -> None:
        if self.times and len(self.times) != len(self.items):
            raise DataError(f"a history of {len(self.items)} items has {len(self.times)} times; give one for each")

    @property
    def basis(self) -> Basis:
        """The basis of the user's list."""
        if self.items:
            return "items"
        return "taste" if self.taste else "nothing"

    def until(self, length: int) -> History:
        """Return the history's first `length` events."""
        return replace(self, items=self.items[:length], times=self.times[:length])

    def to_json(self) -> dict[str, Any]:
        """Return the history as plain JSON values; `from_json` is its inverse."""
        return {"user": self.user, "items": list(self.items), "times": list(self.times)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> History:
        """Build a history from what `to_json` returned."""
        return cls(str(data["user"]), tuple(map(str, data["items"])), tuple(map(int, data.get("times", ()))))


def clean_taste(text: str) -> str:
    """Return a user's taste as one line.

    Raises:
        DataError: it is empty or too long.
    """
    line = " ".join(text.split())
    line = line if clean_title(line) else ""  # a line of only invisible characters is empty
    if not 0 < len(line) <= LONGEST_TASTE:
        raise DataError(
            f"the taste has {len(line)} characters; give a sentence of 1 to {LONGEST_TASTE}, such as "
            "'quiet science fiction from the seventies'"
        )
    return line


@dataclass(frozen=True, slots=True)
class Case:
    """One question to a recommender: given the history, which item came next?"""

    history: History
    target: str


@dataclass(frozen=True, slots=True)
class Split:
    """A log divided for training, validation and test.

    Attributes:
        name: the rule that made it.
        train: the training histories.
        valid: the validation cases.
        test: the test cases; their histories include the validation events.
    """

    name: SplitName
    train: tuple[History, ...]
    valid: tuple[Case, ...]
    test: tuple[Case, ...]

    def cases(self, name: Literal["valid", "test"]) -> tuple[Case, ...]:
        """Return the cases of one part by its name."""
        return self.valid if name == "valid" else self.test


def leave_one_out(histories: Iterable[History]) -> Split:
    """Hold out each user's last item for test and the one before it for validation.

    Users with fewer than three events are only in training, with their whole history.
    """
    train, valid, test = [], [], []
    for history in histories:
        length = len(history.items)
        if length < 3:
            train.append(history)
            continue
        train.append(history.until(length - 2))
        valid.append(Case(history.until(length - 2), history.items[length - 2]))
        test.append(Case(history.until(length - 1), history.items[length - 1]))
    return Split("leave-one-out", tuple(train), tuple(valid), tuple(test))


def global_time(histories: Iterable[History], valid_share: float = 0.1, test_share: float = 0.1) -> Split:
    """Split at two moments that are the same for all users, so that nothing is learnt from the future.

    The last `test_share` of all events is the test window, and the `valid_share` before it is the validation window. A
    user's case in a window is their last event there; its history is everything before that event.

    Args:
        histories: histories with times.
        valid_share: share of events in the validation window.
        test_share: share of events in the test window.

    Raises:
        DataError: a history has no times or is not in time order, or equal times leave a window or training empty.
    """
    histories = tuple(histories)
    if valid_share <= 0 or test_share <= 0 or valid_share + test_share >= 1:
        raise DataError(f"shares must be positive and sum to less than 1; given {valid_share} and {test_share}")
    if any(len(history.times) != len(history.items) for history in histories):
        raise DataError("a global-time split needs a time for every event; give a time column or use leave-one-out")
    # A history that is cut at a moment must be in time order; otherwise the model would learn from the future.
    if any(list(history.times) != sorted(history.times) for history in histories):
        raise DataError("a global-time split needs histories in time order; prepare the data again")
    times = np.fromiter(chain.from_iterable(history.times for history in histories), dtype=np.int64)
    if not times.size:
        raise DataError("a global-time split needs events; the log is empty")
    times.sort()
    valid_from, test_from = global_moments(times, valid_share, test_share)
    train = tuple(part for history in histories if (part := _before(history, valid_from)).items)
    valid = tuple(_last_case(_before(history, test_from), valid_from) for history in histories)
    test = tuple(_last_case(history, test_from) for history in histories)
    return Split("global-time", train, tuple(filter(None, valid)), tuple(filter(None, test)))


def global_moments(times: NDArray[np.int64], valid_share: float = 0.1, test_share: float = 0.1) -> tuple[int, int]:
    """Return the first seconds of the validation and of the test window.

    Args:
        times: of all events, in ascending order; at least one.
        valid_share: share of events in the validation window.
        test_share: share of events in the test window.

    Raises:
        DataError: equal times leave a window or training empty.
    """
    # The small number makes 10 * (1 - 0.3 - 0.2), which is 4.999..., count as 5.
    valid_from = int(times[min(int(len(times) * (1 - valid_share - test_share) + 1e-6), len(times) - 1)])
    test_from = int(times[min(int(len(times) * (1 - test_share) + 1e-6), len(times) - 1)])
    if valid_from == times[0] or valid_from == test_from:
        raise DataError("too many events share one time for a global-time split; use leave-one-out")
    return valid_from, test_from


def make_split(name: SplitName, histories: Iterable[History]) -> Split:
    """Make the split of the given name, with its standard settings."""
    return leave_one_out(histories) if name == "leave-one-out" else global_time(histories)


def _before(history: History, moment: int) -> History:
    return history.until(bisect_left(history.times, moment))


def _last_case(history: History, since: int) -> Case | None:
    """Return the case of the history's last event if it is not before the moment and another event precedes it."""
    last = len(history.items) - 1
    if last < 1 or history.times[last] < since:
        return None
    return Case(history.until(last), history.items[last])
