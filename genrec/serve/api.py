"""genrec's own requests over HTTP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from genrec.data.catalog import Item, normalise_label
from genrec.data.splits import History, clean_taste
from genrec.explain.evidence import Wording
from genrec.recommender import Recommender
from genrec.serve.access import ApiKeys, Right
from genrec.serve.engine import Engine
from genrec.serve.messages import (
    Answer,
    Ask,
    AskReason,
    AskScores,
    Entry,
    Events,
    EventsOut,
    Forgotten,
    Health,
    HistoryOut,
    Id,
    ItemList,
    ItemOut,
    Items,
    ItemsOut,
    Problem,
    ReasonOut,
    Whom,
)
from genrec.serve.store import Event

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in (
        (400, "The body is no JSON."),
        (401, "No key, or one that is not known."),
        (403, "The key has not the right."),
        (404, "There is no such item."),
        (408, "The body took too long."),
        (413, "The body is too large."),
        (422, "Something asked for cannot be."),
        (429, "Too many requests wait; ask again in a second."),
        (503, "It took too long, or the database does not answer."),
    )
}
ItemPath = Annotated[Id, Path(description="An item's id.")]
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)
_BEARER = HTTPBearer(auto_error=False)


def needs(right: Right) -> Callable[..., Coroutine[Any, Any, None]]:
    """Return a dependency that lets a request pass if its key has the right, or if no keys are required."""

    async def check(
        request: Request,
        header: Annotated[str | None, Depends(_HEADER)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    ) -> None:
        keys: ApiKeys = request.app.state.keys
        if not keys.are_asked:
            return
        given = header or (bearer.credentials if bearer else "")
        rights = keys.rights_of(given) if given else None
        if rights is None:
            raise HTTPException(401, "give a known API key in the header X-API-Key", {"WWW-Authenticate": "Bearer"})
        if right not in rights:
            raise HTTPException(403, f"this API key has not the right to {right}")

    return check


READ, WRITE, MANAGE = ([Depends(needs(right))] for right in ("read", "write", "manage"))
router = APIRouter(responses=PROBLEMS)


def engine_of(request: Request) -> Engine:
    """Return the application's engine."""
    engine: Engine = request.app.state.engine
    return engine


async def history_of(engine: Engine, asked: Whom) -> History:
    """Return the requested history: a user's or a session's, with the taste if one is given.

    Raises:
        DataError: an item of the session is not in the catalogue, or the taste is too long.
    """
    taste = clean_taste(asked.taste) if asked.taste.strip() else ""
    if asked.user is None:
        return History("", tuple(map(engine.recommender.find, asked.items or ())), taste=taste)
    history = await engine.history(asked.user)
    return History("", history.items, history.times, taste)


@router.post("/recommend", dependencies=READ)
async def recommend(asked: Ask, request: Request) -> Answer:
    """Return a list for a user, for a session's items, or for a taste."""
    engine = engine_of(request)
    settings = asked.to_settings()
    found = await engine.recommend(await history_of(engine, asked), settings)
    entries = list(map(Entry.of, found))
    return Answer(recommendations=entries, understood=found.understood, released=found.released)


@router.post("/score", dependencies=READ)
async def score(asked: AskScores, request: Request) -> Answer:
    """Score the given items, best first; scores are comparable within one answer only."""
    engine = engine_of(request)
    candidates = list(map(engine.recommender.find, asked.candidates))
    found = await engine.score(await history_of(engine, asked), candidates)
    return Answer(recommendations=list(map(Entry.of, found)))


@router.post("/explain", dependencies=READ)
async def explain(asked: AskReason, request: Request) -> ReasonOut:
    """Return the reason for which an item would be recommended."""
    engine = engine_of(request)
    item = engine.recommender.find(asked.item)
    wording = Wording(asked.language, asked.tone, asked.length)
    reason = await engine.explain(await history_of(engine, asked), item, asked.explain == "measured", wording)
    return ReasonOut(explanation=reason.text, because=list(reason.because))


