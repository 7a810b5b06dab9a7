"""The device and the number format of a model: choosing them, and recording the choice.

Different number formats give likelihoods that differ in the second digit. So the choice is recorded beside every
result, and a resumed job or training uses the recorded one.

The device is the first of: the argument, `$GENREC_DEVICE`, CUDA, Apple's MPS, the CPU.

`auto` depends on the machine. So it is resolved once, the result is recorded, and only the result is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from training import processes
from training.errors import TrainingError
from training.recipe import Precision, ServedPrecision

PRECISIONS: tuple[str, ...] = get_args(Precision)
SERVED_PRECISIONS: tuple[str, ...] = get_args(ServedPrecision)
Format = Literal["bf16", "fp32", "4bit"]
DTYPES: dict[Format, torch.dtype] = {"bf16": torch.bfloat16, "fp32": torch.float32, "4bit": torch.bfloat16}
"""What products are made in; the weights of 4bit are unpacked for that."""

SWITCH = "GENREC_PRECISION"
"""The environment variable that says what `auto` is."""


class ComputingError(TrainingError):
    """Raised when a device or a number format is unknown, or is not what a job was begun with."""


@dataclass(frozen=True, slots=True)
class Computing:
    """A model's device and number format.

    Attributes:
        device: as PyTorch names it, such as "cuda:1".
        precision: "bf16", "fp32" or "4bit", never "auto".
    """

    device: str
    precision: Format

    @property
    def kind(self) -> str:
        """The device's kind: "cpu", "cuda" or "mps"."""
        return self.device.partition(":")[0]

    @property
    def dtype(self) -> torch.dtype:
        """The number format as PyTorch names it."""
        return DTYPES[self.precision]

    def to_json(self) -> dict[str, str]:
        """Return the values for records: the device's kind, since its number has no effect, and the format."""
        return {"device": self.kind, "precision": self.precision}

    @classmethod
    def of(cls, model: Any) -> Computing:
        """Return the number format in which a loaded model really computes."""
        weight = model.get_input_embeddings().weight  # never packed
        packed = getattr(model, "is_loaded_in_4bit", False)
        return cls(str(weight.device), "4bit" if packed else _name(weight.dtype))

    def __str__(self) -> str:
        return f"{self.precision} on {self.kind}"


def choose_device(device: str | None = None) -> str:
    """Return the device to use: the argument, `$GENREC_DEVICE`, cuda, mps, cpu, whichever comes first.

    Raises:
        ComputingError: the device that was asked for is unknown, or is not here.
    """
    if asked := device or os.environ.get("GENREC_DEVICE"):
        _check_device(asked)
        return asked
    if torch.cuda.is_available():
        return f"cuda:{processes.place_here()}" if processes.count() > 1 else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_precision(precision: str, device: str) -> torch.dtype:
    """Return the number format; `auto` is what `$GENREC_PRECISION` says, else bf16 where the device multiplies in it.

    Raises:
        ComputingError: the argument is none of auto, bf16, fp32 and 4bit, or the environment variable none of
            the first three.
    """
    _check(precision, "precision", SERVED_PRECISIONS)
    if precision == "auto":
        precision = os.environ.get(SWITCH) or "auto"
        _check(precision, f"the environment variable {SWITCH}")
    if precision != "auto":
        return DTYPES["fp32" if precision == "fp32" else "bf16"]
    if device.startswith("cuda"):
        # Emulated, as before Ampere, it is slower than fp32.
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if native else torch.float32


def choose_computing(
    device: str | None = None,
    precision: ServedPrecision = "auto",
    begun: Mapping[str, Any] | None = None,
    what: str = "the job",
) -> Computing:
    """Return the device and the number format to use.

    Args:
        device: as asked for; None asks `$GENREC_DEVICE`, then takes the best there is.
        precision: as asked for.
        begun: the record of what is to be continued: that decides wherever nothing was asked for.
        what: what is to be continued, for the error's sentence.

    Raises:
        ComputingError: a name is unknown, or what was begun cannot be continued with this.
    """
    asked = device or os.environ.get("GENREC_DEVICE")
    if asked:
        _check_device(asked)
    if begun is None:
        where = choose_device(device)
        chosen_type = choose_precision(precision, where)
        return Computing(where, "4bit" if precision == "4bit" else _name(chosen_type))
    _check(precision, "precision", SERVED_PRECISIONS)
    kind, number_format = str(begun.get("device")), begun.get("precision")
    if "device" not in begun or number_format not in DTYPES:
        raise ComputingError(
            f"{what} does not say what it was computed in: it was begun by an older genrec; delete it and start again"
        )
    where = asked or (kind if is_here(kind) else choose_device())
    chosen = Computing(where, number_format if precision == "auto" else precision)
    if chosen.kind != kind:
        raise ComputingError(
            f"{what} was begun on {kind}, and this would go on on {chosen.kind}, which gives other digits; "
            f"continue it where there is {kind} (--device {kind}), or delete it and start again"
        )
    if chosen.precision != number_format:
        raise ComputingError(
            f"{what} was begun in {number_format}, and {chosen.precision} gives other digits; leave --precision out "
            f"(or give {number_format}), or delete it and start again"
        )
    return chosen


def _check_device(asked: str) -> None:
    """Check that a device is known and here.

    Raises:
        ComputingError: it is not.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *(["mps"] if is_here("mps") else []), *(f"cuda:{place}" for place in range(gpus))]
    try:
        device = torch.device(asked)
    except RuntimeError:  # not a device's name at all
        device = None
    gone = device is None or not is_here(device.type)
    if gone or (device is not None and device.type == "cuda" and (device.index or 0) >= gpus):
        raise ComputingError(f"there is no device {asked!r} here; leave it out, or give one of: {', '.join(here)}")


def is_here(kind: str) -> bool:
    """Return whether this machine has a device of a kind; of a kind that genrec does not know, PyTorch will say."""
    return {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(kind, True)


def _name(dtype: torch.dtype) -> Format:
    return next(name for name, known in DTYPES.items() if known == dtype)


def _check(precision: str, name: str, known: tuple[str, ...] = PRECISIONS) -> None:
    if precision not in known:
        raise ComputingError(f"{name} is {precision!r}; expected {', '.join(known[:-1])} or {known[-1]}")
