"""The store on both databases: events kept once, in order, through a kill; users forgotten; pseudonyms."""

import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from genrec.data.catalog import Item
from genrec.data.splits import History
from genrec.errors import ArtefactError, ConfigError
from genrec.serve.sql_store import open_store
from genrec.serve.store import Event, PseudonymousStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(place):
    store = open_store(place)
    yield store
    store.close()


def test_an_event_is_kept_once_whatever_is_sent(store):
    events = [Event("u", "a", 5, "1"), Event("u", "b", 6, "2"), Event("v", "a", 5, "1")]
    assert store.append(events) == 3
    assert store.append(events) == 0, "sent again"
    assert store.append([Event("u", "c", 9, "3"), Event("u", "c", 9, "3")]) == 1, "twice in one request"
    assert store.history("u") == History("u", ("a", "b", "c"), (5, 6, 9))
    assert store.history("v") == History("v", ("a",), (5,)), "another user's event with the same id is another event"
    assert store.history("nobody") == History("nobody", ())


def test_events_are_in_the_order_of_time_then_of_coming(store):
    store.append([Event("u", "late", 9, "1"), Event("u", "first", 3, "2"), Event("u", "second", 3, "3")])
    assert store.history("u").items == ("first", "second", "late")


def test_what_was_only_shown_is_kept_and_not_taken(store):
    kinds = ("read", "purchase", "impression")
    store.append([Event("u", f"i{place}", place, f"{place}", kind) for place, kind in enumerate(kinds)])
    assert store.history("u").items == ("i1",)
    assert len(list(store.events())) == 3


def test_an_event_can_be_overwritten(store):
    store.append([Event("u", "a", 5, "1"), Event("u", "b", 6, "2")])
    assert store.append([Event("u", "a", 7, "1")], overwrite=True) == 1
    assert store.history("u") == History("u", ("b", "a"), (6, 7))


def test_a_run_fills_a_store_once(store):
    items = [Item("a", "Film A", categories=("x",), attributes={"year": "1999"}), Item("b", "Film B")]
    assert store.fill(items, [History("u", ("a", "b")), History("v", ("b",), (8,))])
    assert store.items() == items
    assert store.history("u") == History("u", ("a", "b")), "a log with an order only has no times"
    assert store.forget("u") == 2
    assert not store.fill(items, [History("u", ("a",))]), "or a restart would bring back who was forgotten"
    assert store.history("u").items == ()
    assert [(event.user, event.item) for event in store.events()] == [("v", "b")]


def test_items_are_added_once_and_can_be_hidden(store):
    assert store.add_items([Item("a", "A"), Item("a", "A again"), Item("b", "B")]) == 2
    assert store.add_items([Item("a", "Another")]) == 0
    assert [item.title for item in store.items()] == ["A", "B"]
    assert store.hide("a")
    assert not store.hide("nothing")
    assert store.hidden() == {"a"}
    assert store.hide("a", hidden=False)
    assert store.hidden() == set()


def test_many_threads_write_at_once(store):
    def write(thread):
        for number in range(5):
            store.append([Event("u", f"{thread}/{number}", number, f"{thread}/{number}")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.history("u").items) == 20


def test_nothing_that_was_acknowledged_is_lost_when_the_writer_is_killed(place):
    words = [sys.executable, "-m", "tests.killing_a_store", place, "20"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0 lost" in done.stdout


def test_a_forgotten_user_leaves_the_file(tmp_path):
    store = open_store(str(tmp_path / "store.db"))
    store.append([Event("remember-me-not", "a", 1, "1")])
    contents = lambda: b"".join(path.read_bytes() for path in tmp_path.iterdir())  # noqa: E731
    assert b"remember-me-not" in contents()
    assert store.forget("remember-me-not") == 1
    assert b"remember-me-not" not in contents()
    store.close()


def test_a_file_is_its_owners_alone_and_writes_ahead(tmp_path):
    store = open_store(str(tmp_path / "store.db"))
    store.append([Event("u", "a", 1, "1")])
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    store.close()


def test_pseudonyms_hide_the_users(tmp_path):
    from genrec.privacy.keys import Pseudonyms

    inner = open_store(str(tmp_path / "store.db"))
    store = PseudonymousStore(inner, Pseudonyms(b"k" * 32).of)
    store.fill([], [History("anna", ("a",))])
    store.append([Event("anna", "b", 1, "1")])
    assert store.history("anna") == History("anna", ("a", "b"), (0, 1))
    inner_users = {event.user for event in inner.events()}
    assert len(inner_users) == 1
    assert "anna" not in inner_users
    assert store.forget("anna") == 2
    store.close()


@pytest.mark.parametrize(
    ("place", "error", "words"),
    [
        ("mysql://me@host/db", ConfigError, "mysql; give a file"),
        ("://", ConfigError, "no URL"),
        ("sqlite://", ConfigError, "give a file"),
        ("/nowhere/store.db", ArtefactError, "No such file"),
        ("postgresql://me:secret@localhost:1/db", ArtefactError, "cannot be opened"),
    ],
)
def test_a_store_that_cannot_be_opened_is_told(place, error, words):
    with pytest.raises(error, match=words) as caught:
        open_store(place)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(tmp_path):
    Path(tmp_path / "text.db").write_text("this is not a database, but a longer text " * 50)
    with pytest.raises(ArtefactError, match="not a database"):
        open_store(str(tmp_path / "text.db"))
