"""The house: which package may import which, what the public door shows, what an import costs, what ships."""

from __future__ import annotations

import ast
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
        "ModelError", "PreparedData", "Recommendation", "Recommender", "Settings",
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
