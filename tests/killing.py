"""Kills batch jobs at random points, goes on each time, and compares bytes; a program that test_batch starts.

    python -m tests.killing RUN FOLDER

Both kinds of output are killed `KILLS` times. The job runs in a fork of this process, which has the recommender loaded.
Half of the kills come after a random time, half at a random one of the moments at which the job opens, renames, cuts
or deletes a file, where the windows are too short for a clock. This process itself writes no Parquet: a fork of one
whose Polars has threads would wait for them.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from genrec.batch import outputs
from genrec.batch.job import recommend_all
from genrec.data.splits import History
from genrec.recommender import Recommender
from genrec.settings import Settings
from tests.toyworld import make_histories

KILLS = 20
FILE_EVENTS = frozenset({"open", "os.rename", "os.truncate", "os.remove", "os.mkdir", "os.listdir"})


def main(run: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    outputs.SHARD_USERS = 4
    recommender = Recommender.from_pretrained(run, "cpu", "fp32")
    users = [
        History(history.user, (*history.items, *(["gone"] if place % 3 == 0 else [])))
        for place, history in enumerate(make_histories(10, seed=3))
    ]

    def job(out: Path) -> None:
        recommend_all(
            recommender,
            lambda start: iter(users[start:]),
            out,
            Settings(k=3, beams=3),
            fingerprint={"run": "a"},
            block_users=2,
            resume=True,
        )

    for name in ("out.jsonl", "out.parquet"):
        kill_often(job, folder / name, name)


def kill_often(job: Callable[[Path], None], folder: Path, name: str) -> None:
    """Kill a job `KILLS` times; whenever it comes to its end, compare what it left with an unbroken job's."""
    started = time.monotonic()
    run_and_kill(partial(job, folder / "whole" / name))
    seconds = time.monotonic() - started
    moments = count_moments(partial(job, folder / "counted" / name))
    whole = contents(folder / "whole")
    draw = random.Random(0)
    kills = outputs_made = 0

    def next_kill() -> dict[str, float]:
        if kills == KILLS:
            return {}
        return {"after": draw.uniform(0, seconds)} if kills % 2 else {"moment": draw.randint(1, moments)}

    while kills < KILLS:
        place = folder / f"{outputs_made}"
        while run_and_kill(partial(job, place / name), **next_kill()):
            kills += 1
        outputs_made += 1
        found = contents(place)
        if found != whole:
            sys.exit(f"output {outputs_made}: {sorted(found)} are not {sorted(whole)}, or differ in bytes")
    sys.stdout.write(f"{name}: {kills} kills, {outputs_made} outputs, {moments} moments\n")


def run_and_kill(job: Callable[[], None], after: float | None = None, moment: float | None = None) -> bool:
    """Run a job in a fork; return whether it was killed before it had ended."""
    child = os.fork()
    if child == 0:
        try:
            if moment is not None:
                kill_at(moment)
            job()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit("the job failed")
    return False


def kill_at(moment: float) -> None:
    left = moment

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in FILE_EVENTS:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def count_moments(job: Callable[[], None]) -> int:
    """Return how many moments a job has; counted in a fork, since a hook cannot be taken away."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            count += event in FILE_EVENTS

        sys.addaudithook(hook)
        job()
        os.write(writing, str(count).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 20))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
