"""Each fact that orch stores has its name in one file."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.base import facts

ROOT = Path(__file__).parents[2]
_NAME = re.compile(r"""["'](orch:[a-z_]+)["']""")


_ALL = {value: key for key, value in vars(facts).items() if key.isupper() and key != "PREFIX"}


def _read(pattern: str) -> str:
    return "".join(file.read_text() for file in (ROOT / "orchestrator").rglob(pattern))


def test_every_fact_that_the_sql_uses_is_in_facts_py() -> None:
    names = set(_NAME.findall(_read("*.sql")))
    assert names and names - set(_ALL) == set()


def test_every_fact_in_facts_py_is_used() -> None:
    python, sql = _read("*.py"), _read("*.sql")
    unused = [
        key
        for value, key in _ALL.items()
        if f"'{value}'" not in sql and len(re.findall(rf"\b{key}\b", python)) < 2
    ]
    assert unused == []
