"""What is refused of a tokenizer before a model is trained with it: items made one, tokens out of range, odd chats."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from prompts.checks import check_answers, check_distinct
from prompts.encoding import PromptEncoder
from prompts.template import PromptError, Template, load_template
from tests.toyworld import train_tokenizer

LABELS = ["Amber Fjord", "Cedar Isle", "Ember Heath"]
TEMPLATE = Template("plain", "whole-history", "chose :", separator=" ;")
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}


def words(*texts: str, lower: bool = False, unknown: str | None = "<unk>", **special: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, which knows those of some texts and no others."""
    known = dict.fromkeys([*SPECIAL.values(), ";", ":", "chose", *(word for text in texts for word in text.split())])
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token=unknown))
    if lower:
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]
        )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(special or SPECIAL))


def chatting(chat_template: str) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer([*LABELS, "Here is what one person chose", "user assistant today is 2024"])
    tokenizer.chat_template = chat_template
    return tokenizer


def chat(chat_template: str) -> PromptEncoder:
    return PromptEncoder(load_template("instruction-chat"), chatting(chat_template), max_tokens=256)


def check(tokenizer: Any, labels: list[str], template: Template = TEMPLATE, **options: Any) -> None:
    check_answers(PromptEncoder(template, tokenizer, **options), labels)


def test_a_tokenizer_that_knows_every_title_passes(caplog: pytest.LogCaptureFixture) -> None:
    check(words(*LABELS), LABELS)
    check(train_tokenizer(LABELS), ["春夏秋冬", "山水花鸟", "🎬", "Café", "CAFÉ"], load_template("next-item"))
    assert not caplog.messages


@pytest.mark.parametrize(
    "labels",
    [["春夏秋冬", "山水花鸟", "风雪月夜"], ["Фильм", "Книга"], ["🎬", "🎭"], ["Amber Fjord", "Amber 山", "Amber 水"]],
    ids=["chinese", "cyrillic", "emoji", "one word of two"],
)
def test_titles_that_a_tokenizer_does_not_know_are_not_one_item(labels: list[str]) -> None:
    with pytest.raises(PromptError, match=r"same tokens of \d of \d items.*does not know their letters.*pretrain"):
        check(words(*LABELS), labels)


@pytest.mark.parametrize(
    "labels",
    [["amber fjord", "Amber Fjord"], ["cafe", "Café"], ["cedar isle", "cedar  isle"], ["ember", "e\u0301mber"]],
)
def test_titles_that_a_tokenizer_makes_alike_are_not_one_item(labels: list[str]) -> None:
    with pytest.raises(PromptError, match=r"same tokens of 2 of 2 items.*case or accents"):
        check(words("amber fjord cedar isle ember cafe", lower=True), labels)


