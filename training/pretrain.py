"""Pretraining: a tokenizer and a small language model from nothing, for a recommender without any download.

The tokenizer is byte-level BPE that may merge across spaces, trained on titles as often as they are taken: a title that
is taken often becomes one token, a rare one in a large catalogue is spelt in pieces that it shares with others.
Templates whose items bring their own ending (`next-item-joined`) leave nothing between titles: the model predicts the
next title from the last one's own place, and need not first learn to look back over a line break.

The model reads histories and writes titles, in the same form as in fine-tuning. A decoder-only model reads the whole
history, and every title is a target. An encoder reads a history up to a cut, and its decoder writes the titles after
the cut, so that one reading serves many targets. The cuts are drawn again in every pass.

If title vectors are given, a token's embedding starts as the mean of the vectors of its titles. So rare items start
beside items of similar meaning.

A share of each target goes to items that other users took next; see `training.soft_targets`.

Stopping at the lowest validation loss would be too early, since the ranking improves long after: on Amazon Beauty the
loss was lowest after 9 passes, with NDCG@10 0.058, and after 17 passes NDCG@10 was 0.069. So the weights that rank the
validation targets highest are kept.
"""

from __future__ import annotations

import logging
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prompts.checks import check_answers
from prompts.encoding import Example, PromptEncoder
from prompts.template import Template
from training.backbone import diverged, readable_as
from training.batches import Batches
from training.computing import Computing, choose_device, choose_precision
from training.errors import BackboneError
from training.learner import Learner, NoHead
from training.meaning import FILE as MEANING_FILE
from training.meaning import Meaning
from training.new_base import Labels, make_model, start_from_vectors, train_tokenizer
from training.passes import Pass, Question, Questions, best_pass, judge_all
from training.pretrain_recipe import PretrainRecipe
from training.soft_targets import SoftTargets
from training.title_tokens import load_with_title_tokens

logger = logging.getLogger(__name__)


HOST = Computing("cpu", "fp32")
"""Where a base is made if nothing is said."""

JUDGED_SHARE = 0.15
"""Of a pass's time, what judging it may take where minutes are given, or else a twentieth of the minutes."""

Progress = Callable[[float, Pass | None], None]
"""Called with the share of the passes (or of the minutes) done, and the newest finished pass."""


def make_base(
    histories: Sequence[Labels],
    catalogue: Labels,
    valid: Sequence[Question],
    template: Template,
    recipe: PretrainRecipe,
    folder: Path,
    progress: Progress | None = None,
    vectors: NDArray[np.float32] | None = None,
    start: str | None = None,
    computing: Computing | None = None,
    told: Mapping[str, str] | None = None,
) -> tuple[Pass, ...]:
    """Make a base: a folder with a tokenizer, a configuration and weights (safetensors).

    Args:
        histories: labels that each training user took, oldest first.
        catalogue: every item's label; those that nobody took can be spelt, too.
        valid: what decides which weights are kept and when to stop; where empty, training goes through all passes and
            keeps the last.
        template: the prompt; one-target for seq2seq.
        recipe: the recipe.
        folder: where the base goes; its weights are the best ones so far from the first pass on.
        progress: called after each step.
        vectors: a vector of what each item is, of shape (items, any), in the order of `catalogue`, zeros where there is
            none; see `training.meaning`, or `start_from_vectors` if the recipe has no meaning. None: all weights start
            at random.
        start: the model to start from instead, a folder or a hub id: what the recipe's `base` means here.
        computing: where, and in which number format products are made; weights are fp32 throughout. None: fp32 on
            the processor.
        told: what made the vectors; it is kept beside f.

    Returns:
        The passes, in order.

    Raises:
        BackboneError: no history has two items.
        BackboneError: the model to start from is not there, or is not of the recipe's family.
    """
    usable = [history for history in histories if len(history) > 1]
    if not usable:
        raise BackboneError("no training history has two items, so there is nothing to learn; give a longer log")
    torch.manual_seed(recipe.seed)
    model = None
    if start is not None:
        model, tokenizer, family = load_with_title_tokens(
            start, usable, catalogue, template, recipe.vocabulary, recipe.layers
        )
        if family != recipe.family:
            raise BackboneError(f"{recipe.base} is a {family} model, family={recipe.family} was asked for; change one")
        model.get_input_embeddings().register_forward_hook(
            lambda module, _, out: torch.nn.functional.dropout(out, recipe.dropout, module.training)
        )
    else:
        tokenizer = train_tokenizer(usable, catalogue, template, recipe.vocabulary)
    encoder = PromptEncoder(template, tokenizer, recipe.family, recipe.max_tokens)
    check_answers(encoder, catalogue)
    answers = encoder.answers(catalogue)
    if model is None:
        model = make_model(recipe, tokenizer, _context(recipe, answers, _multiple(computing or HOST)))
    numbers = {label: number for number, label in enumerate(catalogue)}
    taken = [[numbers[label] for label in history] for history in usable]
    meaning = None
    # A small vocabulary may leave every title in pieces, and f makes the vectors of whole titles.
    whole = vectors is not None and any(len(one) == 1 and vectors[row].any() for row, one in enumerate(answers))
    if vectors is not None and recipe.meaning and whole:
        counts = np.bincount(np.fromiter(chain.from_iterable(taken), np.int64), minlength=len(catalogue))
        meaning = Meaning(
            model, answers, vectors, counts, recipe.meaning_hidden, recipe.residual_dropout, start is not None,
            recipe.seed, told,
        )  # fmt: skip
    elif vectors is not None:
        if recipe.meaning:
            logger.warning(
                "no title is one token, so none has its vector from what its item is, and tokens only start from the "
                "titles' vectors; raise vocabulary (%d) to make titles tokens",
                recipe.vocabulary,
            )
        start_from_vectors(model.get_input_embeddings().weight, answers, vectors)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    where = computing or HOST
    questions = Questions(encoder, valid, recipe, _multiple(where))
    tokens = torch.tensor(sorted({token for answer in answers for token in answer}))
    soft = SoftTargets(tokens, answers, taken, recipe.others, recipe.exclude_seen)
    model.to(where.device)
    if meaning is not None:
        meaning.to(where.device)
    passes = _train(model, meaning, encoder, soft, usable, questions, recipe, folder, progress, where)
    logger.info("kept the weights of pass %d of %d", best_pass(passes).number, len(passes))
    return tuple(passes)


