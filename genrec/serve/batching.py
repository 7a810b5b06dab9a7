"""Single requests become batches for the model: one thread computes, and requests that arrive meanwhile form a batch.

If no request waits, a request is held for a few milliseconds, so that others can join its batch. The queue is bounded
and each wait has a time limit. An overloaded service therefore refuses excess requests at once, and answers the others
in time.

A bad request does not fail its whole batch: a batch that fails is computed again, one request at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from genrec.data.splits import History
from genrec.serve.metrics import Metrics
from genrec.settings import Settings

Answer = TypeVar("Answer")
Result = TypeVar("Result")


class OverloadedError(Exception):
    """Raised if the queue is full."""


class TooLateError(Exception):
    """Raised if a request exceeds its time limit."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of load and waiting time.

    Attributes:
        wait: seconds that a request is held for others to join; only if none waits already.
        batch: the most users computed together.
        queue: the most requests that may wait; more are refused.
        seconds: the longest time for the waiting and computing of one request.
        cache: the number of answers that are kept.
    """

    wait: float = 0.003
    batch: int = 32
    queue: int = 256
    seconds: float = 10.0
    cache: int = 10_000


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Answer]):
    history: History
    settings: Settings
    future: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)


class Batcher(Generic[Answer]):
    """Collects requests and computes them together.

    Args:
        answer: computes the answers of several histories under the same settings, in a thread of its own.
        limits: the limits of load and waiting time.
        metrics: the counters to update.
    """

    def __init__(
        self, answer: Callable[[Sequence[History], Settings], list[Answer]], limits: Limits, metrics: Metrics
    ) -> None:
        self._answer, self._limits, self._metrics = answer, limits, metrics
        self._queue: asyncio.Queue[_Waiting[Answer]] = asyncio.Queue(limits.queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="genrec-model")
        self._others = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to collect; called inside the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._collect())

    async def close(self) -> None:
        """Stop, after the current computation."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    async def ask(self, history: History, settings: Settings) -> Answer:
        """Return the answer for one history.

        Raises:
            OverloadedError: too many wait already.
            TooLateError: it took too long.
        """
        waiting = _Waiting[Answer](history, settings, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            self._metrics.refused.labels("queue full").inc()
            raise OverloadedError from None
        self._metrics.waiting.set(self._queue.qsize())
        return await self._in_time(waiting.future)

    async def run(self, function: Callable[[], Result]) -> Result:
        """Run another function in the model's thread, between two batches.

        Raises:
            OverloadedError: too many wait already.
            TooLateError: it took too long.
        """
        if self._others >= self._limits.queue:
            self._metrics.refused.labels("queue full").inc()
            raise OverloadedError
        self._others += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._thread, function)
            return await self._in_time(future)
        finally:
            self._others -= 1

    async def _in_time(self, future: asyncio.Future[Result]) -> Result:
        try:
            return await asyncio.wait_for(future, self._limits.seconds)
        except TimeoutError:
            self._metrics.refused.labels("too late").inc()
            raise TooLateError from None

    async def _collect(self) -> None:
        while True:
            first = await self._queue.get()
            if self._queue.empty():
                await asyncio.sleep(self._limits.wait)
            batch = [first]
            while len(batch) < self._limits.batch and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            self._metrics.waiting.set(self._queue.qsize())
            alike: dict[Settings, list[_Waiting[Answer]]] = {}
            for waiting in batch:
                if not waiting.future.done():  # else its time ran out
                    alike.setdefault(waiting.settings, []).append(waiting)
            for settings, together in alike.items():
                await self._compute(settings, together)

    async def _compute(self, settings: Settings, together: list[_Waiting[Answer]]) -> None:
        started = time.monotonic()
        for waiting in together:
            self._metrics.parts.labels("queue").observe(started - waiting.since)
        self._metrics.batches.observe(len(together))
        histories = [waiting.history for waiting in together]
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._thread, self._answer, histories, settings)
        except Exception as error:
            if len(together) > 1:
                for waiting in together:
                    await self._compute(settings, [waiting])
            elif not together[0].future.done():
                together[0].future.set_exception(error)
            return
        finally:
            self._metrics.parts.labels("model").observe(time.monotonic() - started)
        for waiting, answer in zip(together, answers, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(answer)
