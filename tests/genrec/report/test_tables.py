"""Tables for the terminal and for a repository, and the charts of the page."""

import re

import pytest
from rich.console import Console

from genrec.data.catalog import Catalog, Item
from genrec.data.splits import Case, History
from genrec.evaluation.compare import evaluate_lists
from genrec.evaluation.uncertainty import Difference, Estimate
from genrec.report.charts import Series
from genrec.report.page import charts, tables

CATALOG = Catalog.from_items(Item(str(number), f"Film {number}", categories=("c",)) for number in range(20))
CASES = [Case(History(str(user), ("0",)), "1") for user in range(40)]
SYSTEMS = {"bar | bar": [["9"]] * 40, "genrec": [["1"]] * 30 + [["9"]] * 10}


@pytest.fixture(scope="module")
def report():
    return evaluate_lists(CASES, SYSTEMS, catalog=CATALOG, train=[], resamples=200)


def test_the_terminal_table_has_the_best_first_and_marks_what_is_reliable(report):
    console = Console(width=80, record=True, file=None, quiet=False)  # a plain terminal: no figure may be cut
    with console.capture() as capture:
        console.print(tables.report_table(report))
    lines = capture.get().splitlines()
    rows = [line for line in lines if "bar | bar" in line or "│ genrec " in line]
    assert "test split, 40 users, lists of 10" in lines[0]
    assert "genrec" in rows[0]
    assert "0.7500" in rows[0]
    assert "+0.7500 ▲" in rows[1]
    assert all(f"{name}@10" in "".join(lines) for name in ("HR", "NDCG", "MRR"))
    assert "…" not in "".join(lines)


def test_the_markdown_has_every_k_and_cells_that_no_name_can_break(report):
    text = tables.to_markdown(report)
    for heading in ("HR@5", "NDCG@10", "HR@20", "MRR@10", "Coverage@10", "Gini@10", "Novelty@10"):
        assert heading in text
    assert "40 users, test split, 20 items, the whole catalogue ranked" in text
    assert "bar \\| bar" in text
    for block in text.split("\n\n"):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, block
    assert re.search(r"0\.7500 \(0\.\d{4}\N{EN DASH}0\.\d{4}\)", text)
    assert "p < 0.001" in text


def test_without_comparisons_the_tables_have_no_such_column():
    report = evaluate_lists(CASES, SYSTEMS, catalog=CATALOG, train=[], resamples=20, reference=None)
    assert "minus" not in tables.to_markdown(report)
    assert len(tables.report_table(report).columns) == 5


def test_marks_by_hand():
    assert tables.mark(Difference(0.1, 0.05, 0.2, 0.01, 0.049)) == "▲"
    assert tables.mark(Difference(-0.1, -0.2, -0.05, 0.01, 0.049)) == "▼"
    assert tables.mark(Difference(0.1, 0.05, 0.2, 0.01, 0.05)) == "=", "the adjusted p-value decides"


def test_numbers_by_hand():
    assert [tables.number(value) for value in (0.12345, 9.99999, 1234.56)] == ["0.1235", "10.0000", "1,234.6"]
    assert tables.interval(Estimate(0.5, 0.25, 0.75)) == "0.2500\N{EN DASH}0.7500"
    assert tables.interval(Estimate(0.5)) == ""
    assert [tables.p_text(p) for p in (0.0004, 0.023)] == ["p < 0.001", "p = 0.023"]


def points_of(svg):
    (path,) = re.findall(r'points="([^"]+)"', svg)
    return [tuple(map(float, pair.split(","))) for pair in path.split()]


def test_a_line_runs_from_corner_to_corner():
    svg = charts.line_chart([Series("s", ((1, 0.0), (3, 1.0)), 1)], title="t", x_label="x", y_label="y")
    left, right = points_of(svg)
    assert left == (charts.LEFT, charts.HEIGHT - charts.BOTTOM)
    assert right == (charts.WIDTH - charts.RIGHT, charts.TOP)


def test_no_number_stands_beside_its_axis():
    svg = charts.line_chart([Series("s", ((1, 1), (19, 2)), 1)], title="t", x_label="x", y_label="y")
    ticks = re.findall(r'<text class="tick" x="([\d.]+)" y="\d+" text-anchor="middle">([^<]+)<', svg)
    assert [number for _, number in ticks] == ["5", "10", "15"], "0 and 20 are not between 1 and 19"
    assert all(charts.LEFT <= float(x) <= charts.WIDTH - charts.RIGHT for x, _ in ticks)


def test_names_in_charts_are_escaped():
    evil = '"><script>'
    series = [Series(evil, ((1, 1), (2, 2)), 1), Series(evil, ((1, 1),), 2)]
    svg = charts.line_chart(series, title=evil, x_label=evil, y_label=evil) + charts.share_bar([1.0], [evil])
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg


def test_colours_repeat_with_dashes_and_the_strong_line_is_drawn_last():
    assert Series("s", (), 8).css == "series-8"
    assert Series("s", (), 9).css == "series-1 dashed"
    lines = [Series("one", ((1, 1), (2, 2)), 1, strong=True), Series("two", ((1, 1), (2, 2)), 2)]
    svg = charts.line_chart(lines, title="t", x_label="x", y_label="y")
    assert svg.index("two") < svg.index('data-series="one"')


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.13, [0, 0.05, 0.1, 0.15]),
        (2.1, 6.8, [2, 3, 4, 5, 6, 7]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (3, 3, [3, 4, 5, 6]),
    ],
)
def test_ticks_are_round_and_hold_the_data(low, high, expected):
    assert charts._ticks(low, high, 5) == pytest.approx(expected)


def test_an_interval_is_placed_by_its_share_of_the_bar():
    svg = charts.interval_bar(0.1, 0.05, 0.2, 0.2, "")
    assert re.findall(r'x1="([\d.]+)%" x2="([\d.]+)%"', svg) == [("25.00", "100.00")]
    assert 'cx="50.00%"' in svg
    assert "nan" not in charts.interval_bar(0, 0, 0, 0, "")


def test_shares_lie_side_by_side():
    svg = charts.share_bar([0.25, 0.0, 0.75], ["a", "b", "c"])
    assert re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', svg) == [
        ("0.000", "25.000"),
        ("25.000", "0.000"),
        ("25.000", "75.000"),
    ]
    assert "c: 75.0%" in svg
