"""The command behind ``--``, for verbs that take one as the objective."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

_KEY = "orchestrator.command"


class TakesCommand(TyperCommand):
    """A verb that leaves all words behind the first ``--`` to :func:`command_of`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            place = args.index("--")
            ctx.meta[_KEY] = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


def command_of(context: typer.Context) -> list[str] | None:
    """The command and its arguments; None: there is no ``--``."""
    found: list[str] | None = context.meta.get(_KEY)
    return found
