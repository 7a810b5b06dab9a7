"""The same job by two Ray workers; a program that test_distributed starts.

    python -m tests.two_workers RUN DATA FOLDER

One process writes `one.jsonl`; Ray writes `two.jsonl`, breaking off once, and goes on. Then Ray is given a run that
cannot be loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import ray
import torch

from genrec.batch import recommend_all, run_job
from genrec.distributed import ray_blocks
from genrec.errors import ModelError
from genrec.recommender import Recommender, Settings
from genrec.users import open_users
from genrec.worker import Block

SETTINGS = Settings(k=3, beams=3)
BLOCK_USERS = 8


def main(run: Path, data: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    file = folder / "users.jsonl"
    stream = open_users("all", lambda: data)
    lines = [f'{{"user": "{one.user}", "items": ["{one.items[0]}", "gone"]}}' for one in stream.histories(0, 28)]
    file.write_text("\n".join(lines), encoding="utf-8")
    users = open_users(str(file), lambda: data)
    span = (2, users.count)
    recommender = Recommender.from_pretrained(run, "cpu", "fp32")
    whole = recommend_all(
        recommender,
        lambda done: users.histories(span[0] + done, span[1]),
        folder / "one.jsonl",
        SETTINGS,
        fingerprint={},
        block_users=BLOCK_USERS,
    )
    start_ray()
    blocks = ray_blocks(run, "cpu", SETTINGS, users, span, 2, BLOCK_USERS)

    def broken_off(done: int) -> Iterator[Block]:
        yield from islice(blocks(done), 1)
        raise KeyboardInterrupt

    out = folder / "two.jsonl"
    with suppress(KeyboardInterrupt):
        run_job(broken_off, out, {}, block_users=BLOCK_USERS)
    summary = run_job(blocks, out, {}, block_users=BLOCK_USERS, resume=True)
    assert (summary.users, summary.resumed) == (26, BLOCK_USERS), summary
    assert summary.problems == whole.problems == {"unknown-items": 26}, summary
    try:
        next(ray_blocks(folder, "cpu", SETTINGS, users, span, 1, BLOCK_USERS)(0))
    except ModelError as error:
        sys.stdout.write(f"{error}\n")


def start_ray() -> None:
    """Start Ray; on a busy machine its own patience of 30 seconds can be too short, so more than once."""
    for _ in range(4):
        with suppress(Exception):
            ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
            return
        ray.shutdown()
    sys.exit("Ray does not start here")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
