"""The house: which package may import which, what the public door shows, what an import costs, what ships."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "prompts": set(),
    "retrieval": set(),
    "training": {"prompts"},
    "genrec": {"prompts", "retrieval", "training"},
}


LEVELS = (
    ("errors", "libraries", "progress"),
    ("storage",),
    ("data", "recommendation", "language"),
    ("signals",),
    ("ranking", "taste", "explain", "settings"),
    ("origin", "persistence", "manifest", "item_parts", "growing", "recommender"),
    ("batch", "serve"),
    ("evaluation",),
    ("baselines", "report"),
    ("runs",),
    ("privacy",),
    ("cli",),
)
"""The rooms of `genrec`, from the ground up: a module imports from its own room and from those on lower floors."""

LAZY_UPWARDS = {("genrec.persistence", f"genrec.runs.{module}") for module in ("folder", "saving", "hub")}
"""The one way up: a recommender is loaded from a run folder, saved and uploaded, when it is asked to."""


def first_party_imports(package: str) -> set[str]:
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            found |= {name.split(".")[0] for name in names}
    return (found & set(ALLOWED)) - {package}


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    assert list((ROOT / package).rglob("*.py")), "nothing was walked"
    assert first_party_imports(package) <= ALLOWED[package]


def modules() -> dict[str, Path]:
    """Return every module of `genrec` by its dotted name."""
    found = {}
    for path in (ROOT / "genrec").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows() -> dict[str, set[tuple[str, bool]]]:
    """Return which module imports which, and whether only inside a function."""
    known = modules()
    found: dict[str, set[tuple[str, bool]]] = {}
    for name, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        inside = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef)
            for node in ast.walk(function)
        }
        typing = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
            for node in ast.walk(branch)
        }
        found[name] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "genrec":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    target = whole if whole in known else node.module
                    found[name].add((target, id(node) in inside or id(node) in typing))
    return found


def floor_of(module: str) -> int:
    room = module.split(".")[1]
    (floor,) = [place for place, rooms in enumerate(LEVELS) if room in rooms]
    return floor


def test_rooms_import_downwards_only() -> None:
    assert len(arrows()) > 100, "nothing was walked"
    for module, targets in arrows().items():
        for target, _ in targets:
            if module == "genrec" or target == "genrec" or (module, target) in LAZY_UPWARDS:
                continue
            same_room = module.split(".")[1] == target.split(".")[1]
            assert same_room or floor_of(target) <= floor_of(module), f"{module} imports {target}, which is above it"


def test_no_module_imports_itself_in_a_circle() -> None:
    direct = {module: {target for target, lazy in targets if not lazy} for module, targets in arrows().items()}
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for target in direct.get(module, ()):
                walk(target, (*way, module))
            done.add(module)

    for module in direct:
        walk(module, ())


MOST_LINES = 400


def test_no_module_is_long() -> None:
    lines = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for package in ALLOWED
        for path in (ROOT / package).rglob("*.py")
    }
    assert len(lines) > 100, "nothing was walked"
    assert not {name for name, count in lines.items() if count > MOST_LINES}, "carve it by sense"


def test_the_picture_has_the_same_floors() -> None:
    spec = importlib.util.spec_from_file_location("draw_imports", ROOT / "docs" / "draw_imports.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert drawing.FLOORS == LEVELS
    assert "1 way up" in drawing.draw_rooms(drawing.sources(None))


def test_every_room_says_what_it_is_for() -> None:
    for room in sorted((ROOT / "genrec").iterdir()):
        if room.is_dir() and (room / "__init__.py").exists():
            said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8")))
            assert said, room
            if room.name != "cli":
                assert all(word in said for word in ("For: ", "In: ", "Out: ", "Not here: ")), room


@pytest.mark.parametrize("package", ALLOWED)
def test_nothing_unsafe_is_called(package: str) -> None:
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "print"} or "cli" in path.parts, path
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert "pickle" not in ast.dump(node), path
            if isinstance(node, ast.keyword):
                assert node.arg != "trust_remote_code", path


def test_the_public_door() -> None:
    import genrec

    assert sorted(genrec.__all__) == [
        "ArtefactError", "Catalog", "ConfigError", "DataError", "GenrecError", "History", "Item", "MissingExtra",
        "ModelError", "PreparedData", "Recommendation", "Recommendations", "Recommender", "Settings", "evaluate", "fit",
        "prepare", "pretrain", "train",
    ]  # fmt: skip
    for name in genrec.__all__:
        assert getattr(genrec, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = genrec.Nope


def test_importing_genrec_is_light() -> None:
    code = (
        "import sys, logging; import genrec, genrec.cli.main; "
        "heavy = {'torch', 'faiss', 'transformers', 'polars', 'numpy'} & set(sys.modules); "
        "assert not heavy, heavy; assert not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_wheel_holds_the_four_packages_and_their_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ALLOWED:
        source = {
            str(path.relative_to(ROOT))
            for path in (ROOT / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert source <= names, sorted(source - names)
    assert not [name for name in names if name.startswith("tests")]
    assert any(name.endswith("licenses/LICENSE") for name in names)
