"""Kills a process that writes events at random moments, and looks for what it said was written; test_store starts it.

python -m tests.killing_a_store FILE|URL KILLS
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

from genrec.serve.sql_store import open_store
from genrec.serve.store import Event


def main(place: str, kills: int) -> None:
    open_store(place).close()
    draw = random.Random(0)
    acknowledged: set[str] = set()
    for start in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            write_on(place, start, writing)
        os.close(writing)
        with os.fdopen(reading) as told:
            assert told.readline() == "ready\n"
            killer = threading.Timer(draw.uniform(0.0, 0.08), os.kill, [child, signal.SIGKILL])
            killer.start()
            acknowledged |= {line.strip() for line in told if line.endswith("\n")}
        killer.join()
        os.waitpid(child, 0)
    store = open_store(place)
    kept = {event.id for event in store.events()}
    store.close()
    assert len(acknowledged) >= kills, "hardly anything was written before the kills"
    assert acknowledged <= kept, f"{len(acknowledged - kept)} acknowledged events are lost"
    assert len(kept - acknowledged) <= kills, "at most the one that was being answered at each kill"
    sys.stdout.write(f"{kills} kills, {len(acknowledged)} acknowledged, 0 lost\n")


def write_on(place: str, start: int, told: int) -> None:
    store = open_store(place)
    os.write(told, b"ready\n")
    for number in range(10**9):
        store.append([Event("u", f"i{number}", number, f"{start}/{number}")])
        os.write(told, f"{start}/{number}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
