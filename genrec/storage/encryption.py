"""Files encrypted block by block, so that a killed job can resume and append to its file.

    "genrec-encrypted-1" and a line end | salt, 16 bytes | block | block | ... | last block, empty
    block = length of what follows, 4 bytes, high byte first | nonce, 12 bytes | AES-256-GCM text and tag

The file's key is derived from the key file's key and the salt (HKDF-SHA256). Each block is authenticated together with
its position and with whether it is the last. So blocks cannot be swapped, dropped or moved to another file.

Every block draws its nonce at random. A nonce counted from the block's position would be used twice when a killed job
writes the block again with other contents, and two texts under one nonce reveal the key stream.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from genrec.errors import ArtefactError, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"genrec-encrypted-1\n"
SALT_BYTES, LENGTH_BYTES, NONCE_BYTES, TAG_BYTES = 16, 4, 12, 16
HEADER_BYTES = len(MAGIC) + SALT_BYTES
CHUNK = 1 << 20
"""Bytes in a block if the content is not divided into blocks already."""


class EncryptedFile:
    """An encrypted file to which blocks can be appended.

    Args:
        file: opened for reading and writing; a new file gets its header.
        key: the key file's 32 bytes.

    Raises:
        ArtefactError: the file is of another kind.
    """

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        self._file = file
        file.seek(0)
        header = file.read(HEADER_BYTES)
        if len(header) < HEADER_BYTES:  # new, or killed before the header was whole
            header = MAGIC + secrets.token_bytes(SALT_BYTES)
            file.seek(0)
            file.truncate()
            file.write(header)
        self._cipher = _cipher(header, key, Path(file.name))
        self._count = 0

    def read(self) -> Iterator[tuple[bytes, int]]:
        """Yield each complete block's content and the offset of its end; bytes after the last of these are incomplete.

        Raises:
            ArtefactError: the first block cannot be decrypted: the key is wrong or the file was changed.
        """
        self._count = 0
        self._file.seek(HEADER_BYTES)
        for content, last in _blocks(self._file, self._cipher, torn_tail=True):
            if last:
                return
            self._count += 1
            yield content, self._file.tell()

    def cut(self, end: int, blocks: int) -> None:
        """Truncate the file to its first blocks.

        Args:
            end: the offset at which the last of them ends, from `read`; a value smaller than the header keeps none.
            blocks: the number of blocks that are kept.
        """
        self._file.seek(max(end, HEADER_BYTES))
        self._file.truncate()
        self._count = blocks

    def append(self, content: bytes, last: bool = False) -> None:
        """Write a block at the end."""
        self._file.seek(0, os.SEEK_END)
        nonce = secrets.token_bytes(NONCE_BYTES)
        text = self._cipher.encrypt(nonce, content, _place(self._count, last))
        self._file.write((len(nonce) + len(text)).to_bytes(LENGTH_BYTES, "big") + nonce + text)
        self._count += 1


def encrypt_bytes(content: bytes, path: Path, key: bytes) -> None:
    """Write an encrypted file, durably."""
    with path.open("w+b") as file:
        sealed = EncryptedFile(file, key)
        for start in range(0, len(content), CHUNK):
            sealed.append(content[start : start + CHUNK])
        sealed.append(b"", last=True)
        file.flush()
        os.fsync(file.fileno())


def decrypt_blocks(path: Path, key: bytes) -> Iterator[bytes]:
    """Yield the contents of an encrypted file's blocks.

    Raises:
        ArtefactError: the file is not encrypted by genrec, the key is wrong, or the file was changed or truncated.
    """
    try:
        with path.open("rb") as file:
            cipher = _cipher(file.read(HEADER_BYTES), key, path)
            for content, last in _blocks(file, cipher, torn_tail=False):
                if last:
                    if file.read(1):
                        raise ArtefactError(f"{path} goes on after its end; it was changed, make it again")
                    return
                yield content
    except OSError as error:
        raise ArtefactError(f"cannot read {path}: {error.strerror}; give an existing file") from error


def is_encrypted(path: Path) -> bool:
    """Return whether a file begins with the header of an encrypted one."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _blocks(file: BinaryIO, cipher: AESGCM, torn_tail: bool) -> Iterator[tuple[bytes, bool]]:
    """Yield each block's content and whether it is the last; stop at, or refuse, a block that cannot be decrypted."""
    from cryptography.exceptions import InvalidTag

    count = 0
    size = os.fstat(file.fileno()).st_size
    while True:
        start = file.tell()
        length = int.from_bytes(file.read(LENGTH_BYTES), "big")
        # A length read from a damaged file may be gigabytes: at most the rest of the file is read.
        whole = NONCE_BYTES + TAG_BYTES <= length <= size - start - LENGTH_BYTES
        block = file.read(length) if whole else b""
        for last in (False, True):
            try:
                content = cipher.decrypt(block[:NONCE_BYTES], block[NONCE_BYTES:], _place(count, last))
            except (InvalidTag, ValueError):
                continue
            break
        else:
            if torn_tail and (count or not whole):
                return
            raise ArtefactError(
                f"{file.name} does not open with this key after {count} blocks: the key is another one, or the file "
                "was changed or cut off; give the right key, or make the file again"
            )
        yield content, last
        if last:
            return
        count += 1


def _cipher(header: bytes, key: bytes, path: Path) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError:
        raise MissingExtra("privacy", "encryption") from None
    if len(header) < HEADER_BYTES or not header.startswith(MAGIC):
        raise ArtefactError(f"{path} is not an encrypted file of genrec; give one that recommend --encrypt wrote")
    return AESGCM(HKDF(SHA256(), 32, salt=header[len(MAGIC) :], info=b"genrec output").derive(key))


def _place(count: int, last: bool) -> bytes:
    return b"%d %s" % (count, b"last" if last else b"more")
