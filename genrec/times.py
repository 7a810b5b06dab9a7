"""Times as people write them: Unix seconds or milliseconds, ISO dates and times, or a Parquet file's own types.

The easy mistake is to guess a unit row by row: a column has one unit, told by its middle value, and a value that is
absurd in that unit is an error and not another unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

UNITS = (("seconds", 1e11, 1.0), ("milliseconds", 1e14, 1e3), ("microseconds", 1e17, 1e6), ("nanoseconds", 1e20, 1e9))
"""A column of numbers is in the first unit whose bound its median does not reach: 1e11 s is the year 5138."""

ISO_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%dT%H:%M%#z",
)
"""Tried in turn, with `/` read as `-` and a blank before the hours as `T`; `%#z` reads `Z` too."""

LATEST = 253_402_300_799
"""The last second of the year 9999; nothing later (or as much earlier) is a time."""

EXPECTED = "Unix seconds or milliseconds, or an ISO date or time such as 2024-05-31 or 2024-05-31T18:30:00Z"


@dataclass(frozen=True, slots=True)
class Times:
    """A column of times.

    Attributes:
        seconds: Float64 Unix seconds with their fractions, to order by; null where there was no time to be read.
        note: how the column was read.
    """

    seconds: pl.Series
    note: str


def parse_times(column: pl.Series) -> Times:
    """Read a column of times.

    Text without a time zone is read as UTC. Fractions below a microsecond are lost.

    Args:
        column: text, dates or datetimes.
    """
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return Times(_epoch(column), f"times are {column.dtype}")
    numbers = column.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite(), None)
    if numbers.null_count() < len(numbers):
        middle = numbers.abs().quantile(0.5, interpolation="lower") or 0.0
        unit, _, scale = next((entry for entry in UNITS if middle < entry[1]), UNITS[-1])
        seconds, note = _divided(numbers, scale), f"times are numbers, read as Unix {unit}"
    else:
        seconds, note = numbers, "times are ISO text; those without a time zone are read as UTC"
    rest = seconds.is_null() & column.is_not_null()
    if rest.any():
        seconds = seconds.zip_with(~rest, _parse_iso(column.set(~rest, None)))
    return Times(seconds.set(seconds.abs() > LATEST, None), note)


def _parse_iso(column: pl.Series) -> pl.Series:
    text = column.str.replace_all("/", "-", literal=True).str.replace(r"^(\d{4}-\d\d-\d\d) +", "${1}T")
    seconds = pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))
    for style in ISO_FORMATS:
        rest = seconds.is_null() & text.is_not_null()
        if not rest.any():
            break
        parsed = text.set(~rest, None).str.to_datetime(style, strict=False, time_unit="us")
        seconds = seconds.zip_with(~rest, _epoch(parsed))
    return seconds


def _epoch(column: pl.Series) -> pl.Series:
    """Return dates or datetimes as Float64 Unix seconds."""
    if column.dtype == pl.Date:
        return column.cast(pl.Int32).cast(pl.Float64) * 86_400
    scale = {"ms": 1e3, "us": 1e6, "ns": 1e9}[column.dtype.time_unit]  # type: ignore[attr-defined]
    return _divided(column.to_physical().cast(pl.Float64), scale)


def _divided(column: pl.Series, scale: float) -> pl.Series:
    """Divide exactly; Polars multiplies by the reciprocal, which moves whole seconds by a hair and so by a second."""
    return pl.Series(column.name, np.divide(column.to_numpy(), scale), nan_to_null=True)