def test_letters_that_are_not_known_are_said_where_items_stay_apart(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check(words(*LABELS), ["Amber 山", "Fjord 水 火", "Cedar"])
    assert "does not know all letters of 2 of 3 titles" in caplog.text


@pytest.mark.parametrize(
    ("first", "second"), [("Amber", "Amber ; Fjord"), ("Cedar", "Cedar ; ;"), ("Isle", "Isle ; Isle ; Isle")]
)
def test_an_answer_that_begins_another_is_refused(first: str, second: str) -> None:
    with pytest.raises(PromptError, match=f"the tokens of '{first}' and their end begin those of '{second}'"):
        check(words(*LABELS), [second, "Heath", first])


def test_distinct_finds_what_pairs_of_all_would() -> None:
    check_distinct([(1, 9), (1, 2, 9), (2, 9), (3, 1, 9)], ["a", "b", "c", "d"])
    with pytest.raises(PromptError, match="begin those of 'd'"):
        check_distinct([(1, 9), (1, 2, 9), (2, 9), (1, 9, 2, 9)], ["a", "b", "c", "d"])
    with pytest.raises(PromptError, match="same tokens of 2 of 4"):
        check_distinct([(1, 9), (1, 2, 9), (2, 9), (1, 9)], ["a", "b", "c", "d"])


@pytest.mark.parametrize("where", ["title", "opening", "separator", "another title"])
def test_a_token_beyond_the_embeddings_is_refused(where: str) -> None:
    tokenizer = words(*LABELS, "grove")
    size = len(tokenizer)
    tokenizer.add_tokens(["Gilded", " |"])
    template = {
        "opening": Template("plain", "whole-history", "Gilded chose :", separator=" ;"),
        "separator": Template("plain", "whole-history", "chose :", separator=" |"),
    }.get(where, TEMPLATE)
    labels = {"title": ["Amber Gilded"], "another title": ["Amber", "Cedar", "Gilded"]}.get(where, LABELS)
    with pytest.raises(PromptError, match=f"embeddings of {size} tokens.*resize_token_embeddings"):
        check(tokenizer, labels, template, embeddings=size)
    check(tokenizer, labels, template, embeddings=len(tokenizer))


def test_a_token_beyond_the_embeddings_that_nothing_uses_is_no_matter() -> None:
    tokenizer = words(*LABELS)
    size = len(tokenizer)
    tokenizer.add_tokens(["Gilded"])
    check(tokenizer, LABELS, embeddings=size)


def test_a_tokenizer_that_draws_its_pieces_is_refused() -> None:
    tokenizer = train_tokenizer(LABELS * 3)
    tokenizer.backend_tokenizer.model.dropout = 0.5
    with pytest.raises(PromptError, match="other tokens each time"):
        check(tokenizer, LABELS, load_template("next-item"))


def test_a_tokenizer_without_a_token_for_the_unknown_is_told_in_a_sentence() -> None:
    with pytest.raises(PromptError, match=r"fails on|no tokens for"):
        check(words(*LABELS, unknown="<none>", pad_token="<pad>"), ["Amber 山"])


def test_without_an_end_of_a_text_a_run_could_not_be_served() -> None:
    """The template's items end themselves, so only serving would have asked for the token."""
    tokenizer = train_tokenizer(LABELS)
    tokenizer.eos_token = None
    with pytest.raises(PromptError, match="no end-of-sequence token"):
        check(tokenizer, LABELS, load_template("next-item-joined"))
    check(tokenizer, LABELS, load_template("next-item"))


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('a system turn must come first') }}",
        "{{ messages[1]['content'] }}",
        "{% for m in messages %}{{ m['content'] }}",
        "{{ messages[0]['content'].nonsense() }}",
    ],
    ids=["raises", "wants two turns", "syntax", "wrong call"],
)
def test_a_chat_template_that_fails_is_told_in_a_sentence(template: str) -> None:
    with pytest.raises(PromptError, match=r"chat template fails: .+\. Use a template without chat"):
        chat(template)


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{% for m in messages %}{{ m['content'] }} (asked: {{ m['content'] }}){% endfor %}", "2 times"),
        ("{% for m in messages %}{{ m['content'] * 3 }}{% endfor %}", "3 times"),
        ("{% for m in messages %}{{ m['role'] }}{% endfor %}", "not at all"),
        ("{% for m in messages %}{{ m['content'] | lower }}{% endfor %}", "changed"),
        ("{% for m in messages %}{{ m['content'][:20] }}{% endfor %}", "not at all"),
    ],
)
def test_a_chat_template_gives_back_the_history_once(template: str, found: str) -> None:
    with pytest.raises(PromptError, match=f"{found}.*Use a template without chat"):
        chat(template)


def test_a_chat_template_that_draws_lots_is_refused() -> None:
    with pytest.raises(PromptError, match="another one each time"):
        chat("{{ range(1000) | random }}{{ messages[0]['content'] }}")


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'today is ' + strftime_now('%Y-%m-%d %H:%M:%S') }}{{ messages[0]['content'] }}",
        "{%- if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}\n{{ day }}\n"
        "{{ messages[0]['content'] }}",
        "{% macro day() %}{{ strftime_now('%A, %B %e, %y, %j %I%p %a') }}{% endmacro %}"
        "{{ messages[0]['content'] ~ day() }}",
    ],
)
def test_a_clock_in_a_chat_template_stands_still(
    template: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def at(moment: datetime) -> tuple[int, ...]:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return moment

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)
        encoder = chat(template)
        with caplog.at_level(logging.WARNING):
            check_answers(encoder, LABELS)
        return encoder.prompt(LABELS).input_ids

    first = at(datetime(2026, 11, 26, 22, 10, 5))
    assert first == at(datetime(2031, 2, 3, 4, 5, 6))
    assert "%" not in chatting(template).decode(first)
    assert "writes the time" in caplog.text


def test_a_clock_says_what_strftime_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from prompts.chat import _CLOCK, _STOPPED_CLOCK

    tokenizer = chatting("")
    for code, value in _CLOCK.items():
        template = _STOPPED_CLOCK + "{{ strftime_now('" + code + "') }}"
        turn = [{"role": "user", "content": "x"}]
        assert tokenizer.apply_chat_template(turn, chat_template=template, tokenize=False) == value
        assert datetime(2024, 1, 1).strftime(code).strip() == value


def test_a_chat_template_without_a_clock_is_rendered_as_ever(starter_tokenizer: Any) -> None:
    encoder = PromptEncoder(load_template("instruction-chat"), starter_tokenizer)
    turn = [{"role": "user", "content": load_template("instruction-chat").opening + "Fargo\n"}]
    wanted = starter_tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    assert starter_tokenizer.decode(encoder.prompt(["Fargo"]).input_ids) == wanted
