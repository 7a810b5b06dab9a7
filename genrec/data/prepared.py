"""Prepared data: a catalogue and a history for every user, made once, saved, and read by all other parts.

`prepare` makes it from files or from a named source; `save_prepared` and `load_prepared` keep it in a folder. The
split is a pure function of the histories, so only its name is saved.

A data folder holds `items.jsonl` (one item per line, catalogue order), `histories.parquet` (user, items, times; one
row per user, users in ascending order), `report.json`, `item_vectors.safetensors` if there are any, and the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import polars as pl

from genrec.data.catalog import Catalog, Item, normalise_label
from genrec.data.cleaning import Cleaning, CleanLog, clean
from genrec.data.dialects import Dialect
from genrec.data.event_columns import (
    HeldLog,
    SplitCounts,
    count_split,
    frame_of_histories,
    histories_frame,
    users_with_few_left,
)
from genrec.data.frames import as_file
from genrec.data.item_vectors import Given, ItemVectors
from genrec.data.raw import Columns, RawData, read_files
from genrec.data.report import QUANTILES, DataReport
from genrec.data.sources import read_source
from genrec.data.splits import NOTHING_TO_LEARN, History, Split, SplitName, make_split
from genrec.errors import ArtefactError, DataError
from genrec.storage.disk_space import check_space
from genrec.storage.folders import check_target, new_folder, read_json, read_manifest, write_json

ITEMS, HISTORIES, REPORT, VECTORS = "items.jsonl", "histories.parquet", "report.json", "item_vectors.safetensors"

REPEATED_SHARE, REPEATED_CASES = 0.05, 5
"""From this share and number of validation cases with a repeated item on, seen items may be recommended again. Below
it, the places that seen items take in a list cost more than the repeats bring. On cuts of online-retail the two were
even between 5 and 10 %."""

LIST_LENGTH = 10
"""Items of a list by default."""

USERS_PER_ROW_GROUP = 1024
"""Users written together, so that a reader of some users reads few others."""


@dataclass(frozen=True, slots=True)
class PreparedData(HeldLog):
    """A catalogue, the histories over it, and how they were made.

    Attributes:
        catalog: every item that can be recommended.
        histories: one per user, in ascending order of user id; events oldest first, equal times in file order.
        split_name: which rule divides the histories.
        report: which data was read and which was left out.
        keep_seen: whether seen items may be recommended again; one setting from training to serving.
        folder: the data folder; None while the data is only in memory.
        vectors: vectors that the user brought or that were made of pictures; None without any.

    Example:
        >>> import genrec
        >>> data = genrec.prepare("log.csv", "films.csv")
        >>> len(data.histories), len(data.catalog), data.split_name
        (60, 30, 'leave-one-out')
        >>> case = data.split().test[0]
        >>> case.target in data.catalog
        True
    """

    catalog: Catalog
    histories: tuple[History, ...]
    split_name: SplitName
    report: DataReport
    keep_seen: bool = False
    folder: Path | None = field(default=None, compare=False)
    vectors: ItemVectors | None = field(default=None, compare=False)

    def split(self) -> Split:
        """Divide the histories; the same every time."""
        return make_split(self.split_name, self.histories)


def prepare(
    interactions: Any = None,
    items: Any = None,
    *,
    out: str | Path | None = None,
    dataset: str | None = None,
    columns: Columns | None = None,
    cleaning: Cleaning | None = None,
    split: SplitName = "leave-one-out",
    keep_seen: bool | None = None,
    dialects: Mapping[str, Dialect] | None = None,
    item_vectors: Mapping[str, Given] | None = None,
    images: str | None = None,
    image_encoder: str = "colours",
    image_progress: Callable[[int, int], None] | None = None,
) -> PreparedData:
    """Read, clean and order a log and its catalogue.

    Args:
        interactions: the log: a file, a data frame (anything with `__arrow_c_stream__` or `__dataframe__`: pandas,
            Polars, PyArrow, DuckDB), or a `datasets.Dataset` or `DatasetDict`; goes with `items`.
        items: the catalogue, likewise.
        out: the data folder to write as well.
        dataset: instead of the two files, a named source: `NAME` or `NAME:PATH`.
        columns: the files' column names; missing ones are guessed.
        cleaning: which rows to leave out; by default only exact duplicates.
        split: how the histories will be divided.
        keep_seen: whether seen items may be recommended again; None: yes if repeats are usual in the validation cases
            (see `REPEATED_SHARE`).
        dialects: how the text files are written, by "interactions" and "items"; the rest is recognised.
        item_vectors: vectors of items, by a name of yours: a file (see `genrec.data.item_vectors`), or the ids and an
            array of shape (ids, width).
        images: the catalogue's column with the paths of pictures, relative to the catalogue's file.
        image_encoder: what makes vectors of them: `colours`, or a sentence-transformers model that takes pictures.
        image_progress: called with how many pictures are read, and of how many.

    Returns:
        The catalogue and the histories; `report` lists what was read, guessed and left out.

    Raises:
        DataError: a file, a column or a row is invalid, or nothing is left.
        ArtefactError: `out` exists and is not a data folder, or cannot be written.

    Example:
        >>> import genrec
        >>> data = genrec.prepare("log.csv", "films.csv", out="data/films")
        >>> data.report.users, data.report.items
        (60, 30)
        >>> import polars as pl
        >>> genrec.prepare(pl.read_csv("log.csv"), pl.read_csv("films.csv")).report.users
        60
    """
    if out is not None:
        check_target(Path(out), "data")  # fails before the work, not after it
    cleaning = cleaning or Cleaning()
    if split not in get_args(SplitName):
        raise DataError(f"there is no split {split!r}; expected one of {', '.join(get_args(SplitName))}")
    if dataset is not None:
        if interactions is not None or items is not None or columns not in (None, Columns()):
            raise DataError("a named source brings its own files and columns; give either it or your own, not both")
        raw = read_source(dataset)
    elif interactions is None or items is None:
        raise DataError("give both --interactions and --items, or a named source with --dataset")
    else:
        with_rating = cleaning.min_rating is not None
        columns = columns or Columns()
        with TemporaryDirectory(prefix="genrec.") as aside:
            log, log_notes = as_file(interactions, Path(aside) / "interactions.parquet")
            catalogue, item_notes = as_file(items, Path(aside) / "items.parquet")
            raw = read_files(log, catalogue, columns, with_rating, cleaning.skip_bad_rows, dialects)
            raw = replace(raw, notes=(*log_notes, *item_notes, *raw.notes))
    data = _prepared(raw, clean(raw, cleaning), split, keep_seen, None if out is None else Path(out))
    if item_vectors or images:
        folder = Path(items).parent if isinstance(items, str | Path) else Path()
        from genrec.data.images import all_vectors

        found, notes = all_vectors(data.catalog, item_vectors or {}, images, folder, image_encoder, image_progress)
        data = replace(data, vectors=found, report=replace(data.report, notes=(*data.report.notes, *notes)))
    if out is not None:
        save_prepared(data, Path(out))
    return data


def given_data(data: PreparedData | str | Path) -> tuple[PreparedData, Path]:
    """Return prepared data and the folder that holds it.

    Raises:
        DataError: the data is only in memory.
        ArtefactError: the folder is missing, unfinished or damaged.
    """
    loaded = data if isinstance(data, PreparedData) else load_prepared(Path(data))
    if loaded.folder is None:
        raise DataError("the data is in memory only; give genrec.prepare an `out`, so that a run can name its data")
    return loaded, loaded.folder


BYTES_PER_EVENT = 1
"""The smallest size of an event in the histories' file, packed."""


