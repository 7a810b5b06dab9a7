"""Keeps the lines of other libraries from those who use genrec's command line: bars, advice, deprecation notes.

What they have to say is for us, and tests treat it as errors; a user can do nothing about it. It is heard again with
`--debug`. Most libraries read these variables when they are imported, so this comes before all of them; and a
process that Ray starts is a new one.
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
    """Say whether `--debug` was given."""
    return bool(os.environ.get(DEBUG))
