"""Many ways of training side by side on one machine: `benchmarks/meaning.py` once for each job of a list.

    python benchmarks/meaning_many.py JOBS.json OUT [--workers 8] [--seconds 200] [--device cuda]

A job is {"name", "data", "vectors", "arguments": [...], "keep": false}; paths are relative to the list's folder. Jobs
start in the list's order, as many at a time as there are workers. What has not finished in time is stopped, and what
it had noted of its passes is kept. OUT gets `results.json`, `logs.txt`, and a `NAME.tar` for each base that is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    jobs = json.loads(given.jobs.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as aside:
        run_all(jobs, given, Path(aside))


def run_all(jobs: list[dict[str, Any]], given: argparse.Namespace, aside: Path) -> None:
    started, waiting, running, done = time.monotonic(), list(jobs), {}, []
    while (waiting or running) and time.monotonic() - started < given.seconds:
        while waiting and len(running) < given.workers:
            job = waiting.pop(0)
            running[job["name"]] = (job, start(job, given, aside))
        time.sleep(0.5)
        for name, (job, process) in list(running.items()):
            if process.poll() is not None:
                running.pop(name)
                done.append(job)
                gather(jobs, given.out, aside)
                keep(job, given.out, aside)
    for _, process in running.values():
        process.kill()
    for job, process in running.values():
        process.wait()
        keep(job, given.out, aside)
    gather(jobs, given.out, aside)
    print(f"{len(done)} of {len(jobs)} jobs finished in {time.monotonic() - started:.0f} s")


def start(job: dict[str, Any], given: argparse.Namespace, aside: Path) -> subprocess.Popen[bytes]:
    folder, name = given.jobs.resolve().parent, job["name"]
    words = [sys.executable, str(HERE / "meaning.py"), str(folder / job["data"]), str(folder / job["vectors"])]
    words += [str(aside / f"{name}.json"), *job["arguments"], "--device", given.device]
    words += ["--keep", str(aside / name)] if job.get("keep") else []
    with (aside / f"{name}.txt").open("wb") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"})


def gather(jobs: list[dict[str, Any]], out: Path, aside: Path) -> None:
    """Write what all jobs have noted so far."""
    results, logs = {}, []
    for job in jobs:
        noted, log = aside / f"{job['name']}.json", aside / f"{job['name']}.txt"
        if noted.is_file():
            try:
                results[job["name"]] = json.loads(noted.read_text(encoding="utf-8"))
            except ValueError:
                results[job["name"]] = {"noted": "cut off"}
        if log.is_file():
            logs.append(f"== {job['name']}\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}\n")
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    (out / "logs.txt").write_text("".join(logs), encoding="utf-8")


def keep(job: dict[str, Any], out: Path, aside: Path) -> None:
    folder = aside / str(job["name"])
    if job.get("keep") and (folder / "config.json").is_file():
        with tarfile.open(out / f"{job['name']}.tar.gz", "w:gz") as archive:
            archive.add(folder, arcname=job["name"])


if __name__ == "__main__":
    main()
