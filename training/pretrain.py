"""Pretraining: a tokenizer and a small language model from nothing, for a recommender without any download.

The tokenizer is byte-level BPE that may merge across spaces, trained on titles as often as they are taken: a title that
is taken often becomes one token, a rare one in a large catalogue is spelt in pieces that it shares with others.
Templates whose items bring their own ending (`next-item-joined`) leave nothing between titles: the model predicts the
next title from the last one's own place, and need not first learn to look back over a line break.

The model reads histories and writes titles, as fine-tuning will have it: a decoder-only model reads the whole history
and every title is a target; an encoder reads a history up to a cut, and its decoder writes the titles after the cut one
after another, so that one reading serves many targets. Where histories are cut is drawn anew in every pass.

Tokens need not start from nothing: where title vectors are given, a token starts as the mean of its titles', so that
items few have taken begin beside those that mean the same.

A share of each target is what other users took next; see `training.soft_targets`.

The easy mistake is to stop where the loss on validation answers is lowest. What is put first goes on getting better
long after: on Amazon Beauty the loss was lowest after 9 passes, with NDCG@10 0.058, and after 17 it was 0.069. So the
weights that put validation answers first are the ones that are kept.
"""

from __future__ import annotations

import logging
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from prompts.checks import check_answers
from prompts.encoding import Example, Family, PromptEncoder
from prompts.template import Template
from training.backbone import diverged, readable_as
from training.computing import Computing, choose_device, choose_precision
from training.errors import BackboneError
from training.feeding import Feed, Step, hidden_states
from training.finetune import Batches
from training.losses import catalogue_loss, rows_at_once
from training.reporting import LABEL, Reporter
from training.soft_targets import SoftTargets
from training.title_tokens import load_with_title_tokens

logger = logging.getLogger(__name__)

PAD, START, END = "<pad>", "<s>", "</s>"
LAYERS = 2
"""Blocks of a model from nothing where the recipe does not say."""

Labels = Sequence[str]
Question = tuple[Labels, str]
"""A history's labels and the label that came next."""


class PretrainRecipe(BaseModel):
    """How a base is made: from nothing, or from a model that has been trained elsewhere."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["causal", "seq2seq"] = Field("causal", description="Decoder only (GPT-2) or encoder-decoder (T5).")
    base: str | None = Field(
        None, description="A model to start from, its titles made tokens: a hub id, a local folder, or 'starter'."
    )
    vocabulary: int = Field(
        100_000, ge=300, description="Most tokens (of a base: most titles made tokens); enough make every title one."
    )
    width: int = Field(64, ge=8, multiple_of=8, description="Length of hidden states; a base has its own.")
    layers: int | None = Field(
        None, ge=1, description="Blocks; of encoder and decoder, each; 2, or of a base its first so many, or all."
    )
    heads: int = Field(2, ge=1, description="Attention heads; they divide the width; a base has its own.")
    dropout: float = Field(
        0.3, ge=0, lt=1, description="Share of hidden values dropped in training; a base has its own."
    )
    max_tokens: int = Field(128, ge=16, description="Longest prompt and longest window, in tokens.")
    answers: int = Field(16, ge=1, description="Titles that an encoder's one reading is trained to be followed by.")
    epochs: int = Field(40, ge=1, description="Most passes over the histories.")
    patience: int = Field(8, ge=1, description="Passes without a better validation gain before training stops.")
    max_minutes: float | None = Field(
        None, gt=0, description="Stop learning and judging after this many minutes; making the tokenizer comes before."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate; it falls linearly to a tenth.")
    base_share: float = Field(
        0.3, gt=0, le=1, description="Share of it for what a base knows already: all but its tokens' embeddings."
    )
    warmup: int = Field(100, ge=1, description="Steps in which the learning rate rises.")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's weight decay.")
    batch_tokens: int = Field(1024, ge=16, description="Tokens per step, padding included.")
    others: float = Field(
        0.3, ge=0, le=1, description="Share of a target that what other users took after the same items makes up."
    )
    exclude_seen: bool = Field(
        True,
        description="Leave what a user took before out of the loss; as the data folder says, where left out.",
    )
    report_to: list[Reporter] = Field(default_factory=list, description=LABEL)
    seed: int = Field(0, ge=0, description="Seed of everything random.")

    def to_yaml(self) -> str:
        """Return the whole recipe, defaults included, as YAML text."""
        return str(yaml.safe_dump(self.model_dump(), sort_keys=False))


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over the histories.

    Attributes:
        number: from 1.
        train: mean loss per supervised token, in nats.
        valid: mean loss per validation answer, in nats.
        gain: how far up a validation answer's tokens stand among all tokens that the loss is over: the mean over
            answers of their product of 1 / log2(1 + rank), 0 beyond `K`. Where titles are one token, this is NDCG@10.
        seconds: since the beginning.
    """

    number: int
    train: float
    valid: float
    gain: float
    seconds: float


