"""What can go wrong with prompts, said so that the reader can mend it."""

from __future__ import annotations


class PromptError(ValueError):
    """Raised when a template is wrong, a variable is missing, or a history cannot be encoded."""
