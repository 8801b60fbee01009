"""The handover: objectives and data that exist only as objects, for this process and its workers.

A function from a cell, a script, a closure or a lambda has no name that another process could
import. Whoever holds it lends it to orch (:func:`lent`), and hands it to worker processes through
their pipes, pickled by value. It never goes through the database.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import os
import pickle
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType
from typing import Any

from orchestrator.errors import ObjectiveError
from orchestrator.spec.command import is_command
from orchestrator.training.base import Objective

ARRAYS = "arrays:"  # and the start of their digest
_KERAS_TUNER = "kt:"
_LARGE_BYTES = 64 * 1024**2
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class Handover:
    """An objective, or a study's data, as an object.

    Attributes:
        reference: what a study stores in its place: where it can be imported, or where it is from.
        target: the object.
        digest: the SHA-256 of its source, or of its code where there is no source.
    """

    reference: str
    target: Any
    digest: str | None = None

    @property
    def name(self) -> str:
        """Its own name, without that of its module."""
        attribute = self.reference.rpartition(":")[2].removesuffix("()")
        return attribute.rpartition(".")[2].strip("<>")

    def pickled(self) -> bytes | None:
        """The object for another process; None: that finds it under the reference.

        Raises:
            ObjectiveError: it cannot be pickled; the message names the variable.
        """
        if not is_by_value(self.reference):
            return None
        if not callable(self.target) and not isinstance(self.target, Objective):
            raise ObjectiveError(
                f"the data are a {self.name}, which cannot be handed to worker processes; give a "
                "function that makes them, or run with workers=0"
            )
        target = _pickled(self.target)
        if len(target) > _LARGE_BYTES:
            warnings.warn(
                f"the objective {self.name} holds {len(target) / 1024**2:.0f} MiB, which every "
                "worker process gets as a copy; hand large arrays over with data=",
                stacklevel=5,
            )
        return target


def message(handovers: Iterable[Handover]) -> bytes | None:
    """What a worker process reads from its pipe; :func:`read` and :func:`take` undo it.

    Returns:
        None: nothing is handed over.

    Raises:
        ObjectiveError: something cannot be pickled; the message names the variable.
    """
    contents = [(each.reference, each.digest, each.pickled()) for each in handovers]
    if not contents:
        return None
    path = [each or os.getcwd() for each in sys.path]
    content = pickle.dumps((path, contents))
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


_lent: ContextVar[tuple[Handover, ...]] = ContextVar("orch_handed_over", default=())


@contextmanager
def lent(handovers: Iterable[Handover]) -> Iterator[None]:
    """Find these under their references inside the block, in this thread."""
    token = _lent.set(tuple(handovers))
    try:
        yield
    finally:
        _lent.reset(token)


def is_handed_over(reference: str) -> bool:
    """Whether this process was handed that object, or told that it can import it."""
    return any(each.reference == reference for each in _lent.get())


def find(reference: str) -> Handover | None:
    """The object of that reference, where it is handed over by value or kept in memory."""
    for each in _lent.get():
        if each.reference == reference and each.target is not None and not _is_name(reference):
            return each
    return None


def read(pipe: int) -> bytes | None:
    """What the supervisor has written for us; None: it has ended."""
    length = _read_exactly(pipe, _LENGTH_BYTES)
    return None if length is None else _read_exactly(pipe, int.from_bytes(length, "big"))


def take(content: bytes) -> None:
    """Become a process that runs what was handed over: with its modules' folders on the path.

    For a process of ours, after it has imported what it needs itself.
    """
    path, contents = pickle.loads(content)
    sys.path[:0] = [path[0]] if path[:1] != sys.path[:1] else []
    sys.path += [folder for folder in path if folder not in sys.path]
    sys.argv = [contents[0][0].rpartition(":")[0]]
    _lent.set(
        tuple(
            Handover(reference, None if target is None else pickle.loads(target), digest)
            for reference, digest, target in contents
        )
    )


def hand_over(objective: Any) -> Handover:
    """An objective of Python as what a study stores, and what its workers are given.

    Args:
        objective: a function of an ``optuna.Trial``, an :class:`Objective` (class or object), or a
            KerasTuner ``HyperModel``.

    Raises:
        ObjectiveError: it is none of them.
    """
    prefix, named = "", objective
    if _is_hypermodel(objective):
        from orchestrator.training.keras_tuner import KerasTunerObjective

        objective = KerasTunerObjective(objective)
    if isinstance(objective, Objective):
        built = getattr(objective, "hypermodel", None)
        if built is not None:
            prefix, named = _KERAS_TUNER, built
    elif not callable(objective):
        raise ObjectiveError(
            f"{objective!r} is not a valid objective; give a name, a function of a trial, an "
            "Objective, a HyperModel, or KerasObjective(build_model)"
        )
    return Handover(prefix + reference_of(named), objective, digest_of(named))


def is_by_value(reference: str) -> bool:
    """Whether no other process can import an objective, so that it must be handed over."""
    if is_command(reference):
        return False
    module, _, attribute = reference.removeprefix(_KERAS_TUNER).rpartition(":")
    return module == "__main__" or "<" in attribute or attribute.endswith("()")


def is_arrays(reference: str) -> bool:
    """Whether it stands for data that Python has handed over, and this machine keeps."""
    return reference.startswith(ARRAYS)


def _is_name(reference: str) -> bool:
    return not is_by_value(reference) and not is_arrays(reference)


def by_value_only(reference: str) -> ObjectiveError:
    """What to say where an objective was not handed over."""
    return ObjectiveError(
        f"the objective {reference} is part of a notebook or script, and only its own process can "
        "hand it to workers; give it with load_study(NAME, objective=…), or move it into a module "
        "that every worker can import"
    )


def reference_of(target: Any) -> str:
    """Under which name an object is found, or handed over."""
    if isinstance(target, functools.partial):
        return f"{_module_of(target.func)}:{_name_of(target.func)}()"
    owner = target if hasattr(target, "__qualname__") else type(target)
    module = _module_of(owner)
    if owner is not target:  # an object may have a name in its module
        known = vars(sys.modules.get(module, object)).items()
        names = [name for name, value in known if value is target]
        return f"{module}:{names[0]}" if names else f"{module}:{owner.__qualname__}()"
    name = _name_of(target)
    if module == "__main__" or "<" in name or _found(module, name) is target:
        return f"{module}:{name}"
    return f"{module}:{name}()"  # its name leads to something else: a bound method, a decorator's


def _module_of(owner: Any) -> str:
    return str(getattr(owner, "__module__", None) or "__main__")


def _name_of(owner: Any) -> str:
    return str(getattr(owner, "__qualname__", type(owner).__qualname__))


def _found(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_hypermodel(objective: Any) -> bool:
    kind = objective if isinstance(objective, type) else type(objective)
    return any(
        each.__name__ == "HyperModel" and each.__module__.startswith("keras_tuner")
        for each in kind.__mro__
    )


def digest_of(target: Any) -> str | None:
    """The SHA-256 of an object's source, or of its code where there is no source."""
    while isinstance(target, functools.partial):
        target = target.func
    owner = inspect.unwrap(target) if isinstance(target, FunctionType | type) else target
    if isinstance(owner, MethodType):
        owner = owner.__func__
    if not isinstance(owner, FunctionType | type):
        owner = type(owner)
    try:
        content = inspect.getsource(owner).encode()
    except (OSError, TypeError):  # typed in, or made by exec
        content = "\n".join(_code_lines(owner)).encode()
    return hashlib.sha256(content).hexdigest() if content else None


