"""Run folders: train into one, load a recommender from one.

    genrec.json          the manifest, written last: base, family, layers, loss, max_tokens, split, training, versions
    recipe.yaml          the whole recipe, defaults included
    template.toml        the prompt, as text
    explanation.toml     the request for explanations, where the recipe had them learnt; explanation-zh.toml in Chinese
    adapter/             the LoRA matrices (PEFT's format, safetensors)
    items.jsonl          the catalogue with its labels
    trie.safetensors     its token sequences
    index/               its vectors in FAISS
    tokens.safetensors   the tokens of items that were added after training, where the base's f gave them some
    signals.safetensors  the other signals, counted on the training histories
    fusion.json          the weights of all signals, fitted on validation cases; not there without any
    loss.jsonl           the training loss
    begun.json           what was asked for; trained.json, once there: the training is finished and kept

A folder without a manifest is an unfinished run; `resume` continues it from its newest checkpoint.
"""

from __future__ import annotations

import json
import logging
from functools import cache
from pathlib import Path

from genrec.data.catalog import Catalog, Item
from genrec.errors import ArtefactError, ConfigError, ModelError
from genrec.explain.writer import load_templates
from genrec.language.decoder import Decoder
from genrec.language.generator import FreeGenerator
from genrec.language.identity import (
    find_model,
)
from genrec.language.item_tokens import ItemTokens
from genrec.manifest import RunManifest
from genrec.origin import Origin
from genrec.ranking.fusion import Fusion
from genrec.recommender import Recommender
from genrec.signals.registry import load_signals, save_signals
from genrec.signals.simple import Signal
from genrec.storage.folders import (
    MANIFEST,
    read_json,
    read_manifest,
    write_json,
    write_text,
)
from genrec.storage.replacements import Replacements
from prompts.encoding import PromptEncoder
from prompts.template import Template
from retrieval.encoders import load_encoder
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie
from training import backbone
from training.computing import Computing, ComputingError, choose_computing
from training.errors import BackboneError
from training.recipe import ServedPrecision

logger = logging.getLogger(__name__)


FUSION = "fusion.json"


def apply_fusion(run: Path, fusion: Fusion, signals: dict[str, Signal] | None = None) -> None:
    """Write a fusion into a finished run, in the place of the one it has; the run is whole before and after.

    Args:
        run: the folder.
        fusion: the fitted weights.
        signals: all signals of the run, where the weights are for others than it holds.

    Raises:
        ArtefactError: the run is unfinished or damaged, or cannot be written.
    """
    replacements = Replacements(run.absolute() / f".{FUSION}.log")
    replacements.finish_cut_off()
    manifest = read_manifest(run, "run")
    manifest.pop("no_weights", None)
    try:
        write_json(replacements.file_for(run / FUSION), fusion.to_json())
        if signals is not None:
            save_signals(replacements.file_for(run / "signals.safetensors"), signals)
        replacements.manifest(run / MANIFEST, manifest)
        replacements.commit()
    except BaseException:
        replacements.drop()
        raise


def load_recommender(
    run: Path, device: str | None = None, precision: ServedPrecision = "auto", base: str | None = None
) -> Recommender:
    """Load a finished run folder; `Recommender.from_pretrained` is its public name.

    Raises:
        ArtefactError: the folder is missing, unfinished or damaged.
        ModelError: the base model that the run names is missing or has changed.
        ConfigError: the device is not on this machine, or the precision is none.
    """
    try:
        computing = choose_computing(device, precision)
    except ComputingError as error:
        raise ConfigError([str(error)]) from None
    return assemble(run, RunManifest.read(run), computing, base)


def assemble(run: Path, manifest: RunManifest, computing: Computing, base_now: str | None = None) -> Recommender:
    """Put a recommender together from a folder that holds all its parts.

    Args:
        run: the folder.
        manifest: what it says of itself; the folder need not be whole yet.
        computing: where the model runs, and in what.
        base_now: where the base is now, if not where the manifest says; its contents must be the same.
    """
    catalog = read_items(run / "items.jsonl")
    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    base = find_model("base", manifest, run, base_now)
    try:
        load = backbone.load_packed if computing.precision == "4bit" else backbone.load_adapted
        model, family = load(run, base, computing.device, computing.dtype, manifest.layers)
        tokenizer = backbone.load_tokenizer(base)
    except BackboneError as error:
        raise ModelError(f"{error}; the run in {run} was trained on the base {manifest.base!r}") from error
    trie, embeddings = TokenTrie.load(run / "trie.safetensors"), backbone.embeddings_of(model)
    tokens, head = ItemTokens.load(run), model.get_output_embeddings()
    own = {} if tokens is None else tokens.own(catalog, embeddings)
    _check_trie(run, trie, embeddings + len(own))
    encoder = PromptEncoder(template, tokenizer, family, manifest.max_tokens, embeddings + len(own), own)
    if tokens is not None:
        model = tokens.added_to(model, head)
    index = ItemIndex.load(run / "index")
    of_catalogue = manifest.loss == "catalogue"
    weights = run / FUSION
    # Before the decoder, which gives the model a head over the catalogue's tokens only.
    generator = FreeGenerator(model, tokenizer, encoder.stop, head, ending=template.ending)
    return Recommender(
        catalog=catalog,
        encoder=encoder,
        decoder=Decoder(model, trie, "catalogue" if of_catalogue else "vocabulary"),
        generator=generator,
        signals=load_signals(run / "signals.safetensors", catalog, index.vectors(catalog.ids)),
        index=index,
        load_encoder=cache(lambda: load_encoder(find_model("encoder", manifest, run))),
        fusion=Fusion.from_json(read_json(weights)) if weights.exists() else None,
        manifest=manifest,
        templates=load_templates(run),
        origin=Origin(run, base),
        tokens=tokens,
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


def write_items(path: Path, catalog: Catalog) -> None:
    """Write a catalogue, its labels included; `read_items` is the inverse."""
    lines = (json.dumps(item.to_json(), ensure_ascii=False) for item in catalog)
    write_text(path, "".join(f"{line}\n" for line in lines))
