"""Times in the usual forms: Unix numbers, dates and times as text in the common forms, or a Parquet file's own types.

The column is judged as a whole, and each cell is read in its own form. Numbers are seconds, milliseconds, microseconds
or nanoseconds by their size. If a column has several units, each row is read in its own unit if that puts it among the
others, and these rows are reported. `20240301` is a day and not a second of 1970, if all numbers look like days.

Three cases need care. If a log changed from seconds to milliseconds, reading it in one unit would give some events
wrong times, so units are found per row. `03/04/2024` is a day in March or in April, and the cell does not decide
it, so the column decides, or it is refused. A truncated time is still a number, so times before 1990 or in the future
are reported with their line.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

UNITS = (("seconds", 1e11, 1.0), ("milliseconds", 1e14, 1e3), ("microseconds", 1e17, 1e6), ("nanoseconds", 1e20, 1e9))
"""A number is in the first unit whose bound it does not reach: 1e11 s is the year 5138, 1e11 ms is March 1973."""

LATEST = 253_402_300_799
"""The last second of the year 9999; a larger number, or its negative, is not a time."""

EARLIEST_LIKELY = 631_152_000
"""The first second of 1990; logs of events are later."""

DAY = 86_400

OTHER_COUNTS = (
    ("Excel's days since 1900", 1.0 / DAY, -25_569.0 * DAY),
    ("Windows' 100 nanoseconds since 1601", 1e7, -11_644_473_600.0),
    (".NET's 100 nanoseconds since the year 1", 1e7, -62_135_596_800.0),
    ("WebKit's microseconds since 1601", 1e6, -11_644_473_600.0),
)
"""Other time counts: units per second, and the Unix time of their zero. They are tried if no Unix unit fits."""

EXPECTED = "Unix seconds or milliseconds, or an ISO date or time such as 2024-05-31 or 2024-05-31T18:30:00Z"

MISSING_TIMES = ("NaT", "nat", "N/A", "n/a", "NA", "-", "none", "<NA>", "null", "None", "NaN", "nan", "")
"""Cells of a column of times that mean "no time"."""

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

_CLOCK = (
    r"(?:[Tt,\s]*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<fraction>\d+))?)?"
    r"\s*(?P<half>[AaPp]\.?[Mm]\.?)?)?"
    r"\s*(?P<zone>Z|z|UTC|GMT|UT|utc|gmt|[+-]\d{1,2}(?::?\d{2})?)?(?:\s*\((?:UTC|GMT)\))?"
)
_YEAR_FIRST = rf"^(?P<year>\d{{4}})(?P<between>[-/.])(?P<month>\d{{1,2}})[-/.](?P<day>\d{{1,2}}){_CLOCK}$"
_COMPACT = (
    r"^(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})[T ](?P<hour>\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2}))?"
    r"(?:[.,](?P<fraction>\d+))?(?P<half>[AaPp][Mm])?(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)?$"
)
_YEAR_LAST = rf"^(?P<first>\d{{1,2}})(?P<between>[-/.])(?P<other>\d{{1,2}})[-/.](?P<year>\d{{4}}|\d{{2}}){_CLOCK}$"
_WEEKDAY = r"^(?:[A-Za-z]{3,9}\.?,?\s+)?"
_DAY_MONTH = rf"{_WEEKDAY}(?P<day>\d{{1,2}})[-\s.]+(?P<month>[A-Za-z]{{3,9}})\.?[-,\s]+(?P<year>\d{{4}}){_CLOCK}$"
_MONTH_DAY = (
    rf"{_WEEKDAY}(?P<month>[A-Za-z]{{3,9}})\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}}){_CLOCK}$"
)
_YEAR_AT_END = (
    rf"{_WEEKDAY}(?P<month>[A-Za-z]{{3,9}})\.?\s+(?P<day>\d{{1,2}})\s+(?P<hour>\d{{2}}):(?P<minute>\d{{2}})"
    r":(?P<second>\d{2})(?P<fraction>\.\d+)?\s+(?P<half>[AaPp][Mm])?(?P<zone>Z|UTC|GMT|[+-]\d{4})?\s*(?P<year>\d{4})$"
)
_DAY_NUMBER = r"^(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d)?)?)?$"


@dataclass(frozen=True, slots=True)
class Times:
    """A column of times.

    Attributes:
        seconds: Float64 Unix seconds with their fractions, for ordering; null if no time could be read.
        note: a sentence on how the column was read.
        warnings: things in the column that the user should check.
        refusal: the reason why cells that look like times were not read; empty if it is obvious.
    """

    seconds: pl.Series
    note: str
    warnings: tuple[str, ...] = ()
    refusal: str = ""


def parse_times(column: pl.Series, lines: pl.Series | None = None, day_first: bool | None = None) -> Times:
    """Read a column of times.

    Text without a time zone is read as UTC. Fractions below a microsecond are lost.

    Args:
        column: text, whole numbers, dates or datetimes.
        lines: each row's place, for the warnings.
        day_first: whether 03/04/2024 is a day of April, if no cell decides it.
    """
    lines = pl.Series("line", range(1, len(column) + 1)) if lines is None else lines
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        seconds = _epoch(column)
        return Times(seconds, f"times are {column.dtype}", _unlikely(seconds, lines))
    if (plain := _plain_numbers(column)) is not None:
        return plain
    column = column.cast(pl.String)
    column = column.set(column.is_in(MISSING_TIMES), None)
    numbers = column.cast(pl.Float64, strict=False)
    numbers = numbers.set(~numbers.is_finite(), None)
    warnings: list[str] = []
    if numbers.null_count() < len(numbers):
        seconds, note = _of_numbers(column, numbers, lines, warnings)
    else:
        seconds, note = numbers, "times are ISO text; those without a time zone are read as UTC"
    rest = numbers.is_null() & column.is_not_null()
    refusal = ""
    if rest.any():
        read, refusal = _of_text(column.filter(rest), day_first, warnings)
        _tell_zones(column, rest, lines, warnings)
        places = pl.Series(np.flatnonzero(rest.to_numpy()))
        seconds = seconds.scatter(places, read) if len(places) else seconds
    seconds = seconds.set(seconds.abs() > LATEST, None)
    return Times(seconds, note, (*warnings, *_unlikely(seconds, lines)), refusal)


def _plain_numbers(column: pl.Series) -> Times | None:
    """Read a column of whole numbers that are all likely times in one unit, or return None for any other column.

    Such columns are the most common, and nothing has to be looked for in them cell by cell.
    """
    whole = column.cast(pl.Int64, strict=False)
    if not len(whole) or whole.null_count():
        return None
    least, most = int(whole.min()), int(whole.max())  # type: ignore[arg-type]
    unit, bound, scale = next((entry for entry in UNITS if most < entry[1]), UNITS[-1])
    smaller = [entry[1] for entry in UNITS if entry[1] < bound]
    first, last = likely_span()
    # Nanoseconds may be another count, and numbers near a bound two units: both are looked at with care.
    if unit == "nanoseconds" or least < max(smaller, default=0) or not first <= least / scale <= most / scale <= last:
        return None
    return Times(_divided(whole.cast(pl.Float64), scale), f"times are numbers, read as Unix {unit}")


def now() -> float:
    """Return the present second; no event of a log is later."""
    return time.time()


def likely_span() -> tuple[float, float]:
    """Return the first and the last second at which an event can have been logged: from 1990 until tomorrow."""
    return EARLIEST_LIKELY, now() + DAY


def _of_numbers(column: pl.Series, numbers: pl.Series, lines: pl.Series, warnings: list[str]) -> tuple[pl.Series, str]:
    sizes = numbers.abs()
    middle = float(sizes.quantile(0.5, interpolation="lower") or 0.0)
    unit, _, scale = next((entry for entry in UNITS if middle < entry[1]), UNITS[-1])
    seconds = _divided(numbers, scale)
    likely = (seconds >= EARLIEST_LIKELY) & (seconds <= now() + DAY)
    # Such numbers are .NET's count of today, and not nanoseconds of the early nineties, when there were no logs.
    nineties = unit == "nanoseconds" and bool((seconds < EARLIEST_LIKELY + 1_000 * DAY).all())
    if nineties or not likely.any():
        # If a whole column would be in 1970 or in a distant year, it is not a count of seconds.
        cells = column.filter(numbers.is_not_null())
        if cells.str.contains(_DAY_NUMBER).all() and (read := _of_days(column)).null_count() == numbers.null_count():
            return read, "times are numbers, read as days such as 20240531"
        for name, scale_of, nought in OTHER_COUNTS:
            read = _divided(numbers, scale_of) + nought
            if ((read >= EARLIEST_LIKELY) & (read <= now() + DAY)).fill_null(value=True).all():
                return read, f"times are numbers, read as {name}"
    rounded = column.str.contains(r"^\d\.\d+E\+\d+$").fill_null(value=False)
    if rounded.any():
        warnings.append(
            f"{_rows(rounded, lines)} a time that a spreadsheet rounded, such as 1.70929E+12, so that the order of "
            "events is lost; export times as text"
        )
    own = _in_own_unit(numbers)
    mixed = _unit_of(numbers) != _unit_of(pl.Series([middle]))[0]
    fits = mixed & (own >= EARLIEST_LIKELY) & (own <= now() + DAY) & ~likely
    mended = fits.fill_null(value=False)
    if mended.any() and likely.any():
        seconds = seconds.zip_with(~mended, own)
        others = sorted({UNITS[place][0] for place in _unit_of(numbers.filter(mended)).to_list()})
        warnings.append(
            f"times are Unix {unit}, but {_rows(mended, lines)} {' and '.join(others)}; each was read in its own unit"
        )
    return seconds, f"times are numbers, read as Unix {unit}"


def _unit_of(numbers: pl.Series) -> pl.Series:
    bounds = [bound for _, bound, _ in UNITS[:-1]]
    return pl.Series(np.searchsorted(bounds, numbers.abs().fill_null(0.0).to_numpy(), side="right"))


def _in_own_unit(numbers: pl.Series) -> pl.Series:
    """Return each number in seconds, in the unit that its own size implies."""
    scales = np.array([scale for _, _, scale in UNITS])[_unit_of(numbers).to_numpy()]
    return pl.Series(numbers.name, np.divide(numbers.to_numpy(), scales), nan_to_null=True)


def _of_days(column: pl.Series) -> pl.Series:
    """Read 20240531, 2024053118, 202405311830 and 20240531183000."""
    padded = column.str.pad_end(14, "0")
    return _epoch(padded.str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="us"))


def _of_text(column: pl.Series, day_first: bool | None, warnings: list[str]) -> tuple[pl.Series, str]:
    """Read cells that are not numbers; also return why some that look like times were refused."""
    # The form of most logs, which is fast; the rest is read by patterns.
    plain = column.str.replace_all("/", "-", literal=True).str.replace(r"^(\d{4}-\d\d-\d\d) +(\d\d:)", "${1}T${2}")
    plain = plain.set(~plain.str.contains(r"^\d{4}-").fill_null(value=False), None)  # 24-03-01 is not in the year 24
    seconds = pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))
    for style in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%.f%#z"):
        rest = seconds.is_null()
        if not rest.any():
            return seconds, ""
        parsed = plain.set(~rest, None).str.to_datetime(style, strict=False, time_unit="us")
        seconds = seconds.zip_with(~rest, _epoch(parsed))
    rest = seconds.is_null()
    if not rest.any():
        return seconds, ""
    text = column.filter(rest).str.strip_chars()
    text = text.str.replace(r"^(\d{4})年(\d{1,2})月(\d{1,2})日", "${1}-${2}-${3} ").str.strip_chars()
    found, refusal = _by_patterns(text, day_first, warnings)
    return seconds.scatter(pl.Series(np.flatnonzero(rest.to_numpy())), found), refusal


def _tell_zones(column: pl.Series, where: pl.Series, lines: pl.Series, warnings: list[str]) -> None:
    """Warn of clock times without a zone beside times in zones other than UTC: they may be from another place."""
    clock = where & column.str.contains(r"\d:\d\d").fill_null(value=False)
    away = clock & column.str.contains(r"\d:\d\d.*[+-]\d{1,2}(?::?\d\d)?$").fill_null(value=False)
    away &= ~column.str.contains(r"[+-]00(?::?00)?$").fill_null(value=False)
    if away.any():
        bare = clock & ~column.str.contains(r"(?:[Zz]|UTC|GMT|UT|utc|gmt|[+-]\d{1,2}(?::?\d\d)?)\)?$").fill_null(
            value=True
        )
        if bare.any():
            warnings.append(f"{_rows(bare, lines)} no time zone (read as UTC), while others have one; write it in all")


def _by_patterns(text: pl.Series, day_first: bool | None, warnings: list[str]) -> tuple[pl.Series, str]:
    seconds = pl.Series(text.name, [None], dtype=pl.Float64).new_from_index(0, len(text))
    for pattern in (_YEAR_FIRST, _COMPACT, _DAY_MONTH, _MONTH_DAY, _YEAR_AT_END):
        seconds = seconds.zip_with(seconds.is_not_null(), _seconds_of(_groups(text, pattern)))
    parts = _groups(text, _YEAR_LAST)
    first, other = (parts[name].cast(pl.Int32, strict=False) for name in ("first", "other"))
    if not first.is_not_null().any():
        return seconds, ""
    if day_first is None and (refusal := _years_first(text, parts, seconds, warnings)) is not None:
        return seconds, refusal
    days_first, months_first = int((first > 12).sum()), int((other > 12).sum())
    dotted = (parts["between"] == ".").all()  # with dots, the day comes first
    if day_first is None and not dotted and days_first == months_first:
        example = text.filter(first.is_not_null())[0]
        return seconds, (
            f"a date such as {example!r} may begin with its day or with its month, and the column does not say which; "
            "pass --day-first or --month-first"
        )
    day_leads = day_first if day_first is not None else bool(dotted) or days_first > months_first
    if day_first is None:
        order = "day, month, year" if day_leads else "month, day, year"
        warnings.append(
            f"dates such as {text.filter(first.is_not_null())[0]!r} are read as {order}; "
            f"{'--month-first' if day_leads else '--day-first'} reads them the other way"
        )
    names = {"first": "day", "other": "month"} if day_leads else {"first": "month", "other": "day"}
    year = parts["year"]
    years = pl.DataFrame({"year": year}).select(
        pl.when(pl.col("year").str.len_chars() > 2)
        .then("year")
        .when(pl.col("year").cast(pl.Int32, strict=False) >= 70)
        .then("19" + pl.col("year"))
        .otherwise("20" + pl.col("year"))
    )
    full = years.to_series()
    found = _seconds_of(parts.rename(names).with_columns(full.alias("year")))
    return seconds.zip_with(seconds.is_not_null(), found), ""


def _years_first(text: pl.Series, parts: pl.DataFrame, seconds: pl.Series, warnings: list[str]) -> str | None:
    """Read dates such as 24-03-01 into `seconds` if only the year can come first.

    Returns:
        None if the column has no such dates, else the reason why it was not read; empty if it was.
    """
    first, other, last = (parts[name].cast(pl.Int32, strict=False) for name in ("first", "other", "year"))
    short = first.is_not_null() & (parts["between"] == "-") & (parts["year"].str.len_chars() == 2)
    this_year = time.gmtime(now()).tm_year - 2000

    def fits(year: pl.Series, month: pl.Series, day: pl.Series) -> bool:
        return bool((~short | ((year <= this_year) & (month <= 12) & (day <= 31))).fill_null(value=True).all())

    if not short.any() or not fits(first, other, last):
        return None
    example = text.filter(short)[0]
    if fits(last, other, first) or fits(last, first, other):
        return (
            f"a date such as {example!r} may begin with its year, its month or its day, and the column does not say "
            "which; write years with four digits, or pass --day-first or --month-first"
        )
    warnings.append(f"dates such as {example!r} are read as year, month, day; write years with four digits to be sure")
    names = {"first": "year", "other": "month", "year": "day"}
    days = parts.rename(names).with_columns(pl.concat_str(pl.lit("20"), "year").alias("year"))
    read = _seconds_of(days).set(~short, None)
    found = read.is_not_null()
    seconds.scatter(pl.Series(np.flatnonzero(found.to_numpy())), read.filter(found))
    return ""


def _groups(text: pl.Series, pattern: str) -> pl.DataFrame:
    return text.str.extract_groups(pattern).struct.unnest()


def _seconds_of(parts: pl.DataFrame) -> pl.Series:
    """Return the Unix seconds of a day, an hour and a zone in parts; null if they are invalid."""
    number = {name: pl.col(name).cast(pl.Int64, strict=False).fill_null(0) for name in ("hour", "minute", "second")}
    half = pl.col("half").str.slice(0, 1).str.to_lowercase()
    hour = pl.when(half.is_null()).then(number["hour"]).otherwise(number["hour"] % 12 + 12 * (half == "p"))
    fraction = ("0." + pl.col("fraction").str.strip_chars(".")).cast(pl.Float64, strict=False).fill_null(0.0)
    month = pl.col("month")
    named = (
        month.str.slice(0, 3)
        .str.to_lowercase()
        .replace_strict(
            {name: str(place) for place, name in enumerate(MONTHS, start=1)}, default=None, return_dtype=pl.String
        )
    )
    month = pl.when(month.str.contains(r"^\d")).then(month).otherwise(named).str.zfill(2)
    day = pl.concat_str(pl.col("year").str.zfill(4), month, pl.col("day").str.zfill(2), separator="-")
    zone = pl.col("zone").str.extract_groups(r"^([+-])(\d{1,2}):?(\d{2})?$")
    away = (
        zone.struct.field("2").cast(pl.Int64, strict=False) * 3600
        + zone.struct.field("3").cast(pl.Int64, strict=False).fill_null(0) * 60
    ) * pl.when(zone.struct.field("1") == "-").then(-1).otherwise(1)
    clock = hour * 3600 + number["minute"] * 60 + number["second"]
    valid = (
        (number["minute"] < 60)
        & (number["second"] <= 60)
        & ((hour < 24) | ((hour == 24) & (number["minute"] == 0) & (number["second"] == 0)))
        & (half.is_null() | number["hour"].is_between(1, 12))
        & (away.fill_null(0).abs() <= 18 * 3600)
    )
    whole = day.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int32).cast(pl.Int64) * DAY + clock - away.fill_null(0)
    return parts.select(pl.when(valid).then(whole.cast(pl.Float64) + fraction)).to_series()


def _unlikely(seconds: pl.Series, lines: pl.Series) -> tuple[str, ...]:
    told = []
    for wrong, when in ((seconds < EARLIEST_LIKELY, "before 1990"), (seconds > now() + DAY, "in the future")):
        wrong = wrong.fill_null(value=False)
        if wrong.all() and len(wrong):
            told.append(f"all times lie {when}; if they are no times but an order, that does no harm")
        elif wrong.any():
            told.append(
                f"{_rows(wrong, lines)} a time that lies {when}; look whether it is cut short or of another unit"
            )
    return tuple(told)


def _rows(where: pl.Series, lines: pl.Series) -> str:
    first: Sequence[int] = lines.filter(where).bottom_k(3).sort().to_list()
    count = int(where.sum())
    more = ", ..." if count > len(first) else ""
    return (
        f"{count:,} row{'s' if count > 1 else ''} ({', '.join(map(str, first))}{more}) {'have' if count > 1 else 'has'}"
    )


def _epoch(column: pl.Series) -> pl.Series:
    """Return dates or datetimes as Float64 Unix seconds."""
    if column.dtype == pl.Date:
        return column.cast(pl.Int32).cast(pl.Float64) * DAY
    scale = {"ms": 1e3, "us": 1e6, "ns": 1e9}[column.dtype.time_unit]  # type: ignore[attr-defined]
    return _divided(column.to_physical().cast(pl.Float64), scale)


def _divided(column: pl.Series, scale: float) -> pl.Series:
    """Divide exactly; Polars multiplies by the reciprocal, and this small error can change a whole second."""
    return pl.Series(column.name, np.divide(column.to_numpy(), scale), nan_to_null=True)
