"""StudySpec: what a study is. TOML in and out, validation, differences."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomlkit
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from orchestrator.domains import Domain, parse_domain
from orchestrator.durations import Duration, OptionalDuration
from orchestrator.errors import UsageError, nearest

Direction = Literal["minimize", "maximize"]

_KIND = re.compile(r"(str|tuple\[.*|literal\[.*)$")


def _one_or_more(value: object) -> object:
    if isinstance(value, list | tuple) and len(value) == 1:
        return value[0]
    if isinstance(value, list | tuple) and not value:
        raise ValueError("an empty list; name one or more, or leave the key out")
    return value


def _study_name(value: str) -> str:
    # The name is part of file names, pages and command lines.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(
            f"'{value}' is no study name; use letters, digits, '.', '_' and '-', 100 at most"
        )
    return value


Item = TypeVar("Item")
OneOrMore = Annotated[Item | tuple[Item, ...], BeforeValidator(_one_or_more)]
SpaceDomain = Annotated[
    InstanceOf[Domain],
    BeforeValidator(parse_domain),
    PlainSerializer(lambda domain: domain.document()),
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StudySection(_Section):
    """``[study]``: the name, what is optimised, and the budget."""

    name: Annotated[str, AfterValidator(_study_name)]
    objective: str = Field(min_length=1)
    # Several metrics, each with its direction, make a multi-objective study.
    metric: OneOrMore[str] | None = None
    direction: OneOrMore[Direction] | None = None
    # User attributes of a trial that must be 0 or less for it to be feasible.
    constraints: tuple[str, ...] = ()
    trials: int = Field(default=20, ge=1, le=1_000_000)
    timeout: Duration | None = None
    note: str | None = None  # Markdown, shown by optuna-dashboard

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in order; empty: the objective's default."""
        return _several(self.metric)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in the metrics' order; empty: they follow from the metrics."""
        return _several(self.direction)


class StrategySection(BaseModel):
    """A strategy's name; further keys go to the Optuna class."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SamplerSection(StrategySection):
    """``[sampler]``; TPE unless named."""

    name: str = "tpe"


class PrunerSection(StrategySection):
    """``[pruner]``; Hyperband unless named."""

    name: str = "hyperband"


class TerminatorSection(StrategySection):
    """``[terminator]``: ends the study when no worthwhile gain is expected; off unless named."""

    name: str = "none"


class TrainingSection(_Section):
    """``[training]``: how one trial trains."""

    epochs: int = Field(default=8, ge=1, le=100_000)
    # Trainings of one trial with different seeds, averaged.
    repeats: int = Field(default=1, ge=1, le=1000)
    # Stratified k-fold cross-validation; 0: one split.
    folds: int = Field(default=0, ge=0, le=1000)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("folds")
    @classmethod
    def _not_one_fold(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("one fold leaves nothing to train on; write 0 for one split, or 2 up")
        return folds

    @property
    def rounds(self) -> int:
        """How many trainings one trial is."""
        return max(1, self.folds) * self.repeats


class DataSection(_Section):
    """``[data]``: the data set (a name or a PATH.npz) and the examples held out to validate."""

    name: str | None = None
    validation: int | None = Field(default=None, ge=1)


class StorageSection(_Section):
    """``[storage]``: how workers read and write Optuna's tables."""

    # "orch" is ours; "rdb" is Optuna's own RDBStorage, for comparison.
    driver: Literal["orch", "rdb"] = "orch"


class WorkerSection(_Section):
    """``[worker]``: leases and retries. Seconds are the server's."""

    heartbeat_seconds: float = Field(default=10, gt=0)
    grace_seconds: float = Field(default=60, gt=0)
    max_retries: int = Field(default=3, ge=0)
    max_failures: int = Field(default=5, ge=1)
    # Longer than this, and a trial's process is ended: the attempt hangs.
    trial_timeout: OptionalDuration = None
    # How long a worker trains on without the database.
    storage_patience: Duration = 600.0
    # At least so long between two checkpoints of a trial; 0: after every epoch.
    checkpoint_seconds: float = Field(default=0, ge=0)
    # "postgresql", a folder that all machines share, or s3://BUCKET or gs://BUCKET.
    artifacts: str = Field(default="postgresql", min_length=1)
    artifact_limit_mb: int = Field(default=256, ge=1, le=1024)
    keep_models: int = Field(default=1, ge=0)

    @model_validator(mode="after")
    def _heartbeat_within_grace(self) -> WorkerSection:
        if self.grace_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"grace_seconds {self.grace_seconds:g} must be at least twice "
                f"heartbeat_seconds {self.heartbeat_seconds:g}; raise one or lower the other"
            )
        return self


class StudySpec(_Section):
    """The whole specification of a study. Immutable; equal specs are the same study."""

    study: StudySection
    sampler: SamplerSection = SamplerSection()
    pruner: PrunerSection = PrunerSection()
    terminator: TerminatorSection = TerminatorSection()
    training: TrainingSection = TrainingSection()
    data: DataSection = DataSection()
    objective: dict[str, Any] = Field(default_factory=dict)
    worker: WorkerSection = WorkerSection()
    storage: StorageSection = StorageSection()
    space: dict[str, SpaceDomain] = Field(default_factory=dict)

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
            raise UsageError(describe(error, cls)) from None

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
            f"{key}: {_show(mine.get(key))} -> {_show(theirs.get(key))}"
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


def describe(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first fault of a pydantic error in one line: key, what is wrong, the mend."""
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
    shown = "" if isinstance(given, dict | BaseModel) else f" (given: {_show(given)})"
    # A rule between two sections has no key of its own; its message names both.
    return (f"{key}: " if location else "") + f"{message[:1].lower()}{message[1:]}{shown}"


def _keys_beside(model: type[BaseModel], parents: list[str]) -> list[str]:
    for name in parents:
        field = model.model_fields.get(name)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _several(value: Item | tuple[Item, ...] | None) -> tuple[Item, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


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


def _show(value: object) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str)
