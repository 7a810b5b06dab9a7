"""How fast `genrec prepare` reads, cleans and writes a log, and how much memory that takes.

    python -m benchmarks.prepare --events 500000 2000000 --out benchmarks/results/prepare.json

Makes a log of each size (a twentieth of its events as users, at most a million; up to 50,000 items, a few of them
popular; ids such as `u123`, Unix seconds, in the order of time), as Parquet, CSV, CSV with every cell quoted, and
gzip, and prepares each in a process of its own. Seconds of the processor are counted and not only those of the clock,
since other work on the machine slows the clock. `before` in the results is kept: what an older genrec took, measured
with `--before` there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

KINDS = ("parquet", "csv", "quoted.csv", "csv.gz")
ITEMS, USERS = 50_000, 1_000_000


def make_log(events: int, folder: Path, kinds: tuple[str, ...], seed: int = 0) -> None:
    """Write a log in each way, and its catalogue."""
    users, items = min(events // 20, USERS), min(events // 25, ITEMS)
    generator = np.random.default_rng(seed)
    user = generator.integers(0, users, events)
    popular = np.minimum((generator.pareto(1.1, events) * items / 50).astype(np.int64), items - 1)
    item = generator.permutation(items)[popular]
    moment = 1_500_000_000 + np.sort(generator.integers(0, 150_000_000, events))
    log = pl.DataFrame({"user_id": user, "item_id": item, "timestamp": moment}).with_columns(
        pl.format("u{}", "user_id").alias("user_id"), pl.format("i{}", "item_id").alias("item_id")
    )
    if "parquet" in kinds:
        log.write_parquet(folder / "log.parquet")
    if "csv" in kinds or "csv.gz" in kinds:
        log.write_csv(folder / "log.csv")
    if "quoted.csv" in kinds:
        log.write_csv(folder / "log.quoted.csv", quote_style="always")
    if "csv.gz" in kinds:
        with (folder / "log.csv").open("rb") as plain, gzip.open(folder / "log.csv.gz", "wb", 1) as packed:
            shutil.copyfileobj(plain, packed, 1 << 22)
    pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in range(items)],
            "title": [f"Title {row} of {row % 97}" for row in range(items)],
            "category": [f"c{row % 31}" for row in range(items)],
        }
    ).write_csv(folder / "items.csv")


def measured(log: Path, items: Path, out: Path) -> dict[str, float]:
    """Prepare a log in a process of its own; return its seconds and its memory."""
    shutil.rmtree(out, ignore_errors=True)
    words = ["from genrec.cli.main import run", "run()"]
    command = [sys.executable, "-c", "; ".join(words), "prepare", "--interactions", str(log), "--items", str(items)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"genrec prepare failed on {log}")
    return {
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 2),
        "seconds": round(time.perf_counter() - began, 2),
        "peak_gb": round(used.ru_maxrss / 2**20, 2),
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[500_000, 2_000_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--before", action="store_true", help="this is the older genrec; keep the other figures")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/prepare.json"))
    arguments = parser.parse_args()
    held: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    part = held.setdefault("before" if arguments.before else "logs", {})
    for events in arguments.events:
        with TemporaryDirectory() as name:
            folder = Path(name)
            make_log(events, folder, tuple(arguments.kinds))
            for kind in arguments.kinds:
                found = measured(folder / f"log.{kind}", folder / "items.csv", folder / "data")
                found["events_per_cpu_second"] = round(events / found["cpu_seconds"])
                found["events_per_second"] = round(events / found["seconds"])
                part.setdefault(str(events), {})[kind] = found
                print(f"{events:,} {kind}: {found}", file=sys.stderr)
                held["machine"] = {
                    "cores": os.cpu_count(),
                    "processor": platform.machine(),
                    "python": platform.python_version(),
                    "polars": pl.__version__,
                    "load": round(os.getloadavg()[0], 1),
                }
                held["date"] = datetime.now(UTC).date().isoformat()
                held["ratio"] = _ratios(held)
                arguments.out.write_text(json.dumps(held, indent=2) + "\n")


def _ratios(held: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return how many times fewer seconds of the processor each log takes than before."""
    before, now = held.get("before", {}), held.get("logs", {})
    return {
        events: {
            kind: round(before[events][kind]["cpu_seconds"] / found["cpu_seconds"], 2)
            for kind, found in logs.items()
            if kind in before.get(events, {})
        }
        for events, logs in now.items()
    }


if __name__ == "__main__":
    main()
