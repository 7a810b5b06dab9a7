"""Gorse's paths and fields, so that its clients (pygorse, gorsejs and others) work unchanged.

Features of Gorse that genrec lacks are accepted and ignored: a user's labels, and writing back the shown items. A Gorse
item has no title; its comment is used as the title, or its id if there is no comment.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Query, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from genrec.data.catalog import Item, clean_title
from genrec.data.splits import History
from genrec.errors import ConfigError
from genrec.ranking.filters import CATEGORY, Filters
from genrec.recommendation import Recommendation
from genrec.serve.api import PROBLEMS, READ, WRITE, engine_of, known_item, search
from genrec.serve.engine import Engine
from genrec.serve.messages import LATEST, MOST, Health, Id, Text, finite
from genrec.serve.store import Event
from genrec.settings import Settings

MOST_LISTED = 100
router = APIRouter(prefix="/api", tags=["Gorse"], responses=PROBLEMS)


def seconds_of(moment: datetime | None) -> int:
    """Return Unix seconds; the current time by default; a time without a zone is in UTC."""
    if moment is None:
        return int(time.time())
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(int(aware.timestamp()), 0), LATEST)


Moment = Annotated[datetime | None, BeforeValidator(lambda given: given or None)]
Length = Annotated[int, Query(ge=1, le=MOST_LISTED)]
Start = Annotated[int, Query(ge=0, le=MOST_LISTED)]


class Feedback(BaseModel):
    """Gorse's event."""

    FeedbackType: Id = "event"
    UserId: Id
    ItemId: Id
    Timestamp: Moment = None


class SessionFeedback(BaseModel):
    """An event of a session; its user may be unknown."""

    ItemId: Id


class GorseItem(BaseModel):
    """Gorse's item."""

    ItemId: Id
    IsHidden: bool | None = None
    Categories: list[Text] | None = Field(None, max_length=50)
    Labels: Any = None
    Comment: Annotated[Text | None, AfterValidator(lambda text: text or None)] = None

    def to_item(self) -> Item:
        """Return genrec's form of the item."""
        given = self.Labels if isinstance(self.Labels, dict) else {}
        attributes = {str(name)[:256]: value[:256] for name, value in given.items() if isinstance(value, str)}
        title = clean_title(self.Comment or "") or clean_title(self.ItemId) or self.ItemId
        return Item(self.ItemId, title, "", tuple(self.Categories or ()), attributes)

    @classmethod
    def of(cls, item: Item, hidden: bool) -> GorseItem:
        """Return Gorse's form of an item."""
        return cls(
            ItemId=item.id,
            IsHidden=hidden,
            Categories=list(item.categories),
            Labels=dict(item.attributes),
            Comment=item.title,
        )


class ItemChange(BaseModel):
    """The fields of an item that may change."""

    IsHidden: bool | None = None


class User(BaseModel):
    """Gorse's user; only the id is read, and it is stored with the first event."""

    UserId: Id


class Scored(BaseModel):
    """An item with a score."""

    Id: str
    Score: float


class Rows(BaseModel):
    """The number of rows that were written."""

    RowAffected: int


class Page(BaseModel):
    """Items, and an empty cursor, because there is no next page."""

    Items: list[GorseItem]
    Cursor: str = ""


Feedbacks = Annotated[list[Feedback], Field(max_length=MOST)]


@router.get("/recommend/{user}", dependencies=READ)
@router.get("/recommend/{user}/", dependencies=READ, include_in_schema=False)
@router.get("/recommend/{user}/{category}", dependencies=READ)
async def recommend(
    request: Request,
    user: Id,
    category: Text = "",
    n: Length = 10,
    offset: Start = 0,
    x_api_version: Annotated[str, Header()] = "1",
) -> list[str] | list[Scored]:
    """Return a list for a user; with X-API-Version: 2, with scores."""
    engine = engine_of(request)
    history = await engine.history(user)
    found = (await _listed(engine, history, n + offset, category or request.query_params.get("category", "")))[offset:]
    return _scored(found) if x_api_version.strip() == "2" else [entry.item.id for entry in found]


@router.post("/session/recommend", dependencies=READ)
@router.post("/session/recommend/{category}", dependencies=READ)
async def session_recommend(
    request: Request,
    feedback: Annotated[list[SessionFeedback], Field(max_length=MOST)],
    category: Text = "",
    n: Length = 10,
    offset: Start = 0,
) -> list[Scored]:
    """Return a list for a session's feedback, oldest first."""
    history = History("", tuple(one.ItemId for one in feedback))
    return _scored((await _listed(engine_of(request), history, n + offset, category))[offset:])


@router.post("/feedback", dependencies=WRITE)
async def insert_feedback(request: Request, feedback: Feedbacks) -> Rows:
    """Write feedback; existing feedback is kept."""
    return await _write(engine_of(request), feedback, overwrite=False)


@router.put("/feedback", dependencies=WRITE)
async def overwrite_feedback(request: Request, feedback: Feedbacks) -> Rows:
    """Write feedback; existing feedback is overwritten."""
    return await _write(engine_of(request), feedback, overwrite=True)


@router.get("/user/{user}/feedback/{kind}", dependencies=READ)
async def list_feedback(request: Request, user: Id, kind: Id) -> list[dict[str, str]]:
    """Return the items that a user took; genrec's histories do not distinguish kinds."""
    history = await engine_of(request).history(user)
    times = history.times or (0,) * len(history.items)
    return [
        {
            "FeedbackType": kind,
            "UserId": user,
            "ItemId": item,
            "Timestamp": datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z"),
        }
        for item, moment in zip(history.items, times, strict=True)
    ]


