"""Steps made ahead for a GPU: the same losses and gradients as a processor's, and nothing asked of the device."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel

from prompts.encoding import IGNORED, Example, PromptEncoder
from prompts.template import load_template
from tests.toyworld import make_catalog, make_histories
from training.batches import Batches
from training.computing import Computing, Format
from training.device_targets import DeviceLayout, DeviceTargets, SuccessorTable
from training.feeding import AHEAD, Feed, ahead
from training.learner import Learner, NoHead
from training.losses import catalogue_loss
from training.new_base import make_model, train_tokenizer
from training.pretrain import dense_examples, make_base
from training.pretrain_recipe import PretrainRecipe
from training.soft_targets import SoftTargets

CATALOG = make_catalog()
TEMPLATES = {"causal": "next-item-joined", "seq2seq": "seq2seq-joined"}
ANSWERS = [(10,), (11,), (12,), (13, 14), (15,), (16,)]
TOKENS = torch.tensor([10, 11, 12, 13, 14, 15, 16])
HISTORIES = [[0, 1], [0, 1], [0, 2], [1, 2], [3, 4], [1, 4], [5, 0, 1, 2, 4, 0, 5], [5, 4, 2, 1, 0, 1, 5]]


def random_examples(family: str, count: int) -> list[Example]:
    """Windows of titles, some in two pieces, some taken again, most longer than the successors' window."""
    generator = torch.Generator().manual_seed(3)
    examples = []
    for number in range(count):
        titles = torch.randint(0, len(ANSWERS), (2 + number % 11,), generator=generator).tolist()
        tokens = [token for title in titles[1:] for token in ANSWERS[title]]
        head = (1, *ANSWERS[titles[0]])
        if family == "causal":
            examples.append(Example((*head, *tokens), (*[IGNORED] * len(head), *tokens)))
        else:
            examples.append(Example(head, tuple(tokens)))
    return examples


def both(family: Any, share: float, exclude_seen: bool, hard: bool = False) -> tuple[Any, DeviceTargets, int]:
    """Return a batch's targets in both ways."""
    soft = SoftTargets(TOKENS, ANSWERS, HISTORIES, share, exclude_seen)
    batch = Batches(random_examples(family, 40), 10_000, 0, 8)[0]
    layout = soft.layout(family, batch)
    placed = DeviceLayout.of(layout, len(batch["labels"]), batch["labels"].shape[1] + batch["input_ids"].shape[1])
    table = SuccessorTable.of(soft.successors, "cpu")
    targets = DeviceTargets(table, placed, 0.0 if hard else share, exclude_seen)
    return soft.of(family, batch, hard), targets, len(layout.wanted)


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
@pytest.mark.parametrize(
    ("share", "exclude_seen", "hard"), [(0.4, True, False), (0.4, False, False), (0.0, True, False), (0.4, True, True)]
)
def test_targets_made_by_gathers_are_those_of_sparse_products(
    family: Any, share: float, exclude_seen: bool, hard: bool
) -> None:
    one, other, count = both(family, share, exclude_seen, hard)
    found = []
    for targets in (one, other):
        left_out = torch.zeros(count, len(TOKENS))
        targets.leave_out(left_out, 0)
        found.append((targets.subtract(torch.zeros(count, len(TOKENS)), 0), left_out))
    torch.testing.assert_close(found[0], found[1])
    assert (found[0][0] < -1e-3).sum() > count or share == 0 or hard
    assert bool((found[0][1] < 0).any()) == exclude_seen


