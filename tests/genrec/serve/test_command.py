"""`genrec serve` as it is started: a real process that is killed, started again, told to reload, and stopped."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from genrec.data.prepared import load_prepared
from genrec.serve.sql_store import open_store
from genrec.serve.store import Event

PATIENCE = 120


@contextmanager
def served(run, store, *words):
    """Start the service; yield its process and a client."""
    call = [sys.executable, "-m", "genrec.cli.main", "serve", "--run", run, "--store", store, "--port", "0", *words]
    with Path(f"{store}.log").open("ab") as log:
        process = subprocess.Popen(
            [*map(str, call), "--device", "cpu"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        line = ""
        while "serving" not in line:
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            line = process.stdout.readline()
            assert line, "it ended"
        address = line.split(" on ")[1].split(",")[0]
        with httpx.Client(base_url=address, timeout=PATIENCE) as client:
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_service_is_killed_started_again_reloaded_and_stopped(toy_run, toy_data, tmp_path, genrec):
    store = tmp_path / "live.db"
    with served(toy_run, store) as (process, client):
        assert client.get("/health/ready").json() == {"status": "ready", "items": 30}
        acknowledged = 0
        ends = time.monotonic() + 0.5
        while time.monotonic() < ends:
            event = {"user": "anna", "item": "red1", "time": acknowledged, "id": f"e{acknowledged}"}
            acknowledged += client.post("/events", json={"events": [event]}).json()["new"]
        client.post("/items", json={"items": [{"id": "red7", "title": "Red Harbour 7"}]})
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert acknowledged
    with served(toy_run, store) as (process, client):
        assert len(client.get("/users/anna/history").json()["items"]) == acknowledged
        assert client.get("/health/ready").json()["items"] == 31
        first = load_prepared(toy_data).histories[0]
        history = client.get(f"/users/{first.user}/history").json()["items"]
        assert tuple(item["id"] for item in history) == first.items
        process.send_signal(signal.SIGHUP)
        done = 'genrec_runs_taken_over_total{result="done"} 1.0'
        ends = time.monotonic() + PATIENCE
        while done not in client.get("/metrics").text:
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert client.get("/health/ready").json()["items"] == 31
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "live.db.log").read_text()
    code, out, _ = genrec("prepare", "--store", store, "--out", tmp_path / "data")
    assert code == 0, out
    data = load_prepared(tmp_path / "data")
    assert "red7" in data.catalog
    assert len(data.histories) == len(load_prepared(toy_data).histories) + 1
    assert data.histories[-1].items == load_prepared(toy_data).histories[-1].items
    code, out, _ = genrec("forget", "--user", "anna", "--data", tmp_path / "data", "--store", store)
    assert f"{acknowledged} events removed" in out.splitlines()[-1]


def test_a_store_becomes_a_data_folder(tmp_path, genrec, toy_data):
    data = load_prepared(toy_data)
    store = open_store(str(tmp_path / "live.db"))
    store.fill(data.catalog.items, data.histories)
    code, out, _ = genrec("prepare", "--store", tmp_path / "live.db", "--out", tmp_path / "same")
    assert code == 0, out
    again = load_prepared(tmp_path / "same")
    assert again.histories == data.histories
    assert [(item.id, item.title, item.categories) for item in again.catalog] == [
        (item.id, item.title, item.categories) for item in data.catalog
    ]
    store.append([Event("u0000", "not-yet-added", 1, "1")])
    store.close()
    code, out, _ = genrec("prepare", "--store", tmp_path / "live.db", "--out", tmp_path / "more")
    assert "1 events are left out" in out
    assert load_prepared(tmp_path / "more").histories == data.histories


def test_mistakes_are_one_line(genrec, toy_run, tmp_path):
    taken = socket.create_server(("127.0.0.1", 0))
    run = ("serve", "--run", toy_run, "--store", tmp_path / "s.db")
    cases = [
        ((*run, "--host", "0.0.0.0"), "give --keys"),  # noqa: S104 - what is refused
        ((*run, "--port", taken.getsockname()[1]), "cannot listen"),
        ((*run, "--keys", tmp_path / "none"), "make them with --new-key"),
        ((*run, "--new-key", "shop=read"), "give the file with --keys"),
        ((*run, "--keys", tmp_path / "k", "--new-key", "shop=all"), "expected NAME=RIGHTS"),
        (("serve", "--run", tmp_path, "--store", tmp_path / "s.db"), "genrec.json"),
        (("prepare", "--store", tmp_path / "none.db", "--out", tmp_path / "d"), "no store"),
        (("prepare", "--store", "x.db", "--dataset", "ml-100k", "--out", tmp_path / "d"), "not both"),
    ]
    for words, said in cases:
        code, out, err = genrec(*words)
        assert (code, err.count("\n")) == (2, 1), (words, out, err)
        assert said in err
    taken.close()


def test_a_new_key_is_printed_once(genrec, toy_run, tmp_path):
    words = ("serve", "--run", toy_run, "--keys", tmp_path / "keys", "--new-key", "shop=read,write")
    code, out, _ = genrec(*words)
    assert code == 0
    assert len(out.strip()) == 43
    assert (tmp_path / "keys").read_text().startswith("shop read,write ")
    code, _, err = genrec(*words)
    assert code == 2
    assert "already" in err


@pytest.mark.parametrize("line", ["shop read", "shop all " + "0" * 64, "shop read " + "x" * 64, ""])
def test_a_damaged_key_file_is_told(genrec, toy_run, tmp_path, line):
    (tmp_path / "keys").write_text(line)
    code, _, err = genrec("serve", "--run", toy_run, "--keys", tmp_path / "keys")
    assert code == 2
    assert "API key" in err
