"""The data report: which data was read, which was left out and why, and what affects the figures.

This module does not read files or frames; `genrec.data.cleaning` fills the report. The report names no user.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""The quantiles of history length that the report holds."""

LINES_SHOWN = 5
"""The number of line numbers kept for each reason."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that cannot be used, or were left out on request, for one reason.

    Attributes:
        file: the file's name.
        reason: why, as the end of "rows left out: ...".
        count: how many rows.
        lines: the first few line numbers (counted from 1, the header included; in Parquet, row numbers).
        example: the faulty value of the first such row; empty if the reason is enough.
        unit: the unit of `lines`: "line" of a text file, or "row".
    """

    file: str
    reason: str
    count: int
    lines: tuple[int, ...] = ()
    example: str = ""
    unit: str = "line"

    def to_text(self) -> str:
        """Return one line: the file, the reason, the count and where."""
        where = ", ".join(map(str, self.lines)) + (", ..." if self.count > len(self.lines) else "")
        rows = "row" if self.count == 1 else "rows"
        example = f" ({self.example})" if self.example else ""
        place = f", {self.unit}{'s' if self.count > 1 else ''} {where}" if self.lines else ""
        return f"{self.file}: {self.count:,} {rows} left out: {self.reason}{example}{place}"

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Dropped:
        """Build from what `dataclasses.asdict` returned, read back from JSON."""
        return cls(**{**data, "lines": tuple(data["lines"])})


class BadRows:
    """Collects unusable rows by reason.

    Args:
        file: the table's name.
        unit: the unit of places: "line" or "row".
        parts: if the table has several files, their names and numbers of rows; the first row is reported with its file.
    """

    def __init__(self, file: str, unit: str, parts: Sequence[tuple[str, int]] = ()) -> None:
        self._file, self._unit, self._parts = file, unit, parts if len(parts) > 1 else ()
        self._counts: Counter[str] = Counter()
        self._first: dict[str, tuple[list[int], str]] = {}

    def add(self, line: int, reason: str, example: str = "") -> None:
        """Count one row."""
        self._counts[reason] += 1
        lines, _ = self._first.setdefault(reason, ([], shorten(example)))
        if len(lines) < LINES_SHOWN:
            lines.append(line)

    def add_many(self, first_lines: Sequence[int], count: int, reason: str, example: str = "") -> None:
        """Count rows that share a new reason; their first lines are in file order."""
        if count:
            self._counts[reason] = count
            self._first[reason] = (list(first_lines[:LINES_SHOWN]), shorten(example))

    def dropped(self) -> tuple[Dropped, ...]:
        """Return the collected rows, in the order in which the reasons first occurred."""
        return tuple(
            Dropped(self._file, reason, self._counts[reason], tuple(lines), self._placed(lines, example), self._unit)
            for reason, (lines, example) in self._first.items()
        )

    def _placed(self, lines: Sequence[int], example: str) -> str:
        """Return an example with the file of the first row, if there are several files."""
        row = lines[0] if lines else 0
        for name, rows in self._parts:
            if 0 < row <= rows:
                return f"{example}{'; ' if example else ''}row {row} of {name}"
            row -= rows
        return example


