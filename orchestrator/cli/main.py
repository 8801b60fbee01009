"""The app and its errors: one line on standard error, the documented exit code."""

from __future__ import annotations

import contextlib
import inspect as introspection
import os
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from orchestrator.cli import launch, reports, run, server, studies, terminal, winner
from orchestrator.cli.options import TakesCommand
from orchestrator.cli.terminal import INTERRUPTED, quieten_tensorflow
from orchestrator.errors import (
    OrchError,
    StorageError,
    StorageRefused,
    Unstorable,
    UsageError,
    printable,
)

app = typer.Typer(
    name="orch",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help is instant, and the same in every terminal
    help="Distributed hyperparameter studies on Optuna and PostgreSQL.\n\n"
    "Start with: orch run digits --trials 12 --workers 2",
)
for verb in (
    run.run,
    run.create,
    run.resume,
    run.worker,
    studies.enqueue,
    studies.list_,
    studies.show,
    studies.logs,
    studies.stop,
    studies.delete,
    reports.watch,
    reports.report,
    reports.best,
    reports.space,
    reports.compare,
    winner.refit,
    winner.predict,
    winner.confirm,
    winner.replay,
    server.dashboard,
    server.tensorboard,
    server.doctor,
):
    kind = TakesCommand if verb in (run.run, run.create) else None
    app.command(verb.__name__.rstrip("_"), cls=kind)(verb)
app.add_typer(server.app, name="db")
app.add_typer(studies.import_app, name="import")
app.add_typer(launch.app, name="launch")


def _list_whole_sentences(app: typer.Typer) -> None:
    # Of a long first sentence, the list of commands would show the beginning and "...".
    for command in app.registered_commands:
        text = introspection.getdoc(command.callback) or ""
        command.short_help = " ".join(text.split("\n\n")[0].split())
    for group in app.registered_groups:
        if group.typer_instance is not None:
            group.short_help = group.typer_instance.info.help
            _list_whole_sentences(group.typer_instance)


_list_whole_sentences(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        import platform
        from importlib.metadata import version

        from orchestrator import __version__

        python = platform.python_version()
        print(f"orch {__version__} (Python {python}, Optuna {version('optuna')})")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions of orch, Python and Optuna, and end.",
        ),
    ] = False,
) -> None:
    if debug:
        os.environ["ORCH_DEBUG"] = "1"
        _log_everything()


def _log_everything() -> None:
    """Show what is logged in this process, e.g. why a section of a report is missing."""
    import logging

    log = logging.getLogger("orch")
    log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.DEBUG)


def main() -> None:
    """The ``orch`` command."""
    terminal.make_encodable()
    with contextlib.suppress(OSError):  # a folder that was removed
        # Last, so that it hides nothing: for what an objective imports later than at its top.
        sys.path.append(os.getcwd())
    if "--debug" not in sys.argv:
        quieten_tensorflow()
    try:
        code = app(standalone_mode=False)
    except OrchError as error:
        _end(error, str(error), exit_code(error))
    except TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export it
            print(error.format_message(), file=sys.stderr)  # the help, on its lines
            sys.exit(exit_code(UsageError()))
        _end(error, error.format_message(), error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as error:
        _end(error, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


# Of the nearest class that is named here.
_EXIT_CODES: dict[type[OrchError], int] = {
    OrchError: 1,
    UsageError: 2,
    StorageError: 3,
    StorageRefused: 1,
    Unstorable: 1,
}


def exit_code(error: OrchError) -> int:
    """What the command ends with."""
    return next(_EXIT_CODES[each] for each in type(error).__mro__ if each in _EXIT_CODES)


def _end(error: BaseException, message: str, code: int) -> None:
    if os.environ.get("ORCH_DEBUG"):
        raise error
    line = printable(" ".join(message.split()))
    if line:
        print(f"orch: {line}", file=sys.stderr)
    sys.exit(code)