K = 10
"""Ranks from which on a token counts nothing in `Pass.gain`."""


def best_pass(passes: Sequence[Pass]) -> Pass:
    """Return the pass that puts validation answers highest; of equals (to a thousandth) the likeliest, then the last.

    Args:
        passes: at least one.
    """
    return max(passes, key=lambda one: (round(one.gain, 3), -one.valid, one.number))


PART = 256
"""Validation cases that are judged between two looks at the clock."""

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
) -> tuple[Pass, ...]:
    """Make a base: a folder with a tokenizer, a configuration and weights (safetensors).

    Args:
        histories: labels that each training user took, oldest first.
        catalogue: every item's label; those that nobody took can be spelt, too.
        valid: what decides which weights are kept and when to stop; where empty, training goes through all passes and
            keeps the last.
        template: the prompt; one-target for seq2seq.
        recipe: how.
        folder: where the base goes; its weights are the best ones so far from the first pass on.
        progress: told about each step.
        vectors: a text encoder's vector of each item's title, of shape (items, any), in the order of `catalogue`;
            see `start_from_vectors`. None: all weights start at random.
        start: the model to start from instead, a folder or a hub id: what the recipe's `base` means here.
        computing: where, and in which number format products are made; weights are fp32 throughout. None: fp32 on
            the processor.

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
        model = make_model(recipe, tokenizer, recipe.max_tokens + max(map(len, answers)))
    if vectors is not None:
        start_from_vectors(model.get_input_embeddings().weight, answers, vectors)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    where = computing or Computing("cpu", "fp32")
    questions = Questions(encoder, valid, recipe, _multiple(where))
    tokens = torch.tensor(sorted({token for answer in answers for token in answer}))
    numbers = {label: number for number, label in enumerate(catalogue)}
    taken = [[numbers[label] for label in history] for history in usable]
    soft = SoftTargets(tokens, answers, taken, recipe.others, recipe.exclude_seen)
    model.to(where.device)
    passes = _train(model, encoder, soft, usable, questions, recipe, folder, progress, where)
    logger.info("kept the weights of pass %d of %d", best_pass(passes).number, len(passes))
    return tuple(passes)


def train_tokenizer(histories: Sequence[Labels], catalogue: Labels, template: Template, size: int) -> Any:
    """Train a byte-level BPE tokenizer on titles as often as they are taken, and once each beyond that.

    Merges may cross spaces, so a whole title can be one token. Source: Gage, "A new algorithm for data compression",
    1994; Liu et al., "SuperBPE: Space travel for language models", 2025 (merges across spaces).

    Args:
        histories: labels that users took.
        catalogue: every label.
        template: its pieces and its way of writing an item.
        size: most tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def texts() -> Iterator[str]:
        for piece in (template.opening, template.separator, template.cue):
            yield from [piece] * len(histories)
        for labels in (catalogue, *histories):
            yield from map(template.item_text, labels)

    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        model_input_names=["input_ids", "attention_mask"],
    )