def save_prepared(data: PreparedData, folder: Path) -> None:
    """Write prepared data to a folder, completely or not at all.

    Raises:
        ArtefactError: the folder exists and is not a data folder, or cannot be written.
    """
    report = data.report
    details = {
        "split": data.split_name,
        "users": report.users,
        "items": report.items,
        "interactions": report.interactions,
        **({"keep_seen": True} if data.keep_seen else {}),
    }
    letters = sum(len(item.title) + len(item.label) for item in data.catalog)
    check_space(folder, letters + BYTES_PER_EVENT * report.interactions, "the prepared data")
    with new_folder(folder, "data", details) as work:
        with (work / ITEMS).open("w", encoding="utf-8", newline="\n") as file:
            for item in data.catalog:
                file.write(json.dumps(item.to_json(), ensure_ascii=False) + "\n")
        log = getattr(data, "_log", None)
        frame = frame_of_histories(data.histories) if log is None else histories_frame(log)
        frame.write_parquet(work / HISTORIES, row_group_size=USERS_PER_ROW_GROUP)
        write_json(work / REPORT, report.to_json())
        if data.vectors is not None:
            data.vectors.save(work / VECTORS)


def write_histories(histories: Iterable[History], path: Path) -> None:
    """Write histories as a table: user, items, times."""
    frame_of_histories(histories).write_parquet(path, row_group_size=USERS_PER_ROW_GROUP)


