"""The errors of prompts; each message says how to correct the cause."""

from __future__ import annotations


class PromptError(ValueError):
    """Raised when a template is wrong, a variable is missing, or a history cannot be encoded."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
