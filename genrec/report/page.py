"""The report as a page: one HTML file that needs no other file and no network.

Everything shown passes through Jinja's escaping, and the users' data through its JSON escaping, since titles and
generated texts are untrusted. A content security policy in the page forbids all requests and every script but the
page's own. So even after a mistake in the escaping, foreign code could neither run nor send anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, select_autoescape
from markupsafe import Markup

from genrec.data.findings import Finding
from genrec.evaluation.results import Report, Slice
from genrec.report import tables
from genrec.report.charts import Series, interval_bar, line_chart, share_bar
from genrec.report.explanation_figures import FIGURES
from genrec.report.parts import LossPoint, UserPage
from genrec.storage.folders import write_text

CURVE_NAMES = {"hr": "HR", "ndcg": "NDCG"}
SLICING_NAMES = {
    "history-length": ("History length", "items in the user's history"),
    "target-popularity": ("Popularity of the target", "training users who took it; fewer than 5 is cold"),
    "new-items": ("New items", "whether any training user took the target"),
    "cold-start": ("Cold start", "little known of the item or of the user; a case counts in both where both hold"),
    "repeats": ("Repeats", "whether the user had taken the target before"),
    "category": ("Category", "of the target; a case counts in each of its target's categories"),
}
WAY_NAMES = {
    "exact": "word for word a label",
    "normalised": "a label up to case and spacing",
    "nearest": "near a label",
    "rejected": "none of the catalogue",
}


def write_report(
    report: Report,
    path: Path,
    *,
    losses: Sequence[LossPoint] = (),
    findings: Sequence[Finding] = (),
    users: Sequence[UserPage] = (),
    parts: Sequence[str] = (),
) -> None:
    """Write the page atomically.

    Args:
        report: the results of an evaluation.
        path: the page's file, such as `report.html`.
        losses: from `parts.loss_points`; empty if nothing was trained.
        findings: the findings of the data checks.
        users: from `parts.user_pages`.
        parts: the parts of the lists and the reasons for them, in sentences (`Fusion.to_words`).

    Raises:
        ArtefactError: the file cannot be written.
    """
    write_text(path, render_report(report, losses=losses, findings=findings, users=users, parts=parts))


def render_report(
    report: Report,
    *,
    losses: Sequence[LossPoint] = (),
    findings: Sequence[Finding] = (),
    users: Sequence[UserPage] = (),
    parts: Sequence[str] = (),
) -> str:
    """Return the page as text; see `write_report`."""
    k = report.settings["main_k"]
    systems = tables.by_accuracy(report, k)
    script, style = _part("report.js"), _part("report.css")
    page = _environment().from_string(_part("report.html.j2"))
    text = page.render(
        report=report,
        k=k,
        ks=report.settings["ks"],
        systems=systems,
        reference=report.settings["reference"],
        script=Markup(script),  # noqa: S704 - our own file, not data
        script_hash=_hash(script),
        style=Markup(style),  # noqa: S704 - our own file, not data
        summary=_summary(report, systems, k),
        interval_bars=_interval_bars(report, systems, f"ndcg@{k}"),
        curves=_curve_charts(report, systems),
        numbers=_series_numbers(report, systems),
        exposure_bars={
            name: share_bar(shares, report.exposure.groups)
            for name, shares in [("", report.exposure.targets), *report.exposure.systems.items()]
        },
        faulty=[name for name in systems if any(asdict(report.answers[name]).values())],
        slices=[_slice_table(report, slicing, systems, f"ndcg@{k}") for slicing in report.slices],
        loss_chart=_loss_chart(losses),
        losses=losses,
        findings=findings,
        users=[asdict(user) for user in users],
        parts=parts,
        settings=json.dumps(dict(report.settings), ensure_ascii=False, indent=1),
        figures=tables.FIGURES,
        explanation_figures=FIGURES,
        accuracy=tables.ACCURACY,
        beyond=tables.shown_figures(report, tables.BEYOND, k),
        way_names=WAY_NAMES,
        breakable=_breakable,
        number=tables.number,
        interval=tables.interval,
        mark=tables.mark,
        p_text=tables.p_text,
        significance=tables.SIGNIFICANCE,
    )
    # A title read from JSON may hold half a character (a lone surrogate), but a UTF-8 file may not.
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _environment() -> Environment:
    environment = Environment(
        autoescape=select_autoescape(default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    return environment


def _part(name: str) -> str:
    return (resources.files("genrec.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """Return the script's hash, by which the content security policy allows it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _breakable(name: str) -> Markup:
    """Return a system's name with a possible line break after a plus sign, as in "co-occurrence+content" on a phone."""
    return Markup("+<wbr>").join(name.split("+"))


