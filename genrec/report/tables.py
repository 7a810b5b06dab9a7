"""A report as a table: for the terminal (Rich) and for a repository (Markdown).

Figures are shown at one list length, with their intervals. Systems are ordered by NDCG, best first, so that no author
of a table can favour a system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.markup import escape
from rich.table import Table

from genrec.evaluation.results import Report
from genrec.evaluation.uncertainty import Difference, Estimate

SIGNIFICANCE = 0.05
"""Below this adjusted p-value, a difference between two systems is marked."""

FIGURES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "hr": ("HR", "share of cases whose target is in the list; higher is better"),
        "ndcg": ("NDCG", "1 / log2(rank + 1) of the target, 0 if it is not in the list; higher is better"),
        "mrr": ("MRR", "1 / rank of the target, 0 if it is not in the list; higher is better"),
        "coverage": ("Coverage", "share of the catalogue that is recommended to anyone"),
        "gini": ("Gini", "how unequally recommendations fall on items: 0 evenly, 1 all on one"),
        "novelty": ("Novelty", "mean self-information of the items, in bits; popular items have little"),
        "popularity": ("Popularity", "mean number of training users who took the items"),
        "category-diversity": ("Diversity (categories)", "mean over pairs in a list of 1 - Jaccard of categories"),
        "embedding-diversity": ("Diversity (meaning)", "mean over pairs in a list of 1 - cosine of embeddings"),
        "serendipity": ("Serendipity", "the part of HR whose targets the popularity list does not have"),
        "calibration": ("Calibration", "divergence of a list's categories from the history's; lower is closer"),
    }
)
"""The figures that tables show: their short names and meanings."""

ACCURACY = ("hr", "ndcg", "mrr")
BEYOND = tuple(name for name in FIGURES if name not in ACCURACY)


def by_accuracy(report: Report, k: int) -> list[str]:
    """Return the systems' names, highest NDCG at K first; equals stay in the report's order."""
    return sorted(report.systems, key=lambda name: -report.systems[name][f"ndcg@{k}"].value)


def shown_figures(report: Report, names: Sequence[str], k: int) -> list[str]:
    """Return the figures that at least one system has at K."""
    return [name for name in names if any(f"{name}@{k}" in figures for figures in report.systems.values())]


def number(value: float) -> str:
    """Return a figure with a suitable number of digits: four decimals for rates, one for counts of users."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.1f}"


def interval(estimate: Estimate) -> str:
    """Return the interval as "low-high", with a proper dash; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{number(estimate.low)}\N{EN DASH}{number(estimate.high)}"


def mark(difference: Difference) -> str:
    """Return an upward mark if the reference is reliably better, a downward one if worse, else an equals sign."""
    if difference.p_adjusted >= SIGNIFICANCE:
        return "="
    return "▲" if difference.value > 0 else "▼"


def p_text(p_value: float) -> str:
    """Return "p < 0.001" or "p = 0.023"."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def report_table(report: Report, k: int | None = None) -> Table:
    """Return the accuracy figures as a table for the terminal.

    Args:
        report: the outcome of an evaluation.
        k: the list length; the report's main one if not given.
    """
    k = k or report.settings["main_k"]
    columns = ACCURACY
    table = Table(title=f"{report.split} split, {report.users:,} users, lists of {k}", title_justify="left")
    # Least widths, so that a narrow terminal cuts names before it cuts figures; all fits into 80 columns.
    table.add_column("system", no_wrap=True)
    for name in columns:
        table.add_column(f"{FIGURES[name][0]}@{k}", justify="right", no_wrap=True, min_width=6)
    table.add_column("95 % of NDCG", justify="right", no_wrap=True, min_width=13)
    reference = report.settings["reference"]
    if report.comparisons:
        table.add_column(escape(f"{reference} minus"), justify="right", no_wrap=True, min_width=9)
    for system in by_accuracy(report, k):
        figures = report.systems[system]
        cells = [
            escape(system),
            *(number(figures[f"{name}@{k}"].value) for name in columns),
            interval(figures[f"ndcg@{k}"]),
        ]
        if report.comparisons:
            cells.append(_difference(report, system, f"ndcg@{k}"))
        table.add_row(*cells, style="bold" if system == reference else None)
    return table


def to_markdown(report: Report) -> str:
    """Return the report's accuracy figures at every K, and the others at the main K, as Markdown."""
    k, ks = report.settings["main_k"], report.settings["ks"]
    systems = by_accuracy(report, k)
    accuracy = [f"{name}@{length}" for length in ks for name in ("hr", "ndcg")] + [f"mrr@{k}"]
    parts = [
        f"{report.users:,} users, {report.split} split, {report.settings['catalog_items']:,} items, "
        f"{report.settings['candidates']} ranked. In brackets: 95 % intervals.",
        _markdown_table(
            ["system", *(_heading(figure) for figure in accuracy)],
            [[system, *(_cell(report, system, figure) for figure in accuracy)] for system in systems],
        ),
    ]
    if report.comparisons:
        reference = report.settings["reference"]
        parts += [
            f"{reference} minus the other, NDCG@{k}: ▲ {reference} is better, ▼ worse, = not told apart "
            f"(p < {SIGNIFICANCE}, sign-flip test, Holm's correction).",
            _markdown_table(
                ["system", "difference", "95 %", "p, adjusted"],
                [_comparison_row(report, name, f"ndcg@{k}") for name in systems if name in report.comparisons],
            ),
        ]
    beyond = [f"{name}@{k}" for name in shown_figures(report, BEYOND, k)]
    parts.append(
        _markdown_table(
            ["system", *(_heading(figure) for figure in beyond)],
            [[system, *(_cell(report, system, figure, False) for figure in beyond)] for system in systems],
        )
    )
    return "\n\n".join(parts) + "\n"


def _difference(report: Report, system: str, figure: str) -> str:
    if system not in report.comparisons:
        return ""
    difference = report.comparisons[system][figure]
    return f"{difference.value:+.4f} {mark(difference)}"


def _comparison_row(report: Report, system: str, figure: str) -> list[str]:
    difference = report.comparisons[system][figure]
    ends = f"{difference.low:+.4f} to {difference.high:+.4f}"
    return [system, f"{difference.value:+.4f} {mark(difference)}", ends, p_text(difference.p_adjusted)]


def _heading(figure: str) -> str:
    name, _, k = figure.partition("@")
    return f"{FIGURES[name][0]}@{k}"


def _cell(report: Report, system: str, figure: str, with_interval: bool = True) -> str:
    estimate = report.systems[system].get(figure)
    if estimate is None:
        return ""
    ends = interval(estimate) if with_interval else ""
    return f"{number(estimate.value)} ({ends})" if ends else number(estimate.value)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # A system's name may come from a file name: a bar in it must not open a new cell.
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
