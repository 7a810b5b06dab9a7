"""The `genrec` command: its subcommands, and how errors are reported.

A subcommand's module imports only light modules at its top, so that `genrec --help` answers at once; heavy modules are
imported inside the function. A user's mistake gives one line on stderr and exit code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from genrec.cli.add_items import add_items
from genrec.cli.decrypt import decrypt
from genrec.cli.demo import demo
from genrec.cli.doctor import doctor
from genrec.cli.evaluate import evaluate
from genrec.cli.export import export
from genrec.cli.fit import fit
from genrec.cli.forget import forget
from genrec.cli.prefer import prefer
from genrec.cli.prepare import prepare
from genrec.cli.pretrain import pretrain
from genrec.cli.recommend import recommend
from genrec.cli.serve import serve
from genrec.cli.show import show
from genrec.cli.streams import discard, make_safe
from genrec.cli.train import train
from genrec.cli.tune import tune
from genrec.errors import LEAF_ERRORS, GenrecError, told
from genrec.libraries import debugging, listen

app = typer.Typer(
    name="genrec",
    help="A generative LLM recommender: histories as prompts, real catalogue items as answers, a reason beside each.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and debug messages.")] = False,
) -> None:
    """Hold the options that every command has."""
    logging.raiseExceptions = False  # a message that cannot be shown is no reason for a traceback
    listen(debug)


for verb in (
    demo,
    fit,
    prepare,
    pretrain,
    train,
    tune,
    prefer,
    add_items,
    recommend,
    decrypt,
    evaluate,
    show,
    export,
    serve,
    forget,
    doctor,
):
    app.command()(verb)


MISTAKE, FAULT, INTERRUPTED, PIPE_CLOSED = 2, 1, 130, 141
"""Exit codes: what the user can mend; a fault of genrec's; and, as shells have it, 128 and the number of the signal."""


def run() -> None:
    """Run the command line; the console script's entry point."""
    make_safe()
    try:
        app()
    except SystemExit as error:
        # Typer catches these two: it prints nothing for the one and exits with code 1 for the other.
        if (cause := _behind(error, KeyboardInterrupt)) is not None:
            _end(INTERRUPTED, "; ".join(["interrupted", *getattr(cause, "__notes__", [])]))
        if _behind(error, BrokenPipeError) is not None:
            _end(PIPE_CLOSED)
        _flush()
        raise SystemExit(error.code) from None
    except Exception as error:
        if debugging():
            raise
        _end(*what_to_tell(error))


def is_users_mistake(error: Exception) -> bool:
    """Return whether the user can correct the cause of an error."""
    return isinstance(error, (GenrecError, OSError, *LEAF_ERRORS))


def what_to_tell(error: Exception) -> tuple[int, str]:
    """Return the exit code and the message for an error."""
    if is_users_mistake(error):
        return MISTAKE, told(error)
    if (words := _of_a_library(error)) is not None:
        return MISTAKE, f"{words} ({told(error)})"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return (
            MISTAKE,
            f"out of memory ({told(error)}); lower batch_tokens, --beams or the like, or use a larger device",
        )
    where = traceback.extract_tb(error.__traceback__)[-1]
    return FAULT, (
        f"a fault of genrec's or of a library's, not yours: {type(error).__name__}: {told(error)} "
        f"({Path(where.filename).name}:{where.lineno}); please report it with what --debug shows"
    )


LIBRARIES = (
    ("safetensors", "SafetensorError", "a file of weights cannot be read or written"),
    ("polars.exceptions", "PolarsError", "a table cannot be read or written"),
    ("yaml", "YAMLError", "this is not valid YAML"),
    ("tomllib", "TOMLDecodeError", "this is not valid TOML"),
    ("pydantic", "ValidationError", "a setting is wrong"),
    ("huggingface_hub.errors", "HfHubHTTPError", "the hub did not answer as it should"),
    ("huggingface_hub.errors", "HFValidationError", "this is not a hub id"),
    ("ray.exceptions", "RayError", "a Ray worker failed"),
)
"""Errors of libraries whose cause the user can correct: module, class, and meaning."""


def _of_a_library(error: Exception) -> str | None:
    """Return the meaning of a library's error, or None if it is not among those that users can correct."""
    for module, name, words in LIBRARIES:
        kind = getattr(sys.modules.get(module), name, None)  # a library that is not loaded raised nothing
        if kind is not None and isinstance(error, kind):
            return words
    return "a file cannot be written" if "failed writing file" in str(error) else None


def _behind(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Return the error of a kind that another was raised for, or while it was handled."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kind):
        found = found.__cause__ or found.__context__
    return found


def _end(code: int, line: str = "") -> NoReturn:
    """Print a line on stderr and exit with a code, even if the streams are closed."""
    if line:
        try:
            sys.stderr.write(f"genrec: {line}\n")
        except OSError:
            discard(sys.stderr)
    _flush(told_already=True)
    raise SystemExit(code) from None


def _flush(told_already: bool = False) -> None:
    """Flush the output; otherwise Python does it at exit, and complains of a closed pipe or a full disk."""
    failed: OSError | None = None
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            failed = failed or error
            discard(stream)
    if failed is None or told_already:
        return
    if isinstance(failed, BrokenPipeError):
        raise SystemExit(PIPE_CLOSED) from None
    _end(MISTAKE, f"cannot write to standard output: {failed.strerror}; what was written to files is whole")


if __name__ == "__main__":
    run()
