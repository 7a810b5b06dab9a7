"""The same job by two Ray workers; a program that test_distributed starts.

    python -m tests.two_workers RUN DATA FOLDER

In each number format one process writes `one-….jsonl`; Ray writes `two-….jsonl`, breaking off once, and goes on. Then
Ray is given a run that cannot be loaded, and a GPU that is none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
import ray
import torch

from genrec.batch.job import recommend_all, run_job
from genrec.batch.ray import choose_for_workers, ray_blocks
from genrec.batch.users import Users, open_users
from genrec.batch.worker import Block
from genrec.errors import ModelError
from genrec.recommender import Recommender
from genrec.settings import Settings
from training.computing import Computing, ComputingError

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
    start_ray()
    for precision in ("fp32", "bf16"):
        compare(run, users, span, folder, Computing("cpu", precision))
    try:
        next(ray_blocks(folder, Computing("cpu", "fp32"), SETTINGS, users, span, 1, BLOCK_USERS)(0))
    except ModelError as error:
        sys.stdout.write(f"{error}\n")
    assert choose_for_workers("cpu", "auto", {"device": "cpu", "precision": "bf16"}) == Computing("cpu", "bf16")
    if not torch.cuda.is_available():  # Ray was told of a GPU, so a worker is asked
        with pytest.raises(ComputingError, match="no device 'cuda'"):
            choose_for_workers(None, "auto")


def compare(run: Path, users: Users, span: tuple[int, int], folder: Path, computing: Computing) -> None:
    recommender = Recommender.from_pretrained(run, computing.device, computing.precision)
    assert recommender.computing == computing
    whole = recommend_all(
        recommender,
        lambda done: users.histories(span[0] + done, span[1]),
        folder / f"one-{computing.precision}.jsonl",
        SETTINGS,
        fingerprint={},
        block_users=BLOCK_USERS,
    )
    blocks = ray_blocks(run, computing, SETTINGS, users, span, 2, BLOCK_USERS)

    def broken_off(done: int) -> Iterator[Block]:
        yield from islice(blocks(done), 1)
        raise KeyboardInterrupt

    out = folder / f"two-{computing.precision}.jsonl"
    with suppress(KeyboardInterrupt):
        run_job(broken_off, out, {}, block_users=BLOCK_USERS)
    summary = run_job(blocks, out, {}, block_users=BLOCK_USERS, resume=True)
    assert (summary.users, summary.resumed) == (26, BLOCK_USERS), summary
    assert summary.problems == whole.problems == {"unknown-items": 26}, summary


def start_ray() -> None:
    """Start Ray; on a busy machine its own patience of 30 seconds can be too short, so more than once."""
    for _ in range(4):
        with suppress(Exception):
            ray.init(num_cpus=2, num_gpus=1, include_dashboard=False, logging_level="ERROR")
            return
        ray.shutdown()
    sys.exit("Ray does not start here")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
