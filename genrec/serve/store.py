"""What the service remembers: users' events, and the items they are about.

An event has an id. The same user's event with the same id is the same event, however often it is sent: so a client that
got no answer sends it again. Ids are kept apart by user, so that nobody's event can stand in the way of another's.

The easy mistake is to answer before the event is safe: `append` returns only when the database has it on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from genrec.data.catalog import Item
from genrec.data.splits import History

NOT_TAKEN = ("read", "impression")
"""Kinds of events that say only that somebody was shown an item; they are kept, and are no part of a history."""


@dataclass(frozen=True, slots=True)
class Event:
    """Somebody took an item.

    Attributes:
        user: the user's id.
        item: the item's id; it need not be in a catalogue yet.
        time: Unix seconds.
        id: names the event among those of its user.
        kind: what the user did, such as "purchase"; `NOT_TAKEN` holds those that do not count as taken.
    """

    user: str
    item: str
    time: int
    id: str
    kind: str = "event"


class HistoryStore(Protocol):
    """Keeps events and items; every method may be called from several threads."""

    def fill(self, items: Sequence[Item], histories: Iterable[History]) -> bool:
        """Put a run's items and histories into a store that was never filled; return whether that was done now."""
        ...

    def append(self, events: Sequence[Event], overwrite: bool = False) -> int:
        """Keep events that are not there yet; when this returns they are on disk.

        Args:
            events: in the order in which they happened.
            overwrite: whether an event whose id is known gets the new time, item and kind.

        Returns:
            How many were new, or were overwritten.
        """
        ...

    def history(self, user: str) -> History:
        """Return a user's items, oldest first; events of the same second in the order of their coming."""
        ...

    def forget(self, user: str) -> int:
        """Delete a user's events; return how many there were."""
        ...

    def events(self) -> Iterator[Event]:
        """Yield all events, each user's together and oldest first."""
        ...

    def add_items(self, items: Sequence[Item]) -> int:
        """Keep items; those whose ids are known stay as they are. Return how many were new."""
        ...

    def items(self) -> list[Item]:
        """Return all items, in the order of their coming; labels are not kept."""
        ...

    def hide(self, item: str, hidden: bool = True) -> bool:
        """Keep an item from being recommended, or let it be; return whether there is such an item."""
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
    """A store that never sees a user's id: it is given pseudonyms, and gives out what it was asked for.

    Args:
        store: keeps the events under pseudonyms.
        pseudonym: turns a user's id into a pseudonym; always the same one for the same id.
    """

    def __init__(self, store: HistoryStore, pseudonym: Callable[[str], str]) -> None:
        self._store, self._of = store, pseudonym

    def fill(self, items: Sequence[Item], histories: Iterable[History]) -> bool:
        """Fill the store; see `HistoryStore.fill`."""
        return self._store.fill(items, (replace(one, user=self._of(one.user)) for one in histories))

    def append(self, events: Sequence[Event], overwrite: bool = False) -> int:
        """Keep events under their users' pseudonyms."""
        return self._store.append([replace(event, user=self._of(event.user)) for event in events], overwrite)

    def history(self, user: str) -> History:
        """Return the history of a user, under the id that was asked for."""
        return replace(self._store.history(self._of(user)), user=user)

    def forget(self, user: str) -> int:
        """Delete a user's events."""
        return self._store.forget(self._of(user))

    def events(self) -> Iterator[Event]:
        """Yield all events, under pseudonyms."""
        return self._store.events()

    def add_items(self, items: Sequence[Item]) -> int:
        """Keep items."""
        return self._store.add_items(items)

    def items(self) -> list[Item]:
        """Return all items."""
        return self._store.items()

    def hide(self, item: str, hidden: bool = True) -> bool:
        """Keep an item from being recommended, or let it be."""
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
