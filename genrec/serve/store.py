"""The data that the service stores: users' events and their items.

A client that got no answer can send an event again, because events of one user with the same id are the same event. Ids
are separate for each user, so that one user's event cannot block another's.

`append` returns only when the database has the event on disk, so that a confirmed event is not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from genrec.data.catalog import Item
from genrec.data.splits import History

NOT_TAKEN = ("read", "impression")
"""Kinds of events in which an item was only shown; they are stored, but are no part of a history."""


@dataclass(frozen=True, slots=True)
class Event:
    """A user took an item.

    Attributes:
        user: the user's id.
        item: the item's id; it need not be in a catalogue yet.
        time: Unix seconds.
        id: identifies the event among those of its user.
        kind: what the user did, such as "purchase"; kinds in `NOT_TAKEN` do not count as taken.
    """

    user: str
    item: str
    time: int
    id: str
    kind: str = "event"


class HistoryStore(Protocol):
    """Stores events and items; every method may be called from several threads."""

    def fill(self, items: Sequence[Item], histories: Iterable[History]) -> bool:
        """Fill a store that was never filled with a run's items and histories; return whether it was filled now."""
        ...

    def append(self, events: Sequence[Event], overwrite: bool = False) -> int:
        """Store new events; they are on disk when this returns.

        Args:
            events: in the order in which they happened.
            overwrite: whether an event whose id is known gets the new time, item and kind.

        Returns:
            The number of events that were new or overwritten.
        """
        ...

    def history(self, user: str) -> History:
        """Return a user's items, oldest first; events of the same second in the order of arrival."""
        ...

    def forget(self, user: str) -> int:
        """Delete a user's events; return their number."""
        ...

    def events(self) -> Iterator[Event]:
        """Yield all events, each user's together and oldest first."""
        ...

    def add_items(self, items: Sequence[Item]) -> int:
        """Store items; known ids are left unchanged. Return the number of new items."""
        ...

    def items(self) -> list[Item]:
        """Return all items, in the order of arrival; labels are not stored."""
        ...

    def hide(self, item: str, hidden: bool = True) -> bool:
        """Hide an item from all lists, or show it again; return whether the item exists."""
        ...

    def hidden(self) -> frozenset[str]:
        """Return the ids of hidden items."""
        ...

    def check(self) -> None:
        """Raise the database's error if it does not answer."""
        ...

    def close(self) -> None:
        """Let the database go."""
        ...


class PseudonymousStore:
    """A store that keeps pseudonyms instead of user ids; `history` returns the id of the request.

    Args:
        store: the store of the events under pseudonyms.
        pseudonym: turns a user's id into a pseudonym; always the same one for the same id.
    """

    def __init__(self, store: HistoryStore, pseudonym: Callable[[str], str]) -> None:
        self._store, self._of = store, pseudonym

    def fill(self, items: Sequence[Item], histories: Iterable[History]) -> bool:
        """Fill the store; see `HistoryStore.fill`."""
        return self._store.fill(items, (replace(one, user=self._of(one.user)) for one in histories))

    def append(self, events: Sequence[Event], overwrite: bool = False) -> int:
        """Store events under their users' pseudonyms."""
        return self._store.append([replace(event, user=self._of(event.user)) for event in events], overwrite)

    def history(self, user: str) -> History:
        """Return the history of a user, under the requested id."""
        return replace(self._store.history(self._of(user)), user=user)

    def forget(self, user: str) -> int:
        """Delete a user's events."""
        return self._store.forget(self._of(user))

    def events(self) -> Iterator[Event]:
        """Yield all events, under pseudonyms."""
        return self._store.events()

    def add_items(self, items: Sequence[Item]) -> int:
        """Store items."""
        return self._store.add_items(items)

    def items(self) -> list[Item]:
        """Return all items."""
        return self._store.items()

    def hide(self, item: str, hidden: bool = True) -> bool:
        """Hide an item from all lists, or show it again."""
        return self._store.hide(item, hidden)

    def hidden(self) -> frozenset[str]:
        """Return the ids of hidden items."""
        return self._store.hidden()

    def check(self) -> None:
        """Raise the database's error if it does not answer."""
        self._store.check()

    def close(self) -> None:
        """Let the database go."""
        self._store.close()
