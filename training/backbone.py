"""The model that is trained and served: loading, depth, 4-bit, adapters, the catalogue's own output head.

The family (causal, seq2seq) is read from the model's config, never from its name. `training.computing` chooses the
device and the number format.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from prompts.encoding import Family
from prompts.errors import first_line
from training.errors import BackboneError
from training.merging import merged
from training.recipe import Recipe

logger = logging.getLogger(__name__)


@contextmanager
def muted() -> Iterator[None]:
    """Hide the libraries' warnings about each other from callers; `$GENREC_DEBUG` shows them.

    peft asks transformers for what transformers calls deprecated, and imports bitsandbytes, which misses a kernel that
    nothing here needs.
    """
    if os.environ.get("GENREC_DEBUG"):
        yield
        return
    library = logging.getLogger("bitsandbytes")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        library.setLevel(level)


def load_tokenizer(base: str) -> Any:
    """Load a base model's tokenizer.

    Raises:
        BackboneError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... for the same fault
        raise BackboneError(f"cannot load a tokenizer from {base!r}: {first_line(error)}") from error


def load_base(
    base: str,
    device: str,
    dtype: torch.dtype | Literal["auto"],
    quantisation: str = "none",
    layers: int | None = None,
) -> tuple[Any, Family]:
    """Load a base model.

    Args:
        base: a local folder or a hub id.
        device: where to put it.
        dtype: what to compute in; auto: as the base is stored.
        quantisation: "4bit" loads NF4 weights with double quantisation (QLoRA, arXiv 2305.14314).
        layers: keep only this many first layers.

    Returns:
        The model and its family.

    Raises:
        BackboneError: the model is not there, or is neither causal nor seq2seq.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, BitsAndBytesConfig

    options: dict[str, Any] = {"dtype": dtype}
    try:
        config = AutoConfig.from_pretrained(base)
        family: Family = "seq2seq" if config.is_encoder_decoder else "causal"
        if layers is not None:
            config.num_hidden_layers = _fewer_layers(config, layers)
        if quantisation == "4bit":
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            options["device_map"] = {"": device}
        if family == "seq2seq" and getattr(config, "decoder_start_token_id", None) is None:
            raise BackboneError(
                f"the config of the base model {base!r} does not say which token its decoder starts with; add "
                "decoder_start_token_id to its config.json (T5's is that of its padding)"
            )
        loader = AutoModelForSeq2SeqLM if family == "seq2seq" else AutoModelForCausalLM
        with muted():
            model = loader.from_pretrained(base, config=config, **options)
    except BackboneError:
        raise
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... for the same fault
        raise BackboneError(f"cannot load the base model {base!r}: {first_line(error)}") from error
    return (model if quantisation == "4bit" else model.to(device)), family


def diverged(when: str) -> str:
    """Return the error message for a loss that is not finite: nothing trained from there on is useful."""
    return f"the loss is not finite at {when}; lower learning_rate, or set precision=fp32"


def embeddings_of(model: Any) -> int:
    """Return the size of a model's embedding table; its tokenizer may have fewer tokens or, wrongly, more."""
    return int(model.get_input_embeddings().weight.shape[0])


def embeddings_written(base: str) -> int:
    """Return the size of a base model's embedding table from its config; the model is not loaded.

    Raises:
        BackboneError: there is no config.
    """
    from transformers import AutoConfig

    try:
        return int(AutoConfig.from_pretrained(base).get_text_config().vocab_size)
    except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... for the same fault
        raise BackboneError(f"cannot load the config of {base!r}: {first_line(error)}") from error


