"""A batch job on many processes or machines, with Ray Data.

Every worker is an actor with its own recommender. It gets a range of the stream, reads those users itself, and returns
their lines. The lines arrive in the order of the stream, and the process that started the job writes them. So the
output and `--resume` are the same as for a job in one process.

The run folder and the users' files must be readable under the same path on every machine. By default, Ray Data returns
blocks in the order in which they finish; here it is configured to keep the order of the stream.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genrec.batch.users import Users
from genrec.batch.worker import BLOCK_USERS, Block, Note
from genrec.errors import MissingExtra, ModelError
from genrec.libraries import debugging, listen
from genrec.settings import Settings
from training.computing import SWITCH, Computing, choose_computing, choose_device
from training.recipe import ServedPrecision

RAY_BLOCKS = 2000
"""Most parts that Ray is given to schedule."""


class Actor:
    """A worker in a process of its own.

    Args:
        run: the run folder.
        computing: the device and the number format of the model, chosen once for all workers.
        settings: how to recommend.
        users: the users.
        base: the present place of the run's base, if it differs from the recorded one.
    """

    def __init__(
        self, run: Path, computing: Computing, settings: Settings, users: Users, base: str | None = None
    ) -> None:
        listen(debugging())

        from genrec.batch.worker import Worker
        from genrec.recommender import Recommender

        self._work = Worker(
            Recommender.from_pretrained(run, computing.device, computing.precision, base=base), settings, users.count
        )
        self._users = users

    def __call__(self, stretches: dict[str, Any]) -> dict[str, list[Any]]:
        """Make the blocks of some stretches of the stream."""
        spans = zip(stretches["start"].tolist(), stretches["stop"].tolist(), strict=True)
        blocks = [self._work(list(self._users.histories(start, stop))) for start, stop in spans]
        return {
            "rows": [block.rows for block in blocks],
            "users": [block.users for block in blocks],
            "notes": [json.dumps([asdict(note) for note in block.notes]) for block in blocks],
        }


def ray_blocks(
    run: Path,
    computing: Computing,
    settings: Settings,
    users: Users,
    span: tuple[int, int],
    workers: int,
    block_users: int = BLOCK_USERS,
    base: str | None = None,
) -> Callable[[int], Iterator[Block]]:
    """Return a function that makes a job's blocks from a given position, for `genrec.batch.job.run_job`.

    Args:
        run: the run folder, under the same path on every machine.
        computing: where the model runs, and in which number format; on GPUs, each worker is given one of its own.
        settings: how to recommend.
        users: who for.
        span: the places of the job's first user and of the one after its last.
        workers: how many actors.
        block_users: users in a block.
        base: where the run's base is now, if not where the run says; every machine must find it there.

    Raises:
        MissingExtra: Ray is not installed.
        ModelError: from the blocks: a worker failed for good.
    """
    ray = _ray()

    def blocks(done: int) -> Iterator[Block]:
        logging.getLogger("ray.data").setLevel(_level())
        _start(ray)
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        first, last = span
        starts = range(first + done, last, block_users)
        if not starts:
            return
        # Handed over ready-made: a source that Ray had to read would want a processor that the workers hold.
        stretches = ray.data.from_items(
            [{"start": start, "stop": min(start + block_users, last)} for start in starts],
            override_num_blocks=min(len(starts), RAY_BLOCKS),
        )
        finished = stretches.map_batches(
            Actor,
            fn_constructor_args=(run.resolve(), computing, settings, users, _absolute(base)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=int(computing.kind == "cuda"),
        )
        try:
            for row in finished.iter_rows():
                notes = tuple(Note(**note) for note in json.loads(row["notes"]))
                yield Block(row["rows"], row["users"], notes)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(
                f"a Ray worker failed: {reason}; finished blocks are kept, correct the cause and start again with "
                "--resume"
            ) from error

    return blocks


def _absolute(base: str | None) -> str | None:
    """Return a base as workers find it, whose working directory is another."""
    return str(Path(base).resolve()) if base is not None and Path(base).is_dir() else base


def choose_for_workers(
    device: str | None, precision: ServedPrecision, begun: Mapping[str, Any] | None = None, what: str = "the job"
) -> Computing:
    """Return the device and number format of all workers, chosen once; if they have GPUs, by one of the workers.

    Args:
        device: as asked for; None takes the cluster's GPUs where it has some.
        precision: as asked for.
        begun: see `training.computing.choose_computing`.
        what: see there.

    Raises:
        MissingExtra: Ray is not installed.
        ComputingError: see there.
    """
    ray = _ray()
    _start(ray)
    if begun is not None and device is None:
        device = begun.get("device")
    if device is None:
        device = "cuda" if ray.cluster_resources().get("GPU") else choose_device()
    kind = device.partition(":")[0]
    if kind != "cuda":
        return choose_computing(kind, precision, begun, what)
    # A worker sees one GPU, its own, under the number 0; and the switch is set where the job is started.
    switch = os.environ.get(SWITCH, "")
    try:
        chosen = ray.remote(num_gpus=1)(_choose_there).remote(precision, begun, what, switch)
        computing: Computing = ray.get(chosen)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return computing


def _choose_there(precision: ServedPrecision, begun: Mapping[str, Any] | None, what: str, switch: str) -> Computing:
    os.environ[SWITCH] = switch
    return choose_computing("cuda", precision, begun, what)


def _level() -> int:
    return logging.WARNING if debugging() else logging.ERROR


def _ray() -> Any:
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise MissingExtra("ray", "--workers") from None
    return ray


def _start(ray: Any) -> None:
    if not ray.is_initialized():
        ray.init(include_dashboard=False, logging_level=_level())
