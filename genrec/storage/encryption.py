"""Files encrypted block by block, so that a job can append to one, be killed, and go on.

    "genrec-encrypted-1" and a line end | salt, 16 bytes | block | block | ... | last block, empty
    block = length of what follows, 4 bytes, high byte first | nonce, 12 bytes | AES-256-GCM text and tag

The file's key is derived from the key file's key and the salt (HKDF-SHA256), and each block is bound to its place and
to being the last or not, so that blocks can be neither swapped, dropped, nor moved to another file. Nonces are random.

Every block draws its nonce at random. A nonce counted from the block's place would be used twice when a killed job
writes the block again with other contents, and two texts under one nonce give the key stream away.
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
"""Bytes in a block where the content has no blocks of its own."""


class EncryptedFile:
    """An encrypted file that is appended to, block by block.

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
        """Yield every whole block's content, and where in the file it ends; what follows is torn.

        Raises:
            ArtefactError: the first block does not open, since the key is another one or the file was changed.
        """
        self._count = 0
        self._file.seek(HEADER_BYTES)
        for content, last in _blocks(self._file, self._cipher, torn_tail=True):
            if last:
                return
            self._count += 1
            yield content, self._file.tell()

    def cut(self, end: int, blocks: int) -> None:
        """Cut the file to its first blocks.

        Args:
            end: where the last of them ends, from `read`; anything smaller than a header means none.
            blocks: how many they are.
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
        ArtefactError: it is no such file, the key is another one, or the file was changed or cut off.
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
    """Say whether a file begins as an encrypted one does."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _blocks(file: BinaryIO, cipher: AESGCM, torn_tail: bool) -> Iterator[tuple[bytes, bool]]:
    """Yield contents and whether each is the last; stop at, or refuse, what does not open."""
    from cryptography.exceptions import InvalidTag

    count = 0
    size = os.fstat(file.fileno()).st_size
    while True:
        start = file.tell()
        length = int.from_bytes(file.read(LENGTH_BYTES), "big")
        # A length read from damage may be gigabytes: it is believed only as far as the file goes.
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