def make_model(recipe: PretrainRecipe, tokenizer: Any, context: int) -> Any:
    """Return a model with random weights: GPT-2, or T5 with gated feed-forward layers.

    Args:
        recipe: its size.
        tokenizer: its tokens.
        context: the most tokens that a decoder-only model can read.
    """
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config

    pad, start, end = tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id
    if recipe.family == "seq2seq":
        return _quieted(
            T5Config(
                vocab_size=len(tokenizer), d_model=recipe.width, d_kv=recipe.width // recipe.heads,
                d_ff=4 * recipe.width, num_layers=recipe.layers or LAYERS, num_heads=recipe.heads,
                dropout_rate=recipe.dropout, feed_forward_proj="gated-gelu", pad_token_id=pad, eos_token_id=end,
                decoder_start_token_id=pad,
            )
        )  # fmt: skip
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=recipe.width, n_layer=recipe.layers or LAYERS, n_head=recipe.heads,
            # Dropping attention weights would need them all in memory; without it the fast kernel runs.
            n_positions=context, resid_pdrop=recipe.dropout, embd_pdrop=recipe.dropout, attn_pdrop=0.0,
            pad_token_id=pad, bos_token_id=start, eos_token_id=end,
        )
    )  # fmt: skip


def _quieted(config: Any) -> Any:
    """Return a T5 whose embeddings start small, as GPT-2's do, and whose blocks at first add little to them.

    T5's own start, embeddings of unit variance, is meant for Adafactor, whose steps are relative: AdamW's would take
    thousands of them to move a title's vector. The last norm makes up for the factor of width^-0.5 before a tied head.
    """
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        model.shared.weight.normal_(std=0.05)
        model.decoder.final_layer_norm.weight.fill_(config.d_model**0.5)
        for name, parameter in model.named_parameters():
            if name.endswith((".o.weight", ".wo.weight")):
                parameter.mul_(0.2)
    return model


