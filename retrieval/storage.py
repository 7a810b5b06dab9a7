"""An item index on disk: `index.faiss` beside `index.json`, written under temporary names and checked when read.

The JSON is written last and holds the SHA-256 of the FAISS file. So an incomplete or damaged index is found when it is
loaded, and files of two different saves are never combined. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss

from retrieval.errors import RetrievalError
from retrieval.structures import FAISS_TYPES, KINDS, Structure

FORMAT_VERSION = 1
VECTORS_FILE = "index.faiss"
ITEMS_FILE = "index.json"


@dataclass(frozen=True, slots=True)
class StoredIndex:
    """The stored content of an index.

    Attributes:
        structure: the vectors.
        ids: the item of each row; an updated item's older rows included.
        places: each row's place in catalogue order.
        removed: the rows that are not to be found any more.
    """

    structure: Structure
    ids: Sequence[str]
    places: Sequence[int]
    removed: Sequence[int]


def write_index(folder: Path, stored: StoredIndex) -> None:
    """Write an index into a folder, which is made where it does not exist.

    Raises:
        RetrievalError: the folder cannot be written.
    """
    vectors, items = folder / VECTORS_FILE, folder / ITEMS_FILE
    new_vectors, new_items = folder / f".{VECTORS_FILE}.tmp", folder / f".{ITEMS_FILE}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        faiss.write_index(stored.structure.faiss, str(new_vectors))
        description = {
            "format_version": FORMAT_VERSION,
            "kind": stored.structure.kind,
            "breadth": stored.structure.breadth,
            "sha256": _fingerprint(new_vectors),
            "ids": list(stored.ids),
            "places": list(stored.places),
            "removed": list(stored.removed),
        }
        new_items.write_text(json.dumps(description, ensure_ascii=False) + "\n", encoding="utf-8")
        new_vectors.replace(vectors)
        new_items.replace(items)
    except (OSError, RuntimeError) as error:  # FAISS raises RuntimeError where it cannot write
        raise RetrievalError(
            f"cannot write the item index to {folder} ({_reason(error)}); choose another place"
        ) from error
    finally:
        if folder.is_dir():
            new_vectors.unlink(missing_ok=True)
            new_items.unlink(missing_ok=True)


def read_index(folder: Path) -> StoredIndex:
    """Read what `write_index` wrote.

    Raises:
        RetrievalError: the folder holds no index, or a damaged one.
    """
    vectors, items = folder / VECTORS_FILE, folder / ITEMS_FILE
    for path in (items, vectors):
        if not path.is_file():
            raise RetrievalError(f"{path} is missing: {folder} holds no item index; build it from the catalogue")
    try:
        description = json.loads(items.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(items, f"it is not valid JSON, {error}") from error
    if not isinstance(description, dict) or description.get("format_version") != FORMAT_VERSION:
        raise _damaged(items, f"it is not of format version {FORMAT_VERSION}")
    if _fingerprint(vectors) != description.get("sha256"):
        raise _damaged(vectors, f"it is not the file that {ITEMS_FILE} was written with")
    try:
        stored = _checked(description, faiss.read_index(str(vectors)))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # FAISS raises RuntimeError
        raise _damaged(items, _reason(error)) from error
    return stored


def _checked(description: Mapping[str, Any], index: Any) -> StoredIndex:
    """Return the content of the two files if they agree; raise KeyError, TypeError or ValueError otherwise."""
    kind, breadth = description["kind"], description["breadth"]
    ids, places, removed = description["ids"], description["places"], description["removed"]
    if kind not in KINDS or not isinstance(index, FAISS_TYPES[kind]):
        raise ValueError(f"kind {kind!r} with a {type(index).__name__}, expected one of {', '.join(KINDS)}")
    if not index.ntotal == len(ids) == len(places):
        raise ValueError(f"{len(ids)} items for {index.ntotal} vectors")
    if not all(isinstance(item, str) for item in ids):
        raise TypeError("ids are not all text")
    if not all(isinstance(number, int) for number in (breadth, *places, *removed)):
        raise TypeError("breadth, places and removed are not all whole numbers")
    if not all(0 <= row < len(ids) for row in removed):
        raise ValueError("a removed row is none of the rows")
    gone = set(removed)
    live = [item for row, item in enumerate(ids) if row not in gone]
    if len(set(live)) != len(live):
        raise ValueError("an item is named twice")
    return StoredIndex(Structure(kind, index, breadth), ids, places, removed)


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(path: Path, reason: str) -> RetrievalError:
    return RetrievalError(f"{path} is damaged ({reason}); build the item index again from the catalogue")


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.strip().split("\n")[0][:160]
