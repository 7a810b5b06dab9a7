"""The verbs in a row, in a process whose stderr is a file; a program that test_console starts.

    python -m tests.quiet_run WORLD BASE

WORLD holds a log and a catalogue; everything is made there. The starter is unpacked there, too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from genrec.cli.main import run


def main(world: Path, base: Path) -> None:
    os.environ["GENREC_CACHE"] = str(world / "cache")
    data, made, out = world / "data", world / "base", world / "run"
    hashing = ["--encoder", "hashing"]
    small = ["vocabulary=400", "width=16", "layers=1", "epochs=1"]
    training = [f"base={base}", "max_tokens=128", "epochs=0.2", "max_users=10", "tuning_cases=4", "save_minutes=0.0001"]
    call("prepare", "--interactions", world / "log.csv", "--items", world / "films.csv", "--out", data)
    call("pretrain", "--data", data, "--out", made, *hashing, *changes(small))
    call("train", "--data", data, "--out", out, *hashing, *changes([*training, "gradient_checkpointing=true"]))
    call("recommend", "--run", out, "--out", world / "lists.jsonl", "--k", 2, "--beams", 2, "--explain")
    call("show", "--run", out, "--user", "u0001", "--free", "--beams", 2)
    call("evaluate", "--run", out, "--sample", 4, "--baselines", "popularity")
    call("prefer", "--run", out, "--out", world / "next", *changes(["cases=2", "negatives=1"]))
    call("doctor", "--run", out)
    from genrec.language.bases import resolve_base

    resolve_base("starter")


def call(*words: object) -> None:
    """Call the command line; it ends in SystemExit."""
    sys.argv = ["genrec", *map(str, words)]
    try:
        run()
    except SystemExit as ended:
        if ended.code:
            raise


def changes(values: list[str]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
