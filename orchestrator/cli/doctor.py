"""doctor: is this machine ready?"""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import options as o


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor(
    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="Does this machine fit this study?")
    ] = None,
    storage: o.StorageOption = None,
) -> int:
    """Check storage, clocks, data, TensorFlow, GPUs and disk; each line ok or the mend.

    A note is about what only some studies need, as MNIST.

    Example: orch doctor mlp --storage postgresql://orch@db.lab/orch
    """
    from orchestrator.doctor import examine

    healthy = True
    for finding in examine(storage, study):
        print(finding.line())
        healthy = healthy and (finding.ok or not finding.needed)
    return 0 if healthy else 1
