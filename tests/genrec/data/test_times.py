"""Times in all the ways people write them."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from genrec.data.times import parse_times


def seconds(*cells: str | None) -> list[float | None]:
    return parse_times(pl.Series("time", cells, dtype=pl.String)).seconds.to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # 2024-05-31 is day 19,874 since 1970-01-01: 54 years, 14 leap days (1972 ... 2024), and 150 days.
        ("2024-05-31", 19_874 * 86_400),
        ("2024/05/31", 19_874 * 86_400),
        ("2024-05-31 18:30", 19_874 * 86_400 + 66_600),
        ("2024-05-31T18:30:00", 19_874 * 86_400 + 66_600),
        ("2024-05-31T18:30:00Z", 19_874 * 86_400 + 66_600),
        ("2024-05-31T18:30Z", 19_874 * 86_400 + 66_600),
        ("2024-05-31 20:30:00.25+02:00", 19_874 * 86_400 + 66_600.25),
        ("2024-05-31T20:30:00+0200", 19_874 * 86_400 + 66_600),
        ("881250949", 881_250_949),
        ("8.81250949e8", 881_250_949),
        ("-86400", -86_400),
        ("31/05/2024", 19_874 * 86_400),
        ("31/05/2024x", None),
        ("2024-13-01", None),
        ("yesterday", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_one_cell(text: str | None, expected: float | None) -> None:
    assert seconds(text) == [expected]


def test_a_number_that_fits_no_unit_is_read_in_the_columns() -> None:
    assert seconds("1700000000123", "1700000000124", "5000") == [1_700_000_000.123, 1_700_000_000.124, 5.0]
    assert seconds("1700000000123456") == [1_700_000_000.123456]
    assert seconds("1700000000123456789") == [pytest.approx(1_700_000_000.123457)]


def test_whole_seconds_stay_whole() -> None:
    numbers = range(881_250_949, 881_260_949)
    assert seconds(*(f"{number}000" for number in numbers)) == list(numbers)


def test_styles_may_be_mixed() -> None:
    assert seconds("1970-01-02", "60", "1970-01-01 00:02") == [86_400, 60, 120]


def test_the_types_of_parquet_files() -> None:
    day = parse_times(pl.Series([date(1970, 1, 3), None])).seconds.to_list()
    assert day == [172_800, None]
    for unit in ("ms", "us", "ns"):
        moments = pl.Series([datetime(1970, 1, 1, 1, tzinfo=UTC)], dtype=pl.Datetime(unit, "UTC"))
        assert parse_times(moments).seconds.to_list() == [3600]


def test_how_the_column_was_read_is_told() -> None:
    assert "milliseconds" in parse_times(pl.Series(["1700000000123"])).note
    assert "UTC" in parse_times(pl.Series(["2024-05-31"])).note