def start_from_vectors(embeddings: Tensor, answers: Sequence[Sequence[int]], vectors: NDArray[np.float32]) -> None:
    """Set token embeddings, in place, to the mean of the vectors of the titles that hold the token.

    Vectors are first turned to their principal directions and cut to the embeddings' width. Tokens of no title, or of
    all (the terminator), keep what they have. Source: Harte et al., "Leveraging large language models for sequential
    recommendation", RecSys 2023 (LLM2BERT4Rec), there for item numbers.

    Args:
        embeddings: shape (tokens, width).
        answers: each item's tokens.
        vectors: shape (items, any).
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    placed = torch.from_numpy(centred @ directions[:, ::-1][:, : embeddings.shape[1]])
    items = torch.repeat_interleave(torch.arange(len(answers)), torch.tensor([len(set(tokens)) for tokens in answers]))
    tokens = torch.tensor([token for answer in answers for token in sorted(set(answer))])
    counts = torch.bincount(tokens, minlength=len(embeddings))
    means = placed.new_zeros(len(embeddings), placed.shape[1]).index_add_(0, tokens, placed[items])
    means /= counts.clamp(min=1)[:, None]
    told = ((counts > 0) & (counts < len(answers))).nonzero()[:, 0]
    spread = means[told].std()
    if not len(told) or not float(spread) > 0:
        return
    with torch.no_grad():
        scaled = means[told] * (embeddings.std() / spread)
        embeddings[told, : placed.shape[1]] = scaled.to(embeddings.dtype)


class NoHead(torch.nn.Module):
    """Stands where the output head was, so that the model's logits are its last hidden states.

    The loss then goes over the tokens of titles only: BPE leaves many tokens that are only steps towards longer ones,
    and no loss need look at them.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states as they come."""
        return hidden


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
    encoder: PromptEncoder,
    soft: SoftTargets,
    histories: Sequence[Labels],
    questions: Questions,
    recipe: PretrainRecipe,
    folder: Path,
    progress: Progress | None,
    computing: Computing,
) -> list[Pass]:
    parameters = list(model.parameters())
    optimiser = torch.optim.AdamW(_groups(model, recipe), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    head = model.get_output_embeddings()
    model.set_output_embeddings(NoHead())
    learner = Learner(model, encoder.family, head.weight, soft, computing)
    draw = random.Random(recipe.seed)  # noqa: S311 - not cryptography
    passes: list[Pass] = []
    step, started, judging = 0, time.monotonic(), 0.0
    limit = None if recipe.max_minutes is None else 60 * recipe.max_minutes
    examples: list[Example] = []
    for number in range(1, recipe.epochs + 1):
        examples = _examples(encoder, histories, recipe.answers, draw, examples)
        batches = Batches(examples, recipe.batch_tokens, draw.randrange(1 << 30), _multiple(computing))
        order = draw.sample(range(len(batches)), len(batches))
        model.train()
        losses: list[tuple[Tensor, int]] = []
        share = 0.0
        steps = learner.feed.steps(batches, order)
        for place, given in enumerate(steps):
            share = (number - 1 + (place + 1) / len(order)) / recipe.epochs
            if limit is not None:
                spent = time.monotonic() - started
                if not passes and len(questions):
                    judging = max(JUDGED_SHARE * spent, limit / 20)
                share = max(share, (spent + judging) / limit)
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
            if progress is not None:
                progress(min(share, 1.0), passes[-1] if passes else None)
            if share >= 1.0:
                break
        trained = _mean(losses)  # the device is asked once a pass
        before = time.monotonic()
        until = None if passes or limit is None else before + judging
        valid, gain = _judge_all(learner, questions, until)
        judging = time.monotonic() - before
        _check_finite(number, trained, valid)
        passes.append(Pass(number, trained, valid, gain, time.monotonic() - started))
        logger.info("pass %d: loss %.3f a token; validation loss %.3f, gain %.4f", number, trained, valid, gain)
        if best_pass(passes) is passes[-1]:
            model.set_output_embeddings(head)
            _replace_saved(model, folder)
            model.set_output_embeddings(NoHead())
        since = number - best_pass(passes).number
        if share >= 1.0 or (len(questions) and since >= recipe.patience):
            break
    return passes


def _check_finite(number: int, *losses: float) -> None:
    """Check that training has not run away.

    Raises:
        BackboneError: a loss is not a number, or endless.
    """
    if not all(map(math.isfinite, losses)):
        raise BackboneError(diverged(f"pass {number}"))


class Questions:
    """Validation cases in parts, each a sample of all of them; encoded when first asked.

    Attributes:
        parts: how many are asked.
    """

    def __init__(
        self, encoder: PromptEncoder, valid: Sequence[Question], recipe: PretrainRecipe, multiple: int
    ) -> None:
        self._encoder, self._recipe, self._multiple = encoder, recipe, multiple
        # Not cryptography; batches are put together by length inside a part, so a part favours no length.
        self._shuffled = random.Random(recipe.seed).sample(list(valid), len(valid))  # noqa: S311
        self._made: dict[int, Batches] = {}
        self.parts = -(-len(valid) // PART)

    def __len__(self) -> int:
        return len(self._shuffled)

    def part(self, number: int) -> Batches:
        """Return one part's batches."""
        if number not in self._made:
            asked = self._shuffled[number * PART : (number + 1) * PART]
            examples = [self._encoder.one_target(*question) for question in asked]
            self._made[number] = Batches(examples, self._recipe.batch_tokens, self._recipe.seed, self._multiple)
        return self._made[number]