def _summary(report: Report, systems: Sequence[str], k: int) -> list[tuple[str, str, str]]:
    """Return the figures at the top of the page, each as (name, figure, text below it)."""
    name = report.settings["reference"] or systems[0]
    figures = report.systems[name]
    tiles = [
        (f"{tables.FIGURES[metric][0]}@{k} of {name}", tables.number(estimate.value), tables.interval(estimate))
        for metric in ("hr", "ndcg")
        for estimate in [figures[f"{metric}@{k}"]]
    ]
    others = [other for other in systems if other in report.comparisons]
    if others:
        strongest = report.comparisons[others[0]][f"ndcg@{k}"]
        verdict = {"▲": "better", "▼": "worse", "=": "not told apart"}[tables.mark(strongest)]
        below = f"{strongest.low:+.4f} to {strongest.high:+.4f}, {tables.p_text(strongest.p_adjusted)}: {verdict}"
        tiles.append((f"NDCG@{k} beyond {others[0]}, the strongest other", f"{strongest.value:+.4f}", below))
    covered = figures[f"coverage@{k}"].value
    tiles.append((f"Coverage@{k} of {name}", f"{covered:.1%}", "of the catalogue is recommended to someone"))
    return tiles


def _series_numbers(report: Report, systems: Sequence[str]) -> dict[str, int]:
    """Give each system its colour: the reference the first, the others in order of accuracy."""
    reference = report.settings["reference"]
    ordered = sorted(systems, key=lambda name: name != reference)
    return {name: place for place, name in enumerate(ordered, 1)}


def _interval_bars(report: Report, systems: Sequence[str], figure: str) -> dict[str, Markup]:
    estimates = {name: report.systems[name][figure] for name in systems}
    largest = max(estimate.high or estimate.value for estimate in estimates.values())
    return {
        name: interval_bar(
            estimate.value,
            estimate.value if estimate.low is None else estimate.low,
            estimate.value if estimate.high is None else estimate.high,
            largest,
            "strong" if name == report.settings["reference"] else "",
        )
        for name, estimate in estimates.items()
    }


def _curve_charts(report: Report, systems: Sequence[str]) -> dict[str, Markup]:
    numbers = _series_numbers(report, systems)
    return {
        CURVE_NAMES[metric]: line_chart(
            [
                Series(name, tuple(enumerate(curves[name], 1)), numbers[name], name == report.settings["reference"])
                for name in systems
            ],
            title=f"{CURVE_NAMES[metric]} against list length, one line for each system; the numbers are in the table",
            x_label="list length K",
            y_label=f"{CURVE_NAMES[metric]}@K",
        )
        for metric, curves in report.curves.items()
    }


def _loss_chart(losses: Sequence[LossPoint]) -> Markup | None:
    train = tuple((float(point.step), point.train) for point in losses if point.train is not None)
    valid = tuple((float(point.step), point.valid) for point in losses if point.valid is not None)
    series = [Series("training", train, 1, strong=True), Series("validation", valid, 2)]
    drawn = [line for line in series if line.points]
    if not drawn:
        return None
    return line_chart(drawn, title="Training loss against step", x_label="step", y_label="loss", y_from_zero=False)


def _slice_table(report: Report, slicing: str, systems: Sequence[str], figure: str) -> Mapping[str, Any]:
    """Return one slicing as a table: a column for each slice, a row for each system, and each cell's tint."""
    slices = report.slices[slicing]
    name, note = SLICING_NAMES.get(slicing, (slicing, ""))

    def tint(part: Slice, value: float) -> float:
        best = max(figures[figure].value for figures in part.systems.values())
        return round(value / best, 3) if best > 0 else 0.0

    return {
        "name": name,
        "note": note,
        "columns": [(label, part.users) for label, part in slices.items()],
        "rows": [
            (
                system,
                [
                    (part.systems[system][figure], tint(part, part.systems[system][figure].value))
                    for part in slices.values()
                ],
            )
            for system in systems
        ],
    }
