"""Saved folders: written under a temporary name, renamed when complete, checked when read.

A folder with a manifest (`genrec.json`) is complete, since the manifest is written last. The manifest records the
format version, the kind of the folder, and the size and SHA-256 of every file. So damage is found when the folder is
loaded, not as a strange recommendation.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from genrec.errors import ArtefactError

MANIFEST = "genrec.json"
FORMAT_VERSION = 1
ABOUT_THE_FOLDER = frozenset({"format_version", "kind", "files", "checksum"})
"""The manifest keys that `write_manifest` sets; all others come from the caller."""
CHECKSUM = "checksum"
"""The manifest key with the SHA-256 of the manifest's other values: a damaged value may still look valid."""

UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG})
"""System errors that mean that a place cannot be written."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, never a part."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text to a temporary name beside the target, then rename it into place."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtefactError(
            f"cannot write {path}: {error.strerror}; free some space or choose another place"
        ) from error


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ArtefactError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ArtefactError(f"{path} is not valid JSON ({error}); the folder is damaged, make it again") from error


def check_target(target: Path, kind: str) -> None:
    """Check that `new_folder` could create the target, and leave nothing behind; call it before long work.

    Raises:
        ArtefactError: the target is not a folder of this kind, or cannot be written.
    """
    target = target.resolve()
    if target.exists() and not _is_replaceable(target, kind):
        raise ArtefactError(f"{target} exists and is not a genrec {kind} folder; choose another --out or move it away")
    check_writable(target)


def check_writable(target: Path) -> None:
    """Check that a file or folder could be created at the target, and leave nothing behind.

    Raises:
        ArtefactError: the target cannot be written.
    """
    target = target.resolve()
    parent = target.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    try:
        Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent)).rmdir()
    except OSError as error:
        raise ArtefactError(f"cannot write to {parent}: {error.strerror}; choose another --out") from error


@contextmanager
def new_folder(target: Path, kind: str, details: Mapping[str, Any]) -> Iterator[Path]:
    """Build a folder under a temporary name and rename it to the target when the block ends without an error.

    The block writes into the temporary folder. An older folder of the same kind at the target is replaced; any other
    existing folder is refused and left unchanged.

    Args:
        target: the folder's final path.
        kind: the folder's kind, which `read_manifest` will check: "data", "run", ...
        details: further keys of the manifest; read after the block, so the block may fill them in.

    Raises:
        ArtefactError: the target is not a folder of this kind, or cannot be written.
    """
    check_target(target, kind)
    target = target.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ArtefactError(f"cannot write to {target.parent}: {error.strerror}; choose another --out") from error
    try:
        yield work
        write_manifest(work, kind, details)
        open_folder(work)
        _put_in_place(work, target)
    except OSError as error:
        # Any other error comes from the block itself, such as reading a missing file.
        if error.errno not in UNWRITABLE:
            raise
        raise ArtefactError(
            f"cannot write {target}: {error.strerror}; free some space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def open_folder(folder: Path) -> None:
    """Give a folder made by `mkdtemp`, which is private, the permissions of an ordinary new folder."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)


def write_manifest(folder: Path, kind: str, details: Mapping[str, Any], name: str = MANIFEST) -> None:
    """Write the folder's manifest; call it last, since its presence means that the folder is complete."""
    files = {
        str(path.relative_to(folder)): file_entry(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != name
    }
    write_json(folder / name, sealed({"format_version": FORMAT_VERSION, "kind": kind, **details, "files": files}))


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with its own checksum added."""
    return {**manifest, CHECKSUM: _checksum(manifest)}


def file_entry(path: Path) -> dict[str, Any]:
    """Return a file's entry in a manifest."""
    return {"bytes": path.stat().st_size, "sha256": fingerprint(path)}


def read_manifest(folder: Path, kind: str, verify: bool = True, name: str = MANIFEST) -> dict[str, Any]:
    """Read and check a folder's manifest.

    Args:
        folder: a folder made by `new_folder` or completed by `write_manifest`.
        kind: the kind that the folder must have.
        verify: also compare every file's size and SHA-256 with the manifest.
        name: the manifest's file name.

    Raises:
        ArtefactError: the folder is missing, unfinished, damaged, or of another kind or version.
    """
    if not folder.is_dir():
        raise ArtefactError(f"there is no folder {folder}; expected a genrec {kind} folder")
    if not (folder / name).is_file():
        raise ArtefactError(f"{folder} has no {name}: it is unfinished or not a genrec {kind} folder")
    manifest = read_json(folder / name)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else type(manifest).__name__
        raise ArtefactError(f"{folder} holds {found!r}, expected a genrec {kind} folder")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtefactError(
            f"{folder} has format version {manifest.get('format_version')}, this genrec reads {FORMAT_VERSION}; "
            "make the folder again or use the genrec that made it"
        )
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(map(_is_entry, files.values())):
        raise ArtefactError(f"{folder / name} does not list the folder's files; it is damaged, make the folder again")
    if CHECKSUM in manifest and manifest[CHECKSUM] != _checksum(manifest):
        raise ArtefactError(
            f"{folder / name} is not what was written; the folder is damaged, make it again "
            f"(or, if you changed it yourself, delete its {CHECKSUM})"
        )
    if verify:
        for file, entry in files.items():
            _check_file(folder / file, entry)
    return manifest


def fingerprint(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is_entry(entry: object) -> bool:
    return isinstance(entry, dict) and entry.keys() >= {"bytes", "sha256"}


def _check_file(path: Path, entry: Mapping[str, Any]) -> None:
    if not path.is_file():
        raise ArtefactError(f"{path} is missing; the folder is damaged, make it again")
    if path.stat().st_size != entry["bytes"] or fingerprint(path) != entry["sha256"]:
        raise ArtefactError(f"{path} is not the file that was written; the folder is damaged, make it again")


def _put_in_place(work: Path, target: Path) -> None:
    """Move a finished folder to its target; an older folder there is renamed first and deleted last."""
    old = None
    if target.exists():
        old = work.with_name(f"{work.name}.old")
        target.replace(old)
    try:
        work.replace(target)
    except OSError:
        if old is not None:
            old.replace(target)
        raise
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _is_replaceable(target: Path, kind: str) -> bool:
    if not target.is_dir():
        return False
    if not any(target.iterdir()):
        return True
    try:
        return bool(read_manifest(target, kind, verify=False))
    except ArtefactError:
        return False


def flush(file: BinaryIO) -> None:
    """Flush a file's bytes to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's file names to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