def dense_examples(encoder: PromptEncoder, labels: Labels, count: int, draw: random.Random) -> list[Example]:
    """Return examples in which every label but the first is a target once.

    Args:
        encoder: of either family; a decoder-only model's windows are dense by themselves.
        labels: one history.
        count: most targets behind one reading of an encoder.
        draw: decides where the history is cut.
    """
    if encoder.family == "causal":
        return encoder.examples(labels)
    cuts = [1, *range(1 + draw.randint(1, count), len(labels), count)]
    examples = []
    for cut, after in zip(cuts, [*cuts[1:], len(labels)], strict=True):
        targets = [token for label in labels[cut:after] for token in encoder.answer(label)]
        if targets:
            examples.append(Example(encoder.prompt(labels[:cut]).input_ids, tuple(targets)))
    return examples


def _examples(
    encoder: PromptEncoder, histories: Sequence[Labels], count: int, draw: random.Random, last: list[Example]
) -> list[Example]:
    """Return the examples of a pass, see `dense_examples`; a decoder-only model's are those of the last pass."""
    if last and encoder.family == "causal":
        return last
    return [example for history in histories for example in dense_examples(encoder, history, count, draw)]


def _train(
    model: Any,
    meaning: Meaning | None,
    encoder: PromptEncoder,
    soft: SoftTargets,
    histories: Sequence[Labels],
    questions: Questions,
    recipe: PretrainRecipe,
    folder: Path,
    progress: Progress | None,
    computing: Computing,
) -> list[Pass]:
    functions = [] if meaning is None else list(meaning.parameters())
    parameters = [*model.parameters(), *functions]
    optimiser = torch.optim.AdamW(
        _groups(model, recipe, functions), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True
    )
    head = model.get_output_embeddings()
    model.set_output_embeddings(NoHead())
    learner = Learner(model, encoder.family, head.weight, soft, computing, meaning)
    draw = random.Random(recipe.seed)  # noqa: S311 - not cryptography
    passes: list[Pass] = []
    step, started, minutes = 0, time.monotonic(), _Minutes(recipe.max_minutes)
    examples: list[Example] = []
    for number in range(1, recipe.epochs + 1):
        examples = _examples(encoder, histories, recipe.answers, draw, examples)
        batches = Batches(examples, recipe.batch_tokens, draw.randrange(1 << 30), _multiple(computing))
        order = draw.sample(range(len(batches)), len(batches))
        model.train()
        if meaning is not None:
            meaning.train()
        losses: list[tuple[Tensor, int]] = []
        share = 0.0
        steps = learner.feed.steps(batches, order)
        for place, given in enumerate(steps):
            share = (number - 1 + (place + 1) / len(order)) / recipe.epochs
            share = max(share, minutes.gone(first=not passes and bool(len(questions))))
            rate = recipe.learning_rate * min(1.0, (step + 1) / recipe.warmup) * max(0.1, 1 - 0.9 * share)
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
            loss = learner.loss(given)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append((loss.detach(), len(given.wanted)))
            step += 1
            minutes.stepped()
            if progress is not None:
                progress(min(share, 1.0), passes[-1] if passes else None)
            if share >= 1.0:
                break
        trained = _mean(losses)  # the device is asked once a pass
        before = time.monotonic()
        until = None if passes or recipe.max_minutes is None else before + minutes.judging
        valid, gain = judge_all(learner, questions, until)
        minutes.judging = time.monotonic() - before
        _check_finite(number, trained, valid)
        passes.append(Pass(number, trained, valid, gain, time.monotonic() - started))
        logger.info("pass %d: loss %.3f a token; validation loss %.3f, gain %.4f", number, trained, valid, gain)
        if best_pass(passes) is passes[-1]:
            model.set_output_embeddings(head)
            _replace_saved(model, folder, meaning)
            model.set_output_embeddings(NoHead())
        since = number - best_pass(passes).number
        if share >= 1.0 or (len(questions) and since >= recipe.patience):
            break
    return passes