def _code_lines(owner: FunctionType | type) -> Iterator[str]:
    """What a function or the methods of a class do, without the names of their files."""
    if isinstance(owner, FunctionType):
        yield from _instructions(owner.__code__)
        return
    for name, value in sorted(vars(owner).items()):
        function = getattr(value, "__func__", value)
        if isinstance(function, FunctionType):
            yield name
            yield from _instructions(function.__code__)


def _instructions(code: CodeType) -> Iterator[str]:
    for each in dis.get_instructions(code):
        if isinstance(each.argval, CodeType):
            yield from _instructions(each.argval)
        elif isinstance(each.argval, frozenset):  # its order differs from process to process
            yield f"{each.opname} {sorted(map(repr, each.argval))}"
        else:
            yield f"{each.opname} {each.argval!r}"


def _pickled(target: Any) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(target))
    except Exception as error:  # whatever an object raises that does not like to be pickled
        named = _culprit(target, set())
        what = "the objective" if named is None else f"its variable '{named[0]}' ({named[1]})"
        raise ObjectiveError(
            f"the objective cannot be handed to worker processes: {what} cannot be pickled "
            f"({' '.join(str(error).split())}); make it inside the function, or run with workers=0"
        ) from None


def _culprit(target: Any, seen: set[int]) -> tuple[str, str] | None:
    """The name and kind of the variable that cannot be pickled, however deep."""
    import cloudpickle

    seen.add(id(target))
    for name, value in _variables(target).items():
        if id(value) in seen:
            continue
        try:
            cloudpickle.dumps(value)
        except Exception:
            return _culprit(value, seen) or (name, type(value).__name__)
    return None


def _variables(target: Any) -> Mapping[str, Any]:
    """What is pickled along with an object, by its name in the user's code."""
    if isinstance(target, functools.partial):
        return {"func": target.func, **_arguments(target), **target.keywords}
    if isinstance(target, MethodType):
        return {"self": target.__self__}
    if isinstance(target, FunctionType):
        cells = zip(target.__code__.co_freevars, target.__closure__ or (), strict=False)
        names = set(_global_names(target.__code__))
        used = {name: value for name, value in target.__globals__.items() if name in names}
        return {**used, **{name: _content(cell) for name, cell in cells}}
    return getattr(target, "__dict__", {})


def _arguments(target: functools.partial[Any]) -> dict[str, Any]:
    return {f"argument {place + 1}": value for place, value in enumerate(target.args)}


def _global_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _read_exactly(pipe: int, length: int) -> bytes | None:
    content = bytearray()
    while len(content) < length:
        part = os.read(pipe, min(length - len(content), 1 << 20))
        if not part:
            return None
        content += part
    return bytes(content)
