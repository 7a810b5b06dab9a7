"""The public names: their signatures are frozen, their docstrings whole, and the examples in them run.

`python -m tests.test_public_api` writes tests/public_api.txt anew; a change there is a change for users.
"""

from __future__ import annotations

import doctest
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import genrec
from tests import toyworld

FROZEN = Path(__file__).parent / "public_api.txt"
RECOMMENDER = frozenset({
    "attribute", "find", "from_pretrained", "prompt", "push_to_hub", "recommend", "recommend_many", "save_pretrained",
    "with_items",
})  # fmt: skip
"""What is promised of a recommender; its parts may be carved otherwise between versions."""

ERRORS = ("DataError", "ConfigError", "ArtefactError", "ModelError", "MissingExtra")


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class itself offers and promises, as (name, function or property)."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        found |= vars(base) if base.__module__.startswith("genrec.") else {}
    for name, member in found.items():
        hidden = name.startswith("_") or (kind.__name__ == "Recommender" and name not in RECOMMENDER)
        if hidden or isinstance(member, type):
            continue
        function = inspect.unwrap(getattr(member, "__func__", member)) if not isinstance(member, property) else member
        if inspect.isfunction(function) or isinstance(function, property):
            yield name, function


def signatures() -> Iterator[str]:
    """Yield a line for each public name, and for each member of the classes."""
    for name in sorted(genrec.__all__):
        thing = getattr(genrec, name)
        if inspect.isfunction(thing):
            yield f"{name}{inspect.signature(thing)}"
            continue
        bases = " ".join(base.__name__ for base in thing.__bases__ if base is not object and name != "Recommender")
        # A recommender is loaded, not built: what it is made of may change.
        built = (
            "" if name == "Recommender" or issubclass(thing, BaseException | list) else f"{inspect.signature(thing)}"
        )
        yield f"{name}{built}{f' is a {bases}' if bases else ''}".strip()
        for member, function in sorted(members(thing)):
            yield f"{name}.{member}{'' if isinstance(function, property) else inspect.signature(function)}"


def test_signatures_are_frozen() -> None:
    assert list(signatures()) == FROZEN.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", sorted(genrec.__all__))
def test_help_says_what_one_needs(name: str) -> None:
    thing = getattr(genrec, name)
    said = inspect.getdoc(thing) or ""
    assert "Example:" in said
    assert ">>> " in said
    assert "SKIP" not in said
    functions = [(name, thing)] if inspect.isfunction(thing) else [(f"{name}.{one}", f) for one, f in members(thing)]
    for called, function in functions:
        told = inspect.getdoc(function) or ""
        assert told, called
        if isinstance(function, property):
            continue
        given = [one for one in inspect.signature(function).parameters if one not in ("self", "cls")]
        if inspect.isfunction(thing) or name == "Recommender":
            assert all(f"{one}:" in told for one in given), (called, given)
        assert set(given) <= function.__annotations__.keys(), called


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, toy_run: Path, toy_data: Path) -> Path:
    """What the examples speak of: log.csv, films.csv, data/films and runs/films."""
    folder = tmp_path_factory.mktemp("examples")
    toyworld.write_files(folder)
    for source, name in ((toy_data, "data/films"), (toy_run, "runs/films")):
        shutil.copytree(source, folder / name)
    return folder


@pytest.mark.parametrize("name", sorted(genrec.__all__))
def test_examples_run(name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(world, tmp_path / "films")
    monkeypatch.chdir(tmp_path / "films")
    monkeypatch.setenv("GENREC_PRECISION", "fp32")
    monkeypatch.setenv("GENREC_DEVICE", "cpu")
    thing = getattr(genrec, name)
    module = inspect.getmodule(inspect.unwrap(thing))
    found = doctest.DocTestFinder(exclude_empty=True).find(inspect.unwrap(thing), name, module=module, globs={})
    examples = [one for one in found if one.examples]
    assert examples
    for one in examples:
        said: list[str] = []
        failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(one, out=said.append, clear_globs=True)
        assert not failed, "".join(said)


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert genrec.__version__ == version("genrec")


def test_errors_are_also_what_python_calls_them() -> None:
    assert issubclass(genrec.DataError, ValueError)
    assert issubclass(genrec.ConfigError, ValueError)
    assert issubclass(genrec.MissingExtra, ImportError)
    assert all(issubclass(getattr(genrec, name), genrec.GenrecError) for name in ERRORS)


def test_whatever_the_leaves_raise_is_caught_as_ours(toy_run: Path, toy_data: Path, tmp_path: Path) -> None:
    """A wrong recipe, base, template, text and vector: each is a `GenrecError` at the public door."""
    run = shutil.copytree(toy_run, tmp_path / "run")
    for wrong in (
        lambda: genrec.train(toy_data, tmp_path / "new", recipe="no-such-recipe"),
        lambda: genrec.train(toy_data, tmp_path / "new", base=str(toy_data)),
        lambda: genrec.train(toy_data, tmp_path / "new", template="no-such-template"),
        lambda: genrec.pretrain(toy_data, tmp_path / "new", encoder="./no-such-encoder"),
        lambda: genrec.pretrain(toy_data, tmp_path / "new", widht=3),
        lambda: genrec.Recommender.from_pretrained(run, "cpu", base=str(toy_data)),
        lambda: genrec.Recommender.from_pretrained(run, "no-such-device"),
    ):
        with pytest.raises(genrec.GenrecError):
            wrong()  # type: ignore[no-untyped-call]


def test_recommendations_as_a_frame_and_in_a_notebook(toy_run: Path) -> None:
    import polars as pl

    rec = genrec.Recommender.from_pretrained(toy_run, "cpu", "fp32")
    found = rec.recommend(["Night Train 1"], k=4)
    frame = found.to_polars()
    assert frame.columns == ["rank", "item", "title", "score", "signals", "how", "generated", "explanation"]
    assert frame["item"].to_list() == [entry.item.id for entry in found]
    assert frame["signals"].struct.field("lm").to_list() == [entry.signals["lm"] for entry in found]
    empty = genrec.Recommendations().to_polars()
    assert empty.height == 0
    assert empty.schema["title"] == pl.String
    assert found._repr_html_().count("<tr>") == 5


if __name__ == "__main__":
    FROZEN.write_text("".join(f"{line}\n" for line in signatures()), encoding="utf-8")
