"""Training into a run folder: from prepared data and a recipe to a model, its signals and their weights."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genrec.data.catalog import Catalog
from genrec.data.prepared import PreparedData, given_data
from genrec.data.splits import Split
from genrec.errors import ConfigError, keeping, translated
from genrec.explain.writer import TEMPLATES, load_templates
from genrec.language.bases import resolve_base, template_of, window_of
from genrec.language.identity import (
    MODELS,
    Identity,
    identity_of,
    source_of,
)
from genrec.manifest import RunManifest, Training
from genrec.progress import progress_bar
from genrec.recommender import Recommender
from genrec.runs.bases import Pretrained
from genrec.runs.examples import catalogue_texts, chosen_histories, make_examples
from genrec.runs.explanation_examples import explanation_examples, read_reasons
from genrec.runs.folder import assemble, logger, write_items
from genrec.runs.judging import judge_maker
from genrec.runs.unfinished import (
    KEPT_FREE,
    LATER_SETTINGS,
    RESERVED_FILE,
    base_to_train,
    begin,
    begun_in,
    check_begun_base,
    check_folder,
    check_room,
    keep_training,
    read_trained,
)
from genrec.runs.weights import FEWEST_CASES, few_cases, fit_fusion
from genrec.signals.registry import fit_signals, save_signals, vector_signals
from genrec.storage.disk_space import reserve
from genrec.storage.folders import (
    MANIFEST,
    fingerprint,
    write_manifest,
    write_text,
)
from genrec.storage.locks import locked
from genrec.storage.places import way_to
from prompts.checks import check_answers
from prompts.encoding import PromptEncoder
from prompts.template import Template, load_template
from retrieval.encoders import load_encoder
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie
from training import backbone, processes
from training.best_pass import JudgedPass, best_of
from training.computing import Computing, choose_computing
from training.finetune import Progress, finetune
from training.recipe import Recipe, load_recipe
from training.reporting import check_reporters

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
) -> RunManifest | None:
    """Fine-tune a model on prepared data and write a run folder.

    Args:
        data: what `genrec prepare` made; only its training part is learnt from.
        recipe: how to train.
        out: the run folder.
        data_fingerprint: names the data, so that a resumed run and an evaluation can tell it from other data.
        data_folder: the folder of the data, as the user gave it; later commands look there first.
        resume: continue an unfinished run in the folder.
        device: where to train.
        encoder: the encoder of the item index.
        progress: called with the progress of training.
        tuning_progress: called with how many of the validation cases the model has ranked.

    Returns:
        The run's manifest. Where several processes train together (`accelerate launch`), the first one writes the
        run, and the others return None as soon as the model is trained.

    Raises:
        ArtefactError: the folder holds something that must not be overwritten, or another run's beginning.
        ConfigError: recipe and model do not fit together.
    """
    check_reporters(recipe.report_to)
    computing = choose_computing(device, recipe.precision, begun_in(out, resume), f"the unfinished run in {out}")
    begun = {"recipe": recipe.model_dump(), "data": data_fingerprint, **computing.to_json()}
    if not processes.is_first():
        return _train(data, recipe, out, begun, data_folder, resume, computing, encoder, progress, tuning_progress)
    with locked(out):
        check_folder(out, begun, resume)
        return _train(data, recipe, out, begun, data_folder, resume, computing, encoder, progress, tuning_progress)


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
) -> RunManifest | None:
    """Implement `train_run` in a folder that this process has checked and locked."""
    template = load_template(recipe.template)
    base = base_to_train(recipe.base, out)
    if (window := window_of(base.folder)) is not None and window < recipe.max_tokens:
        logger.info("max_tokens=%d: as long as the prompts that %s was made for", window, recipe.base)
        recipe = recipe.model_copy(update={"max_tokens": window})
    encoder_source = source_of("encoder", encoder)  # one that is missing is told before the training
    if (meant := template_of(base.folder)) not in (None, recipe.template):
        logger.warning("%s was made for template=%s; with %s it has to learn anew", recipe.base, meant, recipe.template)
    if processes.is_first():
        begun[MODELS] = {"base": identity_of("base", recipe.base, base, out).to_json()}
        check_begun_base(out, begun)
    split = data.split()
    cases = sum(bool(case.history.items) for case in split.valid)
    if recipe.tuning_cases != 0 and cases < FEWEST_CASES and processes.is_first():
        logger.warning("no weights of the signals will be fitted: %s", few_cases(cases))
    trained = read_trained(out) if resume else None
    if trained is None:
        trained = _fine_tune(data, split, recipe, template, base.folder, out, begun, computing, resume, progress)
        if trained is None:
            return None
    elif processes.is_first():
        logger.warning("the training in %s is finished already; going on after it", out)
        begin(out, begun, recipe)
    else:
        return None
    with keeping(
        f"the training is finished and kept in {out}: correct the cause and start again with --resume, which goes on "
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
        own = vector_signals(data.catalog, data.vectors)
        signals = fit_signals(data.catalog, split.train, vectors, data.keep_seen, own)
        save_signals(out / "signals.safetensors", signals)
        manifest = RunManifest(
            base=recipe.base,
            family=trained["family"],
            layers=recipe.layers,
            loss=recipe.loss,
            keep_seen=data.keep_seen,
            max_tokens=recipe.max_tokens,
            encoder=encoder,
            models={
                "base": Identity(**begun[MODELS]["base"]),
                "encoder": identity_of("encoder", encoder, encoder_source, out),
            },
            split=data.split_name,
            data=begun["data"],
            data_folder=data_folder,
            data_way=way_to(Path(data_folder), out) if data_folder else None,
            training=Training(**trained["training"]),
            versions={name: version(name) for name in ("torch", "transformers", "peft", "faiss-cpu")}
            | {"python": platform.python_version()},
        )
        no_weights = fit_fusion(lambda: assemble(out, manifest, computing), split.valid, recipe, out, tuning_progress)
        write_manifest(out, "run", manifest.changed(no_weights=no_weights).to_json())
    return RunManifest.read(out, verify=False)


def _fine_tune(
    data: PreparedData,
    split: Split,
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
    head = model.get_output_embeddings()
    tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_of(model)
    prompt_encoder = PromptEncoder(template, tokenizer, family, recipe.max_tokens, embeddings)
    check_answers(prompt_encoder, data.catalog.labels)
    trie = TokenTrie.build(prompt_encoder.answers(data.catalog.labels))
    _check_context(model.config, prompt_encoder, data.catalog, recipe)
    # Nothing is written before all that can be wrong with the request has been looked at.
    examples = make_examples(prompt_encoder, data.catalog, split.train, recipe)
    if recipe.explain != "none":
        reasons = read_reasons(Path(recipe.reasons)) if recipe.reasons else None
        taught = chosen_histories(split.train, recipe)
        examples += explanation_examples(prompt_encoder, data.catalog, taught, recipe.explain, reasons, recipe.seed)
    if processes.is_first():
        adapter = backbone.adapter_bytes(model, recipe)
        check_room(out, adapter, data.catalog)
        begin(out, begun, recipe)
        reserve(out / RESERVED_FILE, adapter + KEPT_FREE)
    logger.info(
        "%d training examples from %d histories, in %s on %s",
        len(examples),
        len(split.train),
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
            catalogue_texts=catalogue_texts(prompt_encoder, data.catalog, recipe),
            resume=resume,
            progress=progress,
            judge_of=judge_maker(head, trie, prompt_encoder, data.catalog, split.valid, recipe, not data.keep_seen),
        )
    processes.leave_group()
    if not processes.is_first():
        return None
    trained = {
        "family": family,
        "training": {
            "steps": outcome.steps,
            "supervised_tokens": outcome.supervised,
            "seconds": round(outcome.seconds, 1),
            "final_loss": outcome.losses[-1][1] if outcome.losses else None,
            **_validation(outcome.passes),
            **computing.to_json(),
        },
    }
    keep_training(adapted, out, recipe.base, trained)
    return trained


def _validation(passes: Sequence[JudgedPass]) -> dict[str, Any]:
    """Return the manifest's entries on the passes that validation judged; empty after a single pass."""
    if not passes:
        return {}
    best = best_of(passes)
    return {"passes": [round(one.figure, 5) for one in passes], "kept_pass": best.number}


