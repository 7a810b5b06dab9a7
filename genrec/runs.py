"""Run folders: train into one, load a recommender from one.

    genrec.json          the manifest, written last: base, family, layers, loss, max_tokens, split, training, versions
    recipe.yaml          the whole recipe, defaults included
    template.toml        the prompt, as text
    explanation.toml     the request for explanations, where the recipe had them learnt; explanation-zh.toml in Chinese
    adapter/             the LoRA matrices (PEFT's format, safetensors)
    items.jsonl          the catalogue with its labels
    trie.safetensors     its token sequences
    index/               its vectors in FAISS
    signals.safetensors  the other signals, counted on the training histories
    fusion.json          the weights of all signals, fitted on validation cases; not there without any
    loss.jsonl           the training loss

A folder without a manifest is an unfinished run; `resume` continues it from its newest checkpoint.
"""

from __future__ import annotations

import json
import logging
import platform
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genrec.artefacts import (
    MANIFEST,
    check_writable,
    new_folder,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from genrec.basemodels import resolve_base, template_of
from genrec.catalog import Catalog, Item
from genrec.cold_start import Stock, stock_with_items
from genrec.decoding import Decoder
from genrec.errors import ArtefactError, ConfigError, DataError, ModelError
from genrec.explanation_examples import explanation_examples, read_reasons
from genrec.explanation_words import TEMPLATES, load_templates
from genrec.free_generation import FreeGenerator
from genrec.interactions import PreparedData
from genrec.ranking import Fusion
from genrec.recommender import Recommender
from genrec.signal_set import fit_signals, load_signals, save_signals
from genrec.splits import NOTHING_TO_LEARN, Case, History
from genrec.tuning import tune_fusion
from prompts.checks import check_answers
from prompts.encoding import Example, PromptEncoder
from prompts.template import Template, load_template
from retrieval.encoders import load_encoder
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie
from training import backbone, processes
from training.continued import ItemText, catalogue_examples
from training.finetune import Progress, finetune
from training.recipe import Recipe

logger = logging.getLogger(__name__)

BEGUN = "begun.json"
"""What an unfinished run notes of itself, for `resume` to compare."""

FEWEST_CASES = 20
"""Validation cases below which no weights are fitted: there are about half as many signals."""

ENCODER = "starter"
"""The encoder of the item index."""


def train_run(
    data: PreparedData,
    recipe: Recipe,
    out: Path,
    *,
    data_fingerprint: str = "",
    data_folder: str = "",
    resume: bool = False,
    device: str | None = None,
    encoder: str = ENCODER,
    progress: Progress | None = None,
    tuning_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Fine-tune a model on prepared data and write a run folder.

    Args:
        data: what `genrec prepare` made; only its training part is learnt from.
        recipe: how to train.
        out: the run folder.
        data_fingerprint: names the data, so that a resumed run and an evaluation can tell it from other data.
        data_folder: where the data stands, as the user gave it; later verbs look there first.
        resume: continue an unfinished run in the folder.
        device: where to train.
        encoder: the encoder of the item index.
        progress: told how training goes.
        tuning_progress: told on how many validation cases of how many the model has been asked.

    Returns:
        The run's manifest. Where several processes train together (`accelerate launch`), the first one writes the
        run, and the others return an empty manifest as soon as the model is trained.

    Raises:
        ArtefactError: the folder holds something that must not be overwritten, or another run's beginning.
        ConfigError: recipe and model do not fit together.
    """
    begun = {"recipe": recipe.model_dump(), "data": data_fingerprint}
    if processes.is_first():
        _check_folder(out, begun, resume)
    template = load_template(recipe.template)
    where = backbone.choose_device(device)
    dtype = backbone.choose_precision(recipe.precision, where)
    base = resolve_base(recipe.base)
    if (meant := template_of(base)) not in (None, recipe.template):
        logger.warning("%s was made for template=%s; with %s it has to learn anew", recipe.base, meant, recipe.template)
    model, family = backbone.load_base(base, where, dtype, recipe.quantisation, recipe.layers)
    tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_of(model)
    prompt_encoder = PromptEncoder(template, tokenizer, family, recipe.max_tokens, embeddings)
    check_answers(prompt_encoder, data.catalog.labels)
    trie = TokenTrie.build(prompt_encoder.answers(data.catalog.labels))
    _check_context(model.config, prompt_encoder, data.catalog, recipe)
    split = data.split()
    cases = sum(bool(case.history.items) for case in split.valid)
    if recipe.tuning_cases and cases < FEWEST_CASES and processes.is_first():
        logger.warning("no weights of the signals will be fitted: %s", few_cases(cases))
    # Nothing is written before all that can be wrong with the request has been looked at.
    examples = make_examples(prompt_encoder, data.catalog, split.train, recipe)
    if recipe.explain != "none":
        reasons = read_reasons(Path(recipe.reasons)) if recipe.reasons else None
        taught = chosen_histories(split.train, recipe)
        examples += explanation_examples(prompt_encoder, data.catalog, taught, recipe.explain, reasons, recipe.seed)
    if processes.is_first():
        _begin(out, begun, recipe)
    logger.info("%d training examples from %d histories, in %s on %s", len(examples), len(split.train), dtype, where)
    adapted, outcome = finetune(
        model,
        family,
        examples,
        recipe,
        out,
        catalogue_tokens=trie.vocabulary.tolist(),
        catalogue_texts=reading_matter(prompt_encoder, data.catalog, recipe),
        resume=resume,
        progress=progress,
    )
    processes.part()
    if not processes.is_first():
        return {}
    backbone.save_adapter(adapted, out / "adapter", recipe.base)
    del adapted, model
    write_text(out / "template.toml", template.to_toml())
    if recipe.explain != "none":
        write_text(out / f"{TEMPLATES[recipe.explain]}.toml", load_templates()[recipe.explain].to_toml())
    write_items(out / "items.jsonl", data.catalog)
    trie.save(out / "trie.safetensors")
    vectors = load_encoder(encoder).encode([item.title for item in data.catalog])
    ItemIndex.build(data.catalog.ids, vectors).save(out / "index")
    save_signals(out / "signals.safetensors", fit_signals(data.catalog, split.train, vectors, data.keep_seen))
    details = {
        "base": recipe.base,
        "family": family,
        "layers": recipe.layers,
        "loss": recipe.loss,
        "keep_seen": data.keep_seen,
        "max_tokens": recipe.max_tokens,
        "encoder": encoder,
        "split": data.split_name,
        "data": data_fingerprint,
        "data_folder": data_folder,
        "training": {
            "steps": outcome.steps,
            "supervised_tokens": outcome.supervised,
            "seconds": round(outcome.seconds, 1),
            "final_loss": outcome.losses[-1][1] if outcome.losses else None,
            "device": where,
            "precision": str(dtype).removeprefix("torch."),
        },
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "faiss-cpu")}
        | {"python": platform.python_version()},
    }
    details |= fit_fusion(
        lambda: assemble(out, details, where, recipe.precision), split.valid, recipe, out, tuning_progress
    )
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    write_manifest(out, "run", details)
    return read_manifest(out, "run", verify=False)


def fit_fusion(
    load: Callable[[], Recommender],
    valid: Sequence[Case],
    recipe: Recipe,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Fit the weights of all signals on validation cases, where there are enough and the recipe wants it; write them.

    A run whose weights cannot be fitted is whole all the same: its signals are fused by reciprocal ranks.

    Returns:
        What the manifest says of it: under `no_weights` why there are none; nothing where they were fitted.
    """
    if not recipe.tuning_cases:
        return {"no_weights": "the recipe has tuning_cases=0"}
    usable = [case for case in valid if case.history.items]
    if len(usable) < FEWEST_CASES:
        return {"no_weights": few_cases(len(usable))}
    try:
        fusion = tune_fusion(load(), valid, recipe.tuning_cases, recipe.seed, progress=progress)
    except DataError as error:  # training has been paid for by now
        return {"no_weights": str(error)}
    if fusion.cases < FEWEST_CASES:
        return {"no_weights": few_cases(fusion.cases)}
    write_json(out / "fusion.json", fusion.to_json())
    return {}


def few_cases(count: int) -> str:
    """Return why no weights are fitted on so few cases."""
    return (
        f"there are {count} validation cases to fit them on, and fewer than {FEWEST_CASES} would teach their accidents"
    )


def load_recommender(run: Path, device: str | None = None, precision: str = "auto") -> Recommender:
    """Load a finished run folder; `Recommender.from_pretrained` is its public name.

    Raises:
        ArtefactError: the folder is missing, unfinished or damaged.
        ModelError: the base model that the run names is not here.
    """
    return assemble(run, read_manifest(run, "run"), device, precision)


def assemble(run: Path, details: dict[str, Any], device: str | None, precision: str) -> Recommender:
    """Put a recommender together from a folder that holds all its parts."""
    catalog = read_items(run / "items.jsonl")
    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    where = backbone.choose_device(device)
    dtype = backbone.choose_precision(precision, where)
    base = resolve_base(details["base"])
    try:
        model, family = backbone.load_adapted(run, base, where, dtype, details["layers"])
        tokenizer = backbone.load_tokenizer(base)
    except backbone.BackboneError as error:
        raise ModelError(f"{error}; the run in {run} was trained on the base {details['base']!r}") from error
    encoder = PromptEncoder(template, tokenizer, family, details["max_tokens"], backbone.embeddings_of(model))
    index = ItemIndex.load(run / "index")
    trie = TokenTrie.load(run / "trie.safetensors")
    _check_trie(run, trie, backbone.embeddings_of(model))
    of_catalogue = details["loss"] == "catalogue"
    weights = run / "fusion.json"
    # Before the decoder, which gives the model a head over the catalogue's tokens only.
    generator = FreeGenerator(model, tokenizer, encoder.stop, model.get_output_embeddings(), ending=template.ending)
    return Recommender(
        catalog=catalog,
        encoder=encoder,
        decoder=Decoder(model, trie, "catalogue" if of_catalogue else "vocabulary"),
        generator=generator,
        signals=load_signals(run / "signals.safetensors", catalog, index.vectors(catalog.ids)),
        index=index,
        load_encoder=lambda: load_encoder(details["encoder"]),
        fusion=Fusion.from_json(read_json(weights)) if weights.exists() else None,
        details=details,
        templates=load_templates(run),
    )


def _check_trie(run: Path, trie: TokenTrie, embeddings: int) -> None:
    """Check that a run's items can be named by its model, and say so where some cannot be told apart.

    Raises:
        ModelError: the model lacks tokens that the items have.
    """
    if int(trie.vocabulary[-1]) >= embeddings:
        raise ModelError(
            f"the items of {run} have token {int(trie.vocabulary[-1])}, and its base has embeddings of {embeddings} "
            "tokens; the base was changed after training: put back the one it was trained on, or train again"
        )
    # Training refuses this now; such runs were made before.
    shared = int((trie.items_below[trie.leaf] > 1).sum())
    if shared:
        logger.warning(
            "the tokenizer makes the same tokens of %d of %d items, so the model cannot tell them apart; train again",
            shared,
            len(trie),
        )


@dataclass(frozen=True, slots=True)
class Added:
    """How many items were added to a run, and how many it has now."""

    added: int
    items: int


def add_to_run(run: Path, items: Sequence[Item], out: Path) -> Added:
    """Write a run folder that also knows new items; nothing is trained and no model is loaded.

    Args:
        run: a finished run folder; it stays as it is.
        items: items with an id and a title.
        out: the folder to make.

    Raises:
        ArtefactError: the run is missing or damaged, or `out` exists.
        DataError: an id is given twice or known already, or a title is empty.
    """
    details = read_manifest(run, "run")
    if out.exists():
        raise ArtefactError(f"{out} exists already; choose another --out or delete it")
    catalog, index = read_items(run / "items.jsonl"), ItemIndex.load(run / "index")
    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    base = resolve_base(details["base"])
    tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_written(base)
    encoder = PromptEncoder(template, tokenizer, details["family"], details["max_tokens"], embeddings)
    signals = load_signals(run / "signals.safetensors", catalog, index.vectors(catalog.ids))
    stock = Stock(catalog, TokenTrie.load(run / "trie.safetensors"), index, signals)
    stock = stock_with_items(stock, items, encoder.answers, load_encoder(details["encoder"]).encode)
    details["added_items"] = details.get("added_items", 0) + len(items)
    about_the_folder = ("format_version", "kind", "files")
    kept = {key: value for key, value in details.items() if key not in about_the_folder}
    with new_folder(out, "run", kept) as work:
        shutil.copytree(run, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST, "evaluation"))
        write_items(work / "items.jsonl", stock.catalog)
        stock.trie.save(work / "trie.safetensors")
        stock.index.save(work / "index")
        save_signals(work / "signals.safetensors", stock.signals)
    return Added(len(items), len(stock.catalog))


def chosen_histories(histories: Sequence[History], recipe: Recipe) -> list[History]:
    """Return the histories that are learnt from: all, or those of a seeded sample of users where the recipe says so."""
    chosen = list(histories)
    if recipe.max_users is not None and recipe.max_users < len(chosen):
        chosen = random.Random(recipe.seed).sample(chosen, recipe.max_users)  # noqa: S311 - not cryptography
    return chosen


def make_examples(
    encoder: PromptEncoder, catalog: Catalog, histories: Sequence[History], recipe: Recipe
) -> list[Example]:
    """Return the training examples of histories; of a seeded sample of users where the recipe says so."""
    chosen = chosen_histories(histories, recipe)
    encoder.remember(catalog.labels)
    examples = [
        example for history in chosen for example in encoder.examples([catalog[item].label for item in history.items])
    ]
    if not examples:
        raise DataError(NOTHING_TO_LEARN)
    return examples


def reading_matter(encoder: PromptEncoder, catalog: Catalog, recipe: Recipe) -> list[Example]:
    """Return the catalogue's own texts, where the recipe wants them read: titles, categories and attributes."""
    if not recipe.catalogue_epochs:
        return []
    texts = []
    for item in catalog:
        known = {"categories": ", ".join(item.categories), **item.attributes}
        details = tuple(f"{name.capitalize()}: {value}" for name, value in known.items() if value)
        texts.append(ItemText(item.label, details))
    return catalogue_examples(encoder, texts, recipe.seed)


def read_items(path: Path) -> Catalog:
    """Read a catalogue with its labels as they were written.

    Raises:
        ArtefactError: the file is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return Catalog(Item.from_json(json.loads(line)) for line in lines)
    except (OSError, ValueError, KeyError) as error:
        raise ArtefactError(f"{path} cannot be read ({error}); make the folder again") from error


def read_losses(run: Path) -> list[dict[str, float]]:
    """Read a run's training losses: step, loss, learning_rate."""
    path = run / "loss.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _check_folder(out: Path, begun: dict[str, Any], resume: bool) -> None:
    """Check that a run may be written to the folder, and that an unfinished one in it is the one to resume."""
    if (out / MANIFEST).exists():
        raise ArtefactError(f"{out} holds a finished folder already; choose another --out or delete it")
    mark = out / BEGUN
    if not mark.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtefactError(f"{out} is not empty and holds no run; choose another --out")
        check_writable(out)
    elif not resume:
        raise ArtefactError(f"{out} holds an unfinished run; add --resume to continue it, or delete it")
    elif read_json(mark) != begun:
        raise ArtefactError(
            f"the unfinished run in {out} has another recipe or other data; "
            "resume it with the same ones, or choose another --out"
        )


def _begin(out: Path, begun: dict[str, Any], recipe: Recipe) -> None:
    """Make the folder and note in it what was begun; done already where a run is resumed."""
    if not (out / BEGUN).exists():
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "recipe.yaml", recipe.to_yaml())
        write_json(out / BEGUN, begun)


def _check_context(config: Any, encoder: PromptEncoder, catalog: Catalog, recipe: Recipe) -> None:
    """Check that a prompt and the longest answer fit in the model's context."""
    context = getattr(config, "max_position_embeddings", None)
    longest = max(len(answer) for answer in encoder.answers(catalog.labels))
    if context is not None and recipe.max_tokens + longest > context:
        raise ConfigError(
            [
                f"max_tokens={recipe.max_tokens} and the longest answer of {longest} tokens are more than the "
                f"model's context of {context}; lower max_tokens to at most {context - longest}"
            ]
        )


def write_items(path: Path, catalog: Catalog) -> None:
    """Write a catalogue, its labels included; `read_items` is the inverse."""
    lines = (json.dumps(item.to_json(), ensure_ascii=False) for item in catalog)
    write_text(path, "".join(f"{line}\n" for line in lines))
