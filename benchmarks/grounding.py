"""Milliseconds per query of `ItemIndex` against a brute-force distance matrix with a full sort.

    python benchmarks/grounding.py [--case mixture:1000000 ...] [--out benchmarks/results/grounding.json]

The brute force is the method of BIGRec: `torch.cdist` of the queries with all items, then `argsort` of every row; in
batches of queries, since the whole matrix does not fit in memory. `ItemIndex` is built with its defaults, without
tuning by hand. Its recall is the share of the exact ten nearest items (inner product) among its ten. Exact FAISS search
is measured as well. Each side runs in its own process, so that memory is its own, with one thread. Times are processor
time (on a quiet machine, wall-clock time), so that other work on the machine has no effect; the median of the repeats
is reported.

There are two kinds of data, since recall depends on the data (uniform random numbers would not represent titles):

    mixture   vectors of 384 numbers in categories, families and items, each level Gaussian with a spectrum that falls
              off; mean and spread of similarities, of neighbours' similarities, and the local dimension are set to
              those of MiniLM over Amazon Beauty's titles. Queries: items moved to a cosine of about 0.9.
    titles    MiniLM over invented titles: families of three words with one to four more, drawn from MiniLM's own
              vocabulary; harder than real titles (local dimension 31 against 14). Queries: titles with a word left
              out, another word, or two letters swapped. Takes 10 minutes for each million, once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

DIMENSION = 384
CHUNK = 100_000
QUERIES = 1000
K = 10
SHARES = {"mean": 0.27, "category": 0.2, "family": 0.2, "item": 0.33}
"""How much of a vector's squared length each level of the mixture gives."""


