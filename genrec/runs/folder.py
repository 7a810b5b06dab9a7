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
    begun.json           what was asked for; trained.json, once there: the training is finished and kept

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

from genrec.cold_start import Stock, stock_with_items
from genrec.data.catalog import Catalog, Item
from genrec.data.prepared import PreparedData
from genrec.data.splits import NOTHING_TO_LEARN, Case, History
from genrec.errors import ArtefactError, ConfigError, DataError, ModelError, keeping
from genrec.explain.writer import TEMPLATES, load_templates
from genrec.language.bases import template_of
from genrec.language.decoder import Decoder
from genrec.language.generator import FreeGenerator
from genrec.language.identity import (
    MODELS,
    Source,
    check_contents,
    find_model,
    models_of,
    moved_models,
    source_of,
    where_known,
)
from genrec.privacy.rewriting import Replacements
from genrec.ranking.fusion import Fusion
from genrec.recommender import Recommender
from genrec.runs.explanation_examples import explanation_examples, read_reasons
from genrec.runs.tuning import tune_fusion
from genrec.signals.registry import fit_signals, load_signals, save_signals
from genrec.storage.disk_space import check_file_size, check_space, folder_size, reserve
from genrec.storage.folders import (
    ABOUT_THE_FOLDER,
    MANIFEST,
    check_writable,
    new_folder,
    read_json,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from genrec.storage.locks import locked
from genrec.storage.places import follow, way_to
from prompts.checks import check_answers
from prompts.encoding import Example, PromptEncoder
from prompts.template import Template, load_template
from retrieval.encoders import load_encoder
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie
from training import backbone, processes
from training.computing import Computing, ComputingError, choose_computing
from training.continued import ItemText, catalogue_examples
from training.errors import BackboneError
from training.finetune import Progress, finetune
from training.recipe import Precision, Recipe

logger = logging.getLogger(__name__)

BEGUN = "begun.json"
"""What an unfinished run notes of itself, for `resume` to compare."""

TRAINED = "trained.json"
"""What a run notes of itself once its adapter is trained; what comes after it can be done again."""

RESERVED = ".reserved"
"""Takes the room of the adapter while it is trained, so that a disk that fills up meanwhile does not cost it."""

KEPT_FREE = 1 << 20
"""Bytes for the small files of a run."""

BYTES_PER_ITEM = 2000
"""What an item takes in a run's index and catalogue, at least: 384 numbers of four bytes, and its titles."""

LATER_SETTINGS = frozenset({"tuning_cases", "tuning_minutes", "save_minutes"})
"""What a resumed run may have otherwise than it was begun with: nothing that is trained depends on it."""

FEWEST_CASES = 20
"""Validation cases below which no weights are fitted: there are about half as many signals."""

ENCODER = "starter"
"""The encoder of the item index."""

FUSION = "fusion.json"


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
    computing = choose_computing(device, recipe.precision, _begun_in(out, resume), f"the unfinished run in {out}")
    begun = {"recipe": recipe.model_dump(), "data": data_fingerprint, **computing.to_json()}
    if not processes.is_first():
        return _train(data, recipe, out, begun, data_folder, resume, computing, encoder, progress, tuning_progress)
    with locked(out):
        _check_folder(out, begun, resume)
        return _train(data, recipe, out, begun, data_folder, resume, computing, encoder, progress, tuning_progress)


def _train(
    data: PreparedData,
    recipe: Recipe,
    out: Path,
    begun: dict[str, Any],
    data_folder: str,
    resume: bool,
    computing: Computing,
    encoder: str,
    progress: Progress | None,
    tuning_progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Do what `train_run` says, in a folder that has been looked at and is this process' own."""
    template = load_template(recipe.template)
    base = _base_to_train(recipe.base, out)
    encoder_source = source_of("encoder", encoder)  # one that is missing is told before the training
    if (meant := template_of(base.folder)) not in (None, recipe.template):
        logger.warning("%s was made for template=%s; with %s it has to learn anew", recipe.base, meant, recipe.template)
    if processes.is_first():
        begun["models"] = models_of({"base": (recipe.base, base)}, out)
        _check_begun_models(out, begun)
    split = data.split()
    cases = sum(bool(case.history.items) for case in split.valid)
    if recipe.tuning_cases != 0 and cases < FEWEST_CASES and processes.is_first():
        logger.warning("no weights of the signals will be fitted: %s", few_cases(cases))
    trained = read_trained(out) if resume else None
    if trained is None:
        trained = _fine_tune(data, split.train, recipe, template, base.folder, out, begun, computing, resume, progress)
        if trained is None:
            return {}
    elif processes.is_first():
        logger.warning("the training in %s is finished already; going on after it", out)
        _begin(out, begun, recipe)
    else:
        return {}
    with keeping(
        f"the training is finished and kept in {out}: mend it and start again with --resume, which goes on "
        f"after the training; {', '.join(sorted(LATER_SETTINGS))} and --encoder may be others then"
    ):
        prompt_encoder = PromptEncoder(
            template, backbone.load_tokenizer(base.folder), trained["family"], recipe.max_tokens
        )
        write_text(out / "template.toml", template.to_toml())
        if recipe.explain != "none":
            write_text(out / f"{TEMPLATES[recipe.explain]}.toml", load_templates()[recipe.explain].to_toml())
        write_items(out / "items.jsonl", data.catalog)
        TokenTrie.build(prompt_encoder.answers(data.catalog.labels)).save(out / "trie.safetensors")
        vectors = load_encoder(encoder_source.folder).encode([item.title for item in data.catalog])
        ItemIndex.build(data.catalog.ids, vectors).save(out / "index")
        save_signals(out / "signals.safetensors", fit_signals(data.catalog, split.train, vectors, data.keep_seen))
        details = {
            "base": recipe.base,
            "family": trained["family"],
            "layers": recipe.layers,
            "loss": recipe.loss,
            "keep_seen": data.keep_seen,
            "max_tokens": recipe.max_tokens,
            "encoder": encoder,
            MODELS: begun["models"] | models_of({"encoder": (encoder, encoder_source)}, out),
            "split": data.split_name,
            "data": begun["data"],
            **data_place(data_folder, out),
            "training": trained["training"],
            "versions": {name: version(name) for name in ("torch", "transformers", "peft", "faiss-cpu")}
            | {"python": platform.python_version()},
        }
        details |= fit_fusion(lambda: assemble(out, details, computing), split.valid, recipe, out, tuning_progress)
        write_manifest(out, "run", details)
    return read_manifest(out, "run", verify=False)


def _fine_tune(
    data: PreparedData,
    histories: Sequence[History],
    recipe: Recipe,
    template: Template,
    base: str,
    out: Path,
    begun: dict[str, Any],
    computing: Computing,
    resume: bool,
    progress: Progress | None,
) -> dict[str, Any] | None:
    """Train the adapter and keep it; return what was done, or None where another process writes the run."""
    model, family = backbone.load_base(base, computing.device, computing.dtype, recipe.quantisation, recipe.layers)
    tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_of(model)
    prompt_encoder = PromptEncoder(template, tokenizer, family, recipe.max_tokens, embeddings)
    check_answers(prompt_encoder, data.catalog.labels)
    trie = TokenTrie.build(prompt_encoder.answers(data.catalog.labels))
    _check_context(model.config, prompt_encoder, data.catalog, recipe)
    # Nothing is written before all that can be wrong with the request has been looked at.
    examples = make_examples(prompt_encoder, data.catalog, histories, recipe)
    if recipe.explain != "none":
        reasons = read_reasons(Path(recipe.reasons)) if recipe.reasons else None
        taught = chosen_histories(histories, recipe)
        examples += explanation_examples(prompt_encoder, data.catalog, taught, recipe.explain, reasons, recipe.seed)
    if processes.is_first():
        adapter = backbone.adapter_bytes(model, recipe)
        _check_space(out, adapter, data.catalog)
        _begin(out, begun, recipe)
        reserve(out / RESERVED, adapter + KEPT_FREE)
    logger.info(
        "%d training examples from %d histories, in %s on %s",
        len(examples),
        len(histories),
        computing.precision,
        computing.device,
    )
    with keeping(f"start again with --resume, which goes on from the last checkpoint in {out}, if there is one"):
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
        return None
    trained = {
        "family": family,
        "training": {
            "steps": outcome.steps,
            "supervised_tokens": outcome.supervised,
            "seconds": round(outcome.seconds, 1),
            "final_loss": outcome.losses[-1][1] if outcome.losses else None,
            **computing.to_json(),
        },
    }
    keep_training(adapted, out, recipe.base, trained)
    return trained


def keep_training(adapted: Any, folder: Path, base_name: str, trained: dict[str, Any]) -> None:
    """Write a trained adapter and, last, the mark that it is whole; the room that was reserved for it is given back."""
    (folder / RESERVED).unlink(missing_ok=True)
    backbone.save_adapter(adapted, folder / "adapter", base_name)
    write_json(folder / TRAINED, trained)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def read_trained(folder: Path) -> dict[str, Any] | None:
    """Return what was noted of a finished training whose later steps are still to be done; None where there is none."""
    mark = folder / TRAINED
    if not mark.exists():
        return None
    trained: dict[str, Any] = read_json(mark)
    return trained


def _base_to_train(name: str, out: Path) -> Source:
    """Return where the base is: where the name says, or where the run that is resumed was begun with it."""
    begun = read_json(out / BEGUN) if (out / BEGUN).exists() else {}
    if MODELS not in begun or begun["recipe"].get("base") != name:
        return source_of("base", name)
    return where_known("base", begun, out)


def _check_begun_models(out: Path, begun: dict[str, Any]) -> None:
    """Check that an unfinished run goes on with the base that it was begun with."""
    before = read_json(out / BEGUN) if (out / BEGUN).exists() else {}
    if MODELS in before:
        check_contents("base", before, begun, out)


def _check_space(out: Path, adapter: int, catalog: Catalog) -> None:
    """Check that a run can fit: its adapter, two checkpoints with the optimiser's two moments, and its index."""
    check_space(out, 7 * adapter + len(catalog) * BYTES_PER_ITEM + KEPT_FREE, "the run and its checkpoints")
    check_file_size(2 * adapter, "a checkpoint")


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
    (out / FUSION).unlink(missing_ok=True)  # of an earlier fit, with other settings
    if recipe.tuning_cases == 0:
        return {"no_weights": "the recipe has tuning_cases=0"}
    usable = [case for case in valid if case.history.items]
    if len(usable) < FEWEST_CASES:
        return {"no_weights": few_cases(len(usable))}
    try:
        fusion = tune_fusion(
            load(), valid, recipe.tuning_cases, recipe.seed, progress=progress, minutes=recipe.tuning_minutes
        )
    except DataError as error:  # training has been paid for by now
        return {"no_weights": str(error)}
    if fusion.cases < FEWEST_CASES:
        return {"no_weights": few_cases(fusion.cases)}
    write_json(out / FUSION, fusion.to_json())
    return {}


def few_cases(count: int) -> str:
    """Return why no weights are fitted on so few cases."""
    return (
        f"there are {count} validation cases to fit them on, and fewer than {FEWEST_CASES} would teach their accidents"
    )


def apply_fusion(run: Path, fusion: Fusion) -> None:
    """Write a fusion into a finished run, in the place of the one it has; the run is whole before and after.

    Raises:
        ArtefactError: the run is unfinished or damaged, or cannot be written.
    """
    replacements = Replacements(run.absolute() / f".{FUSION}.log")
    replacements.finish_cut_off()
    manifest = read_manifest(run, "run")
    manifest.pop("no_weights", None)
    try:
        write_json(replacements.file_for(run / FUSION), fusion.to_json())
        replacements.manifest(run / MANIFEST, manifest)
        replacements.commit()
    except BaseException:
        replacements.drop()
        raise


def load_recommender(
    run: Path, device: str | None = None, precision: Precision = "auto", base: str | None = None
) -> Recommender:
    """Load a finished run folder; `Recommender.from_pretrained` is its public name.

    Raises:
        ArtefactError: the folder is missing, unfinished or damaged.
        ModelError: the base model that the run names is not here, or is another one now.
        ConfigError: the device is not on this machine, or the precision is none.
    """
    try:
        computing = choose_computing(device, precision)
    except ComputingError as error:
        raise ConfigError([str(error)]) from None
    return assemble(run, read_manifest(run, "run"), computing, base)


def assemble(run: Path, details: dict[str, Any], computing: Computing, base_now: str | None = None) -> Recommender:
    """Put a recommender together from a folder that holds all its parts.

    Args:
        run: the folder.
        details: its manifest.
        computing: where the model runs, and in what.
        base_now: where the base is now, if not where the manifest says; its contents must be the same.
    """
    catalog = read_items(run / "items.jsonl")
    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    base = find_model("base", details, run, base_now)
    try:
        model, family = backbone.load_adapted(run, base, computing.device, computing.dtype, details["layers"])
        tokenizer = backbone.load_tokenizer(base)
    except BackboneError as error:
        raise ModelError(f"{error}; the run in {run} was trained on the base {details['base']!r}") from error
    trie, embeddings = TokenTrie.load(run / "trie.safetensors"), backbone.embeddings_of(model)
    _check_trie(run, trie, embeddings)
    encoder = PromptEncoder(template, tokenizer, family, details["max_tokens"], embeddings)
    index = ItemIndex.load(run / "index")
    of_catalogue = details["loss"] == "catalogue"
    weights = run / FUSION
    # Before the decoder, which gives the model a head over the catalogue's tokens only.
    generator = FreeGenerator(model, tokenizer, encoder.stop, model.get_output_embeddings(), ending=template.ending)
    return Recommender(
        catalog=catalog,
        encoder=encoder,
        decoder=Decoder(model, trie, "catalogue" if of_catalogue else "vocabulary"),
        generator=generator,
        signals=load_signals(run / "signals.safetensors", catalog, index.vectors(catalog.ids)),
        index=index,
        load_encoder=lambda: load_encoder(find_model("encoder", details, run)),
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


def add_to_run(run: Path, items: Sequence[Item], out: Path, base_now: str | None = None) -> Added:
    """Write a run folder that also knows new items; nothing is trained and no model is loaded.

    Args:
        run: a finished run folder; it stays as it is.
        items: items with an id and a title.
        out: the folder to make.
        base_now: where the run's base is now, if not where the run says.

    Raises:
        ArtefactError: the run is missing or damaged, or `out` exists or is being written.
        DataError: an id is given twice or known already, or a title is empty.
        ModelError: the run's base or its encoder is not here, or another one now.
    """
    with locked(out):
        return _add_to_run(run, items, out, base_now)


def _add_to_run(run: Path, items: Sequence[Item], out: Path, base_now: str | None) -> Added:
    details = read_manifest(run, "run")
    if out.exists():
        raise ArtefactError(f"{out} exists already; choose another --out or delete it")
    catalog, index = read_items(run / "items.jsonl"), ItemIndex.load(run / "index")
    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    check_space(out, folder_size(run), "the new run")
    base = find_model("base", details, run, base_now)
    tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_written(base)
    encoder = PromptEncoder(template, tokenizer, details["family"], details["max_tokens"], embeddings)
    signals = load_signals(run / "signals.safetensors", catalog, index.vectors(catalog.ids))
    stock = Stock(catalog, TokenTrie.load(run / "trie.safetensors"), index, signals)
    stock = stock_with_items(stock, items, encoder.answers, load_encoder(find_model("encoder", details, run)).encode)
    details["added_items"] = details.get("added_items", 0) + len(items)
    kept = details_of_copy(details, run, out, base)
    with new_folder(out, "run", kept) as work:
        shutil.copytree(run, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST, "evaluation"))
        write_items(work / "items.jsonl", stock.catalog)
        stock.trie.save(work / "trie.safetensors")
        stock.index.save(work / "index")
        save_signals(work / "signals.safetensors", stock.signals)
    return Added(len(items), len(stock.catalog))


def details_of_copy(details: dict[str, Any], run: Path, out: Path, base: str) -> dict[str, Any]:
    """Return what the manifest of a run that is made out of another says of itself, its ways leading from itself.

    Args:
        details: the older run's manifest.
        run: its folder.
        out: the new run's.
        base: what `find_model` returned for the base.
    """
    kept = {key: value for key, value in details.items() if key not in ABOUT_THE_FOLDER}
    if MODELS in kept:
        kept[MODELS] = moved_models(details, run, out, base)
    if "data_way" in kept:
        kept["data_way"] = way_to(follow(kept["data_way"], run), out)
    return kept


def data_place(folder: str, run: Path) -> dict[str, str]:
    """Return what a run's manifest says of where its data is: as the user gave it, and the way from the run."""
    return {"data_folder": folder, **({"data_way": way_to(Path(folder), run)} if folder else {})}


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
    elif changed := _changed(read_json(mark), begun):
        raise ArtefactError(
            f"the unfinished run in {out} was begun with another {', '.join(changed)}; "
            "resume it with the same, or choose another --out"
        )


def _begun_in(out: Path, resume: bool) -> dict[str, Any] | None:
    """Return what an unfinished run that is to be continued noted of itself; None where there is none."""
    found = read_json(out / BEGUN) if resume and (out / BEGUN).exists() else None
    return found if isinstance(found, dict) else None


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what a resumed run has otherwise than it was begun with, of what its training depends on.

    The base's name may be another, as it may have moved; its contents are compared.
    """
    free = LATER_SETTINGS | ({"base"} if MODELS in before else set())
    old, new = before["recipe"], now["recipe"]
    changed = [
        f"{key}={old.get(key)} (now {new.get(key)})"
        for key in sorted(old.keys() | new.keys())
        if key not in free and old.get(key) != new.get(key)
    ]
    return changed + (["data"] if before["data"] != now["data"] else [])


def _begin(out: Path, begun: dict[str, Any], recipe: Recipe) -> None:
    """Make the folder and note in it what was begun, or for a resumed run what is asked for now."""
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
