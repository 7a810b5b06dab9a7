"""The books cannot rot: they build strictly, their commands and code run, and the Chinese ones say the same."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

import genrec
from tests.conftest import train_toy

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
NAMES = [page.relative_to(DOCS).as_posix() for page in PAGES]

COSTLY = {"demo", "fit", "pretrain", "train", "prefer", "serve"}
"""Commands, and functions, of minutes or without an end: that they exist is checked; they are not run."""

COSTLY_OPTIONS = {"--workers", "--explanations", "words", "--writer"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "genrec":
                yield words[1:]


def with_code(language: str) -> list[str]:
    """Return the English pages that have such blocks; the Chinese ones have the same."""
    texts = {name: (DOCS / name).read_text(encoding="utf-8") for name in NAMES if not name.startswith("zh/")}
    return [name for name, text in texts.items() if blocks(text, language)]


def verbs() -> dict[str, Any]:
    from genrec.cli.main import app

    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", [*NAMES, "../README.md", "../README.zh.md"])
def test_every_command_and_flag_exists(name: str) -> None:
    known = verbs()
    for verb, *words in commands((DOCS / name).read_text(encoding="utf-8")):
        assert verb in known, f"{name}: there is no command {verb}"
        options = {flag for one in known[verb].params for flag in (*one.opts, *one.secondary_opts)}
        flags = {word for word in words if word.startswith("--")}
        assert flags <= options, (name, verb, flags - options)


@pytest.mark.parametrize("name", with_code("python"))
def test_the_functions_that_are_shown_take_these_arguments(name: str) -> None:
    for block in blocks((DOCS / name).read_text(encoding="utf-8"), "python"):
        for call in ast.walk(ast.parse(block)):
            if isinstance(call, ast.Call) and ast.unparse(call.func).startswith("genrec."):
                function = getattr(genrec, ast.unparse(call.func).removeprefix("genrec."))
                keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
                inspect.signature(function).bind(*call.args, **keywords)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, toy_base: Path) -> Path:
    """The tutorial's folder after its training, with a few of the tutorial's viewers and the tests' small model."""
    from genrec.data.prepared import prepare, save_prepared

    folder = tmp_path_factory.mktemp("books")
    subprocess.run([sys.executable, DOCS / "toy_data.py", folder, "80"], check=True)
    save_prepared(prepare(interactions=folder / "log.csv", items=folder / "films.csv"), folder / "data" / "films")
    (folder / "runs").mkdir()
    train_toy(toy_base, folder / "data" / "films", folder / "runs" / "films", epochs=1, max_tokens=200)
    (folder / "new.csv").write_text("id,title,genre\nn1,Night Train 7,Crime\n", encoding="utf-8")
    (folder / "new.jsonl").write_text('{"user": "n1", "taste": "quiet dramas about the sea"}\n', encoding="utf-8")
    (folder / "tonight.jsonl").write_text('{"user": "u0001", "items": ["f67", "f68"]}\n', encoding="utf-8")
    first = {"rank": 1, "item": "f69", "title": "Night Train 3", "score": 1.0, "signals": {}, "how": "exact"}
    line = {"user": "u0001", "recommendations": [{**first, "generated": ""}]}
    (folder / "my_lists.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    pl.DataFrame(
        {"customer": ["a", "a", "a", "b"], "sku": ["1", "2", "3", "1"], "bought_at": ["2026-01-01"] * 4}
    ).write_parquet(folder / "sales.parquet")
    pl.DataFrame({"sku": ["1", "2", "3"], "name": ["Soap", "Comb", "Brush"], "department": ["Bath"] * 3}).write_ndjson(
        folder / "products.jsonl"
    )
    return folder


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page's own copy of the world, as the working folder."""
    shutil.copytree(world, tmp_path / "films")
    monkeypatch.chdir(tmp_path / "films")
    return tmp_path / "films"


@pytest.mark.parametrize("name", [name for name in with_code("bash") if name.startswith(("how-to/", "tutorial"))])
def test_the_cheap_commands_of_a_page_run_in_their_order(name: str, place: Path) -> None:
    from genrec.cli.main import app

    if "privacy" in name:
        pytest.importorskip("cryptography", reason="encrypted outputs need genrec[privacy]")
    for words in commands((DOCS / name).read_text(encoding="utf-8")):
        if words[0] in COSTLY or COSTLY_OPTIONS & set(words):
            continue
        if words[0] == "prepare" and words[-1] == "data/films":
            shutil.rmtree(place / "data" / "films")
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)


@pytest.mark.parametrize("name", with_code("python"))
def test_the_code_of_a_page_runs(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known: dict[str, Any] = {}
    costly = re.compile(r"\bgenrec\.(?:" + "|".join(COSTLY) + r")\(")
    for block in blocks((DOCS / name).read_text(encoding="utf-8"), "python"):
        if not costly.search(block):
            exec(compile(block, name, "exec"), known)  # noqa: S102 - the books' own examples


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    for library in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(library, reason="the books need genrec[docs]")
    call = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    commands_page = (tmp_path / "site" / "reference" / "cli" / "index.html").read_text(encoding="utf-8")
    python_page = (tmp_path / "site" / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert all(f"genrec {verb}" in commands_page for verb in verbs())
    assert all(
        f'id="genrec.Recommender.{name}"' in python_page for name in ("from_pretrained", "push_to_hub", "recommend")
    )
    assert all(f'id="genrec.{name}"' in python_page for name in genrec.__all__ if not name.startswith("__"))


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_a_readme_is_short_and_its_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("http") or (ROOT / link).exists(), link


PAIRS = [("README.md", "README.zh.md"), ("docs/tutorial.md", "docs/zh/tutorial.md")]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_the_chinese_text_has_the_same_code_and_figures(english: str, chinese: str) -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in (english, chinese)]
    fences, figures = (
        [Counter(re.findall(pattern, text, re.DOTALL | re.MULTILINE)) for text in texts]
        for pattern in (r"^```\w*\n.*?^```", r"\d+\.\d+")
    )
    assert fences[0] == fences[1]
    assert figures[0] == figures[1]


def test_no_output_is_missing_from_the_tutorial() -> None:
    assert "<!-- OUTPUT" not in (DOCS / "tutorial.md").read_text(encoding="utf-8")


def test_the_notebook_runs_through(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks need genrec[dev]")
    nbclient = pytest.importorskip("nbclient", reason="notebooks need genrec[dev]")
    for file in ("tutorial.ipynb", "toy_data.py"):
        shutil.copy(DOCS / file, tmp_path / file)
    notebook = nbformat.read(tmp_path / "tutorial.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("text/html" in output.get("data", {}) for output in shown)
