"""Consent: a stored command runs only where its user has given the same command.

Whoever may write to a shared database may write a command into it. So a machine runs one only if
this user has given it here before, or has allowed it with ``--allow-command``. ``$ORCH_HOME``
remembers that by a SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from orchestrator.base.files import home
from orchestrator.errors import StudyFailed
from orchestrator.spec.command import is_command
from orchestrator.spec.model import StudySpec

_given: set[str] = set()  # in this process, should $ORCH_HOME be closed to us


def remember_command(spec: StudySpec) -> None:
    """The user has just given this command, or allowed it."""
    if not is_command(spec.study.objective):
        return
    digest = _digest(spec)
    _given.add(digest)
    with contextlib.suppress(OSError):
        path = _path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)


def is_given(spec: StudySpec) -> bool:
    """Whether this user has given the study's command here before; True of other objectives."""
    if not is_command(spec.study.objective):
        return True
    digest = _digest(spec)
    return digest in _given or _path(digest).exists()


def check_consent(spec: StudySpec, allow: bool = False) -> None:
    """Refuse a command that came from a database alone.

    Args:
        spec: the stored study.
        allow: the user has looked at it.

    Raises:
        StudyFailed: the user has not given it here; the message has the command.
    """
    if allow or is_given(spec):
        return
    name = spec.study.name
    raise StudyFailed(
        f"study '{name}' runs a command that you have not given on this machine; if you trust it, "
        f"add --allow-command: {_escaped(spec.study.objective.removeprefix('command:'))}"
    )


def _escaped(text: str) -> str:
    """The text with an escape for each character that a terminal would not simply print."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _digest(spec: StudySpec) -> str:
    # With the space: its texts become arguments.
    document = spec.document()
    given = [document["study"]["objective"], document.get("space", {})]
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _path(digest: str) -> Path:
    return home() / "commands" / digest
