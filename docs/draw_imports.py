"""Draws who imports whom in `genrec`, at a commit or as it stands, as an SVG; and draws lines of code by a seed.

    python docs/draw_imports.py --commit 76307f6 --out docs/concepts/images/imports-before.svg
    python docs/draw_imports.py --rooms --out docs/concepts/images/imports-after.svg
    python docs/draw_imports.py --lines 10 --seed 20

Only imports are read, as text; nothing is run. An import inside a function is an arrow like any other.
"""

from __future__ import annotations

import argparse
import ast
import random
import subprocess
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent

RED, BLUE = "#c0392b", "#5b6b8c"

# From the ground up, as tests/test_house.py holds it.
FLOORS = (
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


def sources(commit: str | None) -> dict[str, str]:
    """Return the text of every module of `genrec`, by its dotted name without the `genrec.`."""
    if commit is None:
        texts = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in (ROOT / "genrec").rglob("*.py")}
    else:
        listed = _git("ls-tree", "-r", "--name-only", commit, "genrec").splitlines()
        texts = {name: _git("show", f"{commit}:{name}") for name in listed if name.endswith(".py")}
    modules = {}
    for name, text in texts.items():
        parts = name.removesuffix(".py").split("/")[1:]
        if parts != ["__init__"]:
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = text
    return modules


def arrows(modules: dict[str, str]) -> set[tuple[str, str]]:
    """Return which module imports which; what is imported for the type checker alone is left out."""
    found = set()
    for name, text in modules.items():
        tree = ast.parse(text)
        for branch in ast.walk(tree):
            if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test):
                branch.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "genrec":
                home = node.module.removeprefix("genrec").removeprefix(".")
                for alias in node.names:
                    whole = f"{home}.{alias.name}".removeprefix(".")
                    target = whole if whole in modules else home
                    if target in modules and target != name:
                        found.add((name, target))
    return found


def reached(nodes: set[str], edges: set[tuple[str, str]]) -> dict[str, set[str]]:
    """Return what each node leads to, at once or by way of others."""
    leads = {node: {target for source, target in edges if source == node} for node in nodes}
    for middle in nodes:
        for node in nodes:
            if middle in leads[node]:
                leads[node] |= leads[middle]
    return leads


