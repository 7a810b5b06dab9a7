"""What a model alone finds, known items and new ones, under one way of training after another.

    python benchmarks/meaning.py DATA.json VECTORS.npy OUT.json [--users N] [--hide 0.05] [--device cuda] key=value ...

`DATA.json` holds `labels` and `histories` (item numbers, oldest first). A seeded share of the items loses all its
events in training and stands by its vector alone, as a new item does. Validation decides; `--test` adds the test cases.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prompts.encoding import PromptEncoder
from prompts.template import load_template
from training import meaning
from training import passes as passes_module
from training.backbone import load_base, load_tokenizer
from training.pretrain import choose_where, make_base
from training.pretrain_recipe import PretrainRecipe
from training.recipe import read_changes, validated

K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--users", type=int)
    parser.add_argument("--hide", type=float, default=0.05)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--whitening", type=float, default=meaning.WHITENING)
    parser.add_argument("--directions", type=int, default=meaning.DIRECTIONS)
    parser.add_argument("--keep", type=Path, help="where the base stays")
    given = parser.parse_intermixed_args()
    meaning.WHITENING, meaning.DIRECTIONS = given.whitening, given.directions
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    told = json.loads(given.data.read_text(encoding="utf-8"))
    labels, histories = told["labels"], told["histories"]
    vectors = np.load(given.vectors).astype(np.float32)
    if given.users and given.users < len(histories):
        histories = random.Random(0).sample(histories, given.users)
        used = sorted({item for history in histories for item in history})
        place = {item: number for number, item in enumerate(used)}
        labels, vectors = [labels[item] for item in used], vectors[used]
        histories = [[place[item] for item in history] for history in histories]
    hidden = set(np.random.default_rng(0).permutation(len(labels))[: round(given.hide * len(labels))].tolist())
    train = [[item for item in history[:-2] if item not in hidden] for history in histories]
    counts = np.bincount([item for history in train for item in history], minlength=len(labels))
    cases = cases_of(histories, hidden, {"valid": 2, "test": 1} if given.test else {"valid": 2})
    changes, problems = read_changes(given.changes)
    recipe = validated(PretrainRecipe, changes, problems)
    where = choose_where(given.device)
    template = load_template("next-item-joined" if recipe.family == "causal" else "seq2seq-joined")
    valid = [([labels[i] for i in before], labels[target]) for before, target in cases["valid known"]]
    print(f"{len(labels)} items, {len(histories)} users, { ({k: len(v) for k, v in cases.items()}) }", flush=True)
    started = time.monotonic()
    result: dict[str, Any] = {
        "changes": changes, "whitening": given.whitening, "directions": given.directions, "hidden_items": len(hidden),
        "computing": where.to_json(), "items": len(labels), "users": len(histories),
    }  # fmt: skip

    def note(made: Any) -> None:
        result["passes"] = [
            {"gain": round(one.gain, 5), "train": round(one.train, 4), "valid": round(one.valid, 4),
             "seconds": round(one.seconds)} for one in made
        ]  # fmt: skip
        given.out.write_text(json.dumps(result, indent=1), encoding="utf-8")

    seen: list[Any] = []

    def progress(share: float, newest: passes_module.Pass | None) -> None:
        if newest is not None and (not seen or seen[-1] is not newest):
            seen.append(newest)
            note(seen)

    with tempfile.TemporaryDirectory() as aside:
        folder = given.keep or Path(aside) / "base"
        made = make_base(
            [[labels[i] for i in history] for history in train if history], labels, valid, template, recipe, folder,
            progress, vectors if vectors.any() else None, computing=where, told=told.get("told"),
        )  # fmt: skip
        note(made)
        described = "".join(f"{key}: {value}\n" for key, value in where.to_json().items())
        settings = f"template: {template.name}\n{described}{recipe.to_yaml()}"
        (folder / "pretrain.yaml").write_text(settings, encoding="utf-8")
        result["seconds"] = round(time.monotonic() - started)
        model, family = load_base(str(folder), where.device, torch.float32)
        encoder = PromptEncoder(template, load_tokenizer(str(folder)), family, recipe.max_tokens)
        if given.keep:
            silence_unused(folder, encoder, labels)
        for name, asked in cases.items():
            ranks = ranks_of(model, encoder, labels, asked, recipe.exclude_seen)
            result[name] = figures(ranks)
            if name.endswith("known"):
                result[name]["taken"] = by_count(ranks, counts[[target for _, target in asked]])
    given.out.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(json.dumps({key: value for key, value in result.items() if key != "passes"}), flush=True)


def silence_unused(folder: Path, encoder: PromptEncoder, labels: list[str]) -> None:
    """Set the vectors of tokens that no prompt and no title has to 0, so that the base can be packed small."""
    from safetensors.torch import load_file, save_file

    used = {token for answer in encoder.answers(labels) for token in answer}
    used |= set(encoder.prompt(labels[:1]).input_ids) | set(encoder.tokenizer.all_special_ids)
    weights = load_file(folder / "model.safetensors")
    for tensor in weights.values():
        if tensor.dim() == 2 and len(tensor) > 4096:
            kept = torch.zeros(len(tensor), dtype=torch.bool)
            kept[sorted(used)] = True
            tensor[~kept] = 0
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def cases_of(
    histories: list[list[int]], hidden: set[int], parts: dict[str, int]
) -> dict[str, list[tuple[list[int], int]]]:
    """Return what was taken before, without hidden items, and what came next, by part and by whether that is new."""
    cases: dict[str, list[tuple[list[int], int]]] = {}
    for part, back in parts.items():
        for history in histories:
            before = [item for item in history[: len(history) - back] if item not in hidden]
            if before and len(history) > back:
                target = history[len(history) - back]
                cases.setdefault(f"{part} {'new' if target in hidden else 'known'}", []).append((before, target))
    return cases


def by_count(ranks: np.ndarray, taken: np.ndarray) -> dict[str, Any]:
    """Return the figures by how often the answer was taken in training."""
    parts = {"0": (0, 0), "1 to 4": (1, 4), "5 to 19": (5, 19), "more": (20, 10**9)}
    inside = {name: (taken >= low) & (taken <= high) for name, (low, high) in parts.items()}
    return {name: figures(ranks[chosen]) for name, chosen in inside.items() if chosen.any()}


def figures(ranks: np.ndarray) -> dict[str, float]:
    gains = np.where(ranks <= K, 1 / np.log2(1.0 + ranks), 0)
    return {
        "cases": len(ranks),
        "hr@10": round(float((ranks <= K).mean()), 5),
        "ndcg@10": round(float(gains.mean()), 5),
    }


@torch.inference_mode()
def ranks_of(
    model: Any, encoder: PromptEncoder, labels: list[str], asked: list[tuple[list[int], int]], exclude_seen: bool
) -> np.ndarray:
    """Return the rank of each case's target among all titles of one token that were not taken before."""
    answers = encoder.answers(labels)
    first = torch.tensor([answer[0] for answer in answers])
    single = torch.tensor([len(answer) == 1 for answer in answers])
    device = next(model.parameters()).device
    model.eval()
    weight = model.get_output_embeddings().weight[first.to(device)]
    ranks = np.full(len(asked), 10**6)
    order = sorted(range(len(asked)), key=lambda place: len(asked[place][0]))
    for start in range(0, len(order), 128):
        places = order[start : start + 128]
        prompts = [encoder.prompt([labels[i] for i in asked[place][0]]).input_ids for place in places]
        width = max(map(len, prompts))
        ids = torch.tensor([[*one, *[0] * (width - len(one))] for one in prompts], device=device)
        mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in prompts], device=device)
        ends = torch.tensor([len(one) - 1 for one in prompts], device=device)
        if encoder.family == "causal":
            states = model.base_model(ids, attention_mask=mask).last_hidden_state
            states = states[torch.arange(len(places), device=device), ends]
        else:
            begin = torch.full((len(places), 1), model.config.decoder_start_token_id, device=device)
            states = model.base_model(input_ids=ids, attention_mask=mask, decoder_input_ids=begin).last_hidden_state[
                :, 0
            ]
        scores = (states @ weight.T).float().cpu()
        scores[:, ~single] = -torch.inf
        for row, place in enumerate(places):
            before, target = asked[place]
            own = float(scores[row, target])
            if exclude_seen:
                scores[row, [i for i in before if i != target]] = -torch.inf
            if single[target]:
                ranks[place] = int((scores[row] >= own).sum())
    return ranks


if __name__ == "__main__":
    main()
