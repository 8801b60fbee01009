"""refit, predict, confirm and replay: what is done with a study's best trials."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import options as o
from orchestrator.cli.terminal import interrupts, say_stopped
from orchestrator.errors import OrchError


class Format(StrEnum):
    text = "text"
    json = "json"


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
    from orchestrator import load_study

    refitted = load_study(name, storage=storage).refit(out, trial=trial)
    print(refitted)
    if refitted.evaluations > 1:
        print(
            f"the test set of this study has now been evaluated {refitted.evaluations} times; "
            "the more often, the less its figure says",
            file=sys.stderr,
        )
    print(f"{out} is written, with its provenance", file=sys.stderr)
    if not refitted.is_whole:
        print(
            f"{out} holds the weights alone, because Keras cannot save this model whole; "
            f"orch predict {name} --model {out} builds the model again",
            file=sys.stderr,
        )


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
    """Predict random test examples, and draw them: what the model says beside what is true.

    Without a test set, validation examples. Classes and labels are shown below images, numbers in a
    scatter plot, images below their input, and else a table of counts. Of the kept model, the
    dashboard then shows the picture, a confusion matrix and the layers.

    Example: orch predict demo --out digits.png
    """
    from orchestrator import load_study

    study = load_study(name, storage=storage, upgrade=False)
    predictions = study.predict(out, model=model, count=count, seed=seed)
    print(predictions)
    drawn = len(predictions.missing) < len({each.output for each in predictions})
    print(f"{predictions.verdict}{f'; drawn in {out}' if drawn else ''}", file=sys.stderr)
    for reason in predictions.missing[: None if drawn else -1]:
        print(reason, file=sys.stderr)
    if predictions.trial is not None:
        print(
            f"the dashboard shows it in the artifacts of trial {predictions.trial}",
            file=sys.stderr,
        )
    if not drawn:
        raise OrchError(predictions.missing[-1])


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
    from orchestrator import load_study
    from orchestrator import workers as local

    local.check(workers=workers, gpus=gpus)
    study = load_study(name, storage=storage)
    try:
        with interrupts():
            found = study.confirm(top=top, seeds=seeds, workers=workers, gpus=gpus)
    except KeyboardInterrupt:
        rest = "nothing is lost. Run the same command to continue"
        return say_stopped(lambda: load_study(f"{name}-confirm", storage=storage), rest)
    print(found.to_json() if format is Format.json else found)
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
    from orchestrator import load_study

    replayed = load_study(name, storage=storage).replay(trial)
    print(replayed)
    found = replayed.largest_difference
    if found > tolerance:
        raise OrchError(
            f"trial {trial} does not replay: a value differs by {found:.3g}, more than "
            f"{tolerance:g}; another processor or TensorFlow rounds differently (--tolerance)"
        )
    print(replayed.verdict(tolerance))
