from __future__ import annotations

import pytest

from prompts.template import (
    PromptError,
    Template,
    TextTemplate,
    builtin_templates,
    fill,
    load_template,
    load_text_template,
    variables,
)

RECOMMENDING = ["next-item", "next-item-zh", "instruction", "instruction-chat", "instruction-seq2seq",
               "next-item-joined", "seq2seq-joined"]  # fmt: skip
TEXTS = ["explanation", "explanation-zh", "cold-start"]


def test_every_template_that_ships_is_tested() -> None:
    assert builtin_templates() == sorted(RECOMMENDING + TEXTS)


@pytest.mark.parametrize("name", RECOMMENDING)
def test_a_template_survives_toml(name: str) -> None:
    template = load_template(name)
    assert template.name == name
    assert Template.from_toml(template.to_toml()) == template


@pytest.mark.parametrize("name", TEXTS)
def test_text_templates_load(name: str) -> None:
    assert load_text_template(name).name == name


def test_odd_text_survives_toml() -> None:
    template = Template("odd", "whole-history", 'a "quote" \\ \t\r\n \x07 é 漢 🎬', "«{label}»", "\n--\n")
    assert Template.from_toml(template.to_toml()) == template


@pytest.mark.parametrize("title", ["{label}", "{0}", "{", "}", "%s", "{label.__class__}", "$x", "a\nb"])
def test_a_title_is_a_value_never_a_format(title: str) -> None:
    assert Template("t", "whole-history", "o").item_text(title) == f" {title}"
    assert TextTemplate("t", "about {item}").render({"item": title}) == f"about {title}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("style = 3", "style is 3, expected text"),
        ('name = "x"\nstyle = "whole-history"', "missing key 'opening'"),
        ('name = "x"\nstyle = "whole-history"\nopening = ""\ncolour = "red"', "unknown key 'colour'"),
        ('name = "x"\nstyle = "diary"\nopening = ""', "style is 'diary'; expected whole-history or one-target"),
        ('name = "x"\nstyle = "whole-history"\nopening = ""\nitem = "item"', "must hold {label} exactly once"),
        ('name = "x"\nstyle = "whole-history"\nopening = "{who}"', "opening has the variable 'who'"),
        ('name = "x"\nstyle = "whole-history"\nopening = "{"', "unmatched braces"),
        ('name = "x"\nstyle = "whole-history"\nopening = ""\nseparator = ""', "separator is empty"),
        ('name = "x"\nstyle = "whole-history"\nopening = ""\ncue = "?"', "has no cue"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_wrong_template_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(PromptError) as caught:
        Template.from_toml(text)
    assert message in str(caught.value)


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(PromptError, match=r"there is no template 'nope'.*next-item"):
        load_template("nope")
    with pytest.raises(PromptError, match=r"cannot read the template .*nope\.toml"):
        load_template("nope.toml")


def test_fill_wants_exactly_its_variables() -> None:
    with pytest.raises(PromptError, match="needs b; given only a"):
        fill("{a} {b}", {"a": "1"})
    with pytest.raises(PromptError, match="has no variable c; it has a"):
        fill("{a}", {"a": "1", "c": "2"})


@pytest.mark.parametrize("field", ["{a.b}", "{a[0]}", "{}", "{0}", "{a!r}", "{a:>9}"])
def test_only_plain_names_are_fields(field: str) -> None:
    with pytest.raises(PromptError, match="not a plain name"):
        variables(field)
