"""The number format and the kind of device: chosen once, written down, and kept by whatever is continued.

Every test runs in both formats wherever it matters, whichever of them `auto` would be on this machine.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrec.batch.job import read_record, recommend_all, record_of
from genrec.batch.users import open_users
from genrec.cli.recommend import job_of
from genrec.data.catalog import Item
from genrec.data.prepared import load_prepared
from genrec.data.splits import History
from genrec.errors import ConfigError
from genrec.recommender import Recommender
from genrec.runs.train import train_run
from genrec.runs.unfinished import BEGUN_FILE
from genrec.settings import Settings
from genrec.storage.folders import MANIFEST, read_json, write_json
from tests.genrec.test_cli import fails
from tests.toyworld import make_histories
from training.backbone import load_packed
from training.computing import SWITCH, Computing, ComputingError, choose_computing, choose_precision
from training.recipe import make_recipe

SETTINGS = Settings(k=3, beams=3)
BLOCK = 128
USERS = BLOCK + 12


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_DEVICE", "cpu")
    monkeypatch.delenv(SWITCH, raising=False)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "users.jsonl"
    lines = [json.dumps({"user": one.user, "items": one.items}) for one in make_histories(USERS, seed=3)]
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def whole(toy_run: Path, users: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of an unbroken job in each format."""
    outs = {precision: tmp_path_factory.mktemp("whole") / "out.jsonl" for precision in ("bf16", "fp32")}
    for precision, out in outs.items():
        begin(toy_run, users, out, precision)
    found = {precision: out.read_bytes() for precision, out in outs.items()}
    assert found["bf16"] != found["fp32"], "the formats cannot be told apart here, so nothing below is a test"
    return found


class StopError(Exception):
    """Stands for a kill between two blocks."""


def begin(run: Path, users: Path, out: Path, precision: Any, kill: bool = False) -> None:
    """Run a job as the command line does; where asked, break it off after its first block."""
    recommender = Recommender.from_pretrained(run, "cpu", precision)
    stream = open_users(str(users), lambda: users)

    def progress(done: int, resumed: int) -> None:
        if kill:
            raise StopError

    job = job_of(run, None, str(users), SETTINGS)
    try:
        recommend_all(
            recommender,
            lambda done: stream.histories(done, stream.count),
            out,
            SETTINGS,
            fingerprint=job,
            progress=progress,
        )
    except StopError:
        assert kill


