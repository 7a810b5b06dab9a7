"""A run's language model as an ordinary `transformers` folder, for programs that do not use genrec.

The adapter is merged into the base, in the base's own number format; tokenizer, generation settings and a model card
are beside it. The architecture keeps its name, so every program that serves the base also serves this model.

The constrained decoding is lost: such a program writes any text. Easy to get wrong: the prompt. genrec tokenises each
title by itself; a program that tokenises the whole text may get other tokens, so give it tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrec.data.catalog import Catalog
from genrec.errors import ArtefactError, translated
from genrec.language.identity import find_model
from genrec.language.item_tokens import ItemTokens
from genrec.manifest import RunManifest
from genrec.runs.card import export_card
from genrec.runs.folder import read_items
from genrec.storage.disk_space import check_space, folder_size
from genrec.storage.folders import MANIFEST, fingerprint, new_folder, write_text
from genrec.storage.locks import locked
from prompts.encoding import PromptEncoder
from prompts.template import Template
from training import backbone

SHOWN = 2
"""Items of the prompt in the model card."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        architecture: the model's class, as `config.json` names it.
        precision: its number format, as PyTorch names it.
        parameters: how many weights it has.
    """

    architecture: str
    precision: str
    parameters: int


@translated()
def export_merged(run: Path, out: Path, base_now: str | None = None) -> Exported:
    """Write a run's model with the adapter merged into its base.

    Args:
        run: a finished run folder.
        out: the folder to make; nothing may be there.
        base_now: the present place of the run's base, if it differs from the recorded one.

    Raises:
        ArtefactError: the run is missing or damaged, or `out` exists or cannot be written.
        ModelError: the run's base is missing or has changed.
    """
    manifest = RunManifest.read(run)
    with locked(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ArtefactError(f"{out} exists already; choose another --out or delete it")
        base = find_model("base", manifest, run, base_now)
        check_space(out, folder_size(Path(base)), "the merged model")
        model, family = backbone.load_adapted(run, base, "cpu", "auto", manifest.layers)
        tokenizer, embeddings = backbone.load_tokenizer(base), backbone.embeddings_of(model)
        template = Template.from_toml((run / "template.toml").read_text(encoding="utf-8"))
        encoder = PromptEncoder(template, tokenizer, family, manifest.max_tokens, embeddings)
        catalog = read_items(run / "items.jsonl")
        if (tokens := ItemTokens.load(run)) is not None:
            encoder = _with_added(model, encoder, tokens, catalog)
        _end_after_a_title(model, encoder)
        labels = catalog.labels
        prompt = list(encoder.prompt(labels[:SHOWN]).input_ids)
        done = Exported(
            type(model).__name__,
            str(next(model.parameters()).dtype).removeprefix("torch."),
            sum(parameter.numel() for parameter in model.parameters()),
        )
        with new_folder(out, "model", {"run": fingerprint(run / MANIFEST), "base": manifest.base}) as work:
            with backbone.muted():
                model.save_pretrained(work)
            backbone.readable_as(work)
            tokenizer.save_pretrained(work)
            write_text(work / "template.toml", template.to_toml())
            write_text(work / "README.md", export_card(manifest, labels[:SHOWN], prompt, encoder.text(prompt)))
    return done


def _with_added(model: Any, encoder: PromptEncoder, tokens: ItemTokens, catalog: Catalog) -> PromptEncoder:
    """Give model and tokenizer the tokens of added items, and return an encoder that finds them there.

    A tokenizer takes an added token wherever its text stands, so a whole text in which a new title stands inside an
    older one reads otherwise than genrec does, which tokenises each title by itself.
    """
    from tokenizers import AddedToken

    first = len(encoder.tokenizer)
    labels = [catalog.labels[row] for row in tokens.rows.tolist()]
    encoder.remember(catalog.labels[: int(tokens.rows.min())])
    encoder.tokenizer.add_tokens([AddedToken(encoder.template.item_text(one), normalized=False) for one in labels])
    size = max(first + len(tokens), encoder.embeddings or 0)
    model.resize_token_embeddings(size, mean_resizing=False)
    place = slice(first, first + len(tokens))
    with torch.no_grad():
        pairs = ((model.get_output_embeddings(), tokens.head), (model.get_input_embeddings(), tokens.inside))
        for module, vectors in pairs:
            module.weight[place] = torch.from_numpy(vectors).to(module.weight)
    return encoder.with_own({label: first + number for number, label in enumerate(labels)}, size)


def _end_after_a_title(model: Any, encoder: PromptEncoder) -> None:
    """Have the model's generation settings end a text where a title ends."""
    settings = model.generation_config
    known = settings.eos_token_id
    ends = [] if known is None else [known] if isinstance(known, int) else list(known)
    if encoder.stop not in ends:
        settings.eos_token_id = [*ends, encoder.stop] if ends else encoder.stop
