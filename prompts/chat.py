"""A tokenizer's own chat template, rendered around one turn of a user.

A template that writes the date would give another prompt for the same history tomorrow, so its clock is fixed.
"""

from __future__ import annotations

from typing import Any

from prompts.errors import PromptError, first_line

NO_CHAT = "Use a template without chat, for example 'instruction', or another base"
"""The remedy if a chat template cannot be used."""

RENDERINGS = 8
"""How often a chat template is rendered, to check that the result is always the same."""

_CLOCK = {
    "%Y": "2024", "%y": "24", "%m": "01", "%B": "January", "%b": "Jan", "%d": "01", "%e": "1", "%j": "001",
    "%A": "Monday", "%a": "Mon", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM",
}  # fmt: skip
"""The `strftime` values of the first moment of 2024."""

# A macro hides the renderer's own function of that name. Its line break is the renderer's to take away (trim_blocks),
# so that the template still begins at the beginning of a line.
_STOPPED_CLOCK = (
    "{% macro strftime_now(format) %}{{ format"
    + "".join(f" | replace({key!r}, {value!r})" for key, value in _CLOCK.items())
    + " }}{% endmacro %}\n"
)


def render_chat(tokenizer: Any, content: str) -> str:
    """Return a user's turn, up to where the assistant's answer begins, in the tokenizer's own chat template.

    A template that writes the day would make another prompt of the same history tomorrow, so its clock stands still.

    Raises:
        PromptError: the tokenizer has no chat template, or one that cannot be rendered, or not twice alike.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PromptError("this tokenizer has no chat template; use a template without chat, for example 'instruction'")
    turn = [{"role": "user", "content": content}]
    try:
        template = tokenizer.get_chat_template()
        if has_clock(tokenizer):
            template = _STOPPED_CLOCK + template
        renderings = [
            str(tokenizer.apply_chat_template(turn, chat_template=template, tokenize=False, add_generation_prompt=True))
            for _ in range(RENDERINGS)
        ]
    except Exception as error:  # whatever a template raises, and whatever the renderer does
        raise PromptError(f"this tokenizer's chat template fails: {first_line(error)}. {NO_CHAT}") from error
    if len(set(renderings)) > 1:
        raise PromptError(f"this tokenizer's chat template is another one each time it is rendered. {NO_CHAT}")
    return renderings[0]


def has_clock(tokenizer: Any) -> bool:
    """Return whether a tokenizer's chat template reads the clock."""
    return "strftime_now" in str(getattr(tokenizer, "chat_template", None))
