"""Locks on outputs: a second process that would write the same output gets an error message.

A lock is a hidden file beside the output, held through `flock`. The lock ends with its process, even if that is
killed; a lock file that a killed process leaves behind blocks nobody.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from genrec.errors import ArtefactError

logger = logging.getLogger(__name__)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold an output's lock while the block runs, so that no second process writes it.

    Raises:
        ArtefactError: another process holds it, or the place cannot be written.
    """
    out = out.absolute()
    path = out.with_name(f".{out.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
    except OSError as error:
        raise ArtefactError(f"cannot write to {path.parent}: {error.strerror}; choose another --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have deleted the file between our opening and our locking it: then the lock is void.
            if os.fstat(lock.fileno()).st_nlink == 0:
                raise BlockingIOError
        except BlockingIOError:
            lock.seek(0)
            holder = lock.readline().strip()
            raise ArtefactError(
                f"another genrec process is writing {out}{f' ({holder})' if holder else ''}; wait for it, or stop it "
                "and start again"
            ) from None
        except OSError as error:
            logger.warning("%s cannot be locked (%s): make sure that no second process writes it", out, error.strerror)
        try:
            _say_who(lock.fileno())
            yield
        finally:
            path.unlink(missing_ok=True)


def _say_who(lock: int) -> None:
    """Write the holder into the lock file, for the error message of others; on a full disk the file stays empty."""
    text = f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}\n"
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, text.encode(), 0)
    except OSError:
        return
