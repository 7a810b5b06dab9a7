"""Writers of one's own: a model, and an endpoint that answers well, rubbish, late or not at all."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from genrec import ConfigError, History, ModelError, Recommender, Settings
from genrec.explain.check import Checker, citations_are_valid
from genrec.explain.evidence import Evidence, Wording
from genrec.explain.facts import CatalogueFacts
from genrec.explain.grammar import Grammar
from genrec.explain.names import quoted
from genrec.explain.style import shipped_style
from genrec.explain.writer import Request, Writer, load_templates, sample_requests
from genrec.explain.writers import FAILURES, EndpointWriter, check_writer, load_writer
from tests.talking import make_talking_base
from tests.toyworld import make_catalog, make_histories
from training.computing import Computing

CATALOG = make_catalog()
ITEM, CITED = CATALOG["nig4"], CATALOG["nig3"]
USER = "user-4711"


def request() -> Request:
    evidence = Evidence((CITED,), "moved")
    (reason,) = Grammar(CatalogueFacts(CATALOG), shipped_style("en")).reasons([ITEM], [evidence], [CITED])
    return Request(ITEM, evidence, reason, (CITED,), USER)


class Endpoint:
    """A server on this machine that answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[], bytes] = lambda: b""
        self.status = 200
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(json.dumps({"data": [{"id": "tiny"}]}).encode())

            def do_POST(self) -> None:
                endpoint.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.reply(endpoint.answer())

            def reply(self, body: bytes) -> None:
                self.send_response(endpoint.status)
                self.send_header("Location", "http://127.0.0.1:9/v1")
                self.end_headers()
                with contextlib.suppress(OSError):  # nobody waits any more
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, text: Any) -> None:
        self.answer = lambda: json.dumps({"choices": [{"message": {"content": text}}]}).encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


def writer(url: str, seconds: float = 5.0) -> EndpointWriter:
    return EndpointWriter(url, Checker(CATALOG), load_templates(), seconds)


def test_a_good_answer_is_shown_and_no_user_is_sent(endpoint: Endpoint) -> None:
    text = f"{quoted(ITEM)} is here since you chose {quoted(CITED)}."
    endpoint.says(text)
    (one,) = writer(endpoint.url).write([request()], Wording())
    assert (one.text, one.source, one.cited) == (text, "words", (CITED,))
    (asked,) = map(json.loads, endpoint.asked)
    assert asked["model"] == "tiny"
    assert request().reason.text in asked["messages"][0]["content"]
    assert USER not in endpoint.asked[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("“Alien” is for you.", "not in the history"),
        (f"{quoted(ITEM)} is perfect after {quoted(CITED)}.", "claims 'perfect'"),
        (f"{quoted(ITEM)} is so so so good after {quoted(CITED)}.", "repeats itself"),
        (f"{quoted(ITEM)}很好，正如{quoted(CITED)}。", "not written in 'en'"),  # noqa: RUF001
        ("{{ 7 * 7 }}", "not a sentence"),
        ("", "not a sentence"),
        (None, "no text"),
        (7, "no text"),
    ],
)
def test_rubbish_is_replaced_and_told(endpoint: Endpoint, text: Any, problem: str) -> None:
    endpoint.says(text)
    (one,) = writer(endpoint.url).write([request()], Wording())
    assert one.text == request().reason.text
    assert any(problem in told for told in one.problems), one.problems


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b'{"choices": []}', b"\xff\xfe", b'{"choices": 3}'])
def test_what_is_no_answer_is_none(endpoint: Endpoint, body: bytes) -> None:
    endpoint.answer = lambda: body
    (one,) = writer(endpoint.url).write([request()], Wording())
    assert one.text == request().reason.text
    assert "gave no answer" in one.problems[0]


@pytest.mark.parametrize("status", [302, 401, 500])
def test_a_refusal_and_a_redirection_are_no_answers(endpoint: Endpoint, status: int) -> None:
    endpoint.says(f"{quoted(ITEM)} is here since you chose {quoted(CITED)}.")
    endpoint.status = status
    (one,) = writer(endpoint.url).write([request()], Wording())
    assert one.source == "sentence"
    assert f"{status}" in one.problems[0]