@dataclass(frozen=True, slots=True)
class DataReport:
    """The counts and notes on prepared data.

    Attributes:
        source: the files' names, or the named source.
        users: number of users.
        items: number of items in the catalogue, taken or not.
        interactions: number of events.
        duplicate_titles: items whose title another item has too; they stay distinct items.
        duplicate_title_examples: some of those titles.
        tie_share: share of neighbouring events of a user that happened in the same second, so that the file and not the
            time gives their order; None if the source has no times.
        repeated_events: events whose user had taken the same item before.
        items_never_taken: items of the catalogue that nobody took.
        one_item_histories: users with a single event; they are only in training.
        history_lengths: events per user at each of `QUANTILES`.
        first_time: Unix seconds of the first event; None if the source has no times.
        last_time: Unix seconds of the last event.
        train_histories: training histories under the chosen split.
        valid_cases: validation cases.
        test_cases: test cases, for the final figures.
        repeated_cases: validation cases whose item the user had taken before.
        dropped: rows left out, by reason.
        notes: guesses and decisions while reading.
        warnings: things to check in what was read, such as times in two units.
    """

    source: str
    users: int
    items: int
    interactions: int
    duplicate_titles: int
    duplicate_title_examples: tuple[str, ...]
    tie_share: float | None
    repeated_events: int
    items_never_taken: int
    one_item_histories: int
    history_lengths: tuple[int, ...]
    first_time: int | None
    last_time: int | None
    train_histories: int
    valid_cases: int
    test_cases: int
    repeated_cases: int = 0
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def density(self) -> float:
        """Interactions per possible user-item pair, from 0 to 1 (more if there are many repeats)."""
        return self.interactions / (self.users * self.items)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values; `from_json` is its inverse."""
        values = asdict(self)
        # Without any, the report is byte for byte that of an older genrec, which did not have this field.
        for name in ("repeated_cases", "warnings"):
            if not values[name]:
                del values[name]
        return {**values, "density": self.density}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DataReport:
        """Build a report from what `to_json` returned."""
        values = {name: value for name, value in data.items() if name != "density"}
        for name in ("duplicate_title_examples", "history_lengths", "notes"):
            values[name] = tuple(values[name])
        values["warnings"] = tuple(values.get("warnings", ()))
        values["dropped"] = tuple(Dropped.from_json(entry) for entry in values["dropped"])
        return cls(**values)

    def to_text(self) -> str:
        """Return the report as lines for a person."""
        rows = [
            ("users", f"{self.users:,}"),
            ("items", f"{self.items:,} ({self.items_never_taken:,} never taken)"),
            ("interactions", f"{self.interactions:,} (density {self.density:.3%})"),
            ("times", self._times_text()),
            ("equal times", self._ties_text()),
            ("repeated items", self._repeats_text()),
            ("duplicate titles", self._titles_text()),
            ("events per user", self._lengths_text()),
            ("one-item histories", f"{self.one_item_histories:,} (in training only)"),
            (
                "split",
                f"{self.train_histories:,} training histories, {self.valid_cases:,} validation cases, "
                f"{self.test_cases:,} test cases",
            ),
        ]
        lines = [self.source, *(f"  {name:<19} {value}" for name, value in rows)]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  warning: {warning}" for warning in self.warnings]
        lines += [f"  {entry.to_text()}" for entry in self.dropped]
        return "\n".join(lines)

    def _times_text(self) -> str:
        if self.first_time is None or self.last_time is None:
            return "none; the order of events is the file's"
        return f"{_day(self.first_time)} to {_day(self.last_time)}"

    def _ties_text(self) -> str:
        if self.tie_share is None:
            return "unknown, since there are no times"
        return f"{self.tie_share:.1%} of neighbouring events of a user share a second; their order is the file's"

    def _repeats_text(self) -> str:
        text = f"{self.repeated_events:,} events ({self.repeated_events / self.interactions:.1%})"
        if not self.repeated_cases:
            return text
        share = self.repeated_cases / self.valid_cases
        return f"{text}; in {self.repeated_cases:,} validation cases ({share:.1%}) the next item was taken before"

    def _titles_text(self) -> str:
        examples = "; ".join(self.duplicate_title_examples)
        kept = f", kept as distinct items: {examples}" if self.duplicate_titles else ""
        return f"{self.duplicate_titles:,} items share a title{kept}"

    def _lengths_text(self) -> str:
        names = ["min", *(f"{quantile:.0%}" for quantile in QUANTILES[1:-1]), "max"]
        return ", ".join(f"{name} {value:,}" for name, value in zip(names, self.history_lengths, strict=True))


def _day(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):  # before year 1
        return f"{seconds} s"


def shorten(text: str, length: int = 60) -> str:
    """Return the text in one printable line of bounded length, for use in a message."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= length else shown[: length - 3] + "..."
