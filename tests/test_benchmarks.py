"""The benchmarks can start: what they import is there, and is the packages', not a script of the same name."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "benchmarks").glob("*.py"))
PACKAGES = ("genrec", "prompts", "retrieval", "training")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(script: Path) -> None:
    """Imports inside functions too: those are not met by `--help`."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or (node.module or "").partition(".")[0] not in PACKAGES:
            continue
        module = importlib.import_module(str(node.module))
        for alias in node.names:
            if not hasattr(module, alias.name):
                importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_looks_for_the_packages_above_its_own_folder(script: Path) -> None:
    """Python puts the script's folder first, where `training` is `benchmarks/training.py`."""
    first = None
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        text = ast.unparse(node)
        if text.startswith("sys.path.insert(0, ") or text.startswith("from pooled import"):
            return  # pooled does so itself
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            first = first or f"{script.name}:{node.lineno}"
            break
    assert first is None, f"{first} comes before sys.path is set"
