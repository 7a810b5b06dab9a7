"""Key files, and pseudonyms of user ids.

A key file is one line, 32 random bytes in URL-safe base64, readable by its owner only. A pseudonym is the user's id
under AES-SIV (RFC 5297): a keyed hash of the id, and the id encrypted with that hash as its nonce. The same id always
gives the same pseudonym. The holder of the key can turn it back into the id without a table. Others learn only that two
rows belong to the same user, and about how long the id is.

A plain hash would hide nothing: ids are few enough that anyone can hash them all and recognise each.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from dataclasses import replace
from pathlib import Path

from genrec.data.prepared import PreparedData
from genrec.errors import ArtefactError, MissingExtra

KEY_BYTES = 32
PADDED_TO = 16
"""Bytes; an id is filled up to a multiple of it."""


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


class Pseudonyms:
    """Pseudonyms of user ids, and the way back.

    Args:
        key: the key file's 32 bytes.

    Raises:
        MissingExtra: the library with the cipher is not installed.
    """

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV
            from cryptography.hazmat.primitives.hashes import SHA256
            from cryptography.hazmat.primitives.kdf.hkdf import HKDF
        except ImportError:
            raise MissingExtra("privacy", "pseudonyms") from None
        self._cipher = AESSIV(HKDF(SHA256(), 64, salt=None, info=b"genrec user").derive(key))

    def of(self, user: str) -> str:
        """Return a user's pseudonym, in hexadecimal digits."""
        text = user.encode() + b"\x80"
        # Padded, since the cipher keeps lengths: ids of up to 15 bytes all look alike.
        return self._cipher.encrypt(text.ljust(-len(text) % PADDED_TO + len(text), b"\0"), None).hex()

    def user(self, pseudonym: str) -> str:
        """Return the user id of a pseudonym.

        Raises:
            ArtefactError: it was not made with this key.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(bytes.fromhex(pseudonym), None).rstrip(b"\0")[:-1].decode()
        except (InvalidTag, ValueError):
            raise ArtefactError("a user id is not a pseudonym made with this key; give the key of prepare") from None


def pseudonymise(data: PreparedData, names: Pseudonyms) -> PreparedData:
    """Return the data with pseudonyms for user ids; their order says nothing of that of the ids."""
    histories = (replace(history, user=names.of(history.user)) for history in data.histories)
    note = "user ids are pseudonyms; only the key file, which is not kept here, turns them back"
    report = replace(data.report, notes=(*data.report.notes, note))
    return replace(data, histories=tuple(sorted(histories, key=lambda history: history.user)), report=report)
