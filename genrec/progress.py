"""Progress on stderr: a bar if it is a terminal, else a plain line at intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_SECONDS = 30
"""Seconds between the lines of a job whose stderr is a file."""


class Bar(Protocol):
    """Told how far a job is."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Show that `done` of `total` is done."""
        ...


@contextmanager
def progress_bar(title: str, show: bool = True) -> Iterator[Bar]:
    """Show a job's progress while the block runs.

    Args:
        title: what is being done.
        show: whether anything is shown at all.
    """
    if not show:
        yield _silent
        return
    if not sys.stderr.isatty():
        yield _plain(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} % {task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as progress:
        task = progress.add_task(title, total=None, note="")

        def update(done: float, total: float, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield update


def _silent(done: float, total: float, note: str = "") -> None:
    """Show nothing."""


def _plain(title: str) -> Bar:
    started = time.monotonic()
    last = started

    def update(done: float, total: float, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < PLAIN_SECONDS:
            return
        last = now
        left = (now - started) / max(done, 1e-9) * (total - done)
        try:
            sys.stderr.write(f"{title}: {100 * done / max(total, 1e-9):.0f} % {note} about {left:.0f} s left\n")
        except OSError:  # whoever listened has gone, or the log's disk is full; the job goes on
            return

    return update
