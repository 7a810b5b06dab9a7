"""The store in a database: SQLite in one file, or PostgreSQL by its URL; one schema for both.

Confirmed writes survive a crash of the process or the machine. For this, SQLite uses a write-ahead log and writes to
the disk at every commit. PostgreSQL does so by default.

Every transaction that writes begins with its write. In SQLite, a transaction that reads first can fail at its write,
because another process may have written in between.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite

from genrec.data.catalog import Item
from genrec.data.splits import History
from genrec.errors import ArtefactError, ConfigError, MissingExtra
from genrec.serve.store import NOT_TAKEN, Event

ROWS_AT_ONCE = 1000
"""The most rows of one statement; SQLite accepts at most 32,766 values in one."""

BUSY_MS = 10_000
"""The time for which a SQLite connection waits for another process's write, in milliseconds."""

FILLED = "filled"
"""The mark of a store that was filled with a run's histories; it remains when users are forgotten."""

SCHEMA = sql.MetaData()
_NUMBER = sql.BigInteger().with_variant(sql.Integer, "sqlite")
EVENTS = sql.Table(
    "genrec_events",
    SCHEMA,
    sql.Column("number", _NUMBER, primary_key=True, autoincrement=True),
    sql.Column("user_id", sql.Text, nullable=False),
    sql.Column("event_id", sql.Text, nullable=False),
    sql.Column("item_id", sql.Text, nullable=False),
    sql.Column("time", sql.BigInteger, nullable=False),
    sql.Column("kind", sql.Text, nullable=False),
    sql.UniqueConstraint("user_id", "event_id"),
)
ITEMS = sql.Table(
    "genrec_items",
    SCHEMA,
    sql.Column("number", _NUMBER, primary_key=True, autoincrement=True),
    sql.Column("item_id", sql.Text, nullable=False, unique=True),
    sql.Column("title", sql.Text, nullable=False),
    sql.Column("categories", sql.JSON, nullable=False),
    sql.Column("attributes", sql.JSON, nullable=False),
    sql.Column("hidden", sql.Boolean, nullable=False, default=False),
)
MARKS = sql.Table("genrec_marks", SCHEMA, sql.Column("name", sql.Text, primary_key=True))


def open_store(place: str) -> SqlStore:
    """Open a store, and make its tables if they are missing.

    Args:
        place: a file for SQLite, or a database's URL, such as postgresql://genrec@localhost/genrec.

    Raises:
        ConfigError: it is neither a file nor the URL of a supported database.
        MissingExtra: PostgreSQL's driver is not installed.
        ArtefactError: the database cannot be opened.
    """
    url = _url(place)
    shown = url.render_as_string(hide_password=True)
    if url.drivername == "sqlite":
        _make_private(Path(url.database or ""))
    try:
        engine = sql.create_engine(url, pool_pre_ping=url.drivername != "sqlite")
        if url.drivername == "sqlite":
            sql.event.listen(engine, "connect", _prepare_sqlite)
        SCHEMA.create_all(engine)
    except ImportError:
        raise MissingExtra("postgres", "a store in PostgreSQL") from None
    except sql.exc.SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise ArtefactError(f"the store {shown} cannot be opened: {reason[:200]}") from None
    return SqlStore(engine)


