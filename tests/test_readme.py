"""The README cannot rot: its commands exist with their flags, its example runs, its file tree is the tree."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"no {language} block in the README"
    return [str(block) for block in found]


def commands() -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words and words[0] == "genrec"]


def test_every_command_and_flag_exists() -> None:
    from genrec.cli.main import app

    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    seen = set()
    for _, verb, *words in commands():
        known = {name for parameter in verbs[verb].params for name in (*parameter.opts, *parameter.secondary_opts)}
        flags = {word for word in words if word.startswith("--")}
        assert flags <= known, (verb, flags - known)
        seen.add(verb)
    assert {"prepare", "train", "recommend", "evaluate", "show"} <= seen


def test_the_five_lines_run(toy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")[:1]
    assert len(code.strip().splitlines()) <= 5
    code = (
        code.replace("runs/demo", str(toy_run))
        .replace("Toy Story", "Night Train 1")
        .replace("Aladdin", "Night Train 2")
    )
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102 - the README's own example
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("1 Night Train 3 ")
    assert "“Night Train 3”" in lines[0]


def test_the_targets_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:`|^    )make ([a-z]+)", README, re.MULTILINE))
    assert targets
    assert all(f"\n{target}:" in makefile for target in targets)