@router.get("/items", dependencies=READ)
async def items(
    request: Request,
    query: Annotated[str, Query(max_length=200, description="Words of the title.")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> ItemList:
    """Find items by words of their titles, most popular first."""
    engine = engine_of(request)
    found = search(engine.recommender, query, limit, engine.hidden)
    return ItemList(items=list(map(ItemOut.of, found)))


@router.get("/items/{item}/similar", dependencies=READ)
async def similar(item: ItemPath, request: Request, k: Annotated[int, Query(ge=1, le=100)] = 10) -> ItemList:
    """Return the items whose titles are the most similar in meaning."""
    engine = engine_of(request)
    found = await engine.similar(known_item(engine, item), k)
    return ItemList(items=[ItemOut.of(one, cosine) for one, cosine in found])


@router.post("/items", dependencies=WRITE)
async def add_items(new: Items, request: Request) -> ItemsOut:
    """Add items; they can be recommended once this request is answered."""
    added = await engine_of(request).add_items([item.to_item() for item in new.items])
    return ItemsOut(new=added, known=len(new.items) - added)


@router.delete("/items/{item}", dependencies=WRITE)
async def hide_item(item: ItemPath, request: Request) -> ItemOut:
    """Hide an item from all lists; its events are kept."""
    engine = engine_of(request)
    found = engine.recommender.catalog[known_item(engine, item)]
    await engine.hide(item)
    return ItemOut.of(found)


@router.post("/events", dependencies=WRITE)
async def events(sent: Events, request: Request) -> EventsOut:
    """Write events; they are on disk once this request is answered, and the user's next list uses them."""
    engine = engine_of(request)
    for event in sent.events:
        if event.item not in engine.recommender.catalog:
            raise HTTPException(422, f"item {event.item[:80]!r} is not in the catalogue; add it with POST /items first")
    now = int(time.time())
    written = [
        Event(one.user, one.item, now if one.time is None else one.time, one.id or new_id(), one.kind)
        for one in sent.events
    ]
    new = await engine.append(written)
    return EventsOut(new=new, known=len(written) - new)


@router.get("/users/{user}/history", dependencies=READ)
async def history(user: Id, request: Request) -> HistoryOut:
    """Return the items that a user took, oldest first; items outside the catalogue are left out."""
    engine = engine_of(request)
    catalog = engine.recommender.catalog
    known = [catalog[item] for item in (await engine.history(user)).items if item in catalog]
    return HistoryOut(items=list(map(ItemOut.of, known)))


@router.delete("/users/{user}", dependencies=WRITE)
async def forget(user: Id, request: Request) -> Forgotten:
    """Delete a user's events; a trained model may still hold them (see `genrec forget`)."""
    return Forgotten(events=await engine_of(request).forget(user))


@router.post("/admin/reload", dependencies=MANAGE)
async def reload(request: Request) -> Health:
    """Load the run folder again, and let the new run take over if it passes the check."""
    engine, load = engine_of(request), request.app.state.load
    if load is None:
        raise HTTPException(404, "this service was started without a run folder")
    await engine.take_over(load)
    return Health(status="taken over", items=len(engine.recommender.catalog))


@router.get("/health/live")
async def live(request: Request) -> Health:
    """Confirm that the process answers."""
    return Health(status="live", items=len(engine_of(request).recommender.catalog))


@router.get("/health/ready")
async def ready(request: Request) -> Health:
    """Report whether the model and the store answer; 503 if they do not."""
    engine = engine_of(request)
    await engine.ready()
    return Health(status="ready", items=len(engine.recommender.catalog))


@router.get("/metrics", dependencies=READ, response_class=Response)
async def metrics(request: Request) -> Response:
    """Return figures for Prometheus."""
    return Response(engine_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def known_item(engine: Engine, item: str) -> str:
    """Return the id of an item of the catalogue.

    Raises:
        HTTPException: there is no such item.
    """
    if item not in engine.recommender.catalog:
        raise HTTPException(404, f"item {item[:80]!r} is not in the catalogue")
    return item


def new_id() -> str:
    """Return a new, unique event id."""
    return secrets.token_hex(16)


def search(recommender: Recommender, query: str, limit: int, hidden: frozenset[str]) -> Sequence[Item]:
    """Return the items whose titles contain all words, most popular first."""
    words = normalise_label(query).split()
    catalog, popularity = recommender.catalog, recommender.facts.popularity
    matching = [
        row
        for row, item in enumerate(catalog)
        if item.id not in hidden and all(word in normalise_label(item.title) for word in words)
    ]
    best = np.argsort(-popularity[matching], kind="stable")[:limit]
    return [catalog.items[matching[place]] for place in best.tolist()]
