"""Soft targets counted by hand: what others took, what a user's own events must not tell, what is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from prompts.encoding import IGNORED, Example
from training.batches import Batches
from training.losses import Targets, catalogue_loss
from training.soft_targets import DECAY, MOST, SoftTargets, Successors, taken


def after(successors: Successors, *windows: list[int]) -> np.ndarray[Any, Any]:
    titles = np.concatenate([np.array(window) for window in windows])
    return successors.after(titles, np.repeat(np.arange(len(windows)), [len(window) for window in windows])).toarray()


def test_pairs_are_counted_within_histories_and_fade_with_distance() -> None:
    pairs = Successors.count([[0, 1, 2], [3], [0, 1]], 5).pairs.toarray()
    expected = np.zeros((5, 5))
    expected[0, 1], expected[0, 2], expected[1, 2] = 2, DECAY, 1
    np.testing.assert_allclose(pairs, expected)
    long = Successors.count([list(range(8))], 8).pairs.toarray()
    assert long[0, 5] > 0 == long[0, 6]


def test_of_many_successors_the_most_frequent_are_kept() -> None:
    histories = [[0, title] for title in range(1, MOST + 20)] + [[0, MOST + 19]] * 2
    row = Successors.count(histories, MOST + 20).pairs.toarray()[0]
    assert (row > 0).sum() == MOST
    assert row[MOST + 19] == 3


def test_a_users_own_events_do_not_tell_the_target() -> None:
    """Behind 0 others took 1 twice and 2 once; the window's own 0, 2 is one of the three events that were counted."""
    successors = Successors.count([[0, 1], [0, 1], [0, 2]], 4)
    np.testing.assert_allclose(after(successors, [0, 2])[0], [0, 1, 0, 0])
    np.testing.assert_allclose(after(successors, [0, 3])[0], [0, 2 / 3, 1 / 3, 0])
    alone = Successors.count([[2, 3]], 4)
    assert not after(alone, [2, 3]).any()  # nobody else took anything


def test_nearer_items_tell_more_and_windows_tell_each_other_nothing() -> None:
    successors = Successors.count([[0, 2]] * 4 + [[1, 3]] * 4, 5)
    first, second = after(successors, [0, 1, 4], [4, 1])[:2], after(successors, [4, 1])
    assert first[1, 3] > first[1, 2] > 0
    np.testing.assert_allclose(first[1, 2] / first[1, 3], DECAY)
    np.testing.assert_allclose(second[1], [0, 0, 0, 1, 0])
    np.testing.assert_allclose(after(successors, [0, 1, 4], [4, 1])[3:], second)


def test_what_was_taken_is_not_told_again() -> None:
    successors = Successors.count([[0, 1], [0, 1], [0, 2]] * 2, 3)
    np.testing.assert_allclose(after(successors, [1, 0])[1], [0, 0, 1])
    rows, columns = taken(np.array([5, 7, 6]), np.array([0, 0, 1]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 5), (1, 5), (1, 7), (2, 6)]


ANSWERS = [(10,), (11,), (12,), (13, 14), (15,)]
TOKENS = torch.tensor([10, 11, 12, 13, 14, 15])
HISTORIES = [[0, 1], [0, 1], [0, 2], [1, 2], [3, 4], [1, 4]]


def dense(targets: Targets, rows: int) -> tuple[Any, Any]:
    shares, left_out = torch.zeros(rows, len(TOKENS)), torch.zeros(rows, len(TOKENS), dtype=torch.bool)
    shares.index_put_(tuple(targets.entries), targets.shares, accumulate=True)
    left_out[tuple(targets.excluded)] = True
    return shares, left_out


@pytest.mark.parametrize("family", ["causal", "seq2seq"])
def test_the_same_history_has_the_same_targets_in_both_families(family: Any) -> None:
    """0, then 2, then 3 in two pieces, then 4: the pieces have hard targets, and 4 stands behind 2 for the counts."""
    soft = SoftTargets(TOKENS, ANSWERS, HISTORIES, share=0.4, exclude_seen=True)
    titles, other = (10, 12, 13, 14, 15), Example((1, 11), (10,))
    if family == "causal":
        example = Example((1, *titles), (IGNORED, IGNORED, *titles[1:]))
        other = Example((1, 11, 10), (IGNORED, IGNORED, 10))
    else:
        example = Example((1, 10), titles[1:])
    (batch,) = Batches([example, other], 100, 0)
    shares, left_out = dense(soft.of(family, batch), 5)
    first = int((batch["labels"][0] != IGNORED).sum())
    order = [0, 1, 2, 3, 4] if first == 4 else [1, 2, 3, 4, 0]  # the long example before the short one
    shares, left_out = shares[order], left_out[order]
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(5))
    # Behind 0 others took 1 twice; the third event, 0 then 2, is this user's.
    torch.testing.assert_close(shares[0], torch.tensor([0, 0.4, 0.6, 0, 0, 0]))
    torch.testing.assert_close(shares[1:3], torch.eye(6)[3:5])
    assert float(shares[3, 5]) >= 0.6 - 1e-6  # its float32 may round down
    assert left_out[0].tolist() == [True, False, False, False, False, False]
    assert not left_out[1:3].any()
    assert left_out[3].tolist() == [True, False, True, False, False, False]


def test_a_title_taken_again_stays_in_the_loss_and_without_shares_targets_are_hard() -> None:
    example = Example((1, 10, 11, 10), (IGNORED, IGNORED, 11, 10))
    (batch,) = Batches([example], 100, 0)
    shares, left_out = dense(SoftTargets(TOKENS, ANSWERS, HISTORIES, 0.0, True).of("causal", batch), 2)
    torch.testing.assert_close(shares, torch.eye(6)[[1, 0]])
    assert left_out.nonzero().tolist() == [[0, 0], [1, 1]]
    judged, _ = dense(SoftTargets(TOKENS, ANSWERS, HISTORIES, 0.4, True).of("causal", batch, hard=True), 2)
    torch.testing.assert_close(judged, shares)
    kept = SoftTargets(TOKENS, ANSWERS, HISTORIES, 0.0, False).of("causal", batch)
    assert not kept.excluded.numel()


def test_the_loss_of_soft_targets_is_torchs() -> None:
    """Against cross_entropy with probabilities and with scores of minus infinity, gradients included, over blocks."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(600, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    items = torch.randn(9, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    rows = torch.arange(600).repeat(2)
    columns = torch.cat([torch.randint(0, 8, (600,), generator=generator) for _ in range(2)])
    shares = torch.cat([torch.full((600,), 0.7), torch.full((600,), 0.3)])
    targets = Targets.of(rows, columns, shares, torch.arange(0, 600, 7), torch.full((86,), 8))
    probabilities = torch.zeros(600, 9, dtype=torch.float64).index_put(
        (rows, columns), shares.double(), accumulate=True
    )
    loss = catalogue_loss(hidden, items, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [hidden.grad, items.grad]
    hidden.grad = items.grad = None
    scores = hidden @ items.T
    scores = scores.masked_fill((torch.arange(600)[:, None] % 7 == 0) & (torch.arange(9) == 8), -1e30)
    expected = torch.nn.functional.cross_entropy(scores, probabilities)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for one, own in zip(found, [hidden.grad, items.grad], strict=True):
        torch.testing.assert_close(one, own, rtol=1e-5, atol=1e-7)
