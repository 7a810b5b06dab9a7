"""Fingerprints of large files, computed once: SHA-256, streamed, and kept in the cache folder.

A cached fingerprint is valid while the file's size, times and inode stay the same. The inode's change time (ctime) is
among them, since programs cannot set it back: a file of the same size whose modification time was copied, as
`rsync -t` and `cp -p` do, is read again. The fingerprint of a file that changed a moment ago is not cached, since the
next change could fall into the same clock tick.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genrec.storage.folders import fingerprint
from genrec.storage.places import cache_folder

logger = logging.getLogger(__name__)

REMEMBERED_BYTES = 8 << 20
"""Smaller files are read each time."""

ANNOUNCED_BYTES = 1 << 30
"""Reading more than this is logged: at 100 MB a second it takes ten seconds."""

SETTLED_SECONDS = 2.0
"""How long a file must have been unchanged before its fingerprint is cached."""


def file_entries(folder: Path, files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of files, by their paths relative to the folder.

    Args:
        folder: the folder that holds the files.
        files: some of its files.
    """
    found = sorted(files)
    known = {path: _remembered(path) for path in found}
    unread = sum(path.stat().st_size for path, sum_ in known.items() if sum_ is None)
    if unread > ANNOUNCED_BYTES:
        logger.warning("taking the fingerprint of %s (%.1f GB, once)", folder, unread / 1e9)
    entries = {}
    for path in found:
        sum_ = known[path]
        if sum_ is None:
            mark = _mark(path)
            sum_ = fingerprint(path)
            _remember(path, mark, sum_)
        entries[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sum_}
    return entries


def contents_of(entries: dict[str, dict[str, Any]]) -> str:
    """Return one fingerprint for several files, made from their names and contents."""
    lines = "".join(f"{name}\0{entry['sha256']}\n" for name, entry in sorted(entries.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _mark(path: Path) -> list[int]:
    """Return the file's properties that change whenever the file does."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]


def _note_of(path: Path) -> Path:
    return cache_folder() / "fingerprints" / hashlib.sha256(os.fsencode(path.resolve())).hexdigest()


def _remembered(path: Path) -> str | None:
    if path.stat().st_size < REMEMBERED_BYTES:
        return None
    try:
        note = json.loads(_note_of(path).read_text(encoding="utf-8"))
        return str(note["sha256"]) if note["mark"] == _mark(path) else None
    except (OSError, ValueError, KeyError, TypeError):  # no note, or a damaged one
        return None


def _remember(path: Path, mark: list[int], sum_: str) -> None:
    size, _, changed, *_ = mark
    settled = time.time() - changed / 1e9 > SETTLED_SECONDS
    if size < REMEMBERED_BYTES or not settled or mark != _mark(path):
        return
    note = _note_of(path)
    temporary = note.with_name(f"{note.name}.{os.getpid()}.tmp")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"mark": mark, "sha256": sum_}), encoding="utf-8")
        temporary.replace(note)
    except OSError as error:  # a home that cannot be written: the file is read again next time
        logger.debug("the fingerprint of %s is not remembered: %s", path, error)