def words(run: Path, users: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    return ("recommend", "--run", run, "--users", users, "--k", "3", "--beams", "3", "--out", out, *more)


@pytest.mark.parametrize(("begun", "machine"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_job_goes_on_in_what_it_was_begun_with(
    genrec: Any, toy_run: Path, users: Path, whole: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, begun: str, machine: str,
) -> None:  # fmt: skip
    """A job that was killed gives the bytes of an unbroken one, on a machine that would itself choose otherwise."""
    out = tmp_path / "out.jsonl"
    begin(toy_run, users, out, begun, kill=True)
    monkeypatch.setenv(SWITCH, machine)
    fails(genrec(*words(toy_run, users, out, "--resume", "--precision", machine)), f"was begun in {begun}", machine)
    code, shown, err = genrec(*words(toy_run, users, out, "--resume"))
    assert code == 0, err
    assert f"computing in {begun} on cpu, as it was begun" in shown
    assert f"{BLOCK} of them from the job before" in shown
    assert out.read_bytes() == whole[begun]
    record = read_record(out)
    assert (record["device"], record["precision"]) == ("cpu", begun)


def test_a_job_of_another_kind_of_device_is_refused(genrec: Any, toy_run: Path, users: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    begin(toy_run, users, out, "fp32", kill=True)
    record = record_of(out)
    write_json(record, {**read_json(record), "device": "cuda"})
    before = (tmp_path / "out.jsonl.part").read_bytes()
    refused = genrec(*words(toy_run, users, out, "--resume"))
    fails(refused, "was begun on cuda", "would go on on cpu", "continue it where there is cuda")
    older = {name: value for name, value in read_json(record).items() if name not in ("device", "precision")}
    write_json(record, older)
    fails(genrec(*words(toy_run, users, out, "--resume")), "does not say what it was computed in", "start again")
    assert (tmp_path / "out.jsonl.part").read_bytes() == before


def test_shards_agree(
    genrec: Any, toy_run: Path, users: Path, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second shard is computed as the first was, whatever its machine would choose; else it is refused."""
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    monkeypatch.setenv(SWITCH, "bf16")
    assert genrec(*words(toy_run, users, first, "--shard", "1/2"))[0] == 0
    monkeypatch.setenv(SWITCH, "fp32")
    asked = words(toy_run, users, second, "--shard", "2/2")
    fails(genrec(*asked, "--precision", "fp32"), "was begun in bf16")
    code, shown, err = genrec(*asked)
    assert (code, "computing in bf16" in shown) == (0, True), err
    assert first.read_bytes() + second.read_bytes() == whole["bf16"]
    # Of other settings it is no shard of the same job, and free to choose.
    code, shown, err = genrec(*words(toy_run, users, tmp_path / "3.jsonl", "--shard", "2/2", "--k", "2"))
    assert (code, "computing in fp32" in shown) == (0, True), err


def test_shards_that_start_together_see_each_other(toy_run: Path, users: Path, tmp_path: Path) -> None:
    recommender = Recommender.from_pretrained(toy_run, "cpu", "fp32")
    job = job_of(toy_run, None, str(users), SETTINGS, "1/2")
    for name, shard, precision in (("1", "1/2", "bf16"), ("2", "2/2", "fp32")):
        record = {**job, "shard": shard, "device": "cpu", "precision": precision}
        out = tmp_path / f"{name}.jsonl"
        if name == "1":
            write_json(record_of(out), record)
            continue
        from genrec.errors import ArtefactError

        with pytest.raises(ArtefactError, match=r"shard 1/2 beside .* begun in bf16 .* again with --precision bf16"):
            recommend_all(recommender, lambda _: iter(()), out, SETTINGS, fingerprint={**job, "shard": shard})
        assert not record_of(out).exists()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_everything_says_what_computed_it(
    genrec: Any, toy_base: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv(SWITCH, precision)
    changes = (f"base={toy_base}", "max_tokens=128", "epochs=1", "tuning_cases=0", "max_users=20")
    sets = [word for change in changes for word in ("--set", change)]
    code, shown, err = genrec("train", "--data", toy_data, "--encoder", "hashing", "--out", run, *sets)
    assert code == 0, err
    assert f"({precision} on cpu)" in shown
    training = read_json(run / MANIFEST)["training"]
    assert (training["device"], training["precision"]) == ("cpu", precision)
    judged = ("evaluate", "--run", run, "--sample", "5", "--baselines", "none")
    assert genrec(*judged)[0] == 0
    folder = run / "evaluation" / "test"
    told = read_json(folder / "metrics.json")["settings"]
    assert (told["device"], told["precision"]) == ("cpu", precision)
    assert f"computed in {precision} on cpu" in (folder / "report.html").read_text(encoding="utf-8")
    code, shown, err = genrec("doctor")
    assert f"would compute in {precision} on cpu" in shown
    # What is asked for wins over the environment.
    other = "fp32" if precision == "bf16" else "bf16"
    loaded = []
    load = Recommender.from_pretrained
    monkeypatch.setattr(
        Recommender, "from_pretrained", lambda *given, **named: loaded.append(load(*given, **named)) or loaded[-1]
    )
    assert genrec("show", "--run", run, "--user", "u0001", "--precision", other)[0] == 0
    assert genrec(*judged, "--out", tmp_path / "judged", "--precision", other)[0] == 0
    assert [recommender.computing for recommender in loaded] == [Computing("cpu", other)] * 2
    small = ("--set", "cases=4", "--set", "negatives=1")
    code, _, err = genrec("prefer", "--run", run, "--out", tmp_path / "next", *small, "--precision", other)
    assert code == 0, err
    assert read_json(tmp_path / "next" / MANIFEST)["preference"]["precision"] == other


def test_training_goes_on_in_what_it_was_begun_with(
    toy_base: Path, toy_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"base": str(toy_base), "max_tokens": 128, "epochs": 0.5, "tuning_cases": 0, "max_users": 10}
    recipe, data = make_recipe(values), load_prepared(toy_data)
    run = tmp_path / "run"
    run.mkdir()
    begun = {"recipe": recipe.model_dump(), "data": "", "device": "cpu", "precision": "bf16"}
    write_json(run / BEGUN_FILE, begun)
    (run / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    monkeypatch.setenv(SWITCH, "fp32")
    write_json(run / BEGUN_FILE, {**begun, "device": "cuda"})
    with pytest.raises(ComputingError, match=r"the unfinished run in .* was begun on cuda"):
        train_run(data, recipe, run, resume=True, encoder="hashing")
    write_json(run / BEGUN_FILE, begun)
    assert train_run(data, recipe, run, resume=True, encoder="hashing").training.precision == "bf16"


def test_what_is_none_is_refused(toy_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="precision is 'fp16'; expected auto, bf16, fp32 or 4bit"):
        Recommender.from_pretrained(toy_run, precision="fp16")  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="there is no device 'cuda:3' here"):
        Recommender.from_pretrained(toy_run, "cuda:3")
    monkeypatch.setenv(SWITCH, "half")
    with pytest.raises(ConfigError, match="GENREC_PRECISION is 'half'; expected auto, bf16 or fp32"):
        Recommender.from_pretrained(toy_run)
    assert choose_precision("fp32", "cpu") == torch.float32
    monkeypatch.setenv(SWITCH, "")
    assert choose_computing("cpu") == Computing("cpu", choose_computing("cpu", "auto").precision)


def test_what_was_begun_decides_the_device_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job begun on the processor of a machine with a GPU is not drawn to the GPU by its next start."""
    monkeypatch.delenv("GENREC_DEVICE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_computing(None, "auto", {"device": "cpu", "precision": "fp32"}) == Computing("cpu", "fp32")
    assert choose_computing(None, "auto", {"device": "cuda", "precision": "bf16"}) == Computing("cuda", "bf16")
    with pytest.raises(ComputingError, match="begun on cuda"):
        choose_computing("cpu", "auto", {"device": "cuda", "precision": "bf16"})


def test_a_base_in_four_bits_is_served_as_qlora_trained_it(
    genrec: Any, toy_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The adapter stays beside a packed base; lists are those of the very same modules called plainly."""
    recommender = Recommender.from_pretrained(toy_run, precision="4bit")
    assert recommender.computing == Computing("cpu", "4bit")
    kinds = {type(module).__name__ for module in recommender.decoder.model.modules()}
    assert {"Linear4bit", "lora.Linear4bit"} & kinds
    history = History("", tuple(recommender.catalog.ids[:4]))
    prompt = recommender.prompt(history).input_ids
    (scores,) = recommender.decoder.score(recommender.decoder.read([prompt]), [np.arange(5)])
    plain, _ = load_packed(toy_run, recommender.origin.base, "cpu", torch.bfloat16, None)
    allowed = torch.from_numpy(recommender.decoder.trie.vocabulary.astype(np.int64))
    for row, score in enumerate(scores.tolist()):
        answer = recommender.encoder.answer(recommender.catalog.labels[row])
        logits = plain(torch.tensor([[*prompt, *answer[:-1]]])).logits[0, len(prompt) - 1 :, allowed].float()
        wanted = torch.searchsorted(allowed, torch.tensor(answer))
        expected = float(logits.log_softmax(-1)[torch.arange(len(answer)), wanted].sum())
        assert score == pytest.approx(expected, abs=0.15)  # bf16 sums of another order
    grown = recommender.with_items([Item("new", "A Title That Is New")])
    assert len(grown.recommend([recommender.catalog.items[0]], k=5)) == 5
    out = tmp_path / "lists.jsonl"
    code, _, err = genrec("recommend", "--run", toy_run, "--precision", "4bit", "--k", "3", "--out", out)
    assert code == 0, err
    assert json.loads(record_of(out).read_text(encoding="utf-8"))["precision"] == "4bit"
    code, _, err = genrec(
        "train", "--data", tmp_path, "--recipe", "cpu", "--out", tmp_path / "x", "--set", "precision=4bit"
    )
    assert code == 2
    assert "4bit" in err
