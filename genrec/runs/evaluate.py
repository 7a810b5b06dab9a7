"""Evaluating a run: genrec, its parts, and the baselines, on the same cases, in one table.

The language model is run once; the fused list, the model's own list and the list without it come from this one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from genrec.baselines.registry import BASELINES, Material
from genrec.baselines.search import baseline_lists, sample_cases
from genrec.data.checks import check_data
from genrec.data.dialects import Dialect
from genrec.data.prepared import PreparedData, load_prepared
from genrec.data.splits import Case
from genrec.errors import ConfigError, translated
from genrec.evaluation.compare import evaluate_lists
from genrec.evaluation.list_files import lists_for_cases, read_recommendations
from genrec.evaluation.results import Report
from genrec.progress import progress_bar
from genrec.ranking.ranker import Ranked
from genrec.recommendation import Recommendation
from genrec.recommender import Recommender
from genrec.report.page import write_report
from genrec.report.parts import loss_points, user_pages
from genrec.runs.explanation_measures import compare_explanations
from genrec.runs.folder import read_losses
from genrec.runs.saving import state_of
from genrec.runs.train import ENCODER
from genrec.settings import Settings
from genrec.storage.folders import write_json
from retrieval.encoders import load_encoder

KS = (5, 10, 20)

QUICK_BASELINES = ("random", "popularity", "recent-popularity", "content", "co-occurrence", "item-knn")
"""Baselines that take seconds."""

BLOCK_CASES = 128

EXPLAINED = 3
"""Recommendations of each user whose explanations are measured."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """An evaluation, the fused recommendations that it judged, and the parts of these lists.

    Attributes:
        report: the figures.
        recommendations: one list for each case.
        parts: the parts of the lists and the reasons for them, in sentences.
    """

    report: Report
    recommendations: tuple[tuple[Recommendation, ...], ...]
    parts: tuple[str, ...] = ()


def evaluate_run(
    recommender: Recommender | None,
    data: PreparedData,
    split: Literal["valid", "test"],
    cases: Sequence[Case],
    settings: Settings,
    *,
    baselines: Sequence[str] = QUICK_BASELINES,
    others: Mapping[str, Sequence[Sequence[str]]] | None = None,
    explanations: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Judge a run on one part of its data.

    Args:
        recommender: the run; where None, only baselines and other systems are judged.
        data: the data it was trained on.
        split: which part of the data the cases are from.
        cases: that part's cases, or a sample of them (see `sampled`).
        settings: how to recommend; `k` is the longest list.
        baselines: which baselines stand in the table.
        others: more systems, one list for each case.
        explanations: on how many users, drawn by the seed, explanations are measured, `EXPLAINED` for each.
        seed: the seed of the bootstrap and the baselines.
        progress: called with how many cases of how many are done.
    """
    parts = data.split()
    if recommender is not None:
        excluded = recommender.excludes_seen(settings)
    else:
        excluded = settings.excludes_seen(data.keep_seen)
    # A run may have items that were added after its data was prepared; the baselines rank them, too.
    catalog = data.catalog if recommender is None else recommender.catalog
    fused: list[tuple[Recommendation, ...]] = []
    systems: dict[str, list[list[str]]] = {}
    if recommender is not None:
        answers = _ask(recommender, cases, replace(settings, waterfall=True), progress)
        fused = [tuple(answer.recommendations) for answer in answers]
        systems = {
            "genrec": [[entry.item.id for entry in user] for user in fused],
            "genrec-without-lm": [answer.without_model for answer in answers],
            "genrec-lm-only": [answer.model_alone for answer in answers],
        }
        vectors = recommender.content.embeddings
    else:
        vectors = load_encoder(ENCODER).encode([item.title for item in data.catalog])
    material = Material(catalog, parts.train, vectors)
    systems |= baseline_lists(baselines, material, cases, max(KS), seed, exclude_seen=excluded)
    report = evaluate_lists(
        cases,
        {**systems, **(others or {})},
        catalog=catalog,
        train=parts.train,
        ks=KS,
        seed=seed,
        reference=next(iter(systems | dict(others or {})), None),
        split=split,
        embeddings=vectors,
        hows={"genrec": [entry.how for user in fused for entry in user if entry.generated]} if fused else None,
        settings={
            "data": data.split_name,
            "seen_items": "excluded" if excluded else "kept",
            "beams": settings.beams,
            "mode": settings.mode,
            **({} if recommender is None else {"run": state_of(recommender), **recommender.computing.to_json()}),
            "cases": "all" if len(cases) == len(parts.cases(split)) else f"a sample of {len(cases)}",
        },
    )
    if recommender is not None and explanations:
        drawn = [case.history for case in sample_cases(cases, explanations, seed)]
        figures = compare_explanations(recommender, drawn, replace(settings, k=EXPLAINED), seed)
        told = {"explained_users": len(drawn), "explained_items": EXPLAINED}
        report = replace(report, explanations=figures, settings={**report.settings, **told})
    fusion = recommender.fusion if recommender else None
    return Evaluated(report, tuple(fused), tuple(fusion.to_words()) if fusion else ())