def add_adapter(model: Any, recipe: Recipe) -> Any:
    """Return the model with trainable LoRA matrices (arXiv 2106.09685) on all linear layers, or on the top ones."""
    with muted():
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if recipe.quantisation == "4bit":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recipe.gradient_checkpointing)
    depth = model.config.num_hidden_layers
    targets: str | list[str] = "all-linear"
    chosen = None
    if recipe.train_layers is not None:
        chosen = list(range(max(0, depth - recipe.train_layers), depth))
        targets = _linear_names(model)  # peft takes layer numbers only beside names
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=targets,
        layers_to_transform=chosen,
        bias="none",
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
    )
    with muted():
        return get_peft_model(model, config)


def adapter_bytes(model: Any, recipe: Recipe) -> int:
    """Return the approximate size of the LoRA matrices of `add_adapter` in bytes, before they are made."""
    blocks = model.config.num_hidden_layers
    share = 1.0 if recipe.train_layers is None else min(1.0, recipe.train_layers / blocks)
    head = model.get_output_embeddings()
    numbers = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        linear = isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's linear layer
        if linear and module is not head and weight is not None:
            given, made = getattr(module, "in_features", None), getattr(module, "out_features", None)
            numbers += recipe.lora_rank * ((given + made) if given and made else sum(weight.shape))
    return int(4 * numbers * share)


def load_adapted(
    run: Path, base: str, device: str, dtype: torch.dtype | Literal["auto"], layers: int | None
) -> tuple[Any, Family]:
    """Load a base model with a trained adapter merged into its weights.

    Args:
        run: the folder that holds the adapter.
        base: the base's folder or hub id.
        device: where to put it.
        dtype: what to compute in; auto: as the base is stored.
        layers: keep only this many first layers.

    Raises:
        BackboneError: the base or the adapter is missing or does not fit.
    """
    model, family = load_base(base, "cpu", "auto", layers=layers)
    stored = next(model.parameters()).dtype
    try:
        with muted():
            model = merged(model, run / "adapter", stored if dtype == "auto" else dtype)
    except Exception as error:  # peft raises many kinds for the same fault
        raise BackboneError(f"the adapter in {run} does not fit the base {base!r}: {first_line(error)}") from error
    return model.to(device).eval(), family


def load_packed(run: Path, base: str, device: str, dtype: torch.dtype, layers: int | None) -> tuple[Any, Family]:
    """Load a base model in 4 bits with a trained adapter beside its weights, as QLoRA trained it.

    Merging would unpack the base or round it again, but the adapter was trained to correct the packed base.

    Args:
        run: the folder that holds the adapter.
        base: the base's folder or hub id.
        device: where to put it.
        dtype: what products are made in.
        layers: keep only this many first layers.

    Raises:
        BackboneError: the base or the adapter is missing or does not fit.
    """
    model, family = load_base(base, device, dtype, "4bit", layers)
    try:
        with muted():
            from peft import PeftModel

            adapted = PeftModel.from_pretrained(model, run / "adapter")
    except Exception as error:  # peft raises many kinds for the same fault
        raise BackboneError(f"the adapter in {run} does not fit the base {base!r}: {first_line(error)}") from error
    return adapted.get_base_model().eval(), family


def save_adapter(model: Any, folder: Path, base_name: str) -> None:
    """Write the adapter as safetensors, naming the base as the user named it, not as a path on this machine."""
    with muted():
        # peft looks for the base's config on a hub to see whether the vocabulary grew; ours never does.
        model.save_pretrained(folder, save_embedding_layers=False)
    readable_as(folder, "adapter_config.json")
    (folder / "README.md").unlink(missing_ok=True)
    rename_base(folder, base_name)


