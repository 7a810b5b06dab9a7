"""Room on the disk, asked for before the expensive part, and kept for what must not be lost.

Estimates are low on purpose: a request is refused only where it surely cannot fit.
"""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from genrec.errors import ArtefactError


def check_space(target: Path, needed: int, what: str) -> None:
    """Check that what will be written can fit.

    Args:
        target: where it will be written.
        needed: how many bytes at least.
        what: what they are, for the message.

    Raises:
        ArtefactError: it cannot fit.
    """
    folder = existing(target)
    size, _, free = shutil.disk_usage(folder)
    if size and needed > free:  # a file system without any size is none of disks
        raise ArtefactError(
            f"{what} will take at least {readable(needed)}, and {folder} has {readable(free)} left; free some space "
            "or choose another --out"
        )


def check_file_size(largest: int, what: str) -> None:
    """Check that this process may write a file of a size; `ulimit -f` sets how large they may be.

    Raises:
        ArtefactError: it may not.
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
    """Return a size in words."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.1f} GB"


def folder_size(folder: Path) -> int:
    """Return how many bytes a folder's files have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def reserve(path: Path, size: int) -> None:
    """Take room on the disk under a name; deleting the file gives it back to whoever writes next.

    Raises:
        ArtefactError: there is not so much.
    """
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ArtefactError(
            f"cannot take {readable(size)} in {path.parent}: {error.strerror}; free some space or choose another --out"
        ) from error
