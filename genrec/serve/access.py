"""Who may ask what: API keys, of which only hashes are kept, each with its rights.

A key file has a line for each key: a name, the rights, and the SHA-256 of the key in hexadecimal digits. A key is 32
random bytes, so a plain hash is enough: nobody can try them all.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from genrec.errors import ArtefactError, ConfigError

Right = Literal["read", "write", "manage"]
"""Ask for lists and histories; write events and items, and forget users; put a new run in the place of the old."""

RIGHTS: tuple[Right, ...] = get_args(Right)


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key: its name, its rights, and its SHA-256."""

    name: str
    rights: frozenset[str]
    digest: bytes

    def to_line(self) -> str:
        """Return the key's line in a key file."""
        return f"{self.name} {','.join(right for right in RIGHTS if right in self.rights)} {self.digest.hex()}\n"


class ApiKeys:
    """The keys of a service.

    Args:
        keys: those that are known; with none, everybody may ask everything.
    """

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._keys = keys

    @classmethod
    def read(cls, file: Path) -> ApiKeys:
        """Read a key file.

        Raises:
            ArtefactError: it is missing, empty, or a line is not a key's.
        """
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ArtefactError(f"cannot read the API keys in {file}: {reason}; make them with --new-key") from None
        keys = [_read_line(line, file, number) for number, line in enumerate(lines, 1) if line.strip()]
        if not keys:
            raise ArtefactError(f"{file} holds no API key; make one with --new-key NAME=RIGHTS")
        return cls(tuple(keys))

    @property
    def are_asked(self) -> bool:
        """Whether a request needs a key at all."""
        return bool(self._keys)

    def rights_of(self, given: str) -> frozenset[str] | None:
        """Return a key's rights, or None where it is not known; equally fast for all keys of one length."""
        digest = hashlib.sha256(given.encode(errors="replace")).digest()
        found = None
        for key in self._keys:  # all of them: the time must not tell which one was nearly right
            if hmac.compare_digest(key.digest, digest):
                found = key.rights
        return found


def make_key(file: Path, wanted: str) -> str:
    """Add a new key to a key file, which is made if there is none; return the key, which is kept nowhere.

    Args:
        file: the key file.
        wanted: NAME=RIGHTS, such as shop=read,write.

    Raises:
        ConfigError: it is not of that form.
        ArtefactError: the file cannot be written, or has a key of this name already.
    """
    name, _, rights = wanted.partition("=")
    given = frozenset(right.strip() for right in rights.split(","))
    if not name or set(name) & set(" \t#,") or not given <= set(RIGHTS):
        raise ConfigError([f"the key is {wanted!r}; expected NAME=RIGHTS of {', '.join(RIGHTS)}: shop=read,write"])
    if file.exists() and any(key.name == name for key in ApiKeys.read(file)._keys):
        raise ArtefactError(f"{file} has a key named {name!r} already; take its line out, or choose another name")
    key = secrets.token_urlsafe(32)
    line = Key(name, given, hashlib.sha256(key.encode()).digest()).to_line()
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as out:
            out.write(line)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        raise ArtefactError(f"cannot write the API keys {file}: {error.strerror}; choose another place") from None
    return key


def _read_line(line: str, file: Path, number: int) -> Key:
    parts = line.split()
    if len(parts) == 3 and set(parts[1].split(",")) <= set(RIGHTS) and len(parts[2]) == 64:
        try:
            return Key(parts[0], frozenset(parts[1].split(",")), bytes.fromhex(parts[2]))
        except ValueError:
            pass
    raise ArtefactError(f"line {number} of {file} is no API key; expected a name, rights and 64 hexadecimal digits")
