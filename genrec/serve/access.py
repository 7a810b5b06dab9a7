"""Access to the service by API keys: each key has its rights, and only its hash is kept.

A key file has a line for each key: a name, the rights, and the SHA-256 of the key in hexadecimal digits. A key is 32
random bytes, so a plain hash is enough: trying all keys is infeasible.
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
"""Read lists and histories; write events and items, and forget users; let a new run take over."""

RIGHTS: tuple[Right, ...] = get_args(Right)


@dataclass(frozen=True, slots=True)
class Key:
    """The stored part of a key: its name, its rights, and its SHA-256."""

    name: str
    rights: frozenset[str]
    digest: bytes

    def to_line(self) -> str:
        """Return the key's line in a key file."""
        return f"{self.name} {','.join(right for right in RIGHTS if right in self.rights)} {self.digest.hex()}\n"


class ApiKeys:
    """The keys of a service.

    Args:
        keys: the known keys; without keys, every request is allowed.
    """

    def __init__(self, keys: tuple[Key, ...] = ()) -> None:
        self._keys = keys

    @classmethod
    def read(cls, file: Path) -> ApiKeys:
        """Read a key file.

        Raises:
            ArtefactError: the file is missing or empty, or a line does not describe a key.
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
        """Whether requests need a key."""
        return bool(self._keys)

    def rights_of(self, given: str) -> frozenset[str] | None:
        """Return a key's rights, or None if it is unknown; the time is equal for all keys of one length."""
        digest = hashlib.sha256(given.encode(errors="replace")).digest()
        found = None
        for key in self._keys:  # all of them: the time must not reveal a near match
            if hmac.compare_digest(key.digest, digest):
                found = key.rights
        return found


def make_key(file: Path, wanted: str) -> str:
    """Add a new key to a key file, which is made if missing; return the key, which is not stored.

    Args:
        file: the key file.
        wanted: NAME=RIGHTS, such as shop=read,write.

    Raises:
        ConfigError: the text does not have that form.
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
