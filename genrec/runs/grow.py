"""Growing a run folder: new items, without training."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genrec.data.catalog import Item
from genrec.errors import ArtefactError
from genrec.item_parts import ItemParts, with_new_items
from genrec.language.identity import (
    find_model,
)
from genrec.language.item_tokens import ItemTokens, TokenMaker, piece_means
from genrec.manifest import RunManifest
from genrec.runs.folder import read_items, write_items
from genrec.signals.registry import load_signals, save_signals
from genrec.storage.disk_space import check_space, folder_size
from genrec.storage.folders import (
    MANIFEST,
    new_folder,
)
from genrec.storage.locks import locked
from prompts.encoding import PromptEncoder
from prompts.template import Template
from retrieval.encoders import load_encoder
from retrieval.index import ItemIndex
from retrieval.trie import TokenTrie
from training import backbone


@dataclass(frozen=True, slots=True)
class Added:
    """How many items were added to a run, and how many it has now."""

    added: int
    items: int


def add_to_run(run: Path, items: Sequence[Item], out: Path, base_now: str | None = None) -> Added:
    """Write a run folder that also knows new items; nothing is trained.

    Args:
        run: a finished run folder; it stays as it is.
        items: items with an id and a title.
        out: the folder to make.
        base_now: the present place of the run's base, if it differs from the recorded one.

    Raises:
        ArtefactError: the run is missing or damaged, or `out` exists or is being written.
        DataError: an id is given twice or known already, or a title is empty.
        ModelError: the run's base or its encoder is missing or has changed.
    """
    with locked(out):
        return _add_to_run(run, items, out, base_now)


def _add_to_run(run: Path, items: Sequence[Item], out: Path, base_now: str | None) -> Added:
    manifest = RunManifest.read(run)
    if out.exists():
        raise ArtefactError(f"{out} exists already; choose another --out or delete it")
    catalog, index = read_items(run / "items.jsonl"), ItemIndex.load(run / "index")
    template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
    check_space(out, folder_size(run), "the new run")
    base = find_model("base", manifest, run, base_now)
    tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_written(base)
    tokens = ItemTokens.load(run)
    encoder = PromptEncoder(template, tokenizer, manifest.family, manifest.max_tokens, embeddings)
    if tokens is not None:
        encoder = encoder.with_own(tokens.own(catalog, embeddings), embeddings + len(tokens))
    signals = load_signals(run / "signals.safetensors", catalog, index.vectors(catalog.ids))
    reader = load_encoder(find_model("encoder", manifest, run))
    maker = TokenMaker.of(base, template.name, manifest.models.get("encoder"), lambda: reader)
    pieces = None
    if maker is not None and maker.meaning.from_pieces:
        model, _ = backbone.load_base(base, "cpu", "auto", layers=manifest.layers)
        pieces = piece_means(encoder, model, model.get_output_embeddings())
    parts = ItemParts(catalog, TokenTrie.load(run / "trie.safetensors"), index, signals, encoder, tokens)
    parts = with_new_items(parts, items, reader.encode, maker, pieces)
    kept = manifest.moved(run, out, base).changed(added_items=manifest.added_items + len(items))
    with new_folder(out, "run", kept.to_json()) as work:
        shutil.copytree(run, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST, "evaluation"))
        write_items(work / "items.jsonl", parts.catalog)
        parts.trie.save(work / "trie.safetensors")
        parts.index.save(work / "index")
        save_signals(work / "signals.safetensors", parts.signals)
        if parts.tokens is not None:
            parts.tokens.save(work)
    return Added(len(items), len(parts.catalog))