def load_prepared(folder: str | Path) -> PreparedData:
    """Read what `save_prepared` wrote.

    Raises:
        ArtefactError: the folder is missing, unfinished, damaged or of another kind.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, "data")
    if manifest.get("split") not in get_args(SplitName):
        raise ArtefactError(f"{folder} names the split {manifest.get('split')!r}; prepare the data again")
    try:
        with (folder / ITEMS).open(encoding="utf-8") as file:
            catalog = Catalog(Item.from_json(json.loads(line)) for line in file)
        report = DataReport.from_json(read_json(folder / REPORT))
        frame = pl.read_parquet(folder / HISTORIES, glob=False)
        histories = tuple(_histories(frame, catalog))
    except (OSError, KeyError, TypeError, ValueError, DataError, pl.exceptions.PolarsError) as error:
        raise ArtefactError(f"{folder} cannot be read ({error}); it is damaged, prepare the data again") from error
    keep_seen = bool(manifest.get("keep_seen", False))
    vectors = ItemVectors.load(folder / VECTORS, len(catalog)) if (folder / VECTORS).exists() else None
    return PreparedData(catalog, histories, manifest["split"], report, keep_seen, Path(folder), vectors)


def iter_histories(folder: Path, batch: int = USERS_PER_ROW_GROUP) -> Iterator[History]:
    """Read the histories of a data folder, a batch of users at a time, so that memory does not grow with their number.

    Args:
        folder: a data folder.
        batch: users in memory at a time; multiples of 1,024 are read fastest.

    Raises:
        ArtefactError: the folder is missing, unfinished, damaged or of another kind.
    """
    users = read_manifest(folder, "data")["users"]
    for start in range(0, users, batch):
        yield from _histories(pl.scan_parquet(folder / HISTORIES, glob=False).slice(start, batch).collect())


def _prepared(
    raw: RawData, log: CleanLog, split: SplitName, keep_seen: bool | None, folder: Path | None
) -> PreparedData:
    counts = count_split(split, log)
    usual = counts.repeated >= max(REPEATED_CASES, REPEATED_SHARE * counts.valid)
    keep = usual if keep_seen is None else keep_seen
    report = _report(raw.source, log)
    report = replace(
        report,
        train_histories=counts.train,
        valid_cases=counts.valid,
        test_cases=counts.test,
        repeated_cases=counts.repeated,
        notes=(
            *report.notes,
            f"the split is {split}",
            *_seen_note(usual, keep_seen),
            *_small_notes(counts),
            *_closed_note(log, keep),
        ),
    )
    return _of_log(log, split, report, keep, folder)


def _of_log(log: CleanLog, split: SplitName, report: DataReport, keep_seen: bool, folder: Path | None) -> PreparedData:
    """Return prepared data whose histories are made of the log when they are first asked for."""
    data = object.__new__(PreparedData)
    held = {"_log": log, "catalog": log.catalog, "split_name": split, "report": report}
    for name, value in {**held, "keep_seen": keep_seen, "folder": folder, "vectors": None}.items():
        object.__setattr__(data, name, value)
    return data


def _small_notes(counts: SplitCounts) -> tuple[str, ...]:
    """Return notes on what cannot be done with data of this size; empty if all is possible."""
    if counts.longest < 2:
        return (NOTHING_TO_LEARN,)
    missing = [name for name, cases in (("validation", counts.valid), ("test", counts.test)) if not cases]
    if not missing:
        return ()
    return (f"there are no {' and no '.join(missing)} cases: a user needs three events to be one",)


def _closed_note(log: CleanLog, keep_seen: bool) -> tuple[str, ...]:
    """Return a note on users whose lists are short, as few items are left for them; empty if there are none."""
    if keep_seen:
        few = len(log.users) if len(log.catalog) < LIST_LENGTH else 0
    else:
        few = users_with_few_left(log, LIST_LENGTH)
    if not few:
        return ()
    cure = "" if keep_seen else "; --keep-seen lets what they took come back"
    return (f"{few:,} of {len(log.users):,} users have fewer than {LIST_LENGTH} items left to recommend{cure}",)


def _seen_note(usual: bool, asked: bool | None) -> tuple[str, ...]:
    """Return the note on seen items; empty if they are left out and repeats are rare."""
    if asked is None and usual:
        return ("people take the same items again, so seen items may come back; --exclude-seen leaves them out",)
    if asked is True:
        return ("seen items may come back, as asked",)
    if asked is False and usual:
        return ("seen items are left out, as asked, although people take the same items again",)
    return ()


def _report(source: str, log: CleanLog) -> DataReport:
    """Report on a clean log; the split's counts are filled in later."""
    lengths = np.bincount(log.user, minlength=len(log.users))
    titles: dict[str, list[str]] = {}
    for item in log.catalog:
        titles.setdefault(normalise_label(item.title), []).append(item.title)
    shared = [group for group in titles.values() if len(group) > 1]
    seconds = log.seconds
    ties = None
    if seconds is not None:
        neighbours = log.user[1:] == log.user[:-1]
        ties = float((seconds[1:] == seconds[:-1])[neighbours].mean()) if neighbours.any() else 0.0
    return DataReport(
        source=source,
        users=len(log.users),
        items=len(log.catalog),
        interactions=len(log.user),
        duplicate_titles=sum(map(len, shared)),
        duplicate_title_examples=tuple(group[0] for group in shared[:3]),
        tie_share=ties,
        repeated_events=log.repeated,
        items_never_taken=len(log.catalog) - len(np.unique(log.item)),
        one_item_histories=int((lengths == 1).sum()),
        history_lengths=tuple(int(length) for length in np.quantile(lengths, QUANTILES, method="lower")),
        first_time=None if seconds is None else int(seconds.min()),
        last_time=None if seconds is None else int(seconds.max()),
        train_histories=0,
        valid_cases=0,
        test_cases=0,
        dropped=log.dropped,
        notes=log.notes,
        warnings=log.warnings,
    )


def _histories(frame: pl.DataFrame, catalog: Catalog | None = None) -> Iterator[History]:
    """Yield the histories of a frame; with a catalogue, item ids are checked against it and share its strings."""
    ids = None if catalog is None else {item_id: item_id for item_id in catalog.ids}
    for user, items, times in frame.iter_rows():
        yield History(user, tuple(items if ids is None else map(ids.__getitem__, items)), tuple(times))
