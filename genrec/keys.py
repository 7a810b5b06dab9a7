"""Key files, and what is made of a key: pseudonyms of user ids.

A key file is one line, 32 random bytes in URL-safe base64, readable by its owner only. Who holds it can make any
user's pseudonym again, and so can recognise the users they know; nobody else can, and no table is kept.

The easy mistake is a plain hash: ids are few enough to be hashed all, and each recognised.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import replace
from pathlib import Path

from genrec.errors import ArtefactError
from genrec.interactions import PreparedData
from genrec.splits import History

KEY_BYTES = 32
PSEUDONYM_DIGITS = 32
"""Hexadecimal digits of a pseudonym: 128 bits, so that no two users meet."""


def read_key(path: Path) -> bytes:
    """Return a key file's 32 bytes.

    Raises:
        ArtefactError: there is no such file, or it is not a key file.
    """
    try:
        key = base64.b64decode(path.read_bytes().strip(), altchars=b"-_", validate=True)
    except OSError as error:
        raise ArtefactError(f"cannot read the key file {path}: {error.strerror}; give an existing one") from error
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ArtefactError(f"{path} is not a key file; expected one line of 44 characters, as genrec makes it")
    return key


def read_or_make_key(path: Path) -> tuple[bytes, bool]:
    """Return a key file's 32 bytes, and whether the file was made now.

    Raises:
        ArtefactError: the file is not a key file, or cannot be made.
    """
    if path.exists():
        return read_key(path), False
    key = secrets.token_bytes(KEY_BYTES)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(base64.urlsafe_b64encode(key) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ArtefactError(f"cannot make the key file {path}: {error.strerror}; choose another place") from error
    return key, True


def pseudonym(user: str, key: bytes) -> str:
    """Return a user's pseudonym: HMAC-SHA256 of the id under the key, its first 32 hexadecimal digits."""
    return hmac.new(key, b"genrec user\0" + user.encode(), hashlib.sha256).hexdigest()[:PSEUDONYM_DIGITS]


def pseudonymise(data: PreparedData, key: bytes) -> PreparedData:
    """Return the data with pseudonyms for user ids; their order says nothing of that of the ids."""
    histories = (History(pseudonym(history.user, key), history.items, history.times) for history in data.histories)
    note = "user ids are pseudonyms (HMAC-SHA256 under a key that is not kept here)"
    report = replace(data.report, notes=(*data.report.notes, note))
    return replace(data, histories=tuple(sorted(histories, key=lambda history: history.user)), report=report)