def choose_where(device: str | None = None) -> Computing:
    """Return where and in what to pretrain: on CUDA as `training.computing` chooses, elsewhere in fp32.

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


def _multiple(computing: Computing) -> int:
    """Return what the widths of batches are multiples of: on a GPU each new shape costs time, and odd ones run slow."""
    return 1 if computing.kind == "cpu" else 16


def _mean(losses: Sequence[tuple[Tensor, int]]) -> float:
    """Return the mean of some losses, each as often as its count."""
    if not losses:
        return 0.0
    values = torch.stack([loss for loss, _ in losses]).tolist()
    counts = [count for _, count in losses]
    total: float = sum(value * count for value, count in zip(values, counts, strict=True))
    return total / max(sum(counts), 1)


class Learner:
    """A model in training, with what it is asked and what it is to say.

    Args:
        model: of the family, with `NoHead`.
        family: causal or seq2seq.
        head: the weights of the head it had, of shape (tokens, width).
        soft: makes the targets, and knows the tokens that the probabilities are over.
        computing: where the model is, and the number format of its products; its weights are fp32.

    Attributes:
        feed: makes its steps.
    """

    def __init__(self, model: Any, family: Family, head: Tensor, soft: SoftTargets, computing: Computing) -> None:
        self._model, self._head, self._computing = model, head, computing
        device, kind = computing.device, computing.kind
        self._tokens = soft.tokens.to(device)
        self.feed = Feed(family, getattr(model.config, "decoder_start_token_id", None), soft, device, kind == "cpu")

    def loss(self, step: Step) -> Tensor:
        """Return the mean cross-entropy of supervised tokens over some tokens, in nats."""
        return catalogue_loss(self._hidden(step), self._items(), step.targets)

    def _hidden(self, step: Step) -> Tensor:
        with torch.autocast(self._computing.kind, torch.bfloat16, enabled=self._computing.precision == "bf16"):
            hidden = hidden_states(self._model, step)
        return hidden.to(self._computing.dtype)  # norms leave fp32

    def _items(self) -> Tensor:
        return self._head.index_select(0, self._tokens)

    @torch.inference_mode()
    def judge(self, questions: Batches) -> tuple[float, float]:
        """Return the mean loss of an answer, in nats, and the mean gain (see `Pass`); zeros without questions."""
        self._model.eval()
        losses: list[Tensor] = []
        gains: list[Tensor] = []
        items = self._items()
        weights = items.to(self._computing.dtype)
        many = rows_at_once(items)
        for step in self.feed.steps(questions, range(len(questions)), hard=True):
            hidden = self._hidden(step)
            products = items.new_ones(step.examples)
            for start in range(0, len(hidden), many):
                part = slice(start, start + many)
                scores = (hidden[part] @ weights.T).float()
                step.targets.leave_out(scores, start)
                own = scores.gather(1, step.wanted[part, None])
                losses.append((scores.logsumexp(dim=1) - own[:, 0]).sum())
                ranks = (scores >= own).sum(dim=1)
                shares = torch.where(ranks <= K, 1 / torch.log2(1.0 + ranks), 0.0)
                products.scatter_reduce_(0, step.owners[part], shares, "prod")
            gains.append(products.sum())
        count = max(1, sum(map(len, questions.groups)))
        return _sum(losses) / count, _sum(gains) / count


def _sum(values: Sequence[Tensor]) -> float:
    return float(sum(torch.stack(list(values)).tolist())) if values else 0.0


def _judge_all(learner: Learner, questions: Questions, until: float | None) -> tuple[float, float]:
    """Return what `Learner.judge` does, over all questions, or over those that there is time for.

    Args:
        learner: see there.
        questions: what is asked; cut to what was asked when the time was up, so that all passes are judged alike.
        until: the clock's time from which no further part is asked; None asks all.
    """
    losses, gains, counts = [], [], []
    for number in range(questions.parts):
        part = questions.part(number)
        loss, gain = learner.judge(part)
        count = sum(map(len, part.groups))
        losses.append(loss * count)
        gains.append(gain * count)
        counts.append(count)
        if until is not None and time.monotonic() >= until and number + 1 < questions.parts:
            questions.parts = number + 1
            logger.warning(
                "each pass is judged on the same %s of %s validation cases, drawn by the seed: all would take too much "
                "of the minutes",
                f"{sum(counts):,}",
                f"{len(questions):,}",
            )
            break
    return sum(losses) / max(1, sum(counts)), sum(gains) / max(1, sum(counts))


def _replace_saved(model: Any, folder: Path) -> None:
    """Save a model over the last one so that a full disk or a kill leaves that one whole."""
    try:
        with tempfile.TemporaryDirectory(prefix=".unfinished.", dir=folder) as aside:
            model.save_pretrained(aside)
            readable_as(Path(aside))
            for file in Path(aside).iterdir():
                file.replace(folder / file.name)
    except Exception as error:
        if (folder / "config.json").exists():
            error.add_note(f"the weights of an earlier pass are kept in {folder}, which is a whole base")
        raise


def _groups(model: Any, recipe: PretrainRecipe) -> list[dict[str, Any]]:
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
    return [{"params": some, "share": share, "weight_decay": decay} for (share, decay), some in groups.items()]
