"""How to recommend: the settings that one call, one job or one evaluation has."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Literal, ParamSpec, TypeVar, get_args

from genrec.errors import ConfigError
from genrec.explain.evidence import Explain, Wording
from genrec.ranking.filters import Filters
from genrec.ranking.reranking import Reranking

Mode = Literal["constrained", "free"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to recommend.

    Attributes:
        k: how many items for each user, at least 1.
        beams: how many beams the language model holds, at least 1; at least k are used.
        mode: `constrained` searches the catalogue's trie; `free` writes any text and grounds it.
        exclude_seen: whether items of the history are left out; None: as the run was trained for.
        explain: whether each recommendation is explained, and how; see `genrec.explain.evidence.Explain`. Here "none":
            most jobs and every evaluation need lists only. `Recommender.recommend` and `recommend_many` explain by a
            sentence unless told otherwise, since a person reads what they return.
        wording: how explanations are worded.
        batch_size: how many users at most are decoded side by side, eight times as many on a GPU; at least 1. It
            changes the speed, not the result.
        filters: conditions that every recommended item meets; where fewer than k items do, fewer come back.
        reranking: what is asked of a list beyond its scores; scores then need not fall from place to place.
        waterfall: whether each recommendation says what its score is made of; see `genrec.ranking.waterfall`.
        writer: who words explanations where `explain` is "words": starter, a hub id, a folder, or an endpoint's
            address; the recommending model where left out. See `genrec.explain.writers`.

    Raises:
        ConfigError: a setting is of another kind than its field; all problems are told at once.

    Example:
        >>> from genrec import History, Recommender, Settings
        >>> rec = Recommender.from_pretrained("runs/films")
        >>> histories = [History("u1", ("nig1", "nig2")), History("u2", ("red1",))]
        >>> [len(found) for found in rec.recommend_many(histories, Settings(k=3, exclude_seen=True))]
        [3, 3]
    """

    k: int = 10
    beams: int = 20
    mode: Mode = "constrained"
    exclude_seen: bool | None = None
    explain: Explain = "none"
    wording: Wording = field(default_factory=Wording)
    batch_size: int = 32
    filters: Filters = field(default_factory=Filters)
    reranking: Reranking = field(default_factory=Reranking)
    waterfall: bool = False
    writer: str = ""

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}; expected a whole number from 1; give 1 or more"
            for name, value in (("k", self.k), ("beams", self.beams), ("batch_size", self.batch_size))
            if not isinstance(value, int) or isinstance(value, bool) or value < 1
        ]
        problems += [
            f"{name} is {value!r}; expected {', '.join(get_args(choices))}; choose one of them"
            for name, value, choices in (("mode", self.mode, Mode), ("explain", self.explain, Explain))
            if value not in get_args(choices)
        ]
        if self.exclude_seen not in (None, True, False):
            problems.append(
                f"exclude_seen is {self.exclude_seen!r}; expected True, False or None; None does what the run was "
                "trained for"
            )
        problems += [
            f"{name} is a {type(value).__name__}; expected {kind.__name__}; give {kind.__module__}.{kind.__name__}(...)"
            for name, value, kind in (
                ("wording", self.wording, Wording),
                ("filters", self.filters, Filters),
                ("reranking", self.reranking, Reranking),
            )
            if not isinstance(value, kind)
        ]
        if problems:
            raise ConfigError(problems)

    def excludes_seen(self, keep_seen: bool) -> bool:
        """Return whether items of the history are left out.

        Args:
            keep_seen: what holds where the settings leave it open: as the run was trained for.
        """
        return not keep_seen if self.exclude_seen is None else self.exclude_seen


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def refuses_unknown_options(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a function answer an option that it does not have with the name that is nearest, as a `ConfigError`.

    Python's own TypeError names no other option, and is no error of genrec's.
    """
    known = [name for name in inspect.signature(function).parameters if name != "self"]

    @wraps(function)
    def checked(*args: Parameters.args, **options: Parameters.kwargs) -> Result:
        problems = []
        for name in options:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
                problems.append(f"{function.__name__} has no option {name!r}; {hint}")
        if problems:
            raise ConfigError(problems)
        return function(*args, **options)

    return checked
