"""How sure a choice between ways to rank is: paired differences on validation cases, and what came of them, in words.

Three rules decide everything; `genrec.ranking.choice` applies them. What makes a list more complex must earn more than
the standard error of its gain, on cases that it was not fitted on. What is simpler takes over where the list is worse
than it by more than chance explains, and of ten simpler ways one always looks good: the more are compared, the more
errors it takes (`errors_for`). And a case whose item was no candidate is a miss like any other: it counts in every
figure.

Source: Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3 (the
one-standard-error rule, here of paired differences); Bonferroni's inequality, for many comparisons at once.

The easy mistake is to compare two means by their own errors. The same cases are easy or hard for both, so it is the
difference, case by case, whose error counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
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
        """The gain in standard errors; 0 where nothing differs, without end where every case differs by the same."""
        if self.error > 0:
            return self.gain / self.error
        return math.copysign(math.inf, self.gain) if self.gain else 0.0


def errors_for(comparisons: int) -> float:
    """Return how many standard errors a difference must have, so that none of many has it by chance but once in six.

    Once in six is how often chance alone exceeds one standard error; of nine comparisons it takes 2.1 errors.
    """
    normal = NormalDist()
    return normal.inv_cdf(1 - normal.cdf(-1) / max(comparisons, 1))


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


def proof_of(
    served: str, gains: Mapping[str, Gains], name: str, k: int, recalls: Mapping[str, float], words: Sequence[str]
) -> Proof:
    """Put together what was compared, best first."""
    own = gains[name]
    compared = []
    for other, found in sorted(gains.items(), key=lambda entry: -entry[1].mean()):
        if other != name:
            difference = paired(own, found)
            compared.append(
                Compared(
                    other,
                    round(float(found.mean()), 6),
                    round(difference.gain, 6),
                    round(difference.error, 6),
                    len(own),
                )
            )
    told = list(words)
    if compared:
        nearest = compared[0]
        told.append(
            f"Served: {served}. On {len(own)} validation cases that it was not fitted on, NDCG@{k} is "
            f"{own.mean():.4f}; {nearest.name}, the best other way, has {nearest.value:.4f} "
            f"(difference {nearest.gain:+.4f}, standard error {nearest.error:.4f})."
        )
    if recalls:
        told.append(
            "Share of cases whose item is among the candidates: "
            + ", ".join(f"{source} {share:.3f}" for source, share in recalls.items())
            + "."
        )
    return Proof(served, round(float(own.mean()), 6), k, len(own), tuple(compared), dict(recalls), tuple(told))


def told(found: Paired) -> str:
    """Return a gain and its error in words."""
    return f"{found.gain:+.4f} (standard error {found.error:.4f})"
