"""Templates: the pieces of a prompt, as data.

A recommending template has four pieces. `opening` comes once, then every history item as `item` and `separator`,
then `cue`; the answer is again `item` and its terminator. A text template (explanation, cold start) is one `text`
with variables. Templates are TOML files and are saved with the adapter as text, so a model is served with the same
prompt on which it was trained.

Titles are values, never format strings, so braces in a title have no effect. A field may only be a plain name:
`{label.__class__}` is refused.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar

from prompts.errors import PromptError

Style = Literal["whole-history", "one-target"]


@dataclass(frozen=True, slots=True)
class Template:
    """A template: it defines how a history becomes a prompt.

    Attributes:
        name: its name in recipes.
        style: `whole-history` supervises every item after the first in one sequence; `one-target` supervises one
            answer after a cue.
        opening: text before the first item.
        item: text of one item, in the history and as the answer; must hold `{label}` and nothing else variable.
        separator: text after each history item. In `whole-history` it also ends the answer. It may be empty where
            `item` has an ending of its own: a tokenizer trained on it can then make title and ending one token.
        cue: text between the last item and the answer; empty in `whole-history`.
        chat: whether opening and cue are wrapped by the tokenizer's own chat template.
    """

    name: str
    style: Style
    opening: str
    item: str = " {label}"
    separator: str = "\n"
    cue: str = ""
    chat: bool = False

    def __post_init__(self) -> None:
        if self.style not in ("whole-history", "one-target"):
            raise PromptError(f"template {self.name!r}: style is {self.style!r}; expected whole-history or one-target")
        for piece in ("opening", "separator", "cue"):
            if found := variables(getattr(self, piece)):
                raise PromptError(f"template {self.name!r}: {piece} has the variable {found[0]!r}; only item has one")
        if variables(self.item) != ["label"]:
            raise PromptError(f"template {self.name!r}: item is {self.item!r}; it must hold {{label}} exactly once")
        if not self.separator and not self.ending.strip(" "):
            raise PromptError(
                f"template {self.name!r}: separator is empty and item ends with its label; items would run into each "
                "other"
            )
        if self.style == "whole-history" and (self.cue or self.chat):
            raise PromptError(
                f"template {self.name!r}: a whole-history template is one running text, so it has no cue and no chat; "
                "use style = 'one-target'"
            )

    @property
    def ending(self) -> str:
        """The text in `item` after the label."""
        return self.item.partition("{label}")[2]

    def item_text(self, label: str) -> str:
        """Return the text of one item."""
        return fill(self.item, {"label": label})

    def to_toml(self) -> str:
        """Return the template as TOML text; `Template.from_toml` is its inverse."""
        return _to_toml(asdict(self))

    @classmethod
    def from_toml(cls, text: str) -> Template:
        """Read a template from TOML text.

        Raises:
            PromptError: the text is not TOML, or has missing, unknown or wrong keys.
        """
        return _build(cls, _parse(text))


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """One text with variables: an explanation request, a cold-start request.

    Attributes:
        name: what it is called.
        text: the text; `{name}` marks a variable.
        chat: whether the text is a user's turn in the tokenizer's own chat template.
    """

    name: str
    text: str
    chat: bool = False

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with every variable filled in.

        Raises:
            PromptError: a variable has no value, or a value has no variable.
        """
        return fill(self.text, values)

    def to_toml(self) -> str:
        """Return the template as TOML text; `TextTemplate.from_toml` is its inverse."""
        return _to_toml(asdict(self))

    @classmethod
    def from_toml(cls, text: str) -> TextTemplate:
        """Read a text template from TOML text.

        Raises:
            PromptError: the text is not TOML, or has missing, unknown or wrong keys.
        """
        return _build(cls, _parse(text))


T = TypeVar("T", Template, TextTemplate)


def load_template(name: str) -> Template:
    """Return a template by its built-in name or from a `.toml` file.

    Raises:
        PromptError: there is no such template, or it is wrong.
    """
    return Template.from_toml(_template_text(name))


def load_text_template(name: str) -> TextTemplate:
    """Return a text template by its built-in name or from a `.toml` file.

    Raises:
        PromptError: there is no such template, or it is wrong.
    """
    return TextTemplate.from_toml(_template_text(name))


def builtin_templates() -> list[str]:
    """Return the names of the templates that ship with genrec."""
    folder = resources.files("prompts.templates")
    return sorted(file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml"))


def variables(text: str) -> list[str]:
    """Return the variables of a format text, in order.

    Raises:
        PromptError: the braces do not match, or a field is more than a plain name.
    """
    try:
        fields = [
            (name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(text) if name is not None
        ]
    except ValueError as error:
        raise PromptError(f"the text {text!r} has unmatched braces; write {{{{ and }}}} for plain ones") from error
    for name, spec, conversion in fields:
        if not name.isidentifier() or spec or conversion:
            raise PromptError(f"the field {{{name}}} in {text!r} is not a plain name; write {{label}}, say")
    return [name for name, _, _ in fields]


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its variables replaced; values are never read as formats.

    Raises:
        PromptError: the variables and the values given do not match.
    """
    wanted = variables(text)
    if missing := sorted(set(wanted) - set(values)):
        raise PromptError(
            f"the template needs {', '.join(missing)}; given only {', '.join(sorted(values)) or 'nothing'}"
        )
    if extra := sorted(set(values) - set(wanted)):
        raise PromptError(f"the template has no variable {', '.join(extra)}; it has {', '.join(wanted) or 'none'}")
    return text.format_map(values)


def _template_text(name: str) -> str:
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except OSError as error:
            raise PromptError(f"cannot read the template {name}: {error.strerror}") from error
    if name not in builtin_templates():
        raise PromptError(
            f"there is no template {name!r}; give a .toml file or one of: {', '.join(builtin_templates())}"
        )
    return (resources.files("prompts.templates") / f"{name}.toml").read_text(encoding="utf-8")


def _parse(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PromptError(f"the template is not valid TOML: {error}") from error


def _build(cls: type[T], values: Mapping[str, object]) -> T:
    fields = cls.__dataclass_fields__
    problems = [f"unknown key {key!r}" for key in values if key not in fields]
    problems += [f"missing key {key!r}" for key in _required(cls) if key not in values]
    for key, value in values.items():
        kind = bool if key == "chat" else str
        if key in fields and not isinstance(value, kind):
            problems.append(f"{key} is {value!r}, expected {'true or false' if kind is bool else 'text'}")
    if problems:
        raise PromptError(f"template {values.get('name', '(no name)')!r}: {'; '.join(problems)}")
    return cls(**values)  # type: ignore[arg-type]


def _required(cls: type[Template] | type[TextTemplate]) -> tuple[str, ...]:
    return ("name", "style", "opening") if cls is Template else ("name", "text")


def _to_toml(values: Mapping[str, object]) -> str:
    """Write flat text and boolean values as TOML; the standard library reads TOML but does not write it."""
    lines = []
    for key, value in values.items():
        lines.append(f"{key} = {_toml_text(value) if isinstance(value, str) else str(value).lower()}")
    return "\n".join(lines) + "\n"


def _toml_text(value: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    quoted = "".join(
        escapes.get(character)
        or (f"\\u{ord(character):04X}" if ord(character) < 32 or ord(character) == 127 else character)
        for character in value
    )
    return f'"{quoted}"'
