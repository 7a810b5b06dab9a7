"""Hides the output of other libraries from users of the command line: progress bars, advice, deprecation warnings.

Such output is for genrec's developers, and tests treat it as errors; a user cannot act on it. `--debug` shows it again.
Most libraries read these environment variables when they are imported, so this module is imported before them, and
again in each process that Ray starts.
"""

from __future__ import annotations

import logging
import os
import warnings

OURS = ("genrec", "prompts", "retrieval", "training")
DEBUG = "GENREC_DEBUG"
"""The environment variable that `--debug` sets, so that processes started later know."""

VARIABLES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def listen(debug: bool) -> None:
    """Set up what this process says on stderr: genrec's own warnings, and with `debug` everything."""
    logging.basicConfig(level=logging.WARNING if debug else logging.ERROR, format="%(message)s")
    for package in OURS:
        logging.getLogger(package).setLevel(logging.DEBUG if debug else logging.WARNING)
    if debug:
        os.environ[DEBUG] = "1"
        return
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    warnings.simplefilter("ignore")


def debugging() -> bool:
    """Return whether `--debug` was given."""
    return bool(os.environ.get(DEBUG))