def rename_base(adapter: Path, name: str | None) -> None:
    """Write the base's name into a saved adapter's configuration; None removes the name."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = name
    (adapter / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def readable_as(folder: Path, beside: str = "config.json") -> None:
    """Give a saved model's weights the permissions of the file beside them.

    safetensors makes files that only their owner can read, whatever the umask says.
    """
    mode = (folder / beside).stat().st_mode
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def restrict_head(model: Any, tokens: Tensor) -> None:
    """Make the model's output head compute the logits of some tokens only, in the order given.

    The model's own forward still applies what it applies to logits (scaling, soft caps), so this is exact.

    Raises:
        BackboneError: the model has no output head.
    """
    head = model.get_output_embeddings()
    if head is None:
        raise BackboneError(f"{type(model).__name__} has no output head; expected a language model")
    weight = head.weight.detach()
    bias = getattr(head, "bias", None)
    smaller = torch.nn.Linear(weight.shape[1], len(tokens), bias is not None, dtype=weight.dtype, device="meta")
    index = tokens.to(weight.device)
    smaller.weight = torch.nn.Parameter(weight[index].clone(), requires_grad=False)
    if bias is not None:
        smaller.bias = torch.nn.Parameter(bias.detach()[index].clone(), requires_grad=False)
    model.set_output_embeddings(smaller)
    if getattr(model, "final_logits_bias", None) is not None:  # BART adds a bias of its own after the head
        model.final_logits_bias = model.final_logits_bias[:, index]


def with_own_head(model: Any, head: Any) -> Any:
    """Return a second model that shares every weight, and has a head of its own: that given.

    Raises:
        BackboneError: the model was cut to some tokens in more places than its head.
    """
    if getattr(model, "final_logits_bias", None) is not None:
        raise BackboneError(
            f"{type(model).__name__} has a bias beside its head that is cut already; load it again instead"
        )
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    second = copy.deepcopy(model, shared)
    second.set_output_embeddings(head)
    return second


def with_more_tokens(model: Any, head: Any, inside: Tensor, outside: Tensor) -> Any:
    """Return a second model that has tokens added at the end, and shares every other weight.

    Args:
        model: the model; it stays as it is.
        head: the output head to which tokens are added.
        inside: the vectors of the tokens that the input lacks, of shape (tokens, width).
        outside: those of the tokens that the head lacks.

    Raises:
        BackboneError: the model was cut to some tokens in more places than its head, or its head has a bias.
    """
    if getattr(head, "bias", None) is not None:
        raise BackboneError(f"the head of {type(model).__name__} has a bias, which new tokens would not have")
    weight, table = head.weight.detach(), model.get_input_embeddings().weight
    larger = torch.nn.Linear(weight.shape[1], len(weight) + len(outside), bias=False, device="meta")
    larger.weight = _longer(weight, outside)
    second = with_own_head(model, larger)
    grown = _longer(table.detach(), inside)
    for module in second.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight is table:
            module.weight, module.num_embeddings = grown, len(grown)
    return second


def with_token_vectors(model: Any, head: Tensor, tokens: Tensor, inside: Tensor, outside: Tensor) -> Any:
    """Return a second model in which some tokens have other vectors, and which shares every other weight.

    Args:
        model: the model; it stays as it is.
        head: the weights of its output head over its whole vocabulary.
        tokens: shape (tokens,).
        inside: their vectors in the input, of shape (tokens, width).
        outside: those in the head.
    """
    index = tokens.to(head.device)
    changed = torch.nn.Linear(head.shape[1], len(head), bias=False, device="meta")
    changed.weight = torch.nn.Parameter(head.detach().index_copy(0, index, outside.to(head)), requires_grad=False)
    second = with_own_head(model, changed)
    table = model.get_input_embeddings().weight
    other = torch.nn.Parameter(table.detach().index_copy(0, index, inside.to(table)), requires_grad=False)
    for module in second.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight is table:
            module.weight = other
    return second


def _longer(weight: Tensor, added: Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.cat([weight, added.to(weight)]), requires_grad=False)


def _linear_names(model: Any) -> list[str]:
    """Return the last names of the linear layers inside the model's blocks."""
    head = model.get_output_embeddings()
    return sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and module is not head
        }
    )


def _fewer_layers(config: Any, layers: int) -> int:
    if layers > config.num_hidden_layers:
        raise BackboneError(f"layers={layers} is more than the base's {config.num_hidden_layers}; lower it")
    return layers
