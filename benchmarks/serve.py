"""The service under load from a second process on the loopback: latency, throughput, and behaviour under overload.

    python benchmarks/serve.py --run RUN [--seconds 60] [--rate 50] [--out benchmarks/results/serve.json]

Three parts, on a fresh store:

    steady      RATE requests a second for SECONDS, each at its planned time even if earlier ones are unfinished (open
                loop); half of them follow an event of the same user. Latency counts from the planned time, so waiting
                in the load generator is included. Then the lists of 50 users are compared with `recommend_many`'s.
    saturation  one client that sends one request after another, against 32 such clients; every history is new, so that
                the cache has no effect.
    burst       500 connections that send a request at the same time; 429 counts as an answer, other errors do not.

The server and the load generator share the machine's cores, so the figures include both. The load average before the
start is recorded, since other work slows the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

CLIENTS, BURST, COMPARED, SESSION = 32, 500, 50, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/serve.json")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.db"
        words = ["-m", "genrec.cli.main", "serve", "--run", arguments.run, "--store", store, "--port", "0"]
        started = time.monotonic()
        server = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            line = next(line for line in server.stdout or () if "serving" in line)
            start_seconds = time.monotonic() - started
            address = line.split(" on ")[1].split(",")[0]
            users, items = ids_of(store)
            figures = asyncio.run(measure(address, users, items, arguments.rate, arguments.seconds))
            figures["server_mean_ms"] = parts(address)
            figures["steady"]["compared"] = asyncio.run(compare(address, arguments.run, store, users))
            memory = Path(f"/proc/{server.pid}/status")
            resident = next((ln for ln in memory.read_text().splitlines() if ln.startswith("VmRSS")), "VmRSS: 0 kB")
        finally:
            server.terminate()
            server.wait(30)
    result: dict[str, Any] = {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load_average_before": round(load, 1)},
        "run": {"items": len(items), "users": len(users), "computing": line.split("computing in ")[1].strip()},
        "start_seconds": round(start_seconds, 1),
        "resident_mb": round(int(resident.split()[1]) / 1024),
        **figures,
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


async def measure(address: str, users: list[str], items: list[str], rate: float, seconds: float) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:
        for _ in range(20):  # the first requests find nothing warm
            await ask(client, random.Random(0), items)
        return {
            "steady": await steady(client, users, items, rate, seconds),
            "saturation": await saturation(client, items, min(seconds, 15)),
            "burst": await burst(client, items),
        }


async def steady(
    client: httpx.AsyncClient, users: list[str], items: list[str], rate: float, seconds: float
) -> dict[str, Any]:
    draw = random.Random(1)
    lists, events, codes = [], [], Counter[int]()

    async def one(moment: float, user: str, event: dict[str, Any] | None) -> None:
        await asyncio.sleep(max(0.0, moment - time.monotonic()))
        if event is not None:
            answer = await client.post("/events", json={"events": [event]})
            codes[answer.status_code] += 1
            events.append(time.monotonic() - moment)
        begun = max(moment, time.monotonic()) if event is not None else moment
        answer = await client.post("/recommend", json={"user": user, "k": 10})
        codes[answer.status_code] += 1
        lists.append(time.monotonic() - begun)

    start, tasks = time.monotonic() + 0.5, []
    for number in range(int(rate * seconds)):
        user = draw.choice(users)
        event = {"user": user, "item": draw.choice(items), "id": f"load/{number}"} if number % 2 else None
        tasks.append(asyncio.create_task(one(start + number / rate, user, event)))
    await asyncio.gather(*tasks)
    return {
        "requests_a_second": rate,
        "seconds": seconds,
        "lists": len(lists),
        "events": len(events),
        "list_ms": percentiles(lists),
        "event_ms": percentiles(events),
        "answers": {str(code): count for code, count in sorted(codes.items())},
    }


async def saturation(client: httpx.AsyncClient, items: list[str], seconds: float) -> dict[str, Any]:
    async def throughput(clients: int) -> float:
        end, done = time.monotonic() + seconds, 0

        async def one(seed: int) -> None:
            nonlocal done
            draw = random.Random(seed)
            while time.monotonic() < end:
                code = await ask(client, draw, items)  # not within the sum, which would forget the others' meanwhile
                done += code == 200

        started = time.monotonic()
        await asyncio.gather(*(one(1000 * clients + seed) for seed in range(clients)))
        return done / (time.monotonic() - started)

    alone, together = await throughput(1), await throughput(CLIENTS)
    return {
        "one_by_one_a_second": round(alone, 1),
        "clients": CLIENTS,
        "together_a_second": round(together, 1),
        "ratio": round(together / alone, 2),
    }


async def burst(client: httpx.AsyncClient, items: list[str]) -> dict[str, Any]:
    started = time.monotonic()
    codes = await asyncio.gather(*(ask(client, random.Random(10**6 + seed), items) for seed in range(BURST)))
    seconds = time.monotonic() - started
    ready = (await client.get("/health/ready")).status_code
    return {
        "connections": BURST,
        "answers": {str(code): count for code, count in sorted(Counter(codes).items())},
        "seconds": round(seconds, 2),
        "ready_afterwards": ready == 200,
    }


async def ask(client: httpx.AsyncClient, draw: random.Random, items: list[str]) -> int:
    answer = await client.post("/recommend", json={"items": draw.sample(items, SESSION), "k": 10})
    return answer.status_code


async def compare(address: str, run: Path, store: Path, users: list[str]) -> dict[str, int]:
    from genrec import Recommender, Settings
    from genrec.serve.sql_store import open_store

    asked = random.Random(2).sample(users, min(COMPARED, len(users)))
    opened = open_store(str(store))
    histories = [opened.history(user) for user in asked]
    opened.close()
    lists = Recommender.from_pretrained(run).recommend_many(histories, Settings(k=10))
    equal = 0
    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        for user, wanted in zip(asked, lists, strict=True):
            found = (await client.post("/recommend", json={"user": user, "k": 10})).json()["recommendations"]
            equal += [entry["item"] for entry in found] == [entry.item.id for entry in wanted]
    return {"users": len(asked), "equal_lists": equal}


def parts(address: str) -> dict[str, float]:
    """Return the mean milliseconds of each part of a request, and of a batch's users, as the server counts them."""
    lines = [line.rsplit(" ", 1) for line in httpx.get(f"{address}/metrics").text.splitlines() if line[:1] != "#"]
    figures = {name: float(value) for name, value in lines}
    found = {}
    for part in ("history", "events", "queue", "model"):
        label = f'{{part="{part}"}}'
        count = figures.get(f"genrec_part_seconds_count{label}", 0)
        found[part] = round(1000 * figures.get(f"genrec_part_seconds_sum{label}", 0) / max(count, 1), 2)
    found["users_a_batch"] = round(figures["genrec_batch_users_sum"] / figures["genrec_batch_users_count"], 2)
    return found


def ids_of(store: Path) -> tuple[list[str], list[str]]:
    from genrec.serve.sql_store import open_store

    opened = open_store(str(store))
    users = sorted({event.user for event in opened.events()})
    items = [item.id for item in opened.items()]
    opened.close()
    return users, items


def percentiles(seconds: list[float]) -> dict[str, float]:
    values = 1000 * np.array(seconds or [np.nan])
    return {f"p{share}": round(float(np.percentile(values, share)), 1) for share in (50, 90, 99)}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
