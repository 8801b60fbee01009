"""StudySpec: what a study is. TOML in and out, validation, differences."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tomlkit
from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from orchestrator.domains import Domain, parse_domain
from orchestrator.errors import UsageError
from orchestrator.sections import (
    DataSection,
    PrunerSection,
    SamplerSection,
    Section,
    StorageSection,
    StudySection,
    TerminatorSection,
    TrainingSection,
    WorkerSection,
)
from orchestrator.validation import first_fault, show

SpaceDomain = Annotated[
    InstanceOf[Domain],
    BeforeValidator(parse_domain),
    PlainSerializer(lambda domain: domain.document()),
]


class StudySpec(Section):
    """The whole specification of a study. Immutable; equal specs are the same study."""

    study: StudySection
    sampler: SamplerSection = SamplerSection()
    pruner: PrunerSection = PrunerSection()
    terminator: TerminatorSection = TerminatorSection()
    training: TrainingSection = TrainingSection()
    data: DataSection = DataSection()
    objective: dict[str, Any] = Field(
        default_factory=dict, description="Options of the objective itself."
    )
    worker: WorkerSection = WorkerSection()
    storage: StorageSection = StorageSection()
    space: dict[str, SpaceDomain] = Field(
        default_factory=dict, description="Replaces or adds domains of the objective's own space."
    )

    @model_validator(mode="after")
    def _one_way_to_validate(self) -> StudySpec:
        if self.training.folds and self.data.validation is not None:
            raise ValueError(
                "data.validation and training.folds exclude each other: folds validate on every "
                "training example once; leave one out"
            )
        return self

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> StudySpec:
        """Validate a spec document (TOML's tables as dictionaries).

        Raises:
            UsageError: names the key, what is wrong with it, and the nearest known name.
        """
        try:
            return cls.model_validate(dict(document))
        except ValidationError as error:
            raise UsageError(first_fault(error, cls)) from None

    def document(self) -> dict[str, Any]:
        """The spec as plain JSON-able tables, keys that are not set left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def to_toml(self) -> str:
        """The spec as a TOML file that :meth:`parse` takes back."""
        tables = {key: table for key, table in self.document().items() if table}
        space = tables.pop("space", None)
        file = tomlkit.document()
        for name, values in tables.items():
            file.add(name, _toml_table(values))
        if space:
            file.add("space", _toml_table(space))
        return tomlkit.dumps(file)

    def fingerprint(self) -> str:
        """SHA-256 of everything but the budget: equal for the same search."""
        document = self.document()
        for key in ("trials", "timeout"):
            document["study"].pop(key, None)
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def with_budget(self, trials: int) -> StudySpec:
        """The same study with another budget."""
        return self.model_copy(update={"study": self.study.model_copy(update={"trials": trials})})

    def differences(self, other: StudySpec) -> list[str]:
        """The keys in which ``other`` differs, as ``"training.epochs: 3 -> 8"``."""
        mine, theirs = _flatten(self.document()), _flatten(other.document())
        return [
            f"{key}: {show(mine.get(key))} -> {show(theirs.get(key))}"
            for key in sorted(mine.keys() | theirs.keys())
            if mine.get(key) != theirs.get(key)
        ]


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a spec file.

    Raises:
        UsageError: the file cannot be read or is not TOML; the message has the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None


def _toml_table(values: Mapping[str, Any]) -> tomlkit.items.Table:
    table = tomlkit.table()
    for key, value in values.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            table.add(key, inline)
        else:
            table.add(key, value)
    return table


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and not prefix:
            flat.update(_flatten(value, f"{key}."))
        else:
            flat[prefix + key] = value
    return flat
