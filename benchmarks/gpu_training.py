"""`genrec pretrain` on this device: tokens a second, the share of the device's rate, and quality after some minutes.

    python benchmarks/gpu_training.py --data DATA [--base starter] [--minutes 3] [--set KEY=VALUE ...] [--out FILE]

DATA is a data folder of `genrec prepare`. Tokens are those that the model reads in training, without padding. Seconds
include judging and saving, but not the tokenizer. The share of the device is the number of operations in training, over
the number that products of two square matrices would do in the same time. Counted are 6 operations for each weight and
token in the blocks, and 6 x width for each score of a supervised token over the catalogue's tokens; attention is not
counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def matrix_rate(device: str, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Return the operations a second of products of two square matrices."""
    size = 8192 if device.startswith("cuda") else 1024
    one = torch.randn(size, size, device=device).to(dtype)
    for _ in range(3):
        one @ one
    _wait(device)
    started, done = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        for _ in range(8 if device.startswith("cuda") else 1):
            one @ one
            done += 1
        _wait(device)
    return 2 * size**3 * done / (time.monotonic() - started)


def pretrain_for(
    data: Path, base: str | None, minutes: float, changes: dict[str, Any], device: str | None = None
) -> dict[str, Any]:
    """Pretrain for some minutes, and return what was reached and how fast.

    Args:
        data: a data folder.
        base: the model to start from; None: from nothing.
        minutes: what `--minutes` is.
        changes: further values of the recipe.
        device: as asked for.
    """
    from genrec.data.prepared import load_prepared
    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training.backbone import load_base, load_tokenizer
    from training.passes import best_pass
    from training.pretrain import choose_where, make_base
    from training.pretrain_recipe import PretrainRecipe

    prepared, where = load_prepared(data), choose_where(device)
    split, catalog = prepared.split(), prepared.catalog
    recipe = PretrainRecipe.model_validate({"base": base, "max_minutes": minutes, "epochs": 1000, **changes})
    template = load_template("next-item-joined")
    histories = [[catalog[item].label for item in history.items] for history in split.train]
    cases = [case for case in split.valid if case.history.items]
    valid = [([catalog[item].label for item in case.history.items], catalog[case.target].label) for case in cases]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "base"
        start = resolve_base(base) if base else None
        passes = make_base(histories, catalog.labels, valid, template, recipe, out, start=start, computing=where)
        model, _ = load_base(str(out), "cpu", torch.float32)
        encoder = PromptEncoder(template, load_tokenizer(str(out)), "causal", recipe.max_tokens)
    windows = [one for labels in histories if len(labels) > 1 for one in encoder.examples(labels)]
    tokens = sum(len(one.input_ids) for one in windows)
    supervised = sum(one.supervised for one in windows)
    vectors = {id(one): one.numel() for one in _vectors(model)}
    blocks = sum(one.numel() for one in model.parameters() if id(one) not in vectors)
    width = model.get_input_embeddings().weight.shape[1]
    scores = len({token for answer in encoder.answers(catalog.labels) for token in answer})
    operations = 6 * (blocks * tokens + width * scores * supervised)  # of a pass
    # The last pass may be cut short by the clock, so what is counted ends with the one before.
    whole = passes[:-1] or passes
    rate = matrix_rate(where.device, where.dtype)
    best = best_pass(passes)
    seconds = whole[-1].seconds
    return {
        "computing": where.to_json(),
        "name": torch.cuda.get_device_name() if where.kind == "cuda" else where.kind,
        "recipe": recipe.model_dump(exclude_none=True),
        "passes": len(passes),
        "best": {"pass": best.number, "gain": best.gain, "valid": best.valid, "seconds": best.seconds},
        "tokens_a_pass": tokens,
        "tokens_per_second": tokens * len(whole) / seconds,
        "operations_per_token": operations / tokens,
        "matrix_operations_per_second": rate,
        "share_of_matrix_rate": operations * len(whole) / seconds / rate,
        "memory": torch.cuda.max_memory_allocated() if where.kind == "cuda" else None,
    }


def _vectors(model: Any) -> list[torch.Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main() -> None:
    """Measure once, and print or write the result."""
    from training.recipe import read_changes

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    changes, problems = read_changes(given.changes)
    if problems:
        parser.error("; ".join(problems))
    found = json.dumps(pretrain_for(given.data, given.base, given.minutes, changes, given.device), indent=1)
    print(found)
    if given.out is not None:
        given.out.write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
