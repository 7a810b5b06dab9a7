"""How to recommend: the settings that one call, one job or one evaluation has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from genrec.explain.evidence import Explain, Wording
from genrec.ranking.filters import Filters
from genrec.ranking.reranking import Reranking

Mode = Literal["constrained", "free"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How to recommend.

    Attributes:
        k: how many items for each user.
        beams: how many beams the language model holds; at least k are used.
        mode: `constrained` searches the catalogue's trie; `free` writes any text and grounds it.
        exclude_seen: whether items of the history are left out; None: as the run was trained for.
        explain: whether each recommendation is explained, and how; see `genrec.explain.evidence.Explain`.
        wording: how explanations are worded.
        batch_size: how many users at most are decoded side by side, eight times as many on a GPU; it changes the
            speed, not the result.
        filters: conditions that every recommended item meets; where fewer than k items do, fewer come back.
        reranking: what is asked of a list beyond its scores; scores then need not fall from place to place.
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
