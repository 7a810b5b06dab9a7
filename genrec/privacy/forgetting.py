"""Forgetting users: removing them from prepared data, from outputs, and from a run's counts.

Where data about a user is stored, and what `genrec forget` does with it:

    data folder    the history                                     → removed; the report is counted anew
    outputs        a row, and notes in `<out>.problems.jsonl`       → removed; counts and manifests follow
    run folder     counts over all training histories               → counted again without the user
                   pages of some users in `evaluation/*/report.html` → those reports are deleted
                   the adapter's weights                            → cannot be: only training again forgets them

All files change together or not at all (`genrec.privacy.rewriting`). The data folder keeps a list of its earlier
fingerprints, so that runs trained on it still accept it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genrec.batch.job import read_record, record_of, side_of
from genrec.batch.outputs import KIND, SHARDS_MANIFEST, is_folder, part_of, write_shard
from genrec.data.prepared import HISTORIES, REPORT, PreparedData, load_prepared, write_histories
from genrec.data.report import QUANTILES
from genrec.data.splits import History
from genrec.errors import ArtefactError, DataError
from genrec.privacy.rewriting import change_lines, change_notes, change_shard, check_key, open_shard, shards_of
from genrec.storage.folders import MANIFEST, fingerprint, read_json, read_manifest, write_json
from genrec.storage.locks import locked
from genrec.storage.replacements import Replacements

RARE = 5
"""If fewer other users took an item, the model may have learnt it from one user alone."""


@dataclass(slots=True)
class Forgotten:
    """The result of forgetting.

    Attributes:
        users: how many of the users the data held.
        events: how many events they had.
        rows: rows removed, by output.
        rare_items: items of theirs that fewer than `RARE` other users took.
        reports: reports of evaluations that were deleted.
        finished: whether an earlier start, killed half-way, was finished first.
    """

    users: int = 0
    events: int = 0
    rows: dict[Path, int] = field(default_factory=dict)
    rare_items: int = 0
    reports: list[Path] = field(default_factory=list)
    finished: bool = False


def forget(
    users: Sequence[str],
    data: Path,
    outputs: Sequence[Path] = (),
    runs: Sequence[Path] = (),
    key: bytes | None = None,
) -> Forgotten:
    """Remove users from a data folder, from outputs, and from what runs have counted.

    Args:
        users: their ids, as the data has them.
        data: the data folder.
        outputs: finished outputs of the batch job.
        runs: finished runs that were trained on this data.
        key: decrypts those outputs that are encrypted.

    Raises:
        DataError: none of the users is anywhere, or nobody would be left.
        ArtefactError: something is missing, damaged, unfinished, being written, or does not belong to the data.
    """
    gone = frozenset(users)
    result = Forgotten()
    data = data.absolute()
    with ExitStack() as stack:
        for output in outputs:
            _check_finished(output, key)
            stack.enter_context(locked(output))
        with _log_of(data) as files:
            result.finished = files.finish_cut_off()
            kept, manifest = _forget_in_data(gone, data, files, result)
            before = fingerprint(data / MANIFEST)
            new_runs = {}
            for run in runs:
                old, new = _forget_in_run(run, kept, before, manifest, files)
                new_runs[old] = new
            for output in outputs:
                sealed = key if output.name.endswith(".enc") else None
                result.rows[output] = _forget_in_output(output, gone, sealed, files, before, manifest, new_runs)
            if result.users or any(result.rows.values()):
                # First, since a kill after the commit would leave them to nobody.
                for report in [report for run in runs for report in sorted((run / "evaluation").glob("*/report.html"))]:
                    report.unlink()
                    result.reports.append(report)
                files.commit()
            elif result.finished:
                files.drop()
            else:
                raise DataError(f"no such user in {data} or in the outputs given; give an id as the log has it")
    return result


@contextmanager
def _log_of(data: Path) -> Iterator[Replacements]:
    files = Replacements(data.with_name(f".{data.name}.forgetting"))
    try:
        with locked(data):
            yield files
    except OSError as error:
        files.drop()
        raise ArtefactError(f"cannot write: {error.strerror}; free some space and start again") from error
    except BaseException:
        files.drop()
        raise


def _forget_in_data(
    gone: frozenset[str], folder: Path, files: Replacements, result: Forgotten
) -> tuple[PreparedData, Path]:
    """Write the data without the users; return it, and where its manifest is."""
    manifest = read_manifest(folder, "data")
    data = load_prepared(folder)
    removed = [history for history in data.histories if history.user in gone]
    if not removed:
        return data, folder / MANIFEST
    kept = replace(data, histories=tuple(history for history in data.histories if history.user not in gone))
    if not kept.histories:
        raise DataError(f"{folder} has no other users; delete the folder instead")
    result.users, result.events = len(removed), sum(len(history.items) for history in removed)
    takers = Counter(item for history in kept.histories for item in set(history.items))
    result.rare_items = sum(takers[item] < RARE for item in {item for history in removed for item in history.items})
    kept = _recounted(kept, _repeats(data.histories) == data.report.repeated_events)
    write_histories(kept.histories, files.file_for(folder / HISTORIES))
    write_json(files.file_for(folder / REPORT), kept.report.to_json())
    new = files.manifest(
        folder / MANIFEST,
        manifest,
        users=kept.report.users,
        interactions=kept.report.interactions,
        forgotten=manifest.get("forgotten", 0) + len(removed),
        formerly=[*manifest.get("formerly", []), fingerprint(folder / MANIFEST)],
    )
    return kept, new


def _recounted(data: PreparedData, repeats_kept: bool) -> PreparedData:
    """Return the data with a report of what is left; the rows that reading left out are those of before.

    Repeats that preparing left out cannot be counted again, so their number then stays that of before.
    """
    histories, parts = data.histories, data.split()
    lengths = np.array([len(history.items) for history in histories])
    times = [time for history in histories for time in history.times]
    ties = [a == b for history in histories for a, b in zip(history.times, history.times[1:], strict=False)]
    has_times = data.report.tie_share is not None and bool(times)
    taken = {item for history in histories for item in history.items}
    note = "users were forgotten since: their events are left out of every count"
    report = replace(
        data.report,
        users=len(histories),
        interactions=int(lengths.sum()),
        tie_share=float(np.mean(ties)) if has_times and ties else (0.0 if has_times else None),
        repeated_events=_repeats(histories) if repeats_kept else data.report.repeated_events,
        items_never_taken=len(data.catalog) - len(taken),
        one_item_histories=int((lengths == 1).sum()),
        history_lengths=tuple(int(length) for length in np.quantile(lengths, QUANTILES, method="lower")),
        first_time=min(times) if has_times else None,
        last_time=max(times) if has_times else None,
        train_histories=len(parts.train),
        valid_cases=len(parts.valid),
        test_cases=len(parts.test),
        repeated_cases=sum(case.target in case.history.items for case in parts.valid),
        notes=(*(text for text in data.report.notes if text != note), note),
    )
    return replace(data, report=report)


def _repeats(histories: Sequence[History]) -> int:
    return sum(len(history.items) - len(set(history.items)) for history in histories)


def _forget_in_run(
    run: Path, kept: PreparedData, before: str, data_manifest: Path, files: Replacements
) -> tuple[str, str]:
    """Count a run's signals again; return the fingerprints that its manifest had and will have."""
    from genrec.manifest import RunManifest
    from genrec.runs.folder import read_items
    from genrec.signals.registry import fit_signals, load_signals, own_signals, save_signals
    from retrieval.index import ItemIndex

    manifest = read_manifest(run, "run")
    told = RunManifest.from_json(manifest, run / MANIFEST)
    formerly = read_json(data_manifest).get("formerly", [])
    if told.data not in (before, *formerly):
        raise ArtefactError(f"{run} was trained on other data; give the runs of this data only")
    catalog = read_items(run / "items.jsonl")
    vectors = ItemIndex.load(run / "index").vectors(catalog.ids)
    own = own_signals(load_signals(run / "signals.safetensors", catalog, vectors))
    signals = fit_signals(catalog, kept.split().train, vectors, told.keep_seen, own)
    save_signals(files.file_for(run / "signals.safetensors"), signals)
    return fingerprint(run / MANIFEST), fingerprint(
        files.manifest(run / MANIFEST, manifest, counted_on=fingerprint(data_manifest))
    )


