"""How sure a choice between ways to rank is: paired differences on validation cases, and what came of them, in words.

Three rules decide everything (see `genrec.ranking.fitting`). What makes a list more complex must earn more than the
standard
error of its gain, on cases that it was not fitted on. What is simpler takes over where the list is worse than it by
more than that. And a case whose item was no candidate is a miss like any other: it counts in every figure.

Source: Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3 (the
one-standard-error rule, here of paired differences).

The easy mistake is to compare two means by their own errors. The same cases are easy or hard for both, so it is the
difference, case by case, whose error counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Gains = NDArray[np.float64]
"""Each case's NDCG, float64 [cases]."""


@dataclass(frozen=True, slots=True)
class Paired:
    """How much one way to rank gains over another on the same cases.

    Attributes:
        gain: the mean of the differences.
        error: its standard error.
    """

    gain: float
    error: float

    @property
    def proves(self) -> bool:
        """Whether the gain is beyond its error."""
        return self.gain > self.error

    @property
    def size(self) -> float:
        """The gain in standard errors; 0 where nothing differs."""
        return self.gain / self.error if self.error > 0 else 0.0


def paired(first: Gains, second: Gains) -> Paired:
    """Compare two ways to rank on the same cases."""
    differences = first - second
    error = float(differences.std(ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("inf")
    return Paired(float(differences.mean()) if len(differences) else 0.0, error)


@dataclass(frozen=True, slots=True)
class Compared:
    """One way to rank beside the one that is served, on cases that neither was fitted on.

    Attributes:
        name: which way.
        value: its mean NDCG.
        gain: how much the served list exceeds it.
        error: the standard error of that.
        cases: on how many cases.
    """

    name: str
    value: float
    gain: float
    error: float
    cases: int


@dataclass(frozen=True, slots=True)
class Proof:
    """Why a run ranks as it does.

    Attributes:
        served: the way to rank that is served.
        value: its mean NDCG on validation cases that it was not fitted on.
        k: of NDCG@k.
        cases: how many these are.
        compared: the others, best first.
        recalls: the share of cases whose item is among the candidates, by who puts them up.
        words: all that in sentences.
    """

    served: str
    value: float
    k: int
    cases: int
    compared: tuple[Compared, ...]
    recalls: Mapping[str, float]
    words: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; `from_json` is the inverse."""
        return {**asdict(self), "recalls": dict(self.recalls)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Proof:
        """Build from what `to_json` returned."""
        compared = tuple(Compared(**one) for one in entry["compared"])
        rest = {name: entry[name] for name in ("served", "value", "k", "cases", "recalls")}
        return cls(**rest, compared=compared, words=tuple(entry["words"]))
