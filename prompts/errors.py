"""What can go wrong with prompts, said so that the reader can mend it."""

from __future__ import annotations


class PromptError(ValueError):
    """Raised when a template is wrong, a variable is missing, or a history cannot be encoded."""


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its kind where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
