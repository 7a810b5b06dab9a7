"""The guard before every request: limits on size and body time, one log line, and metrics.

It is plain ASGI, because a body must be counted as it arrives, before it is read into memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from genrec.serve.metrics import Metrics

logger = logging.getLogger("genrec.serve.requests")


class Guard:
    """Refuses bodies that are too large or too slow; logs and counts each request by its route, never by its path.

    Args:
        app: the application that answers.
        metrics: the counters of requests.
        most_bytes: the largest size of a body.
        body_seconds: the longest time that a body may take to arrive.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, most_bytes: int, body_seconds: float) -> None:
        self._app, self._metrics = app, metrics
        self._most_bytes, self._body_seconds = most_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if length.isdigit() and int(length[:20]) > self._most_bytes:
                await _answer(scope, receive, told, 413, self._too_large)
            else:
                await self._app(scope, self._counted(receive, started), told)
        except Exception as error:
            # The error's message may contain a user's id, so it is not logged.
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            logger.error(json.dumps({"fault": type(error).__name__, "at": place}))
            logger.debug("the fault", exc_info=error)
            if not status:
                await _answer(scope, receive, told, 500, "a fault of the service, not yours; its log says where")
        finally:
            if status in (408, 413):
                self._metrics.refused.labels(str(status)).inc()
            self._tell(scope, status, time.monotonic() - started)

    def _counted(self, receive: Receive, started: float) -> Receive:
        """Return a receiver that refuses a body if it is too large or too slow."""
        seen, finished = 0, False

        async def counted() -> Message:
            nonlocal seen, finished
            if finished:  # the time limit does not apply to waiting for the answer
                return await receive()
            left = self._body_seconds - (time.monotonic() - started)
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                raise HTTPException(408, f"the body took longer than {self._body_seconds:g} seconds") from None
            seen += len(message.get("body", b""))
            if seen > self._most_bytes:
                raise HTTPException(413, self._too_large)
            finished = not message.get("more_body", False)
            return message

        return counted

    @property
    def _too_large(self) -> str:
        return f"the body is larger than {self._most_bytes:,} bytes; send less at once"

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route: Any = scope.get("route")
        path = getattr(route, "path", "(none)")
        self._metrics.requests.labels(path, status).observe(seconds)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        line = {"time": round(time.time(), 3), "method": method, "route": path, "status": status}
        logger.info(json.dumps(line | {"ms": round(1000 * seconds, 1)}))


_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    await JSONResponse({"detail": detail}, status, {"connection": "close"})(scope, receive, send)