def _forget_in_output(
    output: Path,
    gone: frozenset[str],
    key: bytes | None,
    files: Replacements,
    before: str,
    data_manifest: Path,
    runs: dict[str, str],
) -> int:
    """Write an output without the users; return how many rows went."""

    def change(user: str) -> str | None:
        return None if user in gone else user

    record = read_record(output)
    rows = (
        _rows_of_folder(output, change, key, files)
        if is_folder(output)
        else change_lines(output, files.file_for(output), change, key, key)
    )
    changed: dict[str, Any] = {"users": record["users"] - len(rows)}
    if side_of(output).exists():
        kinds = change_notes(side_of(output), files.file_for(side_of(output)), rows)
        changed["problems"] = dict(kinds)
    # The output now is what a job over the remaining users wrote, so a resumed job must know it for its own.
    if record.get("histories") == before:
        changed["histories"] = fingerprint(data_manifest)
    if record.get("run") in runs:
        changed["run"] = runs[record["run"]]
    write_json(files.file_for(record_of(output)), {**record, **changed})
    return len(rows)


def _rows_of_folder(folder: Path, change: Any, key: bytes | None, files: Replacements) -> list[int]:
    manifest = read_manifest(folder, KIND, name=SHARDS_MANIFEST)
    rows: list[int] = []
    start = 0
    for shard in shards_of(folder):
        frame = open_shard(shard, key)
        left, gone = change_shard(frame, change)
        if gone:
            write_shard(left, files.file_for(shard), key)
            rows += [start + row for row in gone]
        start += frame.height
    if rows:
        files.manifest(folder / SHARDS_MANIFEST, manifest)
    return rows


def _check_finished(output: Path, key: bytes | None) -> None:
    if part_of(output).exists():
        raise ArtefactError(f"the job of {output} is unfinished; finish it with --resume, or delete it, then forget")
    check_key(output, key if output.name.endswith(".enc") else None)
