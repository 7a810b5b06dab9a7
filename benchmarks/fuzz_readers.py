"""Fuzz the readers with Atheris: any bytes, as a log, catalogue or users' file, must give data or a genrec error.

    python benchmarks/fuzz_readers.py -max_total_time=3600 CORPUS_FOLDER

Run `pip install atheris` first; genrec does not depend on it. The findings are in the closing note of the issue, and
the short ones became tests.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent))  # before this folder, whose training.py is not the package

with atheris.instrument_imports(include=["genrec"]):
    from genrec.batch.users import open_users
    from genrec.data.cleaning import Cleaning
    from genrec.data.prepared import prepare
    from genrec.errors import GenrecError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt", ".parquet", ".csv.gz")
GOOD_LOG = b"user,item,time\nu,1,1700000000\nu,2,1700000001\nv,1,1700000002\nv,2,2024-03-01\n"
GOOD_ITEMS = b"id,title,genres\n1,One,a|b\n2,Two,\n"


def one(data: bytes) -> None:
    """Read some bytes as a file of every kind."""
    if len(data) < 2:
        return
    suffix, role, rest = SUFFIXES[data[0] % len(SUFFIXES)], data[1] % 3, data[2:]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fuzzed = folder / f"fuzzed{suffix}"
        fuzzed.write_bytes(rest)
        (folder / "log.csv").write_bytes(GOOD_LOG)
        (folder / "items.csv").write_bytes(GOOD_ITEMS)
        try:
            if role == 0:
                prepare(
                    interactions=fuzzed, items=folder / "items.csv", cleaning=Cleaning(skip_bad_rows=bool(data[1] & 4))
                )
            elif role == 1:
                prepare(interactions=folder / "log.csv", items=fuzzed, cleaning=Cleaning(skip_bad_rows=True))
            else:
                users = open_users(str(fuzzed), lambda: folder)
                list(users.histories(0, users.count))
        except GenrecError as error:
            # One line that a person can do something with.
            if "\n" in str(error) or not str(error):
                raise AssertionError(str(error)) from error


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
