"""Users a second and peak memory of the batch job, and two Ray workers against one.

    python benchmarks/batch.py [--users 1000 10000 100000] [--out benchmarks/results/batch.json]     JSON Lines
    python benchmarks/batch.py --parquet [--users ...]         the same into a folder of Parquet shards
    python benchmarks/batch.py --ray [--users 10000]           needs genrec[ray] and two free cores

The questions: does memory stay constant while the number of users grows a hundredfold, does the rate stay constant, and
how much does a second worker add? The model is tiny (a two-layer Llama of width 64 trained on a toy world of 30 titles,
two beams, two items for each user), so that 100 thousand users take minutes. Its rate does not predict that of a real
model, but the growth of time and memory does.

Every case runs in its own process with one thread. `peak_mib` is the largest resident size of the process, and
`loaded_mib` its size after the recommender is loaded. JSON Lines are written at once. Parquet keeps up to one shard of
16,384 users in memory, so its peak grows until a shard is full and then stays. The users are read from a file of JSON
Lines. Ray's rate is counted from the first finished block, since the start of the workers is a cost of the job and not
of a user; `seconds` includes it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

SIZES = (1000, 10_000, 100_000)
RAY_USERS = 10_000
SETTINGS = {"k": 2, "beams": 2, "batch_size": 128}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", help="how many users, one case each")
    parser.add_argument("--parquet", action="store_true", help="write Parquet shards instead of JSON Lines")
    parser.add_argument("--ray", action="store_true", help="two Ray workers against one instead")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "batch.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(**json.loads(arguments.measure))))
        return
    result: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    result |= {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
        "what": "genrec's batch job over users from a file, by a tiny model: the shape counts, not the rate",
        "model": "Llama, 2 layers of 64 numbers, trained from nothing on a toy world of 30 titles",
        "settings": SETTINGS,
        "repeats": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder))
        if arguments.ray:
            measure_ray(run, max(arguments.users or [RAY_USERS]), result)
        else:
            measure_sizes(run, "parquet" if arguments.parquet else "jsonl", arguments.users or SIZES, result)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure_sizes(run: Path, kind: str, sizes: list[int] | tuple[int, ...], result: dict[str, Any]) -> None:
    rows = [in_process(run, users, kind) for users in sizes]
    result["cases"] = [case for case in result.get("cases", []) if case["format"] != kind] + rows
    first, last = rows[0], rows[-1]
    result.setdefault("comparisons", {})[f"{kind}: most users against fewest"] = {
        "users": [last["users"], first["users"]],
        "peak_mib": [last["peak_mib"], first["peak_mib"]],
        "users_a_second": [last["users_a_second"], first["users_a_second"]],
        "ratio": round(last["peak_mib"] / first["peak_mib"], 3),
        "ratio_is_of": "peak memory",
    }


def measure_ray(run: Path, users: int, result: dict[str, Any]) -> None:
    one, two = (in_process(run, users, "jsonl", workers=workers) for workers in (1, 2))
    result.setdefault("comparisons", {})["two Ray workers against one"] = {
        "one": one,
        "two": two,
        "ratio": round(two["users_a_second"] / one["users_a_second"], 2),
        "ratio_is_of": "users a second from the first finished block on",
        "same_bytes": one.pop("sha256") == two.pop("sha256"),
    }


def in_process(run: Path, users: int, kind: str, workers: int = 0) -> dict[str, Any]:
    """Measure a case in a process of its own."""
    case = {"run": str(run), "users": users, "kind": kind, "workers": workers}
    done = subprocess.run(
        [sys.executable, __file__, "--measure", json.dumps(case)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(", ".join(f"{name} {value}" for name, value in row.items() if name != "sha256"), flush=True)
    return row


def measure(run: str, users: int, kind: str, workers: int) -> dict[str, Any]:
    import torch

    from genrec.batch.job import recommend_all, run_job
    from genrec.batch.ray import ray_blocks
    from genrec.batch.users import open_users
    from genrec.recommender import Recommender
    from genrec.settings import Settings
    from genrec.storage.folders import fingerprint
    from training.computing import Computing

    torch.set_num_threads(1)
    settings = Settings(**SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        file = write_users(Path(folder) / "users.jsonl", users)
        out = Path(folder) / f"out.{kind}"
        moments: list[tuple[float, int]] = []

        def progress(done: int, resumed: int) -> None:
            moments.append((time.perf_counter(), done))

        if workers:
            stream = open_users(str(file), Path)
            started = time.perf_counter()
            blocks = ray_blocks(Path(run), Computing("cpu", "fp32"), settings, stream, (0, users), workers)
            run_job(blocks, out, {}, progress=progress)
            (first, before), (last, after) = moments[0], moments[-1]
            return {
                "users": users,
                "workers": workers,
                "seconds": round(last - started, 1),
                "users_a_second": round((after - before) / (last - first), 1),
                "sha256": fingerprint(out),
            }
        recommender = Recommender.from_pretrained(run, "cpu", "fp32")
        loaded = memory("VmRSS")
        started = time.perf_counter()
        stream = open_users(str(file), Path)
        recommend_all(
            recommender, lambda done: stream.histories(done, users), out, settings, fingerprint={}, progress=progress
        )
        seconds = time.perf_counter() - started
    return {
        "users": users,
        "format": kind,
        "seconds": round(seconds, 1),
        "users_a_second": round(users / seconds, 1),
        "loaded_mib": loaded,
        "peak_mib": memory("VmHWM"),
    }


def memory(name: str) -> int:
    """Return this process's resident size (VmRSS) or the largest it had (VmHWM), in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) // 1024


def write_users(path: Path, users: int) -> Path:
    """Write users of the toy world, drawn with a seed: one to five parts of a series, in order."""
    from tests.toyworld import PARTS, SERIES, make_catalog

    draw = random.Random(0)
    ids = make_catalog().ids
    with path.open("w", encoding="utf-8") as file:
        for user in range(users):
            start = draw.randrange(len(SERIES)) * PARTS
            items = ids[start : start + draw.randint(1, PARTS - 1)]
            file.write(json.dumps({"user": f"u{user}", "items": items}) + "\n")
    return path


def make_run(folder: Path) -> Path:
    """Train the toy world's model in a process of its own, so that this one stays small."""
    code = (
        "import sys; from pathlib import Path; from tests.conftest import train_toy; from tests import toyworld\n"
        "from genrec.data.prepared import save_prepared\n"
        "folder = Path(sys.argv[1]); (folder / 'base').mkdir(); toyworld.make_base(folder / 'base')\n"
        "save_prepared(toyworld.make_data(folder), folder / 'data')\n"
        "train_toy(folder / 'base', folder / 'data', folder / 'run')\n"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, folder],
        check=True,
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return folder / "run"


def machine() -> dict[str, Any]:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "transformers", "polars")},
    }


if __name__ == "__main__":
    main()
