"""The messages of genrec's own requests; the OpenAPI document is made from these types.

Texts that the database would refuse are rejected: JSON can hold unpaired surrogates and zero bytes.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from genrec.data.catalog import Item, clean_title
from genrec.data.splits import LONGEST_TASTE
from genrec.explain.evidence import Wording
from genrec.ranking.filters import Filters
from genrec.ranking.reranking import Reranking
from genrec.recommendation import How, Recommendation
from genrec.settings import Settings

MOST = 1000
"""The most entries of any list in a request."""

LATEST = 253_402_300_799
"""Unix seconds: the end of the year 9999."""


def storable(text: str) -> str:
    """Return the text, if a database can hold it.

    Raises:
        ValueError: it holds an unpaired surrogate or a zero byte.
    """
    if "\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("the text holds a zero byte or half a character; leave these out")
    return text


Id = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(storable)]
Text = Annotated[str, Field(max_length=2000), AfterValidator(storable)]
Second = Annotated[int, Field(ge=0, le=LATEST, description="Unix seconds; now where left out.")]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """A client's message; an unknown field is refused, because it is probably a misspelling."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    detail: str


class FiltersIn(Strict):
    """Conditions that every recommended item meets."""

    only: dict[Text, list[Text]] = Field({}, max_length=50, description="For each key, one of these values.")
    without: dict[Text, list[Text]] = Field({}, max_length=50, description="For each key, none of these values.")
    lowest_price: Number | None = None
    highest_price: Number | None = None
    available_on: str = Field("", max_length=40, description="A day, as YYYY-MM-DD.")

    def to_filters(self) -> Filters:
        """Return genrec's own form.

        Raises:
            ConfigError: the price range or the day is invalid.
        """
        only, without = (
            tuple((key, value) for key, values in asked.items() for value in values)
            for asked in (self.only, self.without)
        )
        return Filters(only, without, self.lowest_price, self.highest_price, self.available_on)


class RerankingIn(Strict):
    """Requirements for a list beyond its scores."""

    diversity: Number = 0.0
    max_per_category: int | None = None
    discount_popularity: Number = 0.0
    calibration: Number = 0.0


class Whom(Strict):
    """The user of a request: a user of the store, or a session's items; a taste with either, or alone."""

    user: Id | None = None
    items: list[Id] | None = Field(None, max_length=MOST, description="Item ids or titles, oldest first.")
    taste: str = Field("", max_length=2 * LONGEST_TASTE)

    @model_validator(mode="after")
    def _one_history(self) -> Self:
        if self.user is not None and self.items is not None:
            raise ValueError("give a user or items, not both")
        return self


class Ask(Whom):
    """A request for a list."""

    k: int = Field(10, ge=1, le=100)
    exclude_seen: bool | None = Field(None, description="Where left out, as the run was trained for.")
    explain: Literal["none", "sentence", "measured"] = "none"
    language: Literal["en", "zh"] = "en"
    tone: Literal["plain", "warm"] = "plain"
    length: Literal["short", "long"] = "short"
    filters: FiltersIn = FiltersIn()
    reranking: RerankingIn = RerankingIn()

    def to_settings(self) -> Settings:
        """Return genrec's own form.

        Raises:
            ConfigError: a setting is invalid.
        """
        return Settings(
            k=self.k,
            exclude_seen=self.exclude_seen,
            explain=self.explain,
            wording=Wording(self.language, self.tone, self.length),
            filters=self.filters.to_filters(),
            reranking=Reranking(**self.reranking.model_dump()),
        )


class Entry(BaseModel):
    """One place in a list, as `genrec recommend` writes it."""

    rank: int
    item: str
    title: str
    score: float | None
    signals: dict[str, float | None]
    how: How
    generated: str = ""
    explanation: str | None = None

    @classmethod
    def of(cls, recommendation: Recommendation) -> Entry:
        """Return the entry of a recommendation; infinity becomes null, because JSON cannot express it."""
        entry = recommendation.to_json()
        signals = {name: finite(value) for name, value in entry["signals"].items()}
        return cls(**{**entry, "score": finite(entry["score"]), "signals": signals})


class Answer(BaseModel):
    """A list; of a taste, the constraints that the list keeps to, and those that too few items meet."""

    recommendations: list[Entry]
    understood: str = ""
    released: str = ""


class AskScores(Whom):
    """A request for the scores of given items."""

    candidates: list[Id] = Field(min_length=1, max_length=MOST, description="Item ids or titles.")


class AskReason(Whom):
    """A request for the reason for an item."""

    item: Id
    explain: Literal["sentence", "measured"] = "sentence"
    language: Literal["en", "zh"] = "en"
    tone: Literal["plain", "warm"] = "plain"
    length: Literal["short", "long"] = "short"


class ReasonOut(BaseModel):
    """A reason: a sentence, and the items of the history that it names."""

    explanation: str
    because: list[str]


class EventIn(Strict):
    """A user took an item."""

    user: Id
    item: Id
    time: Second | None = None
    id: Id | None = Field(None, description="Names the event: sent again, it counts once. A new one where left out.")
    kind: Id = Field("event", description="What the user did; 'read' and 'impression' do not count as taken.")


class Events(Strict):
    """Events, in the order in which they happened."""

    events: list[EventIn] = Field(min_length=1, max_length=MOST)


class EventsOut(BaseModel):
    """The result of writing events; all of them are on disk."""

    new: int
    known: int


class ItemIn(Strict):
    """A new item."""

    id: Id
    title: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(storable)]
    categories: list[Text] = Field([], max_length=50)
    attributes: dict[Text, Text] = Field({}, max_length=100)

    def to_item(self) -> Item:
        """Return genrec's own form."""
        return Item(self.id, clean_title(self.title), "", tuple(self.categories), self.attributes)


class Items(Strict):
    """New items."""

    items: list[ItemIn] = Field(min_length=1, max_length=MOST)


class ItemsOut(BaseModel):
    """The result of adding items; new items can be recommended now."""

    new: int
    known: int


class ItemOut(BaseModel):
    """An item of the catalogue."""

    id: str
    title: str
    categories: list[str]
    score: float | None = Field(None, description="The cosine, where similar items were asked for.")

    @classmethod
    def of(cls, item: Item, score: float | None = None) -> ItemOut:
        """Return the fields of an item that are shown."""
        return cls(id=item.id, title=item.title, categories=list(item.categories), score=finite(score))


class ItemList(BaseModel):
    """Items of the catalogue."""

    items: list[ItemOut]


class HistoryOut(BaseModel):
    """A user's history, oldest first."""

    items: list[ItemOut]


class Forgotten(BaseModel):
    """The number of deleted events."""

    events: int


class Health(BaseModel):
    """The state of the service."""

    status: str
    items: int


def finite(value: float | None) -> float | None:
    """Return the number, or None if JSON cannot express it."""
    return value if value is not None and math.isfinite(value) else None
