"""Who may log in to the embedded server: its system user as administrator, others by password.

The kernel tells the server which user of this machine is at the other end of a socket (peer).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from orchestrator.base.files import write_whole
from orchestrator.storage.programs import SystemUser

ADMINISTRATOR = "postgres"
_MAP = "orch"


def protect(data: Path, user: SystemUser) -> bool:
    """Rewrite what lets users in without a check, as versions before 0.1 left it.

    Args:
        data: the server's data folder.
        user: whom the server runs as.

    Returns:
        Whether anything was changed; a running server must then read its files again.
    """
    users = {user.name, SystemUser.of(os.geteuid()).name}
    changed = _rewrite(data / "pg_ident.conf", lambda text: _with_map(text, users), user)
    return _rewrite(data / "pg_hba.conf", without_trust, user) or changed


def without_trust(text: str) -> str:
    """A ``pg_hba.conf`` in which each rule that trusts asks for the user or a password."""
    lines: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if line.lstrip().startswith("#") or "trust" not in words[3:6]:
            lines.append(line)
        elif words[0] == "local":
            lines += _checked(words[1], words[2].split(","))
        else:
            place = words.index("trust", 3)
            lines.append(" ".join([*words[:place], "scram-sha-256"]))
    return "\n".join(lines) + "\n" if lines else ""


def _checked(database: str, users: list[str]) -> list[str]:
    lines = []
    if {ADMINISTRATOR, "all"} & set(users):
        lines.append(f"local {database} {ADMINISTRATOR} peer map={_MAP}")
    others = [each for each in users if each != ADMINISTRATOR]
    if others:
        lines.append(f"local {database} {','.join(others)} scram-sha-256")
    return lines


def _with_map(text: str, users: set[str]) -> str:
    others = [line for line in text.splitlines() if line.split()[:1] != [_MAP]]
    return (
        "\n".join([*others, *(f'{_MAP} "{each}" {ADMINISTRATOR}' for each in sorted(users))]) + "\n"
    )


def _rewrite(path: Path, change: Callable[[str], str], user: SystemUser) -> bool:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    wanted = change(text)
    if wanted == text:
        return False
    fresh = path.with_name(f"{path.name}.orch")
    write_whole(fresh, wanted.encode(), private=True)
    user.own(fresh)  # the server reads it
    fresh.replace(path)
    return True