def _ask(
    recommender: Recommender,
    cases: Sequence[Case],
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> list[Ranked]:
    """Return the lists for all cases, made block by block."""
    answers: list[Ranked] = []
    for start in range(0, len(cases), BLOCK_CASES):
        block = [case.history for case in cases[start : start + BLOCK_CASES]]
        answers += recommender.recommend_with_parts(block, settings)
        if progress is not None:
            progress(len(answers), len(cases))
    return answers


def sampled(cases: Sequence[Case], sample: int | None, seed: int) -> tuple[Case, ...]:
    """Return all cases, or a seeded sample of them in their own order."""
    return tuple(cases) if sample is None else sample_cases(cases, sample, seed)


def write_evaluation(
    evaluated: Evaluated, data: PreparedData, cases: Sequence[Case], run: Path | None, out: Path
) -> None:
    """Write `metrics.json` and `report.html` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "metrics.json", evaluated.report.to_json())
    write_report(
        evaluated.report,
        out / "report.html",
        losses=loss_points(read_losses(run)) if run else (),
        findings=check_data(data),
        users=user_pages(cases, _rows(cases, evaluated), data.catalog) if run else (),
        parts=evaluated.parts,
    )


def _rows(cases: Sequence[Case], evaluated: Evaluated) -> Iterator[dict[str, Any]]:
    for case, recommendations in zip(cases, evaluated.recommendations, strict=True):
        yield {"user": case.history.user, "recommendations": [entry.to_json() for entry in recommendations[:10]]}


def evaluate_with(
    recommender: Recommender | None,
    data: PreparedData,
    run: Path | None,
    out: Path | None,
    split: Literal["valid", "test"],
    settings: Settings,
    baselines: tuple[str, ...],
    others: list[str],
    sample: int | None = None,
    seed: int = 0,
    explanations: int = 0,
    *,
    progress: bool = False,
    dialect: Dialect | None = None,
) -> Report:
    """Evaluate, and write the results; `evaluate` is its short form."""
    found = {name: read_recommendations(file, dialect) for name, file in map(_named_file, others)}
    cases = sampled(data.split().cases(split), sample, seed)
    foreign = {name: lists_for_cases(cases, lists, name) for name, lists in found.items()}
    with progress_bar("Evaluating", progress) as bar:
        evaluated = evaluate_run(
            recommender,
            data,
            split,
            cases,
            settings,
            baselines=baselines,
            others=foreign,
            explanations=explanations,
            seed=seed,
            progress=bar,
        )
    if out is not None:
        write_evaluation(evaluated, data, cases, run, out)
    return evaluated.report


def _named_file(entry: str) -> tuple[str, Path]:
    """Split NAME=FILE."""
    name, equals, file = entry.partition("=")
    if not equals or not name:
        raise ConfigError([f"--other {entry}: expected NAME=FILE"])
    return name, Path(file)


def baseline_names(choice: str) -> tuple[str, ...]:
    """Return the baselines that an option's value names.

    Raises:
        ConfigError: a name is not a baseline's.
    """
    named: dict[str, tuple[str, ...]] = {"quick": QUICK_BASELINES, "all": tuple(BASELINES), "none": ()}
    names = named.get(choice) or tuple(name.strip() for name in choice.split(",") if choice != "none")
    if wrong := [name for name in names if name not in BASELINES]:
        raise ConfigError([f"there is no baseline {name!r}; expected {', '.join(BASELINES)}" for name in wrong])
    return names


@translated()
def evaluate(
    recommender: Recommender | None,
    data: PreparedData | str | Path,
    split: Literal["valid", "test"] = "test",
    *,
    baselines: str = "quick",
    others: Mapping[str, str | Path] | None = None,
    sample: int | None = None,
    settings: Settings | None = None,
    explanations: int = 0,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = False,
) -> Report:
    """Judge a recommender: full ranking, 95 % intervals, baselines in the same table.

    Args:
        recommender: the run; None: baselines and other systems only.
        data: what it was trained on, or its folder.
        split: which cases; tune on "valid", read "test" once.
        baselines: "quick", "all", "none", or names joined by commas.
        others: other systems' recommendations, by name: files as `genrec recommend` writes them.
        sample: judge a seeded sample of so many users; None: all.
        settings: how to recommend; None: 20 items, 20 beams.
        explanations: measure explanations on so many users; slow.
        seed: the seed of the sample, the intervals and the baselines.
        out: a folder for `metrics.json` and `report.html`.
        progress: whether a progress bar is shown on stderr.

    Returns:
        The figures; a notebook shows them as a table.

    Raises:
        ConfigError: a baseline's name is unknown.
        DataError: there are no such cases, or another system's file is not what it should be.

    Example:
        >>> import genrec
        >>> rec = genrec.Recommender.from_pretrained("runs/films")
        >>> report = genrec.evaluate(rec, "data/films", baselines="popularity", sample=20)
        >>> report.users, sorted(report.systems)
        (20, ['genrec', 'genrec-lm-only', 'genrec-without-lm', 'popularity'])
        >>> figure = report.systems["genrec"]["ndcg@10"]
        >>> figure.low <= figure.value <= figure.high
        True
    """
    prepared = data if isinstance(data, PreparedData) else load_prepared(data)
    return evaluate_with(
        recommender, prepared, None, None if out is None else Path(out), split,
        settings or Settings(k=max(KS), beams=20), baseline_names(baselines),
        [f"{name}={file}" for name, file in (others or {}).items()], sample, seed, explanations,
        progress=progress,
    )  # fmt: skip