def train_with(
    data: PreparedData | str | Path,
    recipe: Recipe,
    out: Path,
    *,
    encoder: str = ENCODER,
    resume: bool = False,
    device: str | None = None,
    progress: bool = False,
) -> RunManifest | None:
    """Train a run on saved data with a whole recipe; `train` is its short form.

    Returns:
        What `train_run` returns.
    """
    prepared, folder = given_data(data)
    with (
        progress_bar("Training", progress) as bar,
        progress_bar("Fitting the weights of signals", progress) as weighing,
    ):
        return train_run(
            prepared,
            recipe,
            out,
            data_fingerprint=fingerprint(folder / MANIFEST),
            data_folder=str(folder),
            resume=resume,
            device=device,
            encoder=encoder,
            progress=lambda share, loss, left: bar(share, 1.0, f"loss {loss:.3f}"),
            tuning_progress=weighing,
        )


@translated()
def train(
    data: PreparedData | str | Path,
    out: str | Path,
    *,
    recipe: str = "pretrained",
    base: Pretrained | str | Path | None = None,
    encoder: str = ENCODER,
    resume: bool = False,
    device: str | None = None,
    progress: bool = False,
    **changes: Any,
) -> Recommender:
    """Fine-tune a model on histories, fit the weights of all signals, and write a run folder.

    Args:
        data: saved data (`genrec.prepare` with `out`), or its folder.
        out: the run folder to make.
        recipe: "pretrained" (after `genrec.pretrain`), "cpu", "gpu-lora", "gpu-qlora", or a `.yaml` file.
        base: what `genrec.pretrain` returned, its folder, a hub id, or "starter"; None: the recipe's.
        encoder: of the item index: "starter", "hashing", a sentence-transformers folder or hub id.
        resume: continue an unfinished run in the folder.
        device: where to train; see `training.computing.choose_device`.
        progress: whether progress bars are shown on stderr.
        changes: fields of `training.recipe.Recipe`, such as `epochs=2`.

    Returns:
        The recommender of the finished run.

    Raises:
        DataError: the data is in memory only, or holds nothing to learn from.
        ArtefactError: the folder holds something that must not be overwritten, or cannot be written.
        ConfigError: recipe and model do not fit together, or a field is wrong; all problems at once.
        ModelError: the base cannot be found or used.

    Example:
        >>> import genrec
        >>> base = genrec.pretrain("data/films", "bases/new", minutes=5)
        >>> rec = genrec.train("data/films", "runs/new", base=base, tuning_minutes=1)
        >>> rec.recommend(["Night Train 1", "Night Train 2"], k=1)[0].item.title
        'Night Train 3'
    """
    values: dict[str, Any] = {}
    if isinstance(base, Pretrained):
        values = {"base": str(base.folder), "template": base.template, "max_tokens": base.max_tokens}
    elif base is not None:
        template = template_of(resolve_base(str(base)))
        values = {"base": str(base), **({"template": template} if template else {})}
    chosen = load_recipe(recipe, [f"{key}={json.dumps(value)}" for key, value in {**values, **changes}.items()])
    train_with(data, chosen, Path(out), encoder=encoder, resume=resume, device=device, progress=progress)
    return Recommender.from_pretrained(out, device)
