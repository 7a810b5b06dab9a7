"""The certainty of a choice between ways to rank: paired differences on validation cases, and their results in words.

Three rules decide every choice; `genrec.ranking.choice` applies them. A part that makes a list more complex is used
only if its gain on held-out cases exceeds the gain's standard error. A simpler way replaces the list if the list is
significantly worse; the threshold in standard errors rises with the number of simpler ways, because one of many looks
good by chance (`errors_for`). A case whose target is no candidate is a miss and counts in every figure.

Source: Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3 (the
one-standard-error rule, here of paired differences); Bonferroni's inequality, for many comparisons at once.

The standard error is that of the differences, case by case, not of the two means: a case tends to be easy or hard for
both ways.
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
    """The gain of one way to rank over another on the same cases.

    Attributes:
        gain: the mean of the differences.
        error: its standard error.
    """

    gain: float
    error: float

    @property
    def proves(self) -> bool:
        """Whether the gain exceeds its standard error."""
        return self.gain > self.error

    @property
    def size(self) -> float:
        """The gain in standard errors; 0 if no case differs, infinite if all cases differ by the same amount."""
        if self.error > 0:
            return self.gain / self.error
        return math.copysign(math.inf, self.gain) if self.gain else 0.0


def errors_for(comparisons: int) -> float:
    """Return the standard errors that a difference must exceed, so that chance alone does so at most once in six.

    Chance alone exceeds one standard error about once in six; for nine comparisons the threshold is 2.1 errors.
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
    """One way to rank, compared with the served way on cases that neither was fitted on.

    Attributes:
        name: the name of the way.
        value: its mean NDCG.
        gain: the served list's gain over it.
        error: the standard error of the gain.
        cases: the number of cases.
    """

    name: str
    value: float
    gain: float
    error: float
    cases: int


@dataclass(frozen=True, slots=True)
class Proof:
    """The reasons for a run's way to rank.

    Attributes:
        served: the way to rank that is served.
        value: its mean NDCG on validation cases that it was not fitted on.
        k: the k of NDCG@k.
        cases: the number of these cases.
        compared: the others, best first.
        recalls: the share of cases whose target is among the candidates, by source.
        words: the same in sentences.
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
        """Build from the result of `to_json`."""
        compared = tuple(Compared(**one) for one in entry["compared"])
        rest = {name: entry[name] for name in ("served", "value", "k", "cases", "recalls")}
        return cls(**rest, compared=compared, words=tuple(entry["words"]))


def proof_of(
    served: str, gains: Mapping[str, Gains], name: str, k: int, recalls: Mapping[str, float], words: Sequence[str]
) -> Proof:
    """Return the proof, with the other ways best first."""
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
    """Return a gain and its standard error as text."""
    return f"{found.gain:+.4f} (standard error {found.error:.4f})"
