"""A separate writer: any instruction model, or an endpoint with OpenAI's protocol (vLLM, llama.cpp).

It is for a recommending model that cannot write well. A model is loaded by its name and prompted through its own chat
template. Its texts are constrained and checked as those of the recommending model are. An endpoint cannot be
constrained, so its texts are only checked. It is sent titles, their catalogue entries and the grammar's sentence, but
never a user's id.

If an endpoint's answer is late, missing, or holds no text, the grammar's sentence is used. After three failures in a
row the endpoint is not called again, because otherwise a job would wait for it at every item.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from typing import Any

from genrec.errors import ConfigError, ModelError
from genrec.explain.check import Checker
from genrec.explain.evidence import Language, Wording
from genrec.explain.writer import (
    ATTEMPTS,
    MOST_SENTENCES,
    MOST_TOKENS,
    Explanation,
    Request,
    Writer,
    judged,
    prompt_values,
    sentence_of,
    tidied,
)
from genrec.language.bases import resolve_base
from genrec.language.generator import FreeGenerator
from prompts.template import TextTemplate
from training import backbone
from training.computing import Computing
from training.errors import BackboneError

logger = logging.getLogger(__name__)

SECONDS = 20.0
"""How long one answer may take."""

FAILURES = 3
LONGEST_ANSWER = 1_000_000
KEY = "GENREC_WRITER_KEY"
"""The environment variable that holds the endpoint's key, if it needs one."""


def is_endpoint(name: str) -> bool:
    """Return whether a writer's name is an address."""
    return "://" in name


def check_writer(name: str) -> None:
    """Check a writer's name before anything is computed.

    Raises:
        ConfigError: it is an address, but not a valid one for an endpoint.
    """
    if is_endpoint(name):
        parts = urllib.parse.urlsplit(name)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ConfigError(
                [f"the writer is {name!r}; expected starter, a hub id, a folder, or an address such as "
                 f"http://127.0.0.1:8000/v1 (a key goes into {KEY}, not into the address)"]
            )  # fmt: skip


def load_writer(
    name: str, checker: Checker, templates: dict[Language, TextTemplate], computing: Computing
) -> Writer | EndpointWriter:
    """Return a writer by its name: `starter`, a hub id, a folder, or an endpoint's address.

    Args:
        name: the writer's name; an address may name the endpoint's model after a #.
        checker: checks the texts.
        templates: the templates of the prompts, by language.
        computing: the device and number format of a loaded model.

    Raises:
        ConfigError: the address is not valid.
        ModelError: the model is not found, or cannot be loaded.
    """
    check_writer(name)
    if is_endpoint(name):
        return EndpointWriter(name, checker, templates)
    base = resolve_base(name)
    try:
        model, _ = backbone.load_base(base, computing.device, computing.dtype)
        tokenizer = backbone.load_tokenizer(base)
    except BackboneError as error:
        raise ModelError(f"the writer {name!r}: {error}") from error
    generator = FreeGenerator(model.eval(), tokenizer, int(tokenizer.eos_token_id), model.get_output_embeddings())
    return Writer(generator, checker, templates)


class EndpointWriter:
    """Requests every text from an endpoint.

    Args:
        url: the address up to and including `/v1`; `#name` names its model, else the first model it lists is used.
        checker: checks the texts.
        templates: the templates of the prompts, by language.
        seconds: how long one answer may take.
    """

    def __init__(
        self, url: str, checker: Checker, templates: dict[Language, TextTemplate], seconds: float = SECONDS
    ) -> None:
        address, _, model = url.partition("#")
        self._address = address.rstrip("/")
        self._model = model
        self._checker = checker
        self._templates = templates
        self._seconds = seconds
        self._failed = 0
        # No proxy and no redirection: data is sent only to the address that the user gave.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Straight())

    def write(self, requests: Sequence[Request], wording: Wording, batch_size: int = 32) -> list[Explanation]:
        """Write one explanation for each request, one after the other.

        Args:
            requests: the recommendations to explain; a request without evidence gets the grammar's sentence.
            wording: how the texts are worded.
            batch_size: not used; an endpoint batches by itself.
        """
        return [
            self._explained(request, wording) if request.evidence.items else sentence_of(request)
            for request in requests
        ]

    def _explained(self, request: Request, wording: Wording) -> Explanation:
        template = self._templates[wording.language]
        values = prompt_values(template, request.item, request.evidence, wording, request.reason)
        done = sentence_of(request)
        for attempt in range(ATTEMPTS):
            if self._failed >= FAILURES:
                return sentence_of(request, ["the writer did not answer several times and is not asked any more"])
            try:
                text = self._ask(template.render(values), MOST_TOKENS[wording.length], attempt)
            except _NoAnswerError as error:
                self._failed += 1
                if self._failed == FAILURES:
                    logger.warning("the writer at %s: %s; it is not asked any more", self._address, error)
                return sentence_of(request, [f"the writer gave no answer: {error}"])
            self._failed = 0
            done = judged(self._checker, request, tidied(text, MOST_SENTENCES[wording.length]), wording, attempt)
            if done.source != "sentence":
                return done
        return done

    def _ask(self, prompt: str, tokens: int, seed: int) -> str:
        """Return the endpoint's text.

        Raises:
            _NoAnswerError: the endpoint gave no text.
        """
        if not self._model:
            listed = self._call("models", None)
            self._model = str(_within(listed, "data", 0, "id") or "default")
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "temperature": float(seed > 0),
            "seed": seed,
        }
        text = _within(self._call("chat/completions", body), "choices", 0, "message", "content")
        if not isinstance(text, str):
            raise _NoAnswerError("the answer holds no text")
        return text

    def _call(self, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}/{path}", data, headers)  # noqa: S310 - the scheme is checked
        try:
            with self._opener.open(request, timeout=self._seconds) as answer:
                return json.loads(answer.read(LONGEST_ANSWER))
        except (OSError, ValueError, urllib.error.URLError) as error:
            raise _NoAnswerError(" ".join(str(error).split())[:120] or type(error).__name__) from None


class _NoAnswerError(Exception):
    """Raised when an endpoint gives no text."""


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse."""
        return


def _within(value: Any, *keys: str | int) -> Any:
    """Return the JSON value at a path of keys and positions; None if there is no such value."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value
