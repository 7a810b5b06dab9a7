"""The `genrec` command: its verbs, and how a mistake is told.

A verb's module imports only light things at its top, so that `genrec --help` answers at once; what is heavy is
imported inside the verb. A user's mistake is one line on stderr and exit code 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from genrec.cli.add_items import add_items
from genrec.cli.decrypt import decrypt
from genrec.cli.demo import demo
from genrec.cli.doctor import doctor
from genrec.cli.evaluate import evaluate
from genrec.cli.forget import forget
from genrec.cli.prefer import prefer
from genrec.cli.prepare import prepare
from genrec.cli.pretrain import pretrain
from genrec.cli.recommend import recommend
from genrec.cli.show import show
from genrec.cli.train import train
from genrec.cli.tune import tune
from genrec.errors import GenrecError

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
    """Hold the options that every verb has."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if debug:
        os.environ["GENREC_DEBUG"] = "1"
        for package in ("genrec", "prompts", "retrieval", "training"):
            logging.getLogger(package).setLevel(logging.DEBUG)
    else:
        _quiet_libraries()


def _quiet_libraries() -> None:
    """Keep the libraries' own bars, advice and deprecation notes from the user; errors still come through."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore", FutureWarning)
    warnings.simplefilter("ignore", UserWarning)
    for library in ("bitsandbytes", "sentence_transformers", "datasets", "faiss"):
        logging.getLogger(library).setLevel(logging.ERROR)


for verb in (
    demo,
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
    forget,
    doctor,
):
    app.command()(verb)


def run() -> None:
    """Run the command line; the console script's entry point."""
    try:
        app()
    except (GenrecError, ValueError, OSError) as error:
        # The leaves raise ValueError subclasses of their own; a bare ValueError is a fault of ours, not the user's.
        if os.environ.get("GENREC_DEBUG") or not is_users_mistake(error):
            raise
        sys.stderr.write(f"genrec: {error}\n")
        raise SystemExit(2) from None


def is_users_mistake(error: Exception) -> bool:
    """Say whether an error is one that the user can mend, by the package that defines its class."""
    if isinstance(error, GenrecError | OSError):
        return True
    return type(error).__module__.split(".")[0] in {"prompts", "retrieval", "training"}


if __name__ == "__main__":
    run()
