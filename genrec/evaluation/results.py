"""The results of an evaluation, as values: the content of `metrics.json` and the input of tables and pages.

Results are stored as JSON, so `Report.from_json(report.to_json())` must lose nothing but digits beyond a millionth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from genrec.evaluation.uncertainty import Difference, Estimate


@dataclass(frozen=True, slots=True)
class Answers:
    """The defects of a system's lists, counted up to the largest K.

    Attributes:
        missing: cases without any item.
        short: cases with fewer than K places filled, the missing ones included.
        unknown: listed items that the catalogue does not have.
        repeated: places that repeat an item of the same list.
        seen: listed items that are in the case's history.
    """

    missing: int
    short: int
    unknown: int
    repeated: int
    seen: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice: some of the cases, and each system's figures on them alone."""

    users: int
    systems: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True)
class Exposure:
    """The popularity of the items that each system recommends.

    Attributes:
        groups: popularity groups of the catalogue, from the most popular.
        items: how many items each group has.
        targets: the share of the targets that lie in each group, for comparison.
        systems: for each system, the share of its recommended items that lie in each group.
    """

    groups: tuple[str, ...]
    items: tuple[int, ...]
    targets: tuple[float, ...]
    systems: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Report:
    """The results of an evaluation; `metrics.json` is its `to_json`.

    Attributes:
        split: "valid" or "test".
        users: the number of cases, which is every figure's denominator.
        systems: for each system, its figures by name ("hr@10", "coverage@10", ...).
        comparisons: for each other system, the reference's figures minus its own.
        slices: by slicing ("history-length", ...) and slice.
        exposure: the popularity of what is recommended.
        curves: by metric ("hr", "ndcg") and system, the figure at K = 1, 2, ..., max(ks).
        answers: for each system, the defects of its lists.
        texts: for each system that generates text, how its texts became items, as shares.
        explanations: for each way to explain, its figures on a sample of the users (see `explanation_measures`).
        settings: the meaning of the figures, seed, K, sizes of the data, and the caller's additions.
    """

    split: str
    users: int
    systems: Mapping[str, Mapping[str, Estimate]]
    comparisons: Mapping[str, Mapping[str, Difference]]
    slices: Mapping[str, Mapping[str, Slice]]
    exposure: Exposure
    curves: Mapping[str, Mapping[str, tuple[float, ...]]]
    answers: Mapping[str, Answers]
    texts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    explanations: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        shown = [name for name in ("hr@10", "ndcg@10") if all(name in own for own in self.systems.values())]
        head = "".join(f"<th>{name.upper()}</th>" for name in shown)
        rows = ""
        for system, own in self.systems.items():
            figures = [own[name] for name in shown]
            cells = "".join(f"<td>{one.value:.4f} ({one.low:.4f} to {one.high:.4f})</td>" for one in figures)
            rows += f"<tr><td>{escape(system)}</td>{cells}</tr>"
        return f"<table><tr><th>{self.split}, {self.users:,} users</th>{head}</tr>{rows}</table>"

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, figures rounded to a millionth."""
        return {
            "split": self.split,
            "users": self.users,
            "systems": {name: _to_json(figures) for name, figures in self.systems.items()},
            "comparisons": {name: _to_json(figures) for name, figures in self.comparisons.items()},
            "slices": {
                slicing: {
                    label: {"users": part.users, "systems": {k: _to_json(v) for k, v in part.systems.items()}}
                    for label, part in slices.items()
                }
                for slicing, slices in self.slices.items()
            },
            "exposure": {
                "groups": list(self.exposure.groups),
                "items": list(self.exposure.items),
                "targets": _rounded(self.exposure.targets),
                "systems": {name: _rounded(shares) for name, shares in self.exposure.systems.items()},
            },
            "curves": {
                metric: {name: _rounded(values) for name, values in curves.items()}
                for metric, curves in self.curves.items()
            },
            "answers": {name: asdict(answers) for name, answers in self.answers.items()},
            "texts": {
                name: {how: round(share, 6) for how, share in shares.items()} for name, shares in self.texts.items()
            },
            "explanations": {name: _to_json(figures) for name, figures in self.explanations.items()},
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """Build a report from what `to_json` returned."""
        exposure = data["exposure"]
        return cls(
            split=data["split"],
            users=data["users"],
            systems={name: _estimates(figures) for name, figures in data["systems"].items()},
            comparisons={
                name: {figure: Difference.from_json(value) for figure, value in figures.items()}
                for name, figures in data["comparisons"].items()
            },
            slices={
                slicing: {
                    label: Slice(part["users"], {k: _estimates(v) for k, v in part["systems"].items()})
                    for label, part in slices.items()
                }
                for slicing, slices in data["slices"].items()
            },
            exposure=Exposure(
                tuple(exposure["groups"]),
                tuple(exposure["items"]),
                tuple(exposure["targets"]),
                {name: tuple(shares) for name, shares in exposure["systems"].items()},
            ),
            curves={
                metric: {name: tuple(values) for name, values in curves.items()}
                for metric, curves in data["curves"].items()
            },
            answers={name: Answers(**answers) for name, answers in data["answers"].items()},
            texts=data["texts"],
            explanations={name: _estimates(figures) for name, figures in data.get("explanations", {}).items()},
            settings=data["settings"],
        )


def _to_json(figures: Mapping[str, Estimate | Difference]) -> dict[str, Any]:
    return {name: figure.to_json() for name, figure in figures.items()}


def _estimates(figures: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_json(figure) for name, figure in figures.items()}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 6) for value in values]
