"""The recommender in service: batches, a cache, new items while it runs, and the take-over by a new run.

An event does not invalidate the cache. Its key contains the whole history, which an event changes, even if another
process wrote the event.

Every computation reads the recommender once, because a new one may take over during an answer. An old recommender lives
until the last computation with it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fastapi.concurrency import run_in_threadpool

from genrec.data.catalog import Item
from genrec.data.splits import History
from genrec.errors import ArtefactError, DataError, GenrecError
from genrec.explain.evidence import Wording
from genrec.recommendation import Recommendation, Recommendations
from genrec.recommender import Recommender
from genrec.serve.batching import Batcher, Limits
from genrec.serve.metrics import Metrics
from genrec.serve.scoring import score_items
from genrec.serve.store import Event, HistoryStore
from genrec.settings import Settings

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Reason:
    """The reason for one item given one history: a sentence, and the ids of the items that it names."""

    text: str
    because: tuple[str, ...]


class Engine:
    """Answers requests for single users at once.

    Args:
        recommender: the first run.
        store: events and items; items that the run does not know are added to it.
        limits: the limits of load and waiting time.
    """

    def __init__(self, recommender: Recommender, store: HistoryStore, limits: Limits) -> None:
        self.store, self.limits, self.metrics = store, limits, Metrics()
        self._recommender = with_items_of(store, recommender)
        self._hidden = store.hidden()
        self._cache: OrderedDict[tuple[int, History, Settings], Recommendations] = OrderedDict()
        self._generation = 0
        self._batcher: Batcher[Recommendations] | None = None
        self._taking_over = asyncio.Lock()
        self.metrics.items.set(len(self._recommender.catalog))

    @property
    def recommender(self) -> Recommender:
        """The current recommender; read it once for each answer."""
        return self._recommender

    @property
    def hidden(self) -> frozenset[str]:
        """The ids of items that are not recommended."""
        return self._hidden

    @property
    def batcher(self) -> Batcher[Recommendations]:
        """The batcher that computes; it exists from `start` to `close`."""
        assert self._batcher is not None, "the service was not started"  # noqa: S101 - the application starts it
        return self._batcher

    @property
    def is_started(self) -> bool:
        """Whether requests can be answered."""
        return self._batcher is not None

    def start(self) -> None:
        """Start to answer; called inside the running event loop."""
        self._batcher = Batcher(self._answer, self.limits, self.metrics)
        self._batcher.start()

    async def close(self) -> None:
        """Stop, after the current computation."""
        batcher, self._batcher = self._batcher, None
        if batcher is not None:
            await batcher.close()

    async def history(self, user: str) -> History:
        """Return a user's history from the store."""
        started = time.monotonic()
        history = await run_in_threadpool(self.store.history, user)
        self.metrics.parts.labels("history").observe(time.monotonic() - started)
        return history

    async def append(self, events: Sequence[Event], overwrite: bool = False) -> int:
        """Write events; see `HistoryStore.append`."""
        started = time.monotonic()
        new = await run_in_threadpool(self.store.append, events, overwrite)
        self.metrics.parts.labels("events").observe(time.monotonic() - started)
        self.metrics.events.inc(new)
        return new

    async def forget(self, user: str) -> int:
        """Delete a user's events, and all cached answers; return the number of events."""
        gone = await run_in_threadpool(self.store.forget, user)
        self._cache.clear()
        return gone

    async def ready(self) -> None:
        """Return if the store and the model's thread answer; otherwise raise their error."""
        await run_in_threadpool(self.store.check)
        await self.batcher.run(lambda: None)

    async def recommend(self, history: History, settings: Settings) -> Recommendations:
        """Return the list of `Recommender.recommend_many` for the history, without hidden items.

        Raises:
            GenrecError: the catalogue cannot meet the settings.
            OverloadedError: too many wait already.
            TooLateError: it took too long.
        """
        key = (self._generation, replace(history, user=""), settings)
        found = self._cache.get(key)
        self.metrics.cache.labels("no" if found is None else "yes").inc()
        if found is not None:
            self._cache.move_to_end(key)
            return found
        hidden = self._hidden
        asked = replace(settings, k=settings.k + len(hidden)) if hidden else settings
        answer = await self.batcher.ask(key[1], asked)
        if hidden:
            shown = [entry for entry in answer if entry.item.id not in hidden][: settings.k]
            ranked = [replace(entry, rank=rank) for rank, entry in enumerate(shown, start=1)]
            answer = Recommendations(ranked, answer.understood, answer.released)
        if key[0] == self._generation:  # else it would be cached for another catalogue
            self._cache[key] = answer
            while len(self._cache) > self.limits.cache:
                self._cache.popitem(last=False)
        return answer

    async def score(self, history: History, items: Sequence[str]) -> list[Recommendation]:
        """Return the items with their scores for the history, best first; unknown items are left out."""

        def score() -> list[Recommendation]:
            recommender = self._recommender
            known = [item for item in items if item in recommender.catalog]
            return score_items(recommender, known_part(history, recommender), known) if known else []

        return await self.batcher.run(score)

    async def explain(self, history: History, item: str, measured: bool, wording: Wording) -> Reason:
        """Return the reason for which an item would be recommended for a history."""

        def explain() -> Reason:
            recommender = self._recommender
            known, how = known_part(history, recommender), "measured" if measured else "sentence"
            asked = [[recommender.catalog[item]]]
            ((found,),) = recommender.explainer.explain([known], asked, how, wording)  # type: ignore[arg-type]
            return Reason(found.text, tuple(cited.id for cited in found.cited))

        return await self.batcher.run(explain)

    async def similar(self, item: str, k: int) -> list[tuple[Item, float]]:
        """Return the items whose titles are the most similar in meaning, with their cosines.

        Raises:
            DataError: the item is not in the catalogue.
        """

        def similar() -> list[tuple[Item, float]]:
            recommender = self._recommender
            vectors = recommender.index.vectors([recommender.catalog[item].id])
            (ids,), (cosines,) = recommender.index.search(vectors, k, [{item, *self._hidden}])
            return [(recommender.catalog[one], float(cosine)) for one, cosine in zip(ids, cosines, strict=True)]

        return await self.batcher.run(similar)

    async def add_items(self, items: Sequence[Item]) -> int:
        """Add items that are not known yet; they can be recommended once this returns.

        Returns:
            The number of new items.

        Raises:
            DataError: a title is empty, or the model could not distinguish an item from another.
        """

        def add() -> int:
            recommender = self._recommender
            new = list({item.id: item for item in items if item.id not in recommender.catalog}.values())
            if new:
                grown = recommender.with_items(new)
                self.store.add_items(new)  # after the check, before the switch
                self._switch(grown)
            return len(new)

        return await self.batcher.run(add)

    async def hide(self, item: str, hidden: bool = True) -> bool:
        """Hide an item from all lists, or show it again; return whether the item exists."""
        known = await run_in_threadpool(self.store.hide, item, hidden)
        self._hidden = await run_in_threadpool(self.store.hidden)
        self._switch(self._recommender)
        return known

    async def take_over(self, load: Callable[[], Recommender]) -> None:
        """Load a run beside the current one, check it, and let it take over.

        Raises:
            GenrecError: the new run cannot be loaded, or fails the check; the old one continues.
        """
        async with self._taking_over:
            try:
                new = await run_in_threadpool(load)
                await run_in_threadpool(check, new)
                await self.batcher.run(lambda: self._switch(with_items_of(self.store, new)))
            except Exception:
                self.metrics.takeovers.labels("failed").inc()
                raise
            self.metrics.takeovers.labels("done").inc()

    def _switch(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._generation += 1
        self._cache.clear()
        self.metrics.items.set(len(recommender.catalog))

    def _answer(self, histories: Sequence[History], settings: Settings) -> list[Recommendations]:
        recommender = self._recommender
        known = [known_part(history, recommender) for history in histories]
        return recommender.recommend_many(known, settings)


def known_part(history: History, recommender: Recommender) -> History:
    """Return a history without items outside the catalogue: events may arrive before their items."""
    kept = [place for place, item in enumerate(history.items) if item in recommender.catalog]
    if len(kept) == len(history.items):
        return history
    times = tuple(history.times[place] for place in kept) if history.times else ()
    return replace(history, items=tuple(history.items[place] for place in kept), times=times)


def with_items_of(store: HistoryStore, recommender: Recommender) -> Recommender:
    """Return the recommender with the store's items that it does not know."""
    new = [item for item in store.items() if item.id not in recommender.catalog]
    if not new:
        return recommender
    try:
        return recommender.with_items(new)
    except DataError:
        pass
    for item in new:  # this run's tokenizer cannot distinguish all of them: the distinguishable are added
        try:
            recommender = recommender.with_items([item])
        except DataError as error:
            logger.warning("item %r of the store is left out: %s", item.id, error)
    return recommender


def check(recommender: Recommender) -> None:
    """Check that a run answers for a new user and for a user who took one item.

    Raises:
        ArtefactError: the run does not answer.
    """
    histories = [History("", ()), History("", recommender.catalog.ids[:1])]
    try:
        answers = recommender.recommend_many(histories, Settings(k=1, exclude_seen=False))
    except GenrecError:
        raise
    except Exception as error:
        raise ArtefactError(f"the new run does not answer ({type(error).__name__}); the old one goes on") from error
    if not all(answers):
        raise ArtefactError("the new run gives an empty list; the old one goes on")
