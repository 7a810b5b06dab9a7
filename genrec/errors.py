"""What can go wrong, said so that the reader can mend it.

    GenrecError
    ├── DataError       a log, a catalogue or a prepared folder is not what it should be
    ├── ConfigError     settings are unknown, contradictory or impossible; holds all problems at once
    ├── ArtefactError   a saved folder is incomplete, damaged, or of another format version
    ├── ModelError      a base model cannot be found or cannot be used
    └── MissingExtra    an optional library is not installed

Every message says what was given, what was expected and what to do. The leaves (`prompts`, `retrieval`,
`training`) raise `ValueError` subclasses of their own, since they import nothing from here.
"""

from __future__ import annotations

from collections.abc import Sequence


class GenrecError(Exception):
    """Base of every error that a user of genrec can cause and mend."""


class DataError(GenrecError):
    """Raised when a log, a catalogue or prepared data is not what it should be."""


class ConfigError(GenrecError):
    """Raised when settings are unknown, contradictory or impossible.

    Args:
        problems: every problem found, so that a user mends them in one go.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class ArtefactError(GenrecError):
    """Raised when a saved folder is incomplete, damaged, or of another format version."""


class ModelError(GenrecError):
    """Raised when a base model cannot be found or cannot be used."""


class MissingExtra(GenrecError):  # noqa: N818 - reads as what is missing, as in "raise MissingExtra"
    """Raised when an optional library is needed and not installed.

    Args:
        extra: the name of the extra in `pyproject.toml`.
        purpose: what needs it, as the start of a sentence.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs an optional library; install it with: pip install 'genrec[{extra}]'")
