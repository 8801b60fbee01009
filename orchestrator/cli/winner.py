"""refit, predict, confirm and replay: what is done with a study's best trials."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.cli import streams
from orchestrator.errors import OrchError, UsageError


class Format(StrEnum):
    text = "text"
    json = "json"


def register(app: typer.Typer) -> None:
    app.command()(refit)
    app.command()(predict)
    app.command()(confirm)
    app.command()(replay)


def refit(
    name: o.NameArgument,
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="As model.keras.")],
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", help="Default: the winner.")
    ] = None,
    storage: o.StorageOption = None,
) -> None:
    """Train the winner on all training data, evaluate it once on the test set, save it.

    The winner is the best trial of the search, or of a confirmation that has ended.

    Example: orch refit demo --out model.keras
    """
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study, read_trials
    from orchestrator.winner.refit import refit as refit_winner
    from orchestrator.winner.text import refit_page

    database = open_database(storage)
    study = open_study(database, name)
    refitted = refit_winner(database, study, read_trials(database, study), out, trial)
    print(refit_page(refitted.provenance, streams.table_columns()))
    if refitted.evaluations > 1:
        print(
            f"the test set of this study has now been evaluated {refitted.evaluations} times; "
            "the more often, the less its figure says",
            file=sys.stderr,
        )
    print(f"{out} is written, with its provenance", file=sys.stderr)


def predict(
    name: o.NameArgument,
    out: Annotated[Path, typer.Option("--out", metavar="PATH.png")],
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="PATH", help="Of orch refit; default: the kept model."),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", metavar="N", min=1, max=500, help="How many.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Which ones.")] = 0,
    storage: o.StorageOption = None,
) -> None:
    """Draw random test digits with the model's predictions; wrong ones are marked.

    Of the kept model, the dashboard then shows the picture, a confusion matrix and the layers.

    Example: orch predict demo --out digits.png
    """
    from orchestrator.report.attached import attach
    from orchestrator.report.render import check_out, write_file
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study
    from orchestrator.winner.predict import draw_predictions, explain
    from orchestrator.winner.predict import predict as predict_digits

    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} must end in .png, as digits.png")
    check_out(out)
    database = open_database(storage)
    study = open_study(database, name)
    predictions = predict_digits(database, study, model, count, seed)
    right = sum(each.predicted == each.label for each in predictions)
    title = f"{name}: {right} of {len(predictions)} right"
    write_file(draw_predictions(predictions, title), out)
    for each in predictions:
        verdict = "right" if each.predicted == each.label else f"wrong, it is {each.label}"
        print(f"test {each.index}: {each.predicted} ({each.probability:.3f}), {verdict}")
    print(f"{right} of {len(predictions)} right; drawn in {out}", file=sys.stderr)
    if model is None:
        number, pictures = explain(database, study, predictions)
        attach(database, study, number, pictures)
        print(f"the dashboard shows it in the artifacts of trial {number}", file=sys.stderr)


def confirm(
    name: o.NameArgument,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="How many of the best.")
    ] = 3,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", min=2, help="Fresh seeds for each.")
    ] = 5,
    workers: o.WorkersOption = None,
    gpus: o.GpusOption = None,
    format: Annotated[Format, typer.Option("--format")] = Format.text,
    storage: o.StorageOption = None,
) -> int:
    """Retrain the best trials with fresh seeds: is the winner really better?

    It is a study of its own, NAME-confirm, which 'orch worker NAME-confirm' may join.

    Example: orch confirm demo --top 3 --seeds 5 --workers 2
    """
    from orchestrator.cli.session import local_workers, work_quietly
    from orchestrator.report.confirmation import confirmed, keep_confirmation
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study, read_trials
    from orchestrator.winner.confirm import confirm_study
    from orchestrator.winner.text import confirm_page

    local = local_workers(workers, gpus)
    database = open_database(storage)
    study = open_study(database, name)
    trials = read_trials(database, study)
    confirming = confirm_study(database, study, trials, top, seeds)
    code = work_quietly(database, confirming, local)
    if code:
        return code
    keep_confirmation(database, confirming)
    found = confirmed(trials, read_trials(database, confirming), study.spec.study.maximize)
    if format is Format.json:
        print(json.dumps([json.loads(each.model_dump_json()) for each in found], indent=2))
    else:
        print(confirm_page(study.spec.study.metrics[0], found, streams.table_columns()))
    return 0


def replay(
    name: o.NameArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="The trial's number.")],
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance", metavar="NUMBER", min=0, help="The largest difference that passes."
        ),
    ] = 0.0,
    storage: o.StorageOption = None,
) -> None:
    """Train a trial again, and compare each value with the record: reported and returned ones.

    Example: orch replay demo 3
    """
    from orchestrator.storage.schema import open_database
    from orchestrator.storage.studies import open_study, read_trials
    from orchestrator.winner.replay import replay as replay_trial
    from orchestrator.winner.text import replay_page, replay_verdict

    database = open_database(storage)
    study = open_study(database, name)
    replayed = replay_trial(study, read_trials(database, study), trial)
    rounds, columns = study.spec.training.rounds, streams.table_columns()
    print(replay_page(replayed, study.spec.study.metrics, rounds, columns))
    found = replayed.largest_difference
    if found > tolerance:
        raise OrchError(
            f"trial {trial} does not replay: a value differs by {found:.3g}, more than "
            f"{tolerance:g}; another processor or TensorFlow rounds differently (--tolerance)"
        )
    print(replay_verdict(replayed, tolerance))