def test_the_loss_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made for a few rows at a time, as a large catalogue wants, and with its gradients."""
    one, other, count = both("causal", 0.4, True)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(count, 4, generator=generator)
    items = torch.randn(len(TOKENS), 4, generator=generator)
    found = []
    for targets, rows in ((one, 256), (other, 256), (other, 7)):
        monkeypatch.setattr("training.losses.ROWS", rows)
        given = [hidden.clone().requires_grad_(), items.clone().requires_grad_()]
        loss = catalogue_loss(given[0], given[1], targets)
        loss.backward()  # type: ignore[no-untyped-call]
        found.append((loss.detach(), given[0].grad, given[1].grad))
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(found[2], found[0])


def world(family: Any, device: str = "cpu", precision: Any = "fp32") -> tuple[Any, Batches, Learner, Learner]:
    """Return a model, its batches, and two learners of it: fed as on a processor, and as on a GPU."""
    import random

    template = load_template(TEMPLATES[family])
    histories = [[CATALOG[item].label for item in history.items] for history in make_histories(40, 5)]
    tokenizer = train_tokenizer(histories, CATALOG.labels, template, 330)
    encoder = PromptEncoder(template, tokenizer, family, 64)
    answers = encoder.answers(CATALOG.labels)
    tokens = torch.tensor(sorted({token for answer in answers for token in answer}))
    numbers = {label: number for number, label in enumerate(CATALOG.labels)}
    soft = SoftTargets(tokens, answers, [[numbers[label] for label in one] for one in histories], 0.3, True)
    settings = PretrainRecipe.model_validate({"family": family, "width": 16, "layers": 1, "dropout": 0.0})
    torch.manual_seed(0)
    model = make_model(settings, tokenizer, 200).to(device)
    head = model.get_output_embeddings().weight
    model.set_output_embeddings(NoHead())
    draw = random.Random(0)
    examples = [example for history in histories for example in dense_examples(encoder, history, 4, draw)]
    start = getattr(model.config, "decoder_start_token_id", None)
    computing = Computing(device, precision)
    one, other = Learner(model, family, head, soft, computing), Learner(model, family, head, soft, computing)
    other.feed = Feed(family, start, soft, device, on_host=False)
    return model, Batches(examples, 160, 0, 16), one, other


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_a_step_made_ahead_teaches_the_same(family: Any) -> None:
    model, batches, one, other = world(family)
    order = list(range(len(batches)))[::-1]
    assert len(order) > AHEAD
    found: list[list[Any]] = []
    for learner in (one, other):
        found.append([])
        for step in learner.feed.steps(batches, order):
            model.zero_grad()
            loss = learner.loss(step)
            loss.backward()  # type: ignore[no-untyped-call]
            found[-1].append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
        found[-1].append(learner.judge(batches))
    torch.testing.assert_close(found[1], found[0])


def test_products_in_bf16_leave_the_weights_and_their_gradients_in_fp32() -> None:
    _, batches, learner, _ = world("causal")
    full = float(learner.loss(learner.feed.step(batches[0])).detach())
    model, batches, _, half = world("causal", precision="bf16")
    loss = half.loss(half.feed.step(batches[0]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(full, rel=1e-2)
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}
    assert float(loss.detach()) != full


class Asked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what makes the host wait for a device: values read, and sizes that depend on values."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        by_mask = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if by_mask or name.startswith(self.WAITS):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_asks_the_device_nothing() -> None:
    """transformers' look for padding among ids without a mask, and a mask that selects, would be seen here."""
    model, batches, _, learner = world("causal")
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    step = learner.feed.step(batches[0])
    with Asked() as asked:
        loss = learner.loss(step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
        optimiser.step()
    assert asked.names == []


def test_what_is_made_ahead_comes_in_order_and_stops_when_no_more_is_asked() -> None:
    made: list[int] = []

    def make(place: int) -> int:
        time.sleep(0.001 * (place % 3))
        made.append(place)
        return place

    assert list(ahead(make, range(50), 3)) == list(range(50))
    made.clear()
    some: Iterator[int] = ahead(make, range(1000), 2)
    assert [next(some) for _ in range(3)] == [0, 1, 2]
    some.close()  # type: ignore[attr-defined]
    assert len(made) <= 3 + AHEAD + 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]

    def fail(place: int) -> int:
        raise ValueError(f"no {place}")

    with pytest.raises(ValueError, match="no 0"):
        list(ahead(fail, range(9), 2))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_a_card_learns_the_same_and_never_waits(family: Any, tmp_path: Any) -> None:
    _, batches, learner, _ = world(family)
    expected = [float(learner.loss(step).detach()) for step in learner.feed.steps(batches, range(len(batches)))]
    gains = learner.judge(batches)
    model, batches, _, there = world(family, "cuda")
    found = []
    for step in there.feed.steps(batches, range(len(batches))):
        mode = "error" if family == "causal" else "default"  # an encoder's mask is looked at by transformers
        torch.cuda.set_sync_debug_mode(mode)
        try:
            loss = there.loss(step)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        found.append(float(loss.detach()))
    assert found == pytest.approx(expected, rel=1e-3)
    assert there.judge(batches) == pytest.approx(gains, rel=1e-2)
    histories = [[CATALOG[item].label for item in history.items] for history in make_histories(100, 9)]
    settings = PretrainRecipe.model_validate(
        {"family": family, "width": 32, "layers": 1, "dropout": 0.0, "epochs": 12, "learning_rate": 1e-2, "warmup": 10}
    )
    formats: tuple[Format, ...] = ("fp32", "bf16")
    for precision in formats:
        passes = make_base(
            histories, CATALOG.labels, [(one[:-1], one[-1]) for one in histories], load_template(TEMPLATES[family]),
            settings.model_copy(update={"batch_tokens": 128, "max_tokens": 64}), tmp_path / precision,
            computing=Computing("cuda", precision),
        )  # fmt: skip
        assert max(one.gain for one in passes) > 0.5


def test_padding_stays_within_the_positions_of_the_model() -> None:
    """On a card, a width that was rounded up beyond them ended the process."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1, n_positions=19)).eval()
    examples = [Example((1,) * size, (1,) * size) for size in (5, 17, 19)]
    batches = Batches(examples, 1, 0, 16, model.config.n_positions)
    assert [batch["input_ids"].shape[1] for batch in batches] == [16, 19, 19]
    for batch in batches:
        model(batch["input_ids"])
    assert Batches(examples, 1, 0, 16)[1]["input_ids"].shape[1] == 32  # no positions to run out of
