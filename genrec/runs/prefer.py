"""The preference stage of a finished run: pairs from the model's own beams, a new run, and both measured.

For a sample of training histories, the last item is the preferred one. The model's best other items for the history
before it are hard negatives, without seen items if the run excludes them. No validation or test case is used for
learning. The model alone, under constrained decoding, is measured before and after on the same validation cases.

The fusion weights are fitted again, since the old ones were fitted on the old model's likelihoods.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from genrec.baselines.search import sample_cases
from genrec.data.prepared import PreparedData
from genrec.data.rows import FloatArray
from genrec.data.splits import Case, History
from genrec.errors import ArtefactError, ConfigError, DataError, keeping
from genrec.language.identity import find_model
from genrec.language.item_tokens import ItemTokens
from genrec.manifest import RunManifest
from genrec.recommender import Recommender
from genrec.runs.folder import assemble
from genrec.runs.judging import BEAMS, K, model_lists, run_ndcg
from genrec.runs.unfinished import BEGUN_FILE, KEPT_FREE, RESERVED_FILE, keep_training, read_trained
from genrec.runs.weights import fit_fusion
from genrec.settings import Settings
from genrec.storage.disk_space import check_space, folder_size, reserve
from genrec.storage.folders import MANIFEST, check_target, fingerprint, new_folder, read_json, write_json
from genrec.storage.locks import locked
from training import backbone
from training.computing import Computing, choose_computing
from training.finetune import Progress
from training.preference import Preference, PreferenceRecipe, prefer
from training.recipe import Recipe, load_recipe
from training.reporting import TENSORBOARD, check_reporters

logger = logging.getLogger(__name__)

JUDGED = 500
"""Validation cases on which the model is judged before and after, where the run's recipe does not say how many."""


def prefer_run(
    run: Path,
    data: PreparedData,
    recipe: PreferenceRecipe,
    out: Path,
    *,
    resume: bool = False,
    base_now: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    tuning_progress: Callable[[int, int], None] | None = None,
) -> RunManifest:
    """Make a run whose model has learnt preferences, out of a finished run.

    Args:
        run: the finished run; it is left as it is.
        data: what it was trained on.
        recipe: the recipe.
        out: the new run's folder.
        resume: go on after a training that was finished, where what came after it failed.
        base_now: the present place of the run's base, if it differs from the recorded one.
        device: where to train.
        progress: called with the progress of training.
        tuning_progress: called with how many of the validation cases the new model has ranked.

    Returns:
        The new run's manifest; its `preference` says what was done and the NDCG@10 before and after.

    Raises:
        ArtefactError: the run is unfinished, or the new folder cannot be made or is being written.
        ConfigError: the run's model is not decoder-only.
        DataError: no training history has two items, or the model names nothing else than what was taken.
        ModelError: the run's base is missing or has changed.
    """
    check_reporters(recipe.report_to)
    manifest = RunManifest.read(run)
    check_target(out, "run")
    if out.resolve() == run.resolve():
        raise ArtefactError(f"--out {out} is the run itself, which is left as it is; choose another --out")
    if manifest.family != "causal":
        raise ConfigError([f"the run in {run} has a seq2seq base; preferences are learnt by decoder-only bases only"])
    kept = _unfinished(out)
    record = read_json(kept / BEGUN_FILE) if resume and (kept / BEGUN_FILE).exists() else None
    computing = choose_computing(device, recipe.precision, record, f"the training kept in {kept}")
    begun = {
        "recipe": recipe.model_dump(exclude={"tuning_cases", "report_to"}),
        "run": fingerprint(run / MANIFEST),
        **computing.to_json(),
    }
    with locked(out):
        _check_kept(out, kept, begun, resume)
        base = find_model("base", manifest, run, base_now)
        manifest = manifest.moved(run, out, base)
        trained = load_recipe(str(run / "recipe.yaml"))
        if recipe.tuning_cases is not None:
            trained = trained.model_copy(update={"tuning_cases": recipe.tuning_cases})
        split = data.split()
        valid = [case for case in split.valid if case.history.items]
        judged = sample_cases(valid, trained.tuning_cases or JUDGED, recipe.seed)
        done, before = read_trained(kept), None
        if done is None:
            check_space(out, 2 * folder_size(run), "the new run and what is kept of its training")
            recommender = assemble(run, manifest, computing, base)
            preferences = preference_pairs(recommender, split.train, recipe)
            before = run_ndcg(recommender, judged)
            tokens = recommender.decoder.trie.vocabulary.tolist() if manifest.loss == "catalogue" else None
            del recommender  # its model makes room for the one that is trained
            done = _train(run, base, kept, begun, recipe, trained, preferences, tokens, computing, progress)
        with keeping(
            f"the training is finished and kept in {kept}: correct the cause and start again with --resume, which "
            "goes on after the training; tuning_cases may be another then"
        ):
            if before is None:
                before = run_ndcg(assemble(run, manifest, computing, base), judged)
            told: dict[str, Any] = {}  # filled at the end of the block
            with new_folder(out, "run", told) as work:
                aside = shutil.ignore_patterns(MANIFEST, "adapter", "fusion.json", "evaluation", TENSORBOARD)
                shutil.copytree(run, work, ignore=aside, dirs_exist_ok=True)
                shutil.copytree(kept / "adapter", work / "adapter")
                if (kept / TENSORBOARD).is_dir():
                    shutil.copytree(kept / TENSORBOARD, work / TENSORBOARD)
                recommender = assemble(work, manifest, computing, base)
                no_weights = fit_fusion(lambda: recommender, split.valid, trained, work, tuning_progress)
                after = run_ndcg(recommender, judged)
                preference = {
                    "recipe": recipe.model_dump(),
                    **done,
                    "validation": {"cases": len(judged), **_compared(before, after)},
                }
                told |= manifest.changed(no_weights=no_weights, preference=preference).to_json()
        shutil.rmtree(kept, ignore_errors=True)
    return RunManifest.read(out, verify=False)


