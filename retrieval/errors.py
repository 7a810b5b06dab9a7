"""The errors of retrieval; each message says how to correct the cause."""

from __future__ import annotations


class RetrievalError(ValueError):
    """Raised when texts, vectors, tokens or a saved index cannot be used.

    Every message says what was given, what was expected and what to do.
    """
