"""Where things stand: paths that are kept inside folders, and names that may be paths.

A folder names other folders (a run its base and its data) by the way from itself to them, so that a whole project can
be moved or copied, and be used from any working directory. The name as the user gave it is kept beside, for messages
and for a folder that was moved alone.

A path may look like the hub's `owner/name`, and from another working directory it would be asked of the hub, where
anybody may own that name. So what was a folder once is never asked of a hub again, and neither is anything that could
only be a path.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

_HUB_PART = r"[A-Za-z0-9_](?:[\w.\-]*[A-Za-z0-9_])?"
_HUB_ID = re.compile(rf"{_HUB_PART}(?:/{_HUB_PART})?", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Say whether a name could be a hub's: `name` or `owner/name`. All others are paths."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name


def expanded(name: str) -> Path:
    """Return a path with its `~` resolved; one of somebody unknown stays as it is."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def way_to(target: Path, folder: Path) -> str:
    """Return the way from a folder to a target, as it is kept inside the folder.

    Links above the target are followed, since `..` would lead elsewhere through them; the target's own is kept.
    """
    absolute = expanded(str(target)).absolute()
    # A target such as `.` has no name of its own to keep.
    real = absolute.parent.resolve() / absolute.name if absolute.name not in ("", "..") else absolute.resolve()
    return os.path.relpath(real, folder.resolve())


def follow(way: str, folder: Path) -> Path:
    """Return where the way from a folder leads now; the inverse of `way_to`."""
    return Path(os.path.normpath(folder.resolve() / way))


def candidates(way: str | None, name: str, folder: Path) -> tuple[Path, ...]:
    """Return where to look for what a folder names: along the way from it, then where the user had it.

    Args:
        way: what `way_to` returned when the folder was made; None in folders made before ways were kept.
        name: the path as the user gave it, absolute or from the working directory.
        folder: the folder that names it.
    """
    places = [] if way is None else [follow(way, folder)]
    return tuple(dict.fromkeys([*places, expanded(name).absolute()]))


def cache_folder() -> Path:
    """Return where genrec keeps what it can make again.

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