def _train(
    run: Path,
    base: str,
    kept: Path,
    begun: dict[str, Any],
    recipe: PreferenceRecipe,
    trained: Recipe,
    preferences: Sequence[Preference],
    tokens: Sequence[int] | None,
    computing: Computing,
    progress: Progress | None,
) -> dict[str, Any]:
    """Train the adapter, keep it in a folder of its own, and return what was done."""
    kept.mkdir(parents=True, exist_ok=True)
    try:
        return _train_into(run, base, kept, begun, recipe, trained, preferences, tokens, computing, progress)
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)  # half a training is of no use, as it has no checkpoints
        raise


def _train_into(
    run: Path,
    base: str,
    kept: Path,
    begun: dict[str, Any],
    recipe: PreferenceRecipe,
    trained: Recipe,
    preferences: Sequence[Preference],
    tokens: Sequence[int] | None,
    computing: Computing,
    progress: Progress | None,
) -> dict[str, Any]:
    write_json(kept / BEGUN_FILE, begun)
    reserve(kept / RESERVED_FILE, folder_size(run / "adapter") + KEPT_FREE)
    model, _ = backbone.load_base(base, computing.device, computing.dtype, trained.quantisation, trained.layers)
    if (added := ItemTokens.load(run)) is not None:
        model = added.added_to(model, model.get_output_embeddings())
    adapted, outcome = prefer(
        model,
        run / "adapter",
        backbone.load_tokenizer(base),
        preferences,
        recipe,
        catalogue_tokens=tokens,
        gradient_checkpointing=trained.gradient_checkpointing,
        logs=kept,
        progress=progress,
    )
    done = {
        **computing.to_json(),
        "pairs": len(preferences),
        "steps": outcome.steps,
        "seconds": round(outcome.seconds, 1),
        "first_loss": outcome.losses[0][1],
        "final_loss": outcome.losses[-1][1],
    }
    keep_training(adapted, kept, trained.base, done)
    return done


def _unfinished(out: Path) -> Path:
    """Return the folder that holds a finished training until the run around it is whole."""
    return out.with_name(f"{out.name}.unfinished")


def _check_kept(out: Path, kept: Path, begun: dict[str, Any], resume: bool) -> None:
    """Check that a training that was kept is the one to go on from; what a kill left of one is cleared away."""
    if read_trained(kept) is None:
        if (kept / BEGUN_FILE).exists() or (kept.is_dir() and not any(kept.iterdir())):
            shutil.rmtree(kept)
        elif kept.exists():
            raise ArtefactError(f"{kept} is in the way; move it, or choose another --out")
    elif not resume:
        raise ArtefactError(
            f"an earlier start for {out} finished its training, kept in {kept}; add --resume to go on after it, or "
            "delete it"
        )
    elif read_json(kept / BEGUN_FILE) != begun:
        raise ArtefactError(
            f"the training kept in {kept} had other settings or another run; resume it with the same, or delete it"
        )


def preference_pairs(
    recommender: Recommender, histories: Sequence[History], recipe: PreferenceRecipe
) -> list[Preference]:
    """Return pairs of what was taken last and what the model would sooner have named.

    Args:
        recommender: the model that is to learn.
        histories: training histories.
        recipe: how many.

    Raises:
        DataError: no history has two items, or the model names nothing else than what was taken.
    """
    cases = [
        Case(history.until(len(history.items) - 1), history.items[-1])
        for history in histories
        if len(history.items) > 1
    ]
    if not cases:
        raise DataError("no training history has two items, so there is nothing to prefer; give a longer log")
    chosen = sample_cases(cases, recipe.cases, recipe.seed)
    encoder, labels = recommender.encoder, recommender.catalog.labels
    left_out = recommender.excludes_seen(Settings())
    beams = max(BEAMS, recipe.negatives + 1)
    prompts, lists = model_lists(recommender.decoder, encoder, recommender.catalog, chosen, left_out, beams)
    preferences = []
    for case, prompt, rows in zip(chosen, prompts, lists, strict=True):
        target = recommender.catalog.row(case.target)
        better = encoder.answer(labels[target])
        worse = [row for row in rows.tolist() if row != target][: recipe.negatives]
        preferences += [Preference(prompt, better, encoder.answer(labels[row])) for row in worse]
    if not preferences:
        raise DataError(
            f"in none of {len(chosen)} training histories does the model name another item than the one taken, of "
            f"{len(recommender.catalog)} items; there is nothing to prefer, so keep the run as it is"
        )
    return preferences


def _compared(before: FloatArray, after: FloatArray) -> dict[str, float]:
    """Return both means and their difference, with the standard error over the same cases; nothing without cases."""
    if not len(before):
        return {}
    gain = after - before
    error = float(gain.std(ddof=1) / len(gain) ** 0.5) if len(gain) > 1 else 0.0
    return {
        f"ndcg@{K} before": float(before.mean()),
        f"ndcg@{K} after": float(after.mean()),
        "gain": float(gain.mean()),
        "standard error": error,
    }