def test_one_that_is_late_or_not_there_is_given_up(endpoint: Endpoint) -> None:
    released = threading.Event()

    def late() -> bytes:
        released.wait(30)
        return b""

    endpoint.answer = late
    told = writer(f"{endpoint.url}#tiny", seconds=0.05).write([request()] * (FAILURES + 2), Wording())
    released.set()
    assert {one.text for one in told} == {request().reason.text}
    assert "gave no answer" in told[FAILURES - 1].problems[0]
    assert "not asked any more" in told[FAILURES].problems[0]
    assert len(endpoint.asked) <= FAILURES
    started = time.monotonic()
    (gone,) = writer("http://127.0.0.1:9/v1").write([request()], Wording())
    assert gone.source == "sentence"
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("name", ["ftp://host/v1", "http:///v1", "http://user:word@host/v1", "file:///etc/passwd"])
def test_an_address_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expected starter, a hub id, a folder, or an address"):
        check_writer(name)


@pytest.fixture(scope="module")
def talking_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_talking_base(tmp_path_factory.mktemp("talking"))


def test_a_model_words_what_another_recommends(toy_run: Path, talking_base: Path) -> None:
    recommender = Recommender.from_pretrained(toy_run, precision="fp32")
    histories = make_histories(6, seed=5)
    answers = recommender.recommend_with_parts(histories, Settings(k=2, explain="words", writer=str(talking_base)))
    told = [one for answer in answers for one in answer.explanations]
    assert any(one.source != "sentence" for one in told)
    for history, answer in zip(histories, answers, strict=True):
        for entry, one in zip(answer.recommendations, answer.explanations, strict=True):
            assert citations_are_valid(one.text, entry.item, [recommender.catalog[item] for item in history.items])
    again = recommender.recommend_with_parts(
        [History("x", histories[0].items)], Settings(k=2, explain="words", writer=str(talking_base))
    )
    assert [one.text for one in again[0].explanations] == [one.text for one in answers[0].explanations]


def test_nonsense_surprises_its_writer(talking_base: Path) -> None:
    made = load_writer(str(talking_base), Checker(CATALOG), load_templates(), Computing("cpu", "fp32"))
    assert isinstance(made, Writer)
    prompt = (1, 2, 3)
    usual = made._usual_surprise("en")
    sensible = sample_requests(CATALOG, "en")[0].reason.text
    assert made._surprise(prompt, "Qzx vv jjq ##k wqx zzz 9 9 kkq.") > usual
    assert made._surprise(prompt, sensible) < made._surprise(prompt, "Qzx vv jjq ##k wqx zzz 9 9 kkq.")


def test_a_writer_that_is_not_there_is_told(genrec: Any, toy_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no folder"):
        load_writer("./nowhere", Checker(CATALOG), load_templates(), Computing("cpu", "fp32"))
    code, _, error = genrec("recommend", "--run", toy_run, "--out", tmp_path / "x.jsonl", "--writer", "ftp://x")
    assert (code, "an address such as" in " ".join(error.split())) == (2, True)
    own = tmp_path / "own.toml"
    own.write_text("language = 3", encoding="utf-8")
    code, _, error = genrec("recommend", "--run", toy_run, "--out", tmp_path / "x.jsonl", "--style", own)
    assert (code, "forms is missing" in " ".join(error.split())) == (2, True)


def test_the_command_asks_an_endpoint(genrec: Any, toy_run: Path, tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.says("Nothing of use")
    users = tmp_path / "users.jsonl"
    users.write_text(json.dumps({"user": USER, "items": ["nig1", "nig2"]}) + "\n", encoding="utf-8")
    out = tmp_path / "lists.jsonl"
    code, _, error = genrec(
        "recommend", "--run", toy_run, "--users", users, "--k", "2", "--out", out, "--writer", endpoint.url
    )
    assert code == 0, error
    (line,) = out.read_text(encoding="utf-8").splitlines()
    assert all(entry["explanation"] for entry in json.loads(line)["recommendations"])
    assert endpoint.asked
    assert not any(USER in asked for asked in endpoint.asked)
