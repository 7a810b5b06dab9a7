"""Runs genrec's verbs in surroundings that are against them; a program that test_hostile talks to.

    python -m tests.hostile

Each line of its input is a request: JSON with the words of a command line and what its surroundings are. Each line of
its answer is the exit code and what was said. Every command runs in a fork of this process, which has the libraries
loaded and has used none of them, so a verb costs what it does and not what it imports.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any

import datasets  # noqa: F401 - loaded here, once for all forks
import peft  # noqa: F401
import polars  # noqa: F401
import sklearn.ensemble  # noqa: F401
import torch
import transformers  # noqa: F401
import trl  # noqa: F401

import genrec.cli.main
import genrec.runs.evaluate
import genrec.runs.folder
import genrec.runs.prefer
import training.pretrain  # noqa: F401

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()
    os._exit(0)  # what was loaded takes long to unload


def answer(request: dict[str, Any]) -> dict[str, Any]:
    # Pipes, not files: a limit on the size of files must not cut what is said.
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            surround(request, out_end, err_end)
            genrec.cli.main.run()
            os._exit(0)
        except SystemExit as error:
            os._exit(int(error.code or 0))
        except BaseException:
            os.write(err_end, traceback.format_exc().encode())
            os._exit(99)
    os.close(out_end)
    os.close(err_end)
    said = []
    for end in (out, err):
        with os.fdopen(end, "rb") as file:
            said.append(file.read().decode("utf-8", "replace"))
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "out": said[0], "err": said[1]}


def surround(request: dict[str, Any], out: int, err: int) -> None:
    """Make this process' surroundings what is asked for."""
    torch.set_num_threads(1)
    sys.argv = ["genrec", *request["words"]]
    os.chdir(request["folder"])
    os.environ.update(request.get("environment", {}))
    os.umask(request.get("umask", 0o022))
    os.dup2(err, 2)
    if request.get("stdout") == "closed pipe":
        reading, out = os.pipe()
        os.close(reading)
    elif request.get("stdout") == "full":
        out = os.open("/dev/full", os.O_WRONLY)
    os.dup2(out, 1)
    encoding = request.get("encoding", "utf-8")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding=encoding, write_through=False)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding=encoding, write_through=True)
    if request.get("stdout") == "shut":
        os.close(0)
        os.close(1)
        sys.stdout = None  # type: ignore[assignment] - as Python itself has it then
    if "file_size" in request:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_size"], request["file_size"]))
    if request.get("plain_account") and os.geteuid() == 0:
        drop_capabilities()
    if "interrupt_at" in request:
        interrupt_at(request["interrupt_at"])


def interrupt_at(path: str) -> None:
    """Press Ctrl-C at the very moment a file is opened for the first time, however fast or slow the machine is."""
    waiting = [path]

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        named = event == "open" and isinstance(arguments[0], str | os.PathLike)
        if waiting and named and os.fspath(arguments[0]) == waiting[0]:
            waiting.clear()
            os.kill(os.getpid(), signal.SIGINT)

    sys.addaudithook(look)


def drop_capabilities() -> None:
    """Let root read and write only what the modes of files let it, as any other account."""
    kept = [0xFFFFFFFF & ~(1 << DAC_OVERRIDE | 1 << DAC_READ_SEARCH), 0xFFFFFFFF]
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    now = (ctypes.c_uint32 * 6)()
    libc.capget(header, now)
    for place in range(6):
        now[place] &= kept[place // 3]
    if libc.capset(header, now):
        raise OSError(ctypes.get_errno(), "capset")


if __name__ == "__main__":
    main()
