"""`genrec show`: one user, looked at closely: prompt, supervision, beams, grounding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from genrec.cli.common import BaseOption, DataOption, DeviceOption, RunOption, ServedPrecisionOption

if TYPE_CHECKING:
    from rich.console import Console

    from genrec.recommender import Recommender


def show(
    run: RunOption,
    user: Annotated[str, typer.Option("--user", help="A user id of the data.", show_default="a new user")] = "",
    taste: Annotated[str, typer.Option(help="What the user says of their taste, in a sentence.")] = "",
    beams: Annotated[int, typer.Option(help="Beams that the language model holds.", min=1)] = 10,
    free: Annotated[bool, typer.Option("--free", help="Also let the model write any text, and ground it.")] = False,
    data: DataOption = None,
    base: BaseOption = None,
    device: DeviceOption = None,
    precision: ServedPrecisionOption = "auto",
) -> None:
    """Show what the model is given for a user, what training supervises, and what comes out.

    [bold]Example:[/bold] genrec show --run runs/films --user 42
    """
    from dataclasses import replace

    from rich.console import Console
    from rich.markup import escape
    from rich.text import Text

    from genrec.cli.common import data_folder_of
    from genrec.data.prepared import iter_histories
    from genrec.data.splits import History, clean_taste
    from genrec.errors import ConfigError, DataError
    from genrec.recommender import Recommender
    from genrec.settings import Settings
    from prompts.encoding import IGNORED

    if not (user or taste):
        raise ConfigError(["give --user, or for a new user --taste"])
    histories = iter_histories(data_folder_of(run, data)) if user else iter([History("", ())])
    history = next((one for one in histories if one.user == user), None)
    if history is None:
        raise DataError("this user is not in the data; give an id from the user column of the log")
    if taste:
        history = replace(history, taste=clean_taste(taste))
    recommender = Recommender.from_pretrained(run, device, precision, base=base)
    console, encoder = Console(highlight=False), recommender.encoder
    decode = encoder.text
    prompt = recommender.prompt(history)
    console.rule("The prompt that the model is served")
    console.print(escape(decode(prompt.input_ids)), end="")
    console.print(f"[dim]{len(prompt.input_ids)} tokens, the newest {prompt.kept} of {len(history.items)} items[/dim]")
    examples = encoder.examples([recommender.catalog[item].label for item in history.items])
    if examples:
        console.rule("A training example (supervised tokens in bold green)")
        example = examples[-1]
        text = Text()
        if encoder.family == "seq2seq":
            text.append(decode(example.input_ids) + "\n", "dim")
            text.append(decode(example.labels), "bold green")
        else:
            for token, label in zip(example.input_ids, example.labels, strict=True):
                text.append(decode([token]), "dim" if label == IGNORED else "bold green")
        console.print(text)
        total = len(example.input_ids) + (len(example.labels) if encoder.family == "seq2seq" else 0)
        console.print(f"[dim]{example.supervised} of {total} tokens supervised; {len(examples)} examples in all[/dim]")
    console.rule("The weights of the signals")
    _show_weights(console, recommender)
    modes = ("constrained", "free") if free else ("constrained",)
    for mode in modes:
        console.rule(f"What comes out ({mode})")
        settings = Settings(k=10, beams=beams, mode=mode, explain="sentence")  # type: ignore[arg-type]
        found = recommender.recommend_many([history], settings)[0]
        console.print(escape("\n".join(found.heard())), end="\n" if found.heard() else "")
        for entry in found:
            signals = "  ".join(f"{name} {value:.3f}" for name, value in entry.signals.items() if value is not None)
            console.print(f"{entry.rank:2d}. {escape(entry.item.title)}  [dim]{entry.how}  {signals}[/dim]")
            if entry.generated and entry.how != "exact":
                console.print(f"    [dim]written: {escape(entry.generated)}[/dim]")
            console.print(f"    [dim]{escape(entry.explanation)}[/dim]")


def _show_weights(console: Console, recommender: Recommender) -> None:
    """Print what lists are made of, and how sure that is."""
    from rich.markup import escape

    fusion = recommender.fusion
    if fusion is None:
        why = escape(recommender.manifest.no_weights)
        console.print(f"none were fitted, so ranks are fused{f': {why}' if why else ''}")
        return
    console.print(f"{escape(fusion.describe())} [dim](fitted on {fusion.cases} validation cases)[/dim]")
    for sentence in fusion.to_words():
        console.print(f"[dim]{escape(sentence)}[/dim]")