class SqlStore:
    """A `HistoryStore` in a database; make one with `open_store`."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        self._is_sqlite = engine.dialect.name == "sqlite"
        # SQLite has one writer at a time; threads of this process queue here, which is fairer than SQLite's waiting.
        self._writing = threading.Lock()

    def fill(self, items: Sequence[Item], histories: Iterable[History]) -> bool:
        """Fill a store that was never filled, completely or not at all; see `HistoryStore.fill`."""
        with self._writing, self._engine.begin() as connection:
            mark = self._insert(MARKS).values(name=FILLED).on_conflict_do_nothing().returning(MARKS.c.name)
            if connection.execute(mark).first() is None:
                return False
            for rows in _stretches(map(_item_row, items)):
                connection.execute(self._insert(ITEMS).on_conflict_do_nothing(), rows)
            events = (event for history in histories for event in events_of(history))
            for rows in _stretches(map(_event_row, events)):
                connection.execute(self._insert(EVENTS).on_conflict_do_nothing(), rows)
        return True

    def append(self, events: Sequence[Event], overwrite: bool = False) -> int:
        """Keep events; see `HistoryStore.append`."""
        written = 0
        # The last event with an id is kept: a statement may not change a row twice.
        rows = list({(event.user, event.id): _event_row(event) for event in events}.values())
        with self._writing, self._engine.begin() as connection:
            for some in _stretches(iter(rows)):
                statement = self._insert(EVENTS).values(some)
                if overwrite:
                    new = {name: statement.excluded[name] for name in ("item_id", "time", "kind")}
                    statement = statement.on_conflict_do_update(index_elements=["user_id", "event_id"], set_=new)
                else:
                    statement = statement.on_conflict_do_nothing()
                written += len(connection.execute(statement.returning(EVENTS.c.number)).all())
        return written

    def history(self, user: str) -> History:
        """Return a user's history; see `HistoryStore.history`."""
        wanted = (
            sql.select(EVENTS.c.item_id, EVENTS.c.time)
            .where(EVENTS.c.user_id == user, EVENTS.c.kind.not_in(NOT_TAKEN))
            .order_by(EVENTS.c.time, EVENTS.c.number)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(wanted).all()
        times = tuple(int(row.time) for row in rows)
        # A log with only an order is stored with zeros; a history without times has an empty tuple.
        return History(user, tuple(row.item_id for row in rows), times if any(times) else ())

    def forget(self, user: str) -> int:
        """Delete a user's events, also from SQLite's write-ahead log."""
        with self._writing, self._engine.begin() as connection:
            gone = connection.execute(sql.delete(EVENTS).where(EVENTS.c.user_id == user)).rowcount
        if self._is_sqlite:
            with self._writing, self._engine.connect() as connection:
                connection.execute(sql.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        return int(gone)

    def events(self) -> Iterator[Event]:
        """Yield all events; see `HistoryStore.events`."""
        wanted = sql.select(EVENTS).order_by(EVENTS.c.user_id, EVENTS.c.time, EVENTS.c.number)
        with self._engine.connect().execution_options(yield_per=ROWS_AT_ONCE) as connection:
            for row in connection.execute(wanted):
                yield Event(row.user_id, row.item_id, row.time, row.event_id, row.kind)

    def add_items(self, items: Sequence[Item]) -> int:
        """Keep items; see `HistoryStore.add_items`."""
        written = 0
        with self._writing, self._engine.begin() as connection:
            for some in _stretches(map(_item_row, items)):
                statement = self._insert(ITEMS).values(some).on_conflict_do_nothing().returning(ITEMS.c.number)
                written += len(connection.execute(statement).all())
        return written

    def items(self) -> list[Item]:
        """Return all items; see `HistoryStore.items`."""
        with self._engine.connect() as connection:
            rows = connection.execute(sql.select(ITEMS).order_by(ITEMS.c.number)).all()
        return [
            Item(row.item_id, row.title, categories=tuple(row.categories), attributes=row.attributes) for row in rows
        ]

    def hide(self, item: str, hidden: bool = True) -> bool:
        """Hide an item from all lists, or show it again; see `HistoryStore.hide`."""
        with self._writing, self._engine.begin() as connection:
            change = sql.update(ITEMS).where(ITEMS.c.item_id == item).values(hidden=hidden)
            return bool(connection.execute(change).rowcount)

    def hidden(self) -> frozenset[str]:
        """Return the ids of hidden items."""
        with self._engine.connect() as connection:
            return frozenset(connection.execute(sql.select(ITEMS.c.item_id).where(ITEMS.c.hidden)).scalars())

    def check(self) -> None:
        """Raise SQLAlchemy's error if the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(sql.select(sql.literal(1)))

    def close(self) -> None:
        """Close all connections; SQLite then merges its write-ahead log into its file."""
        self._engine.dispose()

    def _insert(self, table: sql.Table) -> Any:
        # Both support `ON CONFLICT`, each with its own class.
        return sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)


def events_of(history: History) -> Iterator[Event]:
    """Yield a log's history as events; their ids are their positions."""
    times = history.times or (0,) * len(history.items)
    for place, (item, time) in enumerate(zip(history.items, times, strict=True)):
        yield Event(history.user, item, time, f"log/{place}", "log")


def _url(place: str) -> sql.URL:
    if "://" not in place:
        return sql.URL.create("sqlite", database=place)
    try:
        url = sql.make_url(place)
    except sql.exc.ArgumentError:
        raise ConfigError(["the store is no URL; give a file, or postgresql://USER@HOST/DATABASE"]) from None
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database:
        return url
    raise ConfigError([f"the store is a {url.drivername}; give a file for SQLite, or postgresql://USER@HOST/DATABASE"])


def _make_private(file: Path) -> None:
    """Make SQLite's file readable only by its owner; its logs get the same permissions."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ArtefactError(f"the store {file} cannot be opened: {error.strerror}; choose another place") from None


def _prepare_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "user_id": event.user,
        "event_id": event.id,
        "item_id": event.item,
        "time": event.time,
        "kind": event.kind,
    }


def _item_row(item: Item) -> dict[str, Any]:
    return {
        "item_id": item.id,
        "title": item.title,
        "categories": list(item.categories),
        "attributes": dict(item.attributes),
        "hidden": False,
    }


def _stretches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == ROWS_AT_ONCE:
            yield some
            some = []
    if some:
        yield some
