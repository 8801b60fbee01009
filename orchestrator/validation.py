"""Validation: what is wrong with a document that a pydantic model refuses, in one line."""

from __future__ import annotations

import json
import re

from pydantic import BaseModel, ValidationError

from orchestrator.errors import nearest

_KIND = re.compile(r"(str|tuple\[.*|literal\[.*)$")


def first_fault(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first fault of a pydantic error: its key, what is wrong, the mend.

    Args:
        error: what validating raised.
        model: what was validated.
        prefix: of its keys, where it is a table of a spec: ``"sampler."``.
    """
    fault = error.errors()[0]
    # Where a key takes one value or a list, pydantic adds the kind that it tried.
    location = [str(part) for part in fault["loc"] if not _KIND.match(str(part))]
    key = prefix + ".".join(location)
    if fault["type"] == "extra_forbidden":
        known = _keys_beside(model, location[:-1])
        return f"unknown key {key}; {nearest(location[-1], known)}"
    if fault["type"] == "missing":
        return f"{key} is missing"
    message = str(fault["msg"]).removeprefix("Value error, ")
    given = fault["input"]
    shown = "" if isinstance(given, dict | BaseModel) else f" (given: {show(given)})"
    # A rule between two sections has no key of its own; its message names both.
    return (f"{key}: " if location else "") + f"{message[:1].lower()}{message[1:]}{shown}"


def show(value: object) -> str:
    """A value of a document as a message has it."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _keys_beside(model: type[BaseModel], parents: list[str]) -> list[str]:
    for name in parents:
        field = model.model_fields.get(name)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