class _Minutes:
    """The minutes that a training has.

    Args:
        limit: how many; None: as many as it takes.

    Attributes:
        judging: seconds that judging a pass takes, or is given the first time.
    """

    def __init__(self, limit: float | None) -> None:
        self._limit = None if limit is None else 60 * limit
        self._started = self._before_step = time.monotonic()
        self._step = self.judging = 0.0

    def gone(self, first: bool) -> float:
        """Return the share of the minutes that will be gone after one more step and the judging; 0 without a limit.

        Args:
            first: whether no pass has been judged yet, so that it is still to be said how long that may take.
        """
        if self._limit is None:
            return 0.0
        self._before_step = time.monotonic()
        spent = self._before_step - self._started
        if first:
            self.judging = max(JUDGED_SHARE * spent, self._limit / 20)
        return (spent + self._step + self.judging) / self._limit

    def stepped(self) -> None:
        """Note that a step is over: the next one will take about as long."""
        self._step = time.monotonic() - self._before_step


def _check_finite(number: int, *losses: float) -> None:
    """Check that training has not run away.

    Raises:
        BackboneError: a loss is not a number, or endless.
    """
    if not all(map(math.isfinite, losses)):
        raise BackboneError(diverged(f"pass {number}"))


def choose_where(device: str | None = None) -> Computing:
    """Return the device and number format of pretraining: on CUDA as `training.computing` chooses, elsewhere fp32.

    Only products are made in bf16, never weights, so a processor would gain little by it.

    Args:
        device: as asked for; None asks `$GENREC_DEVICE`, then takes the processor: the one try on a GPU so far ended in
            a crash of unknown cause, so a GPU has to be asked for.

    Raises:
        ComputingError: the device is unknown, or is not here.
    """
    where = choose_device(device or os.environ.get("GENREC_DEVICE") or "cpu")
    half = where.startswith("cuda") and choose_precision("auto", where) == torch.bfloat16
    return Computing(where, "bf16" if half else "fp32")


def _context(recipe: PretrainRecipe, answers: Sequence[Sequence[int]], multiple: int) -> int:
    """Return how many tokens a model must be able to read: the longest prompt and answer, padded.

    Padding counts: it is never attended to, but it has positions, and a GPU dies of one that the model does not have.
    """
    return -(-(recipe.max_tokens + max(map(len, answers))) // multiple) * multiple


def _multiple(computing: Computing) -> int:
    """Return the number whose multiples are the widths of batches: on a GPU, new shapes and odd widths are slow."""
    return 1 if computing.kind == "cpu" else 16


def _mean(losses: Sequence[tuple[Tensor, int]]) -> float:
    """Return the mean of some losses, each as often as its count."""
    if not losses:
        return 0.0
    values = torch.stack([loss for loss, _ in losses]).tolist()
    counts = [count for _, count in losses]
    total: float = sum(value * count for value, count in zip(values, counts, strict=True))
    return total / max(sum(counts), 1)


def _replace_saved(model: Any, folder: Path, meaning: Meaning | None) -> None:
    """Save a model over the last one so that a full disk or a kill leaves that one whole."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".unfinished.", dir=folder) as aside,
            nullcontext() if meaning is None else meaning.folded(),
        ):
            model.save_pretrained(aside)
            if meaning is not None:
                meaning.save(Path(aside) / MEANING_FILE)
            readable_as(Path(aside))
            for file in Path(aside).iterdir():
                file.replace(folder / file.name)
    except Exception as error:
        if (folder / "config.json").exists():
            error.add_note(f"the weights of an earlier pass are kept in {folder}, which is a whole base")
        raise


def _groups(model: Any, recipe: PretrainRecipe, functions: Sequence[Tensor] = ()) -> list[dict[str, Any]]:
    """Return the parameters in groups, by their share of the learning rate and by what pulls them towards zero.

    Matrices are pulled, biases and norms are not; nor are a base's embeddings, most of which no title's loss holds.
    """
    embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for parameter in model.parameters():
        learnt = recipe.base is not None
        own = id(parameter) in embeddings
        share = recipe.base_share if learnt and not own else 1.0
        decay = recipe.weight_decay if parameter.dim() > 1 and not (learnt and own) else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    for parameter in functions:
        groups.setdefault((1.0, recipe.weight_decay if parameter.dim() > 1 else 0.0), []).append(parameter)
    return [{"params": some, "share": share, "weight_decay": decay} for (share, decay), some in groups.items()]