def main() -> None:
    arguments = read_arguments()
    if arguments.measure:
        use_one_thread()
        task = json.loads(arguments.measure)
        print(json.dumps(MEASURES[task.pop("what")](arguments.work, arguments.repeats, **task)))
        return
    result: dict[str, Any] = read_result(arguments.out) | {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
        "what": "milliseconds per query, ten nearest; ItemIndex as by default against torch.cdist and a full argsort",
        "time": "processor time of one thread",
        "repeats": arguments.repeats,
        "queries": QUERIES,
        "dimension": DIMENSION,
    }
    for case in arguments.case:
        data, _, items = case.partition(":")
        result.setdefault("comparisons", {})[case] = compare(arguments, data, int(items))
        write_result(arguments.out, result)
    if arguments.kinds:
        result["kinds"] = [
            measure(arguments, "index", data="mixture", items=items, kind=kind)
            for items in arguments.kinds
            for kind in ("flat", "hnsw", "ivf-pq")
        ]
        write_result(arguments.out, result)
    show(result)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="*", default=["mixture:1000000"], metavar="DATA:ITEMS", help="what to compare")
    parser.add_argument("--kinds", nargs="*", default=[], type=int, metavar="ITEMS", help="compare all kinds, too")
    parser.add_argument("--repeats", default=3, type=int)
    parser.add_argument("--work", default=Path("runs/grounding"), type=Path, help="where vectors are kept")
    parser.add_argument("--out", default=ROOT / "benchmarks/results/grounding.json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(arguments: argparse.Namespace, data: str, items: int) -> dict[str, Any]:
    """Measure both sides on the same vectors and queries."""
    make_vectors(arguments.work, data, items)
    theirs = measure(arguments, "brute_force", data=data, items=items)
    ours = measure(arguments, "index", data=data, items=items, kind=None)
    return {
        "data": data,
        "items": items,
        "ours": ours,
        "theirs": theirs,
        "ratio": round(theirs["ms_per_query"] / ours["ms_per_query"], 1),
        "ratio_one_query": round(theirs["ms_per_query"] / ours["ms_for_one_query"], 1),
    }


def measure(arguments: argparse.Namespace, what: str, **task: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    make_vectors(arguments.work, task["data"], task["items"])
    command = [sys.executable, __file__, "--work", str(arguments.work), "--repeats", str(arguments.repeats)]
    done = subprocess.run(
        [*command, "--measure", json.dumps({"what": what, **task})], stdout=subprocess.PIPE, check=True, text=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    print(what, task, result, file=sys.stderr)
    return result


def measure_brute_force(work: Path, repeats: int, data: str, items: int) -> dict[str, Any]:
    """Time distance matrix and full sort; write down the exact neighbours, found by exact FAISS search, timed too."""
    import faiss
    import torch

    vectors = np.load(vectors_file(work, data, items), mmap_mode="r")
    queries = load_queries(work, data, items)
    # A batch's distances and its sorted rows take 20 bytes an item.
    batch = max(1, min(32, 1_000_000_000 // (20 * items)))
    seconds, exact_seconds = np.zeros(repeats), 0.0
    distances = torch.empty((repeats, batch, items))
    rows, scores = np.empty((QUERIES, 0), dtype=np.int64), np.empty((QUERIES, 0), dtype=np.float32)
    for start in range(0, items, 10 * CHUNK):
        part = normalised(vectors[start : start + 10 * CHUNK])
        tensor = torch.from_numpy(part)
        for repeat in range(repeats):
            some = torch.from_numpy(queries[repeat * batch : (repeat + 1) * batch])
            started = time.process_time()
            distances[repeat, :, start : start + len(part)] = torch.cdist(some, tensor)
            seconds[repeat] += time.process_time() - started
        started = time.process_time()
        found, places = faiss.knn(queries, part, K, metric=faiss.METRIC_INNER_PRODUCT)
        exact_seconds += time.process_time() - started
        rows, scores = np.hstack([rows, places + start]), np.hstack([scores, found])
        del part, tensor
    for repeat in range(repeats):
        started = time.process_time()
        distances[repeat].argsort(dim=-1)
        seconds[repeat] += time.process_time() - started
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    np.save(truth_file(work, data, items), np.take_along_axis(rows, best, axis=1))
    return {
        "system": "torch.cdist + argsort",
        "ms_per_query": round(1000 * statistics.median(seconds) / batch, 2),
        "queries_at_a_time": batch,
        "peak_mib": peak_mib(),
        "exact_faiss_ms_per_query": round(1000 * exact_seconds / QUERIES, 2),
    }


def measure_index(work: Path, repeats: int, data: str, items: int, kind: Any) -> dict[str, Any]:
    """Build an index as by default, time it, and count what it finds."""
    from retrieval.index import ItemIndex

    vectors = np.load(vectors_file(work, data, items), mmap_mode="r")
    queries = load_queries(work, data, items)
    ids = [str(row) for row in range(items)]
    before = resident_mib()
    started = time.process_time()
    index = ItemIndex.build(ids, vectors, kind=kind)
    build = time.process_time() - started
    del vectors
    result = {
        "system": f"ItemIndex {index.announcement}",
        "items": items,
        "ms_per_query": round(1000 * median_seconds(lambda: index.search(queries, K), repeats) / len(queries), 3),
        "ms_for_one_query": round(
            10 * median_seconds(lambda: [index.search(queries[[row]], K) for row in range(100)], repeats), 3
        ),
        "build_seconds": round(build, 1),
        "memory_mib": round(resident_mib() - before),
        "peak_mib": peak_mib(),
    }
    truth = np.load(truth_file(work, data, items)) if truth_file(work, data, items).is_file() else None
    if truth is not None:
        found, _ = index.search(queries, K)
        shared = [
            len({int(item) for item in row} & set(exact.tolist())) for row, exact in zip(found, truth, strict=True)
        ]
        result[f"recall@{K}"] = round(float(np.mean(shared)) / K, 4)
    return result


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"brute_force": measure_brute_force, "index": measure_index}


def make_vectors(work: Path, data: str, items: int) -> None:
    """Write the item vectors and the queries, in 16 bits, unless they are there."""
    target = vectors_file(work, data, items)
    if target.is_file():
        return
    work.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=(items, DIMENSION))
    queries, start = [], 0
    for chunk, asked in {"mixture": mixture, "titles": titles}[data](items):
        out[start : start + len(chunk)] = chunk
        queries.append(asked)
        start += len(chunk)
    out.flush()
    np.save(queries_file(work, data, items), np.concatenate(queries)[:QUERIES].astype(np.float16))
    temporary.replace(target)


def mixture(items: int, seed: int = 0) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield chunks of items, and queries near some of each chunk's items."""
    common = np.random.default_rng(seed)
    spectrum = np.arange(1, DIMENSION + 1) ** -0.35
    spectrum = (spectrum / np.linalg.norm(spectrum)).astype(np.float32)
    turn = np.linalg.qr(common.standard_normal((DIMENSION, DIMENSION)))[0].astype(np.float32)

    def level(random: np.random.Generator, count: int, share: float) -> NDArray[np.float32]:
        values = random.standard_normal((count, DIMENSION), dtype=np.float32)
        return np.asarray(np.sqrt(share) * (values * spectrum) @ turn, dtype=np.float32)

    middle = np.full(DIMENSION, np.sqrt(SHARES["mean"] / DIMENSION), dtype=np.float32)
    categories = level(common, max(1, items // 400), SHARES["category"])
    for number, start in enumerate(range(0, items, CHUNK)):
        random = np.random.default_rng([seed, number])
        count = min(CHUNK, items - start)
        families = max(1, count // 12)
        centres = categories[random.integers(len(categories), size=families)]
        centres = centres + level(random, families, SHARES["family"])
        popularity = np.arange(1, families + 1) ** -0.5
        family = random.choice(families, count, p=popularity / popularity.sum())
        vectors = normalised(middle + centres[family] + level(random, count, SHARES["item"]))
        asked = -(-QUERIES * count // items)
        yield vectors, normalised(vectors[random.integers(count, size=asked)] + level(random, asked, 0.2))


def titles(items: int, seed: int = 0) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield chunks of encoded titles, and of encoded misspelt ones."""
    import torch

    from retrieval.encoders import SentenceEncoder, starter_folder

    encoder = SentenceEncoder("starter")
    words = (starter_folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words = [word.title() for word in words if word.isascii() and word.isalpha() and len(word) >= 4]
    common = np.random.default_rng(seed)
    families = max(1, items // 50)
    names = common.integers(len(words), size=(families, 3))
    popularity = np.arange(1, families + 1) ** -0.7
    for number, start in enumerate(range(0, items, CHUNK)):
        random = np.random.default_rng([seed, number])
        count = min(CHUNK, items - start)
        family = random.choice(families, count, p=popularity / popularity.sum())
        more, length = random.integers(len(words), size=(count, 4)), random.integers(1, 5, size=count)
        texts = [
            " ".join(words[word] for word in (*names[family[row]], *more[row, : length[row]])) for row in range(count)
        ]
        picked = random.integers(count, size=-(-QUERIES * count // items))
        asked = [spoil(texts[row], words, random) for row in picked]
        # Half precision is good enough for made-up data, and twice as fast where the processor has it.
        with torch.autocast("cpu", torch.bfloat16):
            yield encoder.encode(texts), encoder.encode(asked)


def spoil(title: str, words: list[str], random: np.random.Generator) -> str:
    """Leave a word out, put another in its place, or swap two of its letters."""
    parts = title.split()
    place, way = int(random.integers(len(parts))), int(random.integers(3))
    if way == 0:
        return " ".join(parts[:place] + parts[place + 1 :])
    letters = list(parts[place])
    swap = int(random.integers(len(letters) - 1))
    letters[swap : swap + 2] = letters[swap : swap + 2][::-1]
    parts[place] = words[int(random.integers(len(words)))] if way == 1 else "".join(letters)
    return " ".join(parts)


def vectors_file(work: Path, data: str, items: int) -> Path:
    return work / f"{data}-{items}.npy"


def queries_file(work: Path, data: str, items: int) -> Path:
    return work / f"{data}-{items}-queries.npy"


def truth_file(work: Path, data: str, items: int) -> Path:
    return work / f"{data}-{items}-nearest.npy"


def load_queries(work: Path, data: str, items: int) -> NDArray[np.float32]:
    return normalised(np.load(queries_file(work, data, items)))


def normalised(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    single = np.asarray(vectors, dtype=np.float32)
    return np.asarray(single / np.linalg.norm(single, axis=1, keepdims=True), dtype=np.float32)


def use_one_thread() -> None:
    import faiss
    import torch

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of some runs after a first one that does not count."""
    seconds = []
    for _ in range(repeats + 1):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds[1:])


def resident_mib() -> float:
    """Return the memory this process itself holds now; mapped files are not its own."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return peak_mib()


def peak_mib() -> int:
    """Return the most memory this process has held, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def machine() -> dict[str, Any]:
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("faiss-cpu", "torch", "numpy")},
    }


def read_result(path: Path) -> dict[str, Any]:
    """Return what the file holds, so that cases can be measured one at a time."""
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return result


def write_result(path: Path, result: dict[str, Any]) -> None:
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show(result: dict[str, Any]) -> None:
    print(f"{'':22}{'ms/query':>10}{'brute':>10}{'ratio':>8}{'recall@10':>11}{'MiB':>8}  build")
    for case, row in result.get("comparisons", {}).items():
        ours = row["ours"]
        print(
            f"{case:22}{ours['ms_per_query']:10.3f}{row['theirs']['ms_per_query']:10.1f}{row['ratio']:8.0f}"
            f"{ours['recall@10']:11.4f}{ours['memory_mib']:8}  {ours['build_seconds']:.0f} s  {ours['system']}"
        )
    for row in result.get("kinds", []):
        print(f"{row['system']}: {row['ms_per_query']} ms, one alone {row['ms_for_one_query']} ms")


if __name__ == "__main__":
    main()
