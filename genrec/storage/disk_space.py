"""Disk space: checked before the expensive part, and reserved for files that must not be lost.

Estimates are low on purpose: a request is refused only if it certainly cannot fit.
"""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from genrec.errors import ArtefactError


def check_space(target: Path, needed: int, what: str) -> None:
    """Check that the disk has room for an output.

    Args:
        target: the output's path.
        needed: its size in bytes, at least.
        what: its name in the error message.

    Raises:
        ArtefactError: the output cannot fit.
    """
    folder = existing(target)
    size, _, free = shutil.disk_usage(folder)
    if size and needed > free:  # a file system that reports no size is not on a disk
        raise ArtefactError(
            f"{what} will take at least {readable(needed)}, and {folder} has {readable(free)} left; free some space "
            "or choose another --out"
        )


def check_file_size(largest: int, what: str) -> None:
    """Check that this process may write a file of a given size; `ulimit -f` sets the limit.

    Raises:
        ArtefactError: the file would exceed the limit.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and largest > limit:
        raise ArtefactError(
            f"{what} will be a file of at least {readable(largest)}, and this process may write {readable(limit)}; "
            "raise the limit (ulimit -f)"
        )


def existing(target: Path) -> Path:
    """Return the target, or the nearest folder above it that exists."""
    folder = target.absolute()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def readable(size: int) -> str:
    """Return a size as text with a unit."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.1f} GB"


def folder_size(folder: Path) -> int:
    """Return the total size of a folder's files in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def reserve(path: Path, size: int) -> None:
    """Reserve disk space with a file of this size; deleting the file frees the space for the next writer.

    Raises:
        ArtefactError: the disk does not have that much space.
    """
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ArtefactError(
            f"cannot take {readable(size)} in {path.parent}: {error.strerror}; free some space or choose another --out"
        ) from error
