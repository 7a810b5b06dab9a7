"""Metarank's requests, so that its clients work unchanged: /recommend, /rank, /feedback, /health.

A model's name is ignored, because there is only one model. Interactions are stored as events. Items are added, with
their titles read from their fields. Rankings and users' fields are accepted and ignored.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, BeforeValidator, Discriminator, Field

from genrec.data.catalog import Item, clean_title
from genrec.data.splits import History
from genrec.serve.api import PROBLEMS, READ, WRITE, engine_of
from genrec.serve.engine import Engine
from genrec.serve.gorse import Moment, seconds_of
from genrec.serve.messages import MOST, Health, Id, Text, finite
from genrec.serve.store import Event
from genrec.settings import Settings

TITLES, CATEGORIES = ("title", "name"), ("category", "categories", "genre", "genres")
"""Fields that are read as an item's title, and as its categories; other texts and numbers become attributes."""

router = APIRouter(tags=["Metarank"], responses=PROBLEMS)


def _moment(given: object) -> object:
    """Return seconds for milliseconds, which Metarank writes as numbers or texts."""
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = int(given[:20])
    return given / 1000 if isinstance(given, int) and not isinstance(given, bool) else given


Timestamp = Annotated[Moment, BeforeValidator(_moment)]
Value = Text | float | bool | list[Text] | list[float] | None


class FieldIn(BaseModel):
    """A named value."""

    name: Id
    value: Value = None


class RecommendIn(BaseModel):
    """A request for a list: for a session's items, or else for a user."""

    count: int = Field(10, ge=1, le=100)
    user: Id | None = None
    items: list[Id] = Field([], max_length=MOST)


class ItemRef(BaseModel):
    """An item to be ranked."""

    id: Id


class RankIn(BaseModel):
    """A request to rank items for a user, or for a session if no user is known."""

    user: Id | None = None
    session: Id | None = None
    items: list[ItemRef] = Field(min_length=1, max_length=MOST)


class ItemEvent(BaseModel):
    """A new item."""

    event: Literal["item"]
    item: Id
    fields: list[FieldIn] = Field([], max_length=100)

    def to_item(self) -> Item | None:
        """Return genrec's own form, or None if no field gives a title."""
        values = {field.name: field.value for field in self.fields}
        title = next((value for name in TITLES if isinstance(value := values.get(name), str)), "")
        if not clean_title(title):
            return None
        found = [value for name in CATEGORIES for value in _listed(values.get(name))]
        others = {
            name: str(value)
            for name, value in values.items()
            if name not in TITLES + CATEGORIES and isinstance(value, str | float | int)
        }
        return Item(self.item, clean_title(title), "", tuple(found), others)


class InteractionEvent(BaseModel):
    """A user's interaction with an item."""

    event: Literal["interaction"]
    id: Id | None = None
    item: Id
    type: Id = "click"
    timestamp: Timestamp = None
    user: Id | None = None
    session: Id | None = None


class UserEvent(BaseModel):
    """A user; nothing is stored."""

    event: Literal["user"]


class RankingEvent(BaseModel):
    """A ranking that was shown; nothing is stored."""

    event: Literal["ranking"]


AnyEvent = Annotated[ItemEvent | InteractionEvent | UserEvent | RankingEvent, Discriminator("event")]


class Ranked(BaseModel):
    """An item with its score, and with the value of every signal on request."""

    item: str
    score: float
    features: list[FieldIn] | None = None


class RankedList(BaseModel):
    """Items in order, and the time taken in milliseconds."""

    took: int
    items: list[Ranked]


class FeedbackOut(BaseModel):
    """The result of writing events; all of them are on disk."""

    status: str = "ok"
    accepted: int
    tookMillis: int  # noqa: N815 - Metarank's
    updated: int


@router.post("/recommend/{model}", dependencies=READ)
async def recommend(model: Id, asked: RecommendIn, request: Request) -> RankedList:
    """Return a list for a session's items, or else for a user."""
    engine, started = engine_of(request), time.monotonic()
    history = History("", tuple(asked.items)) if asked.items else await _history(engine, asked.user)
    found = await engine.recommend(history, Settings(k=asked.count))
    items = [Ranked(item=entry.item.id, score=finite(entry.score) or 0.0) for entry in found]
    return RankedList(took=_took(started), items=items)


@router.post("/rank/{model}", dependencies=READ, response_model_exclude_none=True)
async def rank(model: Id, asked: RankIn, request: Request, explain: Annotated[bool, Query()] = False) -> RankedList:
    """Rank items; items outside the catalogue come last."""
    engine, started = engine_of(request), time.monotonic()
    history = await _history(engine, asked.user or asked.session)
    wanted = list(dict.fromkeys(item.id for item in asked.items))
    found = await engine.score(history, wanted)
    items = [
        Ranked(
            item=entry.item.id,
            score=finite(entry.score) or 0.0,
            features=[FieldIn(name=name, value=finite(said)) for name, said in entry.signals.items()]
            if explain
            else None,
        )
        for entry in found
    ]
    lowest = min((one.score for one in items), default=0.0) - 1
    known = {one.item for one in items}
    items += [Ranked(item=item, score=lowest) for item in wanted if item not in known]
    return RankedList(took=_took(started), items=items)


@router.post("/feedback", dependencies=WRITE)
async def feedback(sent: AnyEvent | Annotated[list[AnyEvent], Field(max_length=MOST)], request: Request) -> FeedbackOut:
    """Write an event, or several; they are on disk once this request is answered."""
    engine, started = engine_of(request), time.monotonic()
    events: Sequence[AnyEvent] = sent if isinstance(sent, list) else [sent]
    items = [item for one in events if isinstance(one, ItemEvent) and (item := one.to_item())]
    added = await engine.add_items(items) if items else 0
    interactions = [
        Event(user, one.item, moment, one.id or f"metarank/{moment}/{one.type}/{one.item}", one.type)
        for one in events
        if isinstance(one, InteractionEvent) and (user := one.user or one.session)
        for moment in [seconds_of(one.timestamp)]
    ]
    written = await engine.append(interactions) if interactions else 0
    return FeedbackOut(accepted=len(events), tookMillis=_took(started), updated=added + written)


@router.get("/health")
async def health(request: Request) -> Health:
    """Report whether the model and the store answer."""
    engine = engine_of(request)
    await engine.ready()
    return Health(status="ok", items=len(engine.recommender.catalog))


async def _history(engine: Engine, user: str | None) -> History:
    if user is None:
        return History("", ())
    history = await engine.history(user)
    return History("", history.items, history.times)


def _listed(value: Value) -> Iterable[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def _took(started: float) -> int:
    return int(1000 * (time.monotonic() - started))
