"""Findings: the results of the data checks, in one form for the command line, JSON and the HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Literal

Severity = Literal["fine", "note", "warning", "error"]

EXAMPLES = 3
"""Examples kept for each finding."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        name: the check.
        severity: "fine" (nothing found), "note" (good to know), "warning" (figures may mislead) or "error" (figures do
            mislead).
        count: how many of the things checked are affected.
        share: the affected share, from 0 to 1.
        what: the things counted, as the end of "12 (1.2 %) ...".
        examples: some of the affected things.
        advice: what to do; empty if nothing was found.
    """

    name: str
    severity: Severity
    count: int
    share: float
    what: str
    examples: tuple[str, ...] = ()
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON values; `from_json` is its inverse."""
        return {**asdict(self), "examples": list(self.examples)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """Build a finding from what `to_json` returned."""
        return cls(**{**data, "examples": tuple(data["examples"])})

    def to_text(self) -> str:
        """Return the finding as a few lines for a person."""
        lines = [f"{self.severity:<7} {self.name}: {self.count:,} ({self.share:.1%}) {self.what}"]
        lines += [f"          e.g. {example}" for example in self.examples]
        return "\n".join([*lines, f"          -> {self.advice}"] if self.advice else lines)


def found_or_fine(
    name: str, severity: Severity, count: int, total: int, what: str, examples: Iterable[str], advice: str
) -> Finding:
    """Return a finding of `count` out of `total`; if the count is 0, it is fine and has no examples or advice."""
    if not count:
        return Finding(name, "fine", 0, 0.0, what)
    return Finding(name, severity, count, count / total, what, tuple(islice(examples, EXAMPLES)), advice)
