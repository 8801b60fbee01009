"""Commands: a program and its arguments, with the parameters of a trial in their places."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_PREFIX = "command:"
# As in Python's format strings; what stands alone is a mistake.
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLAIN = re.compile(r"[\w@%+=:,./{}^-]+", re.ASCII)


def is_command(reference: str) -> bool:
    """Whether the objective of a study is a command."""
    return reference.startswith(_PREFIX)


def command_reference(arguments: Sequence[Any]) -> str:
    """A command as a study's objective: one text, as a shell would read it.

    Example:
        command_reference(["python", "train.py", "--lr", "{lr}"])
        # "command:python train.py --lr {lr}"

    Raises:
        ValueError: an argument is not text, or a brace stands alone.
    """
    if isinstance(arguments, str) or not arguments:
        raise ValueError('a command is a list of its arguments, e.g. ["python", "train.py"]')
    for each in arguments:
        if not isinstance(each, str):
            raise ValueError(f'an argument of a command must be a string; write "{each}"')
        if "\0" in each:
            raise ValueError("an argument of a command cannot hold a NUL character")
        list(_parts(each))
    if not arguments[0]:
        raise ValueError("the first argument of a command names its program, and it is empty")
    quoted = [each if _PLAIN.fullmatch(each) else shlex.quote(each) for each in arguments]
    return _PREFIX + " ".join(quoted)


def reference_of(written: object) -> str:
    """The objective that a document has: a text, or a command as a list.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(written, list | tuple):
        return command_reference(written)
    if isinstance(written, str) and is_command(written):
        return command_reference(arguments_of(written))
    return str(written)


def arguments_of(reference: str) -> list[str]:
    """The reverse of :func:`command_reference`.

    Raises:
        ValueError: a quotation is not closed.
    """
    return shlex.split(reference.removeprefix(_PREFIX))


def placeholders(argument: str) -> list[str]:
    """The names of the parameters in an argument."""
    return [name for _, name in _parts(argument) if name is not None]


def filled(arguments: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The arguments of one trial.

    An argument of a parameter that the trial does not have is left out, and so is an option that
    stands alone before it: of ``--momentum {momentum}``, both.

    Args:
        arguments: of the command.
        values: the parameters as text.
    """
    words: list[str] = []
    for place, argument in enumerate(arguments):
        if any(name not in values for name in placeholders(argument)):
            before = arguments[place - 1] if place > 1 else ""
            if _is_option(before):
                words.pop()
            continue
        parts = (text if name is None else values[name] for text, name in _parts(argument))
        words.append("".join(parts))
    return words


def _is_option(argument: str) -> bool:
    """Whether an argument may be an option whose value is the next argument."""
    alone = "=" not in argument and not placeholders(argument)
    return alone and argument.startswith("-") and argument.strip("-") != ""


def name_of(arguments: Sequence[str]) -> str:
    """What a study of this command is called where nobody names it: its script, or its program."""
    scripts = [
        each
        for each in arguments[1:]
        if Path(each).suffix and not each.startswith("-") and not placeholders(each)
    ]
    return Path(scripts[0] if scripts else arguments[0]).stem


def _parts(argument: str) -> Iterator[tuple[str, str | None]]:
    """The texts of an argument, and the names of the placeholders between them."""
    end = 0
    for token in _TOKEN.finditer(argument):
        if end < token.start():
            yield argument[end : token.start()], None
        end = token.end()
        if token[0] in ("{{", "}}"):
            yield token[0][0], None
        elif token[1]:
            yield "", token[1]
        else:
            raise ValueError(
                f"'{token[0]}' in the argument '{argument}' is not a parameter in braces; write "
                "{{ and }} for braces of its own"
            )
    if end < len(argument):
        yield argument[end:], None
