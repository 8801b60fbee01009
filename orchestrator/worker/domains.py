"""The spec's domains, held against what a function suggests: it tells its own only as it runs."""

from __future__ import annotations

import ast
import contextlib
import logging
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from optuna.distributions import BaseDistribution

from orchestrator.errors import UsageError, WrongUse, nearest_of_all
from orchestrator.search.space import check_domain
from orchestrator.spec.domains import Domain
from orchestrator.worker.endings import is_users

_log = logging.getLogger("orch")

# Where a format string has its values.
_FIELD = re.compile(r"\{[^}]*\}|%[sdrif]")
_WORD = re.compile(r"\w+")


class SpecDomains:
    """The domains of ``[space]``; one object for all trials of a worker.

    Args:
        domains: the spec's.
        are_suggested: the objective is a function, so that its names show only as it suggests them.
    """

    def __init__(self, domains: Mapping[str, Domain], are_suggested: bool) -> None:
        self._domains = domains
        self._waiting = set(domains) if are_suggested else set()
        self._said: set[str] = set()

    def check(self, name: str, own: BaseDistribution) -> None:
        """Check the spec's domain of a parameter, if it has one, at the function's suggestion.

        Raises:
            WrongUse: the function cannot take it.
        """
        if name in self._domains:
            try:
                check_domain(name, self._domains[name], own)
            except UsageError as error:
                raise WrongUse(str(error)) from None

    def check_names(self, suggested: Collection[str]) -> None:
        """Look whether a trial has suggested every parameter of ``[space]``.

        A function may suggest some of its parameters in some of its trials alone, so a name counts
        as unknown where the user's code cannot make it; of others a warning is said, once.

        Args:
            suggested: what the trial has drawn when it reports its first value or ends.

        Raises:
            WrongUse: there is no parameter of a name.
        """
        self._waiting -= set(suggested)
        new = sorted(self._waiting - self._said)
        if not new:
            return
        self._said |= self._waiting
        words = Words(_sources())
        reads_all = all(map(words.can_make, suggested))
        for name in new:
            known = nearest_of_all(name, suggested)
            if reads_all and not words.can_make(name):
                raise WrongUse(f"unknown parameter space.{name}; {known}")
            _log.warning("space.%s has not been suggested so far; %s", name, known)


class Words:
    """The texts in source code, and the names that it could make of them."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._texts: set[str] = set()
        self._words: set[str] = set()  # of which the texts consist
        # Of texts that the code fills in, as f"units_{layer}".
        self._parts: set[str] = set()
        for source in sources:
            with contextlib.suppress(SyntaxError, ValueError):
                self._read(ast.parse(source))

    def can_make(self, name: str) -> bool:
        """Whether a name is in the code, or may be put together of what is."""
        return name in self._words or any(
            self._makes(name, text, text in self._parts) for text in self._texts | self._parts
        )

    def _makes(self, name: str, text: str, is_part: bool) -> bool:
        if not (name.startswith(text) or name.endswith(text)):
            return False
        rest = name.removeprefix(text) if name.startswith(text) else name.removesuffix(text)
        joined = len(rest) > 1 and rest.strip("_/.") in self._texts
        generated = joined or not any(map(str.isalpha, rest))
        return generated or (is_part and len(text) > 1)

    def _read(self, tree: ast.AST) -> None:
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in prose:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._texts.add(node.value)
                self._words |= {node.value, *_WORD.findall(node.value)}
                pieces = _FIELD.split(node.value)
                self._parts.update(pieces if len(pieces) > 1 else ())
            elif isinstance(node, ast.JoinedStr):
                self._parts.update(_strings(node.values))
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
                self._parts.update(_strings([node.left, node.right]))
        self._texts.discard("")
        self._parts.discard("")


def _strings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _sources() -> Iterator[str]:
    """The source of the user's own modules, as far as they are imported here."""
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "")
        if path.suffix == ".py" and is_users(path):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                yield path.read_text(encoding="utf-8")
