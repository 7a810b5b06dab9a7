"""Where a recommender in memory came from: what of its run is not in memory is found there again."""

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
