"""Paths that folders record of other folders, and names that may be paths or hub ids.

A folder records the relative path to each folder that it needs (a run: its base and its data). So a whole project can
be moved or copied, and used from any working directory. The name that the user gave is recorded, too, for messages
and for a folder that was moved alone.

A path may look like a hub id (`owner/name`). From another working directory such a name would be requested from the
hub, where anybody may own it. So a name that once meant a folder is never requested from the hub, nor is a name that
can only be a path.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

_HUB_PART = r"[A-Za-z0-9_](?:[\w.\-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_HUB_PART}(?:/{_HUB_PART})?", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Return whether a name could be a hub id: `name` or `owner/name`. All others are paths."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name


def expanded(name: str) -> Path:
    """Return a path with its `~` expanded; `~` of an unknown user stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def way_to(target: Path, folder: Path) -> str:
    """Return the relative path from a folder to a target, for recording inside the folder.

    Symbolic links above the target are resolved, since `..` would lead elsewhere through them; if the target itself is
    a link, it is kept.
    """
    absolute = expanded(str(target)).absolute()
    # A target such as `.` has no name of its own to keep.
    real = absolute.parent.resolve() / absolute.name if absolute.name not in ("", "..") else absolute.resolve()
    return os.path.relpath(real, folder.resolve())


def follow(way: str, folder: Path) -> Path:
    """Return the path that a recorded relative path means now; the inverse of `way_to`."""
    return Path(os.path.normpath(folder.resolve() / way))


def candidates(way: str | None, name: str, folder: Path) -> tuple[Path, ...]:
    """Return the paths at which to look for a recorded folder: the recorded relative path, then the user's own path.

    Args:
        way: what `way_to` returned when the folder was made; None in folders made before relative paths were recorded.
        name: the path as the user gave it, absolute or relative to the working directory.
        folder: the folder that holds the record.
    """
    places = [] if way is None else [follow(way, folder)]
    return tuple(dict.fromkeys([*places, expanded(name).absolute()]))


def cache_folder() -> Path:
    """Return the cache folder, for files that genrec can make again.

    That is `$GENREC_CACHE`, else `$XDG_CACHE_HOME/genrec`, else `~/.cache/genrec`; for an account without a home, a
    folder of its own among the temporary files.
    """
    if own := os.environ.get("GENREC_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "genrec"
    try:
        return Path.home() / ".cache" / "genrec"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"genrec-{os.getuid()}"
