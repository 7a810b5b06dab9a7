"""genrec's errors; each message says how to correct the cause.

    GenrecError
    ├── DataError       a log, a catalogue or a prepared folder is invalid; a ValueError, too
    ├── ConfigError     settings are unknown, contradictory or impossible; holds all problems at once; a ValueError, too
    ├── ArtefactError   a saved folder is incomplete, damaged, or of another format version
    ├── ModelError      a base model cannot be found or cannot be used
    └── MissingExtra    an optional library is not installed; an ImportError, too

Every message says what was given, what was expected and what to do. The leaves (`prompts`, `retrieval`,
`training`) raise `ValueError` subclasses of their own, since they import nothing from here; what the public door gives
out goes through `translated`, so that whoever calls genrec need only know `GenrecError`.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prompts.errors import PromptError
from retrieval.errors import RetrievalError
from training.errors import TrainingError


class GenrecError(Exception):
    """Base of every error that a user of genrec can cause and correct.

    Example:
        >>> from genrec import GenrecError, Recommender
        >>> try:
        ...     Recommender.from_pretrained("runs/nowhere")
        ... except GenrecError as error:
        ...     print(type(error).__name__)
        ArtefactError
    """


class DataError(GenrecError, ValueError):
    """Raised when a log, a catalogue or prepared data is not what it should be; also a `ValueError`.

    Example:
        >>> from genrec import DataError, Recommender
        >>> rec = Recommender.from_pretrained("runs/films")
        >>> try:
        ...     rec.recommend(["No Such Film"])
        ... except DataError as error:
        ...     print(error)
        'No Such Film' is neither an id nor a title of the 30 items of the catalogue
    """


class ConfigError(GenrecError, ValueError):
    """Raised when settings are unknown, contradictory or impossible; also a `ValueError`.

    Args:
        problems: every problem found, so that a user can correct them all at once.

    Example:
        >>> import genrec
        >>> try:
        ...     genrec.train("data/films", "runs/new", epochs=-1, wamup=0.1)
        ... except genrec.ConfigError as error:
        ...     print(len(error.problems), "problems;", error.problems[1])
        2 problems; unknown key 'wamup', did you mean 'warmup'?
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ArtefactError(GenrecError):
    """Raised when a saved folder is incomplete, damaged, or of another format version.

    Example:
        >>> from genrec import ArtefactError, Recommender
        >>> try:
        ...     Recommender.from_pretrained("data/films")
        ... except ArtefactError as error:
        ...     print(error)
        data/films holds 'data', expected a genrec run folder
    """


class ModelError(GenrecError):
    """Raised when a base model cannot be found or cannot be used.

    Example:
        >>> import genrec
        >>> try:
        ...     genrec.train("data/films", "runs/new", base="./bases/nowhere")
        ... except genrec.ModelError as error:
        ...     print(error)
        there is no folder ./bases/nowhere; give a local folder, a hub id or 'starter'
    """


class MissingExtra(GenrecError, ImportError):  # noqa: N818 - reads as what is missing, as in "raise MissingExtra"
    """Raised when an optional library is needed and not installed; also an `ImportError`.

    Args:
        extra: the name of the extra in `pyproject.toml`.
        purpose: what needs it, as the start of a sentence.

    Example:
        >>> from genrec import MissingExtra
        >>> print(MissingExtra("ray", "--workers"))
        --workers needs an optional library; install it with: pip install 'genrec[ray]'
    """

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an optional library; install it with: pip install 'genrec[{extra}]'")


LEAF_ERRORS = (PromptError, RetrievalError, TrainingError)
"""The bases of what the leaves raise where a user can mend it."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the leaves raise into errors of this tree; as a decorator, for the functions of the public door.

    A wrong recipe becomes a `ConfigError`, a base that cannot be used a `ModelError`, a template or a history that
    cannot be encoded a `ConfigError`, and texts, vectors or an index that cannot be used an `ArtefactError`.
    """
    try:
        yield
    except LEAF_ERRORS as error:
        raise with_notes_of(as_ours(error), error) from error


def as_ours(error: Exception) -> GenrecError:
    """Return the error of this tree that says what a leaf's says."""
    if isinstance(error, RetrievalError):
        return ArtefactError(str(error))
    if isinstance(error, PromptError) or hasattr(error, "problems"):
        return ConfigError(getattr(error, "problems", [str(error)]))
    return ModelError(str(error))


def with_notes_of(error: GenrecError, other: Exception) -> GenrecError:
    """Return the error with what was noted beside another."""
    for note in getattr(other, "__notes__", []):
        error.add_note(note)
    return error


@contextmanager
def keeping(kept: str) -> Iterator[None]:
    """Note beside whatever goes wrong in the block what is kept, and how to go on.

    Args:
        kept: a sentence.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        error.add_note(kept)
        raise


_REMEDIES = {
    errno.ENOSPC: "free some space or choose another place",
    errno.EDQUOT: "this account's share of the disk is used up; free some space or choose another place",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "this place cannot be written; choose another one",
    errno.EACCES: "let this account read and write there, or choose another place",
    errno.EPERM: "let this account read and write there, or choose another place",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def told(error: BaseException) -> str:
    """Return an error's message and what was noted beside it, in one line."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        source, target, why = error.args[0][0]  # of a folder that could not be copied, the first file
        text = f"cannot copy {source} to {target}: {why}"
    elif isinstance(error, OSError) and error.strerror:
        where = error.filename if error.filename2 is None else error.filename2
        text = f"{error.strerror}: {where}" if where is not None else error.strerror
        if error.errno in _REMEDIES:
            text += f"; {_REMEDIES[error.errno]}"
    else:
        text = str(error) or type(error).__name__
    return "; ".join([" ".join(text.split()), *getattr(error, "__notes__", [])])
