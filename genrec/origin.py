"""The run folder from which a recommender in memory was loaded; parts that are not in memory are read from there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """The run folder that a recommender was loaded from.

    Attributes:
        run: the folder.
        base: the base model that was loaded: a folder.
    """

    run: Path
    base: str