@router.post("/item", dependencies=WRITE)
async def insert_item(request: Request, item: GorseItem) -> Rows:
    """Add an item."""
    return await _insert(engine_of(request), [item])


@router.post("/items", dependencies=WRITE)
async def insert_items(request: Request, items: Annotated[list[GorseItem], Field(max_length=MOST)]) -> Rows:
    """Add items."""
    return await _insert(engine_of(request), items)


@router.get("/items", dependencies=READ)
async def list_items(
    request: Request, n: Length = 10, cursor: str = "", q: Annotated[str, Query(max_length=200)] = ""
) -> Page:
    """Find items by words of their titles; only the first page is returned."""
    engine = engine_of(request)
    found = [] if cursor else search(engine.recommender, q, n, engine.hidden)
    return Page(Items=[GorseItem.of(item, False) for item in found])


@router.get("/item/{item}", dependencies=READ)
async def get_item(request: Request, item: Id) -> GorseItem:
    """Return an item."""
    engine = engine_of(request)
    return GorseItem.of(engine.recommender.catalog[known_item(engine, item)], item in engine.hidden)


@router.patch("/item/{item}", dependencies=WRITE)
async def update_item(request: Request, item: Id, change: ItemChange) -> Rows:
    """Hide an item or show it; other fields cannot change while the run answers."""
    engine = engine_of(request)
    known_item(engine, item)
    if change.IsHidden is not None:
        await engine.hide(item, change.IsHidden)
    return Rows(RowAffected=1)


@router.delete("/item/{item}", dependencies=WRITE)
async def delete_item(request: Request, item: Id) -> Rows:
    """Hide an item; histories may still contain it."""
    return Rows(RowAffected=int(await engine_of(request).hide(item)))


@router.get("/item/{item}/neighbors", dependencies=READ)
@router.get("/item/{item}/neighbors/", dependencies=READ, include_in_schema=False)
@router.get("/item-to-item/{name}/{item}", dependencies=READ)
async def neighbors(request: Request, item: Id, name: str = "", n: Length = 10, offset: Start = 0) -> list[Scored]:
    """Return the items whose titles are the most similar in meaning; all of Gorse's names give this similarity."""
    engine = engine_of(request)
    found = await engine.similar(known_item(engine, item), n + offset)
    return [Scored(Id=one.id, Score=cosine) for one, cosine in found[offset:]]


@router.get("/latest", dependencies=READ)
async def latest(request: Request, n: Length = 10, offset: Start = 0) -> list[Scored]:
    """Return the items that were added last, newest first; a later item has a higher score."""
    engine = engine_of(request)
    shown = [(row, item) for row, item in enumerate(engine.recommender.catalog) if item.id not in engine.hidden]
    return [Scored(Id=item.id, Score=row) for row, item in shown[::-1][offset : offset + n]]


@router.post("/user", dependencies=WRITE)
async def insert_user(user: User) -> Rows:
    """Accept a user; there is nothing to keep before the first event."""
    return Rows(RowAffected=1)


@router.post("/users", dependencies=WRITE)
async def insert_users(users: Annotated[list[User], Field(max_length=MOST)]) -> Rows:
    """Accept users; there is nothing to keep before the first event."""
    return Rows(RowAffected=len(users))


@router.get("/user/{user}", dependencies=READ)
async def get_user(request: Request, user: Id) -> User:
    """Return a user who has events."""
    if not (await engine_of(request).history(user)).items:
        raise HTTPException(404, "this user has no events")
    return User(UserId=user)


@router.delete("/user/{user}", dependencies=WRITE)
async def delete_user(request: Request, user: Id) -> Rows:
    """Delete a user's events."""
    return Rows(RowAffected=await engine_of(request).forget(user))


@router.get("/health/live")
async def live(request: Request) -> Health:
    """Confirm that the process answers."""
    return Health(status="live", items=len(engine_of(request).recommender.catalog))


@router.get("/health/ready")
async def ready(request: Request) -> Health:
    """Report whether the model and the store answer."""
    await engine_of(request).ready()
    return await live(request)


async def _listed(engine: Engine, history: History, k: int, category: str) -> list[Recommendation]:
    filters = Filters(only=((CATEGORY, category),)) if category.strip() else Filters()
    asked = History("", history.items, history.times)
    try:
        return await engine.recommend(asked, Settings(k=min(k, MOST_LISTED), filters=filters))
    except ConfigError:
        if category:  # for an unknown category, Gorse's clients expect an empty list
            return []
        raise


async def _write(engine: Engine, feedback: Sequence[Feedback], overwrite: bool) -> Rows:
    # Gorse identifies feedback by type, user and item.
    events = [
        Event(one.UserId, one.ItemId, seconds_of(one.Timestamp), f"gorse/{one.FeedbackType}/{one.ItemId}", kind)
        for one in feedback
        for kind in [one.FeedbackType]
    ]
    return Rows(RowAffected=await engine.append(events, overwrite))


async def _insert(engine: Engine, items: Sequence[GorseItem]) -> Rows:
    await engine.add_items([item.to_item() for item in items])
    for item in items:
        if item.IsHidden is not None and item.IsHidden != (item.ItemId in engine.hidden):
            await engine.hide(item.ItemId, item.IsHidden)
    return Rows(RowAffected=len(items))


def _scored(found: Sequence[Recommendation]) -> list[Scored]:
    return [Scored(Id=entry.item.id, Score=finite(entry.score) or 0.0) for entry in found]
