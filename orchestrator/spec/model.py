"""The specification of a study: its sections, and how a faulty one is worded."""

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

from orchestrator.errors import UsageError, nearest
from orchestrator.spec.command import arguments_of, is_command, name_of, reference_of
from orchestrator.spec.domains import Conditions, Domain, Scalar, parse_domain
from orchestrator.spec.durations import Duration, OptionalDuration

_KIND = re.compile(r"(str|tuple\[.*|literal\[.*)$")


def first_fault(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """The first fault of a pydantic error: its key, what is wrong, how to fix it.

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


Direction = Literal["minimize", "maximize"]


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


def _as_reference(value: object) -> object:
    return reference_of(value) if isinstance(value, list | tuple | str) else value


def _as_list(value: object) -> object:
    names = [value] if isinstance(value, str) else value
    return list(dict.fromkeys(map(str, names))) if isinstance(names, list | tuple) else names


def _as_written(reference: str) -> str | list[str]:
    return arguments_of(reference) if is_command(reference) else reference


class Section(BaseModel):
    """A table of the spec that knows its keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StudySection(Section):
    """``[study]``: the name, what is optimised, and the budget."""

    name: Annotated[str, AfterValidator(_study_name)] = Field(
        description="Letters, digits, `.`, `_` and `-`, 100 at most."
    )
    objective: Annotated[
        str, BeforeValidator(_as_reference), PlainSerializer(_as_written, str | list[str])
    ] = Field(
        min_length=1,
        description="A registered name, `package.module:function`, "
        "`kt:package.module:build_model` of KerasTuner, or a command as a list, e.g. "
        '`["python", "train.py", "--lr", "{lr}"]`.',
    )
    metric: OneOrMore[str] | None = Field(
        default=None,
        description="What is optimised; else the objective's own. A list makes a study of several "
        "metrics.",
    )
    direction: OneOrMore[Direction] | None = Field(
        default=None, description="Else it follows from the metric; a list for several metrics."
    )
    constraints: tuple[str, ...] = Field(
        default=(),
        description="User attributes of a trial that must be 0 or less for it to be feasible, "
        "beside what `trial.set_constraint` sets.",
    )
    warm_start: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(
        default=(),
        description="Older studies of this storage whose trials inform the sampler, as far as they "
        "agree with this study's own.",
    )
    trials: int = Field(
        default=20,
        ge=1,
        le=1_000_000,
        description="The budget: the study ends with so many trials COMPLETE or PRUNED.",
    )
    timeout: Duration | None = Field(
        default=None,
        description="So long after it was created or resumed, no trial starts any more; as `2h`.",
    )
    note: str | None = Field(
        default=None, description="Markdown, shown by optuna-dashboard and the report."
    )

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics in order; empty: the objective's default."""
        return _several(self.metric)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in the metrics' order; empty: they follow from the metrics."""
        return _several(self.direction)

    def place_of(self, metric: str | None) -> int:
        """Which of the metrics one is; 0, the first, where it is none of them."""
        return self.metrics.index(metric) if metric in self.metrics else 0

    @property
    def maximize(self) -> bool:
        """Whether more of the first metric is better."""
        return self.directions[:1] == ("maximize",)


class StrategySection(BaseModel):
    """A strategy's name; further keys go to the Optuna class."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="The strategy.")

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class SamplerSection(StrategySection):
    """``[sampler]``: what draws the parameters.

    Further keys go to the class of that name.
    """

    name: str = Field(
        default="auto",
        description="`auto` (`mixed-gp` while it pays, else `tpe`), `mixed-gp`, `tpe`, `gp`, "
        "`cmaes`, `random`, `qmc`, `nsga2`, `bruteforce`, `grid`, `coordinate` or `enqueued`.",
    )
    duplicates: bool = Field(
        default=False,
        description="Configurations of a finite space may be drawn again; else each is tried once, "
        "and the study ends when all are.",
    )
    cost: Literal["seconds"] | None = Field(
        default=None,
        description="`seconds`: `mixed-gp` and `auto` look for the largest expected improvement "
        "per second of a trial, not per trial.",
    )


class PrunerSection(StrategySection):
    """``[pruner]``: what ends hopeless trials early; Hyperband unless named.

    Further keys go to the Optuna class. ``promote = true`` beside ``hyperband`` lets the best of a
    bracket go on from their checkpoints, as KerasTuner does; beside ``asha``, the best of a rung.
    """

    name: str = Field(
        default="hyperband",
        description="`hyperband`, `asha`, `auto`, `median`, `percentile`, `patient`, `threshold`, "
        "`wilcoxon` or `none`.",
    )
    metric: str | None = Field(
        default=None,
        description="In a study of several metrics, the one that trials report and are pruned by.",
    )


class TerminatorSection(StrategySection):
    """``[terminator]``: ends the study when no worthwhile gain is expected; off unless named.

    ``min_n_trials`` (20) must be complete before it may; further keys go to the Optuna class.
    """

    name: str = Field(
        default="none",
        description="`none`, `stagnation`, or `regret` and `emmr`, which need torch.",
    )


class TrainingSection(Section):
    """``[training]``: how one trial trains."""

    epochs: int = Field(default=8, ge=1, le=100_000, description="Epochs of a full trial.")
    repeats: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Trainings of one trial with different seeds, averaged.",
    )
    folds: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Stratified k-fold cross-validation in every trial; 0: one split.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Every other seed follows from this one."
    )

    value: Literal["last", "best"] = Field(
        default="last",
        description="Which epoch's value a Keras trial returns, and whose model is kept.",
    )

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


class DataSection(Section):
    """``[data]``: the data set, and the examples held out to validate."""

    name: str | None = Field(
        default=None,
        description="`mnist`, `digits`, a PATH.npz, or a function that returns the data as "
        "`package.module:function` or `./file.py:function`; else the objective's own.",
    )
    fingerprint: str | None = Field(
        default=None,
        description="Pins data that have no arrays to compare, e.g. `v2`: other data have another "
        "one. Else the arrays pin them, or the source of their function's module.",
    )
    validation: int | None = Field(
        default=None,
        ge=1,
        description="Examples held out of the training set to validate; else a sixth.",
    )


class WorkerSection(Section):
    """``[worker]``: leases and retries. Seconds are the server's."""

    heartbeat_seconds: float = Field(
        default=10, gt=0, description="A worker gives a sign of life at least so often."
    )
    grace_seconds: float = Field(
        default=60,
        gt=0,
        description="Without a sign of life for so long, a trial is taken back; at least twice "
        "`heartbeat_seconds`.",
    )
    max_retries: int = Field(
        default=3, ge=0, description="How often a configuration whose attempt fails is tried again."
    )
    max_failures: int = Field(
        default=5,
        ge=1,
        description="So many configurations in a row that fail every time stop the study.",
    )
    trial_timeout: OptionalDuration = Field(
        default=None, description="Longer than this, and the attempt is ended as one that hangs."
    )
    storage_patience: Duration = Field(
        default=600.0, description="How long a worker trains on without the database, as `10m`."
    )
    checkpoint_seconds: float = Field(
        default=0,
        ge=0,
        description="At least so long between two checkpoints of a trial; 0: after every epoch.",
    )
    artifacts: str = Field(
        default="postgresql",
        min_length=1,
        description="Where checkpoints and models lie: `postgresql`, a folder that all machines "
        "share, `s3://BUCKET` or `gs://BUCKET`.",
    )
    artifact_limit_mb: int = Field(
        default=256, ge=1, le=1024, description="The largest checkpoint or model in PostgreSQL."
    )
    keep_models: int = Field(default=1, ge=0, description="The models of so many best trials stay.")

    @model_validator(mode="after")
    def _heartbeat_within_grace(self) -> WorkerSection:
        if self.grace_seconds < 2 * self.heartbeat_seconds:
            raise ValueError(
                f"grace_seconds {self.grace_seconds:g} must be at least twice "
                f"heartbeat_seconds {self.heartbeat_seconds:g}; raise one or lower the other"
            )
        return self


def _several(value: Item | tuple[Item, ...] | None) -> tuple[Item, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


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
    space: dict[str, SpaceDomain] = Field(
        default_factory=dict,
        description="Replaces or adds domains of the objective's own space. With `when`, a "
        "parameter exists only beside some values of others; near its `prior` the best is "
        "expected.",
    )

    @model_validator(mode="after")
    def _one_way_to_validate(self) -> StudySpec:
        if self.training.folds and self.data.validation is not None:
            raise ValueError(
                "data.validation and training.folds exclude each other: folds validate on every "
                "training example once; leave one out"
            )
        return self

    @field_validator("space")
    @classmethod
    def _conditions_in_no_circle(cls, space: dict[str, Domain]) -> dict[str, Domain]:
        Conditions(space)
        return space

    @property
    def priors(self) -> dict[str, Scalar]:
        """The values near which the best is expected, of the parameters that have one."""
        return {name: each.prior for name, each in self.space.items() if each.prior is not None}

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

    @staticmethod
    def read(path: Path | str) -> dict[str, Any]:
        """Read the tables of a spec file without checking them.

        Raises:
            UsageError: the file cannot be read or is not TOML; the message has the line.
        """
        return read_toml(Path(path))

    @staticmethod
    def default_name(objective: object) -> str:
        """A study's name where none is given: the objective's; of a command, its script's."""
        try:
            reference = reference_of(objective)
        except ValueError:  # parse says what is wrong with it
            return "study"
        if is_command(reference):
            reference = name_of(arguments_of(reference))
        last = reference.replace(":", "-").strip()
        return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-_") or "study"

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
