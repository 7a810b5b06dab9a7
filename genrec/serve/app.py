"""The application: genrec's own requests, Gorse's and Metarank's, the page, and the guard before all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from genrec.errors import GenrecError, told
from genrec.recommender import Recommender
from genrec.serve import api, gorse, metarank, page
from genrec.serve.access import ApiKeys
from genrec.serve.batching import Limits, OverloadedError, TooLateError
from genrec.serve.engine import Engine
from genrec.serve.guard import Guard
from genrec.serve.store import HistoryStore


@dataclass(frozen=True, slots=True)
class Options:
    """How the service behaves.

    Attributes:
        limits: the limits of load and waiting time.
        keys: the API keys; without keys, every request is allowed.
        cors: origins whose pages may send requests from a browser; none by default.
        most_bytes: the largest size of a request's body.
        body_seconds: the longest time that a body may take to arrive.
        load: loads the run that takes over on request.
    """

    limits: Limits = field(default_factory=Limits)
    keys: ApiKeys = field(default_factory=ApiKeys)
    cors: tuple[str, ...] = ()
    most_bytes: int = 1 << 20
    body_seconds: float = 10.0
    load: Callable[[], Recommender] | None = None


def create_app(recommender: Recommender, store: HistoryStore, options: Options | None = None) -> FastAPI:
    """Make the application; it answers while its lifespan lasts, and closes the store at its end.

    Args:
        recommender: the first run.
        store: events and items.
        options: the behaviour of the service.

    Raises:
        GenrecError: the store cannot be read.
    """
    options = options or Options()
    engine = Engine(recommender, store, options.limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await engine.close()
        store.close()

    app = FastAPI(
        title="genrec",
        summary="Recommendations for one user now, with what they did a second ago.",
        version=version("genrec"),
        lifespan=lifespan,
        # FastAPI's pages load scripts from other servers; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    app.state.engine, app.state.keys, app.state.load = engine, options.keys, options.load
    for part in (api, gorse, metarank, page):
        app.include_router(part.router)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Guard, metrics=engine.metrics, most_bytes=options.most_bytes, body_seconds=options.body_seconds)
    if options.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(options.cors), allow_methods=["*"], allow_headers=["X-API-Key", "*"]
        )
    return app


async def _of_the_user(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": told(error)}, 422)


async def _not_valid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - for the type checker
    # The invalid value is not repeated: it may hold numbers and characters that JSON cannot express.
    problems = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]]
    detail = "; ".join(problems).encode(errors="replace").decode()
    return JSONResponse({"detail": detail}, 422)


async def _overloaded(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "too many requests wait; ask again in a second"}, 429, {"Retry-After": "1"})


async def _too_late(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "it took too long; ask again later, or for less"}, 503, {"Retry-After": "5"})


async def _no_database(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": "the store does not answer; ask again later"}, 503, {"Retry-After": "5"})


HANDLERS: dict[type[Exception], Any] = {
    GenrecError: _of_the_user,
    RequestValidationError: _not_valid,
    OverloadedError: _overloaded,
    TooLateError: _too_late,
    SQLAlchemyError: _no_database,
}
