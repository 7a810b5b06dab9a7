"""The decoder against `transformers`' own beam search, against exhaustive truth, and against itself in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BartConfig,
    Cache,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Qwen3Config,
    T5Config,
)

from genrec.errors import ModelError
from genrec.language import fixed_scores, fixed_shapes
from genrec.language.decoder import Decoder, Found, batches_by_length
from genrec.language.prompt_reading import PACK_TOKENS
from retrieval.trie import TokenTrie
from tests.reference import reference_search

END = 2
VOCABULARY = 60

CAUSAL = {
    "llama": LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=VOCABULARY, pad_token_id=0,
    ),
    "qwen3": Qwen3Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=VOCABULARY, head_dim=8, pad_token_id=0,
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2),
    "opt": OPTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, vocab_size=VOCABULARY,
        word_embed_proj_dim=32,
    ),
    "mistral": MistralConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=VOCABULARY, sliding_window=6, pad_token_id=0,
    ),
    "gemma2": Gemma2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
        vocab_size=VOCABULARY, head_dim=8, sliding_window=6, query_pre_attn_scalar=8,
    ),
}  # fmt: skip
SEQ2SEQ = {
    "t5": T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=VOCABULARY, decoder_start_token_id=0,
        eos_token_id=2,
    ),
    "bart": BartConfig(
        d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
        encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        decoder_start_token_id=0, forced_eos_token_id=None,
    ),
}  # fmt: skip


def make_model(name: str) -> Any:
    torch.manual_seed(0)
    if name in SEQ2SEQ:
        model = AutoModelForSeq2SeqLM.from_config(SEQ2SEQ[name])
    else:
        model = AutoModelForCausalLM.from_config(CAUSAL[name], attn_implementation="eager")
    # Larger weights than a fresh model's, so that scores are well apart.
    for parameter in model.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    if getattr(model, "final_logits_bias", None) is not None:
        model.final_logits_bias.normal_()
    return model.eval()


def make_sequences(count: int = 80, seed: int = 0) -> list[tuple[int, ...]]:
    random = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        length = int(random.integers(1, 6))
        found[(*random.integers(3, 25, length).tolist(), END)] = None
    return list(found)


def make_prompts(count: int, seed: int = 1) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(3, VOCABULARY, random.integers(1, 15)).tolist() for _ in range(count)]


def make_exclusions(count: int, items: int, seed: int = 2) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [np.sort(random.choice(items, int(random.integers(0, items // 3)), replace=False)) for _ in range(count)]


def search_all(decoder: Decoder, prompts: list, excluded: list, batch: int, keep: int, beams: int) -> list[Found]:
    found: list[Found] = []
    for start in range(0, len(prompts), batch):
        read = decoder.read(prompts[start : start + batch])
        found += decoder.search(read, keep, beams, excluded[start : start + batch])
    return found


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary", "children"])
def test_search_is_the_beam_search_of_transformers(name: str, normalisation: Any) -> None:
    sequences, prompts = make_sequences(), make_prompts(40)
    excluded = make_exclusions(len(prompts), len(sequences))
    trie = TokenTrie.build(sequences)
    tokens = trie.vocabulary.tolist() if normalisation == "catalogue" else None
    # One prompt at a time: padding is not the reference's strength.
    expected = [
        reference_search(
            make_model_once(name),
            [prompt],
            sequences,
            [set(gone.tolist())],
            keep=6,
            beams=8,
            catalogue_tokens=tokens,
            over_children=normalisation == "children",
        )[0]
        for prompt, gone in zip(prompts, excluded, strict=True)
    ]
    found = search_all(Decoder(make_model(name), trie, normalisation), prompts, excluded, 7, keep=6, beams=8)
    for result, reference in zip(found, expected, strict=True):
        assert [sequences[row] for row in result.rows] == [sequence for sequence, _ in reference]
        np.testing.assert_allclose(result.scores, [score for _, score in reference], atol=1e-4)


_models: dict[str, Any] = {}


def make_model_once(name: str) -> Any:
    return _models.setdefault(name, make_model(name))


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "normalisation", "forced_tokens"),
    [(name, "catalogue", "count") for name in CAUSAL]
    + [("llama", kind, rule) for kind in ("vocabulary", "children") for rule in ("count", "free")]
    + [("llama", "catalogue", "free")],
)
def test_fixed_shapes_give_the_same_items_and_scores(
    name: str, normalisation: Any, forced_tokens: Any, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences, prompts = make_sequences(), make_prompts(12)
    excluded, asked = make_exclusions(12, len(sequences)), make_exclusions(12, len(sequences), seed=7)
    excluded[3] = np.arange(len(sequences) - 2)  # two are left
    trie = TokenTrie.build(sequences)
    plain = Decoder(make_model(name), trie, normalisation, forced_tokens, fixed_shapes=False)
    fixed = Decoder(make_model(name).to(device), trie, normalisation, forced_tokens, fixed_shapes=True)
    read, same = plain.read(prompts), fixed.read(prompts)
    for beams in (4, 11):
        expected = plain.search(read, 4, beams, excluded)
        for one, other in zip(expected, fixed.search(same, 4, beams, excluded), strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    expected_scores = plain.score(read, asked)
    for tokens in (fixed_scores.GROUP_TOKENS, 7):  # each user's items as one tree, and as several
        monkeypatch.setattr(fixed_scores, "GROUP_TOKENS", tokens)
        for one, other in zip(expected_scores, fixed.score(same, asked), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "normalisation"), [("llama", "catalogue"), ("llama", "children"), ("mistral", "catalogue")]
)
def test_what_no_live_beam_needs_is_given_up(
    name: str, normalisation: Any, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most users end early, with short titles; the others go on, with beams that share their first tokens."""
    random = np.random.default_rng(11)
    short = [(token, END) for token in range(10, 25)]
    sequences = [*short, *dict.fromkeys((*random.integers(3, 6, 20).tolist(), END) for _ in range(200))]
    prompts = make_prompts(24)
    excluded = [np.arange(15 if user % 5 == 0 else 0) for user in range(24)]
    trie = TokenTrie.build(sequences)
    given: dict[str, list[int]] = {"users": [], "places": []}
    users, places = fixed_shapes._Grower.give_up_users, fixed_shapes._Grower.give_up_places

    def give_up_users(self: Any, kept: Any) -> None:
        users(self, kept)
        given["users"].append(len(kept))

    def give_up_places(self: Any, needed: Any, count: int) -> None:
        before = self._used
        places(self, needed, count)
        given["places"].append(before - self._used)

    monkeypatch.setattr(fixed_shapes._Grower, "give_up_users", give_up_users)
    monkeypatch.setattr(fixed_shapes._Grower, "give_up_places", give_up_places)
    plain = Decoder(make_model(name), trie, normalisation, fixed_shapes=False)
    fixed = Decoder(make_model(name).to(device), trie, normalisation, fixed_shapes=True)
    expected = plain.search(plain.read(prompts), 5, 14, excluded)
    read = fixed.read(prompts)
    for one, other in zip(expected, fixed.search(read, 5, 14, excluded), strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert given["users"], given
    assert sum(given["places"]) > 0, given
    # Reading is not changed by a search: several may start from it.
    for one, other in zip(expected, fixed.search(read, 5, 14, excluded), strict=True):
        assert one.rows.tolist() == other.rows.tolist()


@pytest.mark.parametrize(
    ("device", "backend"), [("cpu", "eager"), pytest.param("cuda", "inductor", marks=pytest.mark.cuda)]
)
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_layers_give_the_same_items_and_scores(name: str, device: str, backend: str) -> None:
    sequences, prompts = make_sequences(), make_prompts(12)
    excluded, asked = make_exclusions(12, len(sequences)), make_exclusions(12, len(sequences), seed=7)
    trie = TokenTrie.build(sequences)
    plain = Decoder(make_model(name), trie, fixed_shapes=False)
    fixed = Decoder(make_model(name).to(device), trie, fixed_shapes=True)
    fixed.fuse(backend)
    read, same = plain.read(prompts), fixed.read(prompts)
    for beams in (4, 11):
        expected = plain.search(read, 4, beams, excluded)
        for one, other in zip(expected, fixed.search(same, 4, beams, excluded), strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    for one, other in zip(plain.score(read, asked), fixed.score(same, asked), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_layers_that_cannot_be_compiled_run_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    def no_compiler(*_: Any) -> Any:
        raise RuntimeError("no C compiler here")

    trie, prompts = TokenTrie.build(make_sequences()), make_prompts(5)
    decoder = Decoder(make_model("llama"), trie, fixed_shapes=True)
    expected = decoder.search(decoder.read(prompts), 4, 8)
    decoder.fuse(no_compiler)
    assert "cannot be compiled and run as they are" in caplog.text
    for one, other in zip(expected, decoder.search(decoder.read(prompts), 4, 8), strict=True):
        assert one.rows.tolist() == other.rows.tolist()


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_titles_of_one_token_need_no_beams(fixed_shapes: bool) -> None:
    sequences = [(token,) for token in range(5, 45)]
    decoder = Decoder(make_model("llama"), TokenTrie.build(sequences), fixed_shapes=fixed_shapes)
    forwards: list[int] = []
    decoder.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    prompts, excluded = make_prompts(3), make_exclusions(3, len(sequences))
    read = decoder.read(prompts)
    found = decoder.search(read, keep=5, beams=8, excluded=excluded)
    exact = decoder.score(read, [np.arange(len(sequences))] * 3)
    assert len(forwards) == 1
    for result, scores, gone in zip(found, exact, excluded, strict=True):
        left = np.delete(np.arange(len(sequences)), gone)
        assert result.rows.tolist() == left[np.argsort(-scores[left], kind="stable")][:5].tolist()


@pytest.mark.parametrize("name", ["llama", "t5"])
@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary", "children"])
@pytest.mark.parametrize("forced_tokens", ["count", "free"])
def test_beams_as_wide_as_the_catalogue_give_the_exact_ranking(
    name: str, normalisation: Any, forced_tokens: Any
) -> None:
    sequences, prompts = make_sequences(40), make_prompts(5)
    trie = TokenTrie.build(sequences)
    decoder = Decoder(make_model(name), trie, normalisation, forced_tokens)
    read = decoder.read(prompts)
    everything = [np.arange(len(sequences))] * len(prompts)
    exact = decoder.score(read, everything)
    for result, scores in zip(decoder.search(read, len(sequences), len(sequences)), exact, strict=True):
        order = np.argsort(-scores, kind="stable")
        np.testing.assert_allclose(result.scores, scores[order], atol=1e-4)
        assert sorted(result.rows.tolist()) == list(range(len(sequences)))
        if normalisation == "children":
            assert np.exp(scores.astype(float)).sum() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary", "children"])
def test_an_items_score_does_not_depend_on_what_else_is_asked_for(normalisation: Any) -> None:
    sequences, prompts = make_sequences(40), make_prompts(3)
    decoder = Decoder(make_model("llama"), TokenTrie.build(sequences), normalisation)
    read = decoder.read(prompts)
    everything = decoder.score(read, [np.arange(len(sequences))] * len(prompts))
    rows = np.array([31, 4, 17])
    for scores, of_all in zip(decoder.score(read, [rows] * len(prompts)), everything, strict=True):
        np.testing.assert_allclose(scores, of_all[rows], atol=1e-5)


def test_a_tail_that_costs_nothing_is_not_run() -> None:
    """Only where the next token is a choice does the free rule need the model."""
    sequences = [(5, 6, 7, 8, 9, END), (5, 10, 11, 12, 13, END), (14, 15, 16, 17, 18, END)]
    runs = {}
    for rule in ("count", "free"):
        decoder = Decoder(make_model("llama"), TokenTrie.build(sequences), forced_tokens=rule)
        forwards: list[int] = []
        decoder.model.register_forward_pre_hook(
            lambda _, args, kwargs, seen=forwards: seen.append(len(args[0])), with_kwargs=True
        )
        found = decoder.search(decoder.read([[20, 21]]), keep=3, beams=3)
        assert sorted(found[0].rows.tolist()) == [0, 1, 2]
        runs[rule] = forwards
    assert runs["free"] == [1, 1]  # the prompt, and the one beam that has two continuations
    assert sum(runs["count"]) > 10


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bart"])
def test_score_is_the_log_likelihood_that_the_model_gives(name: str) -> None:
    sequences, prompts = make_sequences(30), make_prompts(4)
    plain = make_model(name)
    decoder = Decoder(make_model(name), TokenTrie.build(sequences), "vocabulary")
    rows = [np.array([3, 17, 5]), np.array([0]), np.array([], np.int64), np.array([29, 28])]
    scores = decoder.score(decoder.read(prompts), rows)
    for prompt, user_rows, user_scores in zip(prompts, rows, scores, strict=True):
        for row, score in zip(user_rows, user_scores, strict=True):
            assert score == pytest.approx(log_likelihood(plain, prompt, sequences[row]), abs=1e-4)
    assert [len(user_scores) for user_scores in scores] == [3, 1, 0, 2]


def log_likelihood(model: Any, prompt: list[int], sequence: tuple[int, ...]) -> float:
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            decoder_input = torch.tensor([[0, *sequence[:-1]]])
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=decoder_input).logits[0]
        else:
            logits = model(torch.tensor([[*prompt, *sequence[:-1]]])).logits[0, len(prompt) - 1 :]
    gains = logits.log_softmax(-1)[torch.arange(len(sequence)), torch.tensor(sequence)]
    return float(gains.sum())


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_a_batch_gives_what_single_calls_give(name: str) -> None:
    sequences, prompts = make_sequences(), make_prompts(16)
    excluded = make_exclusions(len(prompts), len(sequences))
    decoder = Decoder(make_model(name), TokenTrie.build(sequences))
    single = search_all(decoder, prompts, excluded, 1, keep=5, beams=8)
    for batch in (3, 16):
        for one, other in zip(single, search_all(decoder, prompts, excluded, batch, 5, 8), strict=True):
            assert one.rows.tolist() == other.rows.tolist()
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    backwards = search_all(decoder, prompts[::-1], excluded[::-1], 16, keep=5, beams=8)[::-1]
    assert [result.rows.tolist() for result in backwards] == [result.rows.tolist() for result in single]


def test_exactly_k_items_come_back_while_the_catalogue_has_them() -> None:
    sequences = make_sequences(12)
    decoder = Decoder(make_model("llama"), TokenTrie.build(sequences))
    prompts = make_prompts(3)
    excluded = [np.arange(0), np.arange(7), np.arange(12)]
    found = decoder.search(decoder.read(prompts), keep=5, beams=5, excluded=excluded)
    assert [len(result.rows) for result in found] == [5, 5, 0]
    assert not set(found[1].rows.tolist()) & set(range(7))
    assert all(len(set(result.rows.tolist())) == len(result.rows) for result in found)


def test_items_that_share_a_leaf_all_come_back_in_catalogue_order() -> None:
    sequences = [(5, END), (6, END), (5, END), (7, 8, END), (5, END)]
    decoder = Decoder(make_model("llama"), TokenTrie.build(sequences))
    read = decoder.read([[9, 10]])
    rows = decoder.search(read, keep=5, beams=5)[0].rows.tolist()
    assert [row for row in rows if row in (0, 2, 4)] == [0, 2, 4]
    assert sorted(rows) == [0, 1, 2, 3, 4]
    without = decoder.search(read, keep=5, beams=5, excluded=[np.array([2])])[0].rows.tolist()
    assert sorted(without) == [0, 1, 3, 4]
    scores = decoder.score(read, [np.array([0, 2, 4])])[0]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("layers", "count"), [(4, 200), (None, 12)])
def test_search_is_that_of_transformers_on_the_starter(starter_tokenizer: Any, layers: int | None, count: int) -> None:
    """Law 6 on a real language model: different prompts over MovieLens titles, fp32; a few with all layers."""
    from genrec.data.prepared import prepare
    from genrec.language.bases import resolve_base
    from prompts.encoding import PromptEncoder
    from prompts.template import load_template
    from training.backbone import load_base

    data = prepare(dataset="ml-100k")
    labels = data.catalog.labels
    encoder = PromptEncoder(load_template("next-item"), starter_tokenizer)
    sequences = encoder.answers(labels)
    random = np.random.default_rng(0)
    histories = [random.choice(len(labels), size, replace=False) for size in random.integers(1, 9, 200)][:count]
    prompts = [list(encoder.prompt([labels[row] for row in rows]).input_ids) for rows in histories]
    assert len({len(prompt) for prompt in prompts}) > count / 10
    load = lambda: load_base(resolve_base("starter"), "cpu", torch.float32, layers=layers)[0].eval()  # noqa: E731
    trie = TokenTrie.build(sequences)
    found = search_all(Decoder(load(), trie, "vocabulary"), prompts, histories, 16, keep=3, beams=4)
    reference = load()
    for prompt, rows, result in zip(prompts, histories, found, strict=True):
        (expected,) = reference_search(reference, [prompt], sequences, [set(rows.tolist())], keep=3, beams=4)
        scores = [score for _, score in expected]
        np.testing.assert_allclose(result.scores, scores, atol=1e-4)
        if min(abs(np.diff(scores)), default=1) > 2e-4:  # closer than that, two orders are equally right
            assert [sequences[row] for row in result.rows] == [sequence for sequence, _ in expected]


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_two_hundred_prompts_agree_with_transformers(name: str) -> None:
    sequences, prompts = make_sequences(60), make_prompts(200, seed=8)
    excluded = make_exclusions(len(prompts), len(sequences), seed=9)
    found = search_all(Decoder(make_model(name), TokenTrie.build(sequences), "vocabulary"), prompts, excluded, 16, 4, 5)
    reference = make_model_once(name)
    for prompt, gone, result in zip(prompts, excluded, found, strict=True):
        (expected,) = reference_search(reference, [prompt], sequences, [set(gone.tolist())], keep=4, beams=5)
        np.testing.assert_allclose(result.scores, [score for _, score in expected], atol=1e-4)
        assert [sequences[row] for row in result.rows] == [sequence for sequence, _ in expected]


def test_a_model_that_hides_the_prompt_is_refused() -> None:
    """A model that does not hand our keyword to its attention would see no history at all: better an error."""
    decoder = Decoder(make_model("llama"), TokenTrie.build(make_sequences(20)))
    forward = decoder.model.forward
    decoder.model.forward = lambda *args, shared_prompts=None, **kwargs: forward(*args, **kwargs)
    with pytest.raises(ModelError, match="does not pass its attention the shared prompt"):
        decoder.search(decoder.read(make_prompts(2)), keep=3, beams=3)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_prompts_are_read_one_behind_the_other_and_see_only_themselves(name: str) -> None:
    """Nothing is padded, one prompt is longer than a row has room for, and each gives what it gives alone."""
    random = np.random.default_rng(5)
    sizes = [3, PACK_TOKENS + 40, 700, 1, 300, 1900]
    prompts = [random.integers(3, VOCABULARY, size).tolist() for size in sizes]
    decoder = Decoder(make_model(name), TokenTrie.build(make_sequences(30)))
    alone = [decoder.search(decoder.read([prompt]), keep=4, beams=6)[0] for prompt in prompts]
    rows: list[int] = []
    decoder.model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(args[0].numel()) if "packed_prompts" in kwargs else None, with_kwargs=True
    )
    found = decoder.search(decoder.read(prompts), keep=4, beams=6)
    assert rows == [3, PACK_TOKENS + 40, 1001, 1900]
    for one, other in zip(alone, found, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_beams_that_all_go_on_are_not_moved_in_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their scores change places with every token; what moves them would be copied each time."""
    random = np.random.default_rng(3)
    sequences = [(3 + first, *random.integers(3, 25, 9).tolist(), END) for first in range(8)]
    moves: list[int] = []
    reorder = Cache.reorder_cache
    monkeypatch.setattr(Cache, "reorder_cache", lambda self, rows: (moves.append(len(rows)), reorder(self, rows)))
    decoder = Decoder(make_model("llama"), TokenTrie.build(sequences))
    decoder.search(decoder.read(make_prompts(3)), keep=8, beams=8)
    assert not moves


def test_a_model_that_hides_packed_prompts_is_refused() -> None:
    """Its prompts would see each other."""
    decoder = Decoder(make_model("llama"), TokenTrie.build(make_sequences(20)))
    forward = decoder.model.forward
    decoder.model.forward = lambda *args, packed_prompts=None, **kwargs: forward(*args, **kwargs)
    with pytest.raises(ModelError, match="does not pass its attention the prompts"):
        decoder.read(make_prompts(2))


def test_batches_hold_every_prompt_once_within_both_limits() -> None:
    lengths = [5, 90, 7, 300, 6, 8, 80, 5]
    batches = list(batches_by_length(lengths, size=3, tokens=180))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    assert all(len(batch) <= 3 for batch in batches)
    assert all(sum(lengths[place] for place in batch) <= 180 for batch in batches if batch != [3])
