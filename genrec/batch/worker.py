"""The work of one process of a batch job: a block of histories in, a block of lines out.

If a history cannot be used unchanged, a stated rule is applied and noted with its reason:

    unknown-items   items that are not in the catalogue are left out of the history
    long            the prompt holds the newest items that fit
    long-title      not even the newest item fits: as an empty history
    empty           a history that is or becomes empty (the user may not be in the data at all) gets popular items
    short           fewer items than requested are left for the user: the list has all of them
    explanation     a text of the model failed its check and was replaced by the sentence made from its evidence

If memory runs out, fewer users are decoded side by side from then on. The results are the same except for the last
digits of scores, which depend on the shapes of matrix products. The retry is outside the `except` block: inside it, the
exception would still hold the tensors that filled the memory.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from genrec.data.splits import History
from genrec.errors import ModelError
from genrec.ranking.ranker import Ranked
from genrec.recommendation import Recommendations
from genrec.recommender import Recommender
from genrec.settings import Settings
from prompts.errors import PromptError

BLOCK_USERS = 128
"""Users in a block: they are decoded together, and a kill loses at most one block."""

GPU_BLOCK_USERS = 2048
"""The same on a GPU, which is fast enough that a block is still a matter of seconds."""

COMPILED_FROM = 8192
"""From so many users on, a job on a GPU has the model's layers compiled: some seconds, which longer jobs win back."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Note:
    """A user for whom a rule was applied.

    Attributes:
        row: the user's place in the block.
        user: the user's id.
        kind: the rule's name.
        problem: the reason, and what was done.
    """

    row: int
    user: str
    kind: str
    problem: str


@dataclass(frozen=True, slots=True)
class Block:
    """A finished block: its lines, its number of users, and the notes on them."""

    rows: bytes
    users: int
    notes: tuple[Note, ...] = ()


def block_users(kind: str) -> int:
    """Return the number of users in a block on this kind of device."""
    return GPU_BLOCK_USERS if kind == "cuda" else BLOCK_USERS


class Worker:
    """Makes blocks with one recommender.

    Args:
        recommender: who recommends.
        settings: how; the batch size shrinks where memory is short.
        users: the number of users of the whole job, of all shards.
    """

    def __init__(self, recommender: Recommender, settings: Settings, users: int = 0) -> None:
        self._recommender = recommender
        self._settings = settings
        # By the whole job's users, whatever part is done here: compiled layers round otherwise, and shards and
        # resumed jobs must write the bytes of an unbroken one.
        if users >= COMPILED_FROM and recommender.computing.kind == "cuda":
            recommender.decoder.fuse()

    def __call__(self, histories: Sequence[History]) -> Block:
        """Recommend for a block of users.

        Raises:
            ModelError: there is no memory even for one user at a time.
        """
        usable, notes = [], []
        for row, history in enumerate(histories):
            kept, problems = self._usable(history)
            usable.append(kept)
            notes += [Note(row, history.user, kind, problem) for kind, problem in problems]
        answers = self._recommend(usable)
        for row, (history, answer) in enumerate(zip(usable, answers, strict=True)):
            if (given := len(answer.recommendations)) < self._settings.k:
                notes.append(Note(row, history.user, "short", self._short(history, given)))
            if failed := sum(bool(explanation.problems) for explanation in answer.explanations):
                problem = f"{failed} of {len(answer.explanations)} texts failed their check; the sentence given"
                notes.append(Note(row, history.user, "explanation", problem))
        rows = b"".join(
            to_line(history.user, answer.listed()) for history, answer in zip(histories, answers, strict=True)
        )
        return Block(rows, len(histories), tuple(notes))

    def _recommend(self, histories: Sequence[History]) -> list[Ranked]:
        while True:
            try:
                return self._recommender.recommend_with_parts(histories, self._settings)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._shrink()

    def _short(self, history: History, given: int) -> str:
        """Return the reason why a list is shorter than requested."""
        size, reasons = len(self._recommender.catalog), []
        if self._recommender.excludes_seen(self._settings) and history.items:
            reasons.append(f"the user took {len(set(history.items))} of them already (--keep-seen gives those, too)")
        if self._settings.filters.asked:
            reasons.append("filters are set")
        return f"{given} of {self._settings.k} items: the catalogue has {', '.join([f'{size}', *reasons])}"

    def _shrink(self) -> None:
        """Halve the number of users side by side and free the memory of the failed attempt."""
        size = self._settings.batch_size
        if size == 1:
            raise ModelError("out of memory even with one user at a time; lower --beams, or use a larger device")
        self._settings = replace(self._settings, batch_size=size // 2)
        logger.warning("out of memory with %d users side by side; going on with %d, the same results", size, size // 2)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _usable(self, history: History) -> tuple[History, list[tuple[str, str]]]:
        """Return the usable histories, and the notes on the rules that were applied."""
        problems = []
        kept = tuple(item for item in history.items if item in self._recommender.catalog)
        if unknown := len(history.items) - len(kept):
            problem = f"{unknown} of {len(history.items)} items are not in the catalogue and were left out"
            problems.append(("unknown-items", problem))
        usable = replace(history, items=kept, times=())
        if kept or history.taste:
            try:
                fitting = self._recommender.prompt(usable).kept
            except PromptError as error:
                usable = History(history.user, ())
                problems.append(("long-title", f"{error}; popular items given"))
            else:
                if fitting < len(kept):
                    problem = f"the prompt holds the newest {fitting} of {len(kept)} items"
                    problems.append(("long", problem))
        else:
            problems.append(("empty", "the history is empty, or the data has no such user; popular items given"))
        return usable, problems


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that the device or the main memory is full.

    PyTorch's CPU allocator raises a plain RuntimeError, which can only be recognised by its text.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "not enough memory" in text or "out of memory" in text


def to_line(user: str, recommendations: Recommendations) -> bytes:
    """Return one user's line of the output; it says what was understood of a taste, where anything was.

    Raises:
        ModelError: a score is not finite, so it cannot be written as JSON or ranked.
    """
    row: dict[str, Any] = {"user": user, "recommendations": [entry.to_json() for entry in recommendations]}
    told = {"understood": recommendations.understood, "released": recommendations.released}
    row |= {name: text for name, text in told.items() if text}
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except ValueError as error:
        raise ModelError(
            "the language model's scores are not finite; its base overflows in this precision (try fp32), or its "
            "weights are damaged: train again"
        ) from error
