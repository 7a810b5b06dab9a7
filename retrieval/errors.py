"""What can go wrong in retrieval, said so that the reader can mend it."""

from __future__ import annotations


class RetrievalError(ValueError):
    """Raised when texts, vectors, tokens or a saved index are not what retrieval needs.

    Every message says what was given, what was expected and what to do.
    """
