"""What the console shows: genrec's own lines and no library's, and every bracket that was meant to be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from rich.text import Text

from genrec.cli.main import app
from genrec.evaluation.compare import evaluate_lists
from genrec.libraries import DEBUG, VARIABLES
from genrec.report.tables import report_table
from tests.genrec.report.test_tables import CASES, CATALOG, SYSTEMS
from tests.toyworld import write_files

ROOT = Path(__file__).parent.parent.parent
OURS = re.compile(
    r"(Pretraining|Training|Fitting the weights of signals|Recommending|Evaluating|Learning preferences): \d+ % .*"
    r"|unpacking the starter model into .*"
    r"|no weights of the signals will be fitted: .*"
)


def program(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program of ours with nothing set that keeps libraries quiet; the tests' own process sets some of it."""
    known = {name: value for name, value in os.environ.items() if name not in (*VARIABLES, DEBUG)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**known, "PYTHONPATH": str(ROOT), **variables},
        check=False,
    )


def test_only_our_own_lines_are_on_stderr(toy_base: Path, tmp_path: Path) -> None:
    write_files(tmp_path, users=12)
    done = program("-m", "tests.quiet_run", tmp_path, toy_base)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stderr.splitlines()
    assert [line for line in lines if not OURS.fullmatch(line)] == []
    assert len({line.split(":")[0] for line in lines}) >= 6


NOISE = """
import logging, sys, warnings
from genrec.cli.main import app, run
@app.command()
def noise():
    from datasets.utils.logging import get_logger as of_datasets
    from tqdm.auto import tqdm
    from transformers.utils.logging import get_logger, tqdm as bar
    warnings.warn("a promise to break", FutureWarning)
    warnings.warn("old", DeprecationWarning)
    logging.getLogger("bitsandbytes.cpu").warning("no kernel")
    logging.getLogger("some.library").warning("advice")
    get_logger("transformers.some").warning("transformers' advice")
    of_datasets("datasets.some").warning("datasets' advice")
    list(tqdm(range(2), desc="a bar"))
    list(bar(range(2), desc="another bar"))
    logging.getLogger("genrec.some").warning("our own")
run()
"""


def test_libraries_are_heard_with_debug_only() -> None:
    done = program("-c", NOISE, "noise")
    assert (done.returncode, done.stderr) == (0, "our own\n")
    done = program("-c", NOISE, "--debug", "noise")
    for part in ("promise to break", "no kernel", "advice", "transformers'", "datasets'", "a bar", "another bar"):
        assert part in done.stderr
    assert "our own\n" in done.stderr


def test_loading_a_run_in_python_brings_no_warning_of_libraries(toy_run: Path) -> None:
    code = (
        "import logging; logging.basicConfig(level=logging.WARNING)\n"
        "from genrec import Recommender\n"
        f"Recommender.from_pretrained({str(toy_run)!r}).recommend(['Night Train 1'], k=2)"
    )
    done = program("-c", code, HF_HUB_DISABLE_PROGRESS_BARS="1")
    assert (done.returncode, done.stderr) == (0, "")


VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("verb", [(), *((verb,) for verb in VERBS)], ids=lambda words: " ".join(words) or "genrec")
def test_help_shows_every_bracket(genrec: Any, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich takes [ray] for a mark of its own and shows nothing; only the bold that is meant may go."""
    monkeypatch.setenv("COLUMNS", "10000")
    monkeypatch.setenv("TERMINAL_WIDTH", "10000")
    code, shown, _ = genrec(*verb, "--help")
    assert code == 0
    assert "[bold]" not in shown
    for parameter in VERBS[verb[0]].params if verb else ():
        help_text = getattr(parameter, "help", None) or ""
        meant = re.sub(r"\[/?bold\]", "", help_text).replace("\\[", "[")
        assert Text.from_markup(help_text).plain == meant, parameter.name
        assert " ".join(meant.split()) in " ".join(shown.split()), parameter.name
        if isinstance(parameter.metavar, str):
            assert parameter.metavar in shown


def test_the_extras_are_named_in_help(genrec: Any) -> None:
    shown = genrec("recommend", "--help")[1] + genrec("prepare", "--help")[1]
    assert "genrec[ray]" in shown
    assert shown.count("genrec[privacy]") == 2


def test_errors_show_every_bracket(genrec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10000")
    monkeypatch.setenv("TERMINAL_WIDTH", "10000")
    assert "[red]run" in genrec("recommend", "--run", tmp_path / "[red]run", "--out", "o")[2]
    assert "--[ray]" in genrec("recommend", "--[ray]")[2]


def test_tables_show_every_bracket() -> None:
    """A system's name is what the user wrote before the equals sign."""
    systems = {"mine[bold]": SYSTEMS["genrec"], "other[red]": SYSTEMS["bar | bar"]}
    report = evaluate_lists(CASES, systems, catalog=CATALOG, train=[], resamples=20, reference="mine[bold]")
    console = Console(file=StringIO(), width=200)
    console.print(report_table(report))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert (shown.count("mine[bold]"), shown.count("other[red]")) == (2, 1)