def circles(nodes: set[str], edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that are part of a circle."""
    leads = reached(nodes, edges)
    return {(source, target) for source, target in edges if source in leads[target]}


def levels(nodes: set[str], edges: set[tuple[str, str]]) -> dict[str, int]:
    """Return how many imports deep each module stands; those of one circle stand side by side."""
    inside, level = circles(nodes, edges), dict.fromkeys(nodes, 0)
    for _ in nodes:
        for source, target in edges:
            deep = level[target] if (source, target) in inside else level[target] + 1
            level[source] = max(level[source], deep)
    return level


def svg(boxes: dict[str, tuple[float, float, float, str]], lines: list[tuple[str, str, float, str]], title: str) -> str:
    """Return a picture of boxes (left, top, width, text) and of lines (from, to, thickness, colour) between them."""
    width = max(left + wide for left, _, wide, _ in boxes.values()) + 20
    height = max(top for _, top, _, _ in boxes.values()) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{title}" font-family="sans-serif" font-size="11">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><text x="16" y="22" font-size="14">{title}</text>',
    ]
    for source, target, thickness, colour in lines:
        x1, y1 = boxes[source][0] + boxes[source][2] / 2, boxes[source][1] + 22
        x2, y2 = boxes[target][0] + boxes[target][2] / 2, boxes[target][1]
        parts.append(
            f'<path d="M{x1:.0f} {y1:.0f}C{x1:.0f} {(y1 + y2) / 2:.0f} {x2:.0f} {(y1 + y2) / 2:.0f} {x2:.0f} {y2:.0f}" '
            f'fill="none" stroke="{colour}" stroke-width="{thickness:.1f}" stroke-opacity="0.45"/>'
        )
    for left, top, wide, text in boxes.values():
        parts.append(
            f'<rect x="{left:.0f}" y="{top:.0f}" width="{wide:.0f}" height="22" rx="4" fill="#eef1f6" '
            f'stroke="#8a94a6"/>'
            f'<text x="{left + wide / 2:.0f}" y="{top + 15:.0f}" text-anchor="middle">{text}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def placed(rows: list[list[tuple[str, str]]], gap: float, apart: float) -> dict[str, tuple[float, float, float, str]]:
    """Return boxes in rows, the first row at the top, each row in the middle."""
    wide = [[7.0 * len(text) + 12 for _, text in row] for row in rows]
    whole = max(sum(row) + apart * (len(row) - 1) for row in wide)
    boxes = {}
    for number, (row, widths) in enumerate(zip(rows, wide, strict=True)):
        left = 20 + (whole - sum(widths) - apart * (len(row) - 1)) / 2
        for (name, text), width in zip(row, widths, strict=True):
            boxes[name] = (left, 44 + gap * number, width, text)
            left += width + apart
    return boxes


def draw_modules(modules: dict[str, str]) -> str:
    """Return the picture of every module; those that import themselves by way of others are joined in red."""
    edges = arrows(modules)
    level, inside = levels(set(modules), edges), circles(set(modules), edges)
    top = max(level.values())
    rows = [sorted((name, name) for name in modules if level[name] == top - row) for row in range(top + 1)]
    lines = [(*edge, 1.0, RED if edge in inside else BLUE) for edge in sorted(edges)]
    turning = len({name for edge in inside for name in edge})
    title = f"{len(modules)} modules on {top + 1} levels, {len(edges)} imports; {turning} modules in a circle"
    return svg(placed(rows, 74, 8), lines, title)


def draw_rooms(modules: dict[str, str]) -> str:
    """Return the picture of the rooms on their floors; a line is the thicker the more imports it stands for."""
    rooms = Counter(name.split(".")[0] for name in modules if name not in folders(modules))
    edges = Counter(
        (source.split(".")[0], target.split(".")[0])
        for source, target in arrows(modules)
        if source.split(".")[0] != target.split(".")[0]
    )
    rows = [
        [(room, f"{room} ({rooms[room]})" if rooms[room] > 1 else room) for room in floor] for floor in reversed(FLOORS)
    ]
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    lines = [
        (source, target, 0.6 + count**0.5 / 2, RED if floor_of[target] > floor_of[source] else BLUE)
        for (source, target), count in sorted(edges.items())
    ]
    up = sum(colour == RED for *_, colour in lines)
    total = sum(rooms.values())
    title = f"{total} modules in {len(rooms)} rooms, {sum(edges.values())} imports between rooms; {up} way up"
    return svg(placed(rows, 58, 110), lines, title)


def folders(modules: dict[str, str]) -> set[str]:
    """Return the packages among the modules."""
    return {name.rsplit(".", 1)[0] for name in modules if "." in name}


def draw_lines(count: int, seed: int) -> list[str]:
    """Return so many lines of code of the four packages, drawn by a seed: no blank ones, comments or docstrings."""
    lines = []
    for package in ("genrec", "prompts", "retrieval", "training"):
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text("utf-8")
            told = {
                number
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
                for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
            }
            for number, line in enumerate(text.splitlines(), start=1):
                if (
                    len(line.strip()) > 12
                    and number not in told
                    and not line.strip().startswith(("#", "from ", "import "))
                ):
                    lines.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return random.Random(seed).sample(lines, count)  # noqa: S311 - not cryptography


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True, cwd=ROOT).stdout  # noqa: S603, S607


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", help="a commit; left out: the files as they are")
    parser.add_argument("--rooms", action="store_true", help="draw rooms, not modules")
    parser.add_argument("--out", type=Path, help="the SVG to write")
    parser.add_argument("--lines", type=int, default=0, help="draw so many lines of code instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.lines:
        print("\n".join(draw_lines(options.lines, options.seed)))  # noqa: T201
    else:
        found = sources(options.commit)
        options.out.write_text(draw_rooms(found) if options.rooms else draw_modules(found), encoding="utf-8")
