"""The rows of studies and their trials, what trials printed, and what an import comes from."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial
from psycopg2.extras import Json
from pydantic import BaseModel, ValidationError

from orchestrator.base import facts
from orchestrator.errors import NoSuchStudy, OrchError, UsageError, nearest, printable
from orchestrator.spec.choices import read_domain
from orchestrator.spec.eligibility import may_win, rank
from orchestrator.spec.facts import ObjectiveFacts
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.storable import LARGEST_STEP

LARGEST_OUTPUT = 64 * 1024  # bytes that are kept of a lease
TAIL = 2 * 1024  # characters of it that reports and the dashboard show
_MOST_LAST_LINES = 100  # trials


@dataclass(frozen=True)
class StoredStudy:
    """A study as the database has it; ``facts`` are those of its objective."""

    study_id: int
    name: str
    spec: StudySpec
    data: Mapping[str, Any] | None
    facts: ObjectiveFacts
    state: str
    reason: str | None
    created_at: str


@dataclass(frozen=True)
class NewStudy:
    """A spec that was checked, and what its study stores beside it.

    Attributes:
        spec: as it is stored.
        planned: a plan queues its trials.
        software: what it pins of software; see :mod:`orchestrator.resolve.pins`.
        data: the facts of its data, to be pinned; None without data.
        facts: those of its objective; None without one, as in an imported study.
    """

    spec: StudySpec
    planned: bool
    software: Mapping[str, Any]
    data: Mapping[str, Any] | None = None
    facts: ObjectiveFacts | None = None


def open_study(database: Database, name: str) -> StoredStudy:
    """The stored study of that name.

    Raises:
        NoSuchStudy: there is none; the message has the nearest name.
    """
    stored = read(database, name)
    if stored is None:
        names = [row["name"] for row in database.rows("list_studies")]
        raise NoSuchStudy(f"no study '{name}' in this storage; {nearest(name, names)}")
    return stored


def raise_budget(database: Database, study: StoredStudy, trials: int) -> None:
    """Give the study a higher budget.

    Raises:
        UsageError: it is not higher.
    """
    if not ensure_budget(database, study, trials):
        budget = open_study(database, study.name).spec.study.trials
        raise UsageError(
            f"the budget of '{study.name}' is {budget} already; --trials must be higher, or use "
            "--add N"
        )


def ensure_budget(database: Database, study: StoredStudy, trials: int) -> bool:
    """Give the study that budget, unless it has as many trials or more. Whether it is new."""
    return bool(database.call("raise_budget", study=study.study_id, budget=trials)["raised"])


def add_budget(database: Database, study: StoredStudy, trials: int) -> None:
    """Add trials to the budget; of two that do so at once, both count."""
    database.call("add_budget", study=study.study_id, trials=trials)


def reopen(database: Database, study: StoredStudy) -> None:
    """Take up a study that was stopped, ran out of time or failed."""
    database.call("reopen_study", study=study.study_id)


def stop(database: Database, study: StoredStudy) -> int:
    """Drain: running trials finish, no new one starts, wherever the workers are.

    Returns:
        How many workers are alive.
    """
    database.call("stop_study", study=study.study_id)
    row = database.row(
        "count_live_workers",
        study_id=study.study_id,
        grace_seconds=study.spec.worker.grace_seconds,
    )
    return int(row["live"]) if row else 0


def delete(database: Database, study: StoredStudy) -> None:
    """Remove the study with all its trials, from Optuna's tables and from ours."""
    database.call("delete_study", study=study.study_id)


def insert(database: Database, new: NewStudy) -> StoredStudy:
    """Store a checked spec, and the facts of its data and its objective.

    Raises:
        UsageError: the name is taken.
    """
    insert_rows(database, new)
    return open_study(database, new.spec.study.name)


def insert_rows(database: Database, new: NewStudy) -> int:
    """The rows of :func:`insert`, for a caller who may have begun a transaction; the study's id."""
    spec, data = new.spec, new.data
    row = database.call(
        "create_study",
        name=spec.study.name,
        directions=[direction.upper() for direction in spec.study.directions],
        metrics=list(spec.study.metrics),
        spec=Json(spec.document()),
        planned=new.planned,
        note=Json(spec.study.note),
        data=None if data is None else Json(data),
        objective=_objective(new),
        software=Json(new.software),
    )
    if row["study_id"] is None:
        raise UsageError(
            f"study '{spec.study.name}' exists already; use another name, or "
            f"'orch resume {spec.study.name}' to go on with it"
        )
    return int(row["study_id"])


def read(database: Database, name: str) -> StoredStudy | None:
    """The stored study of that name; None: there is none.

    Raises:
        UsageError: it is a plain Optuna study, which orch did not create.
    """
    row = database.row("read_study", name=name)
    if row is None:
        if database.row("study_is_foreign", name=name):
            raise UsageError(
                f"'{name}' is a plain Optuna study that orch did not create; use another name"
            )
        return None
    spec = StudySpec.parse(_as_stored(row.pop("spec")))
    return StoredStudy(spec=spec, facts=ObjectiveFacts.read(row.pop("objective"), spec), **row)


def _as_stored(document: Mapping[str, Any]) -> dict[str, Any]:
    """A stored spec, in which what an older orch did not know means what it did."""
    sampler = {"name": "tpe", "duplicates": True, **document.get("sampler", {})}
    return {**document, "sampler": sampler}


def store_facts(database: Database, study: StoredStudy, found: ObjectiveFacts) -> None:
    """Complete what a study of an older version has stored of its objective."""
    database.call("store_facts", study=study.study_id, objective=Json(found.as_json()))


def replace_spec(database: Database, study: StoredStudy, new: NewStudy) -> None:
    """Give a study another spec, for the trials to come, with what follows from it."""
    database.call(
        "replace_spec",
        study=study.study_id,
        spec=Json(new.spec.document()),
        objective=_objective(new),
        software=Json(new.software),
    )


def _objective(new: NewStudy) -> Json | None:
    return None if new.facts is None else Json(new.facts.as_json())


def found_domains(database: Database, study: StoredStudy) -> dict[str, BaseDistribution]:
    """The parameters that the study's trials have suggested so far, by name."""
    rows = database.rows("found_domains", study_id=study.study_id)
    return {row["name"]: read_domain(row["domain"]) for row in rows}


def read_trials(database: Database, study: StoredStudy) -> list[FrozenTrial]:
    """Every trial of the study.

    Raises:
        StorageError: the database is out of reach.
    """
    optuna_study = optuna.Study(study.name, PostgresStorage(database))
    return optuna_study.get_trials(deepcopy=False)


Curves = dict[str, dict[int, float]]  # values by step, by the name that they were logged with


def read_logs(
    database: Database,
    study: StoredStudy,
    numbers: Sequence[int] | None = None,
    most_steps: int = LARGEST_STEP,
) -> dict[int, Curves]:
    """What trials have logged, by their numbers; a trial that has logged nothing is missing.

    Args:
        database: where the study is.
        study: the study.
        numbers: of which trials; None: of all.
        most_steps: of a trial with more, evenly spread ones are read.

    Raises:
        StorageError: the database is out of reach.
    """
    wanted = None if numbers is None else list(numbers)
    found: dict[int, Curves] = {}
    for row in database.rows("logged", study_id=study.study_id, numbers=wanted, most=most_steps):
        curves = found.setdefault(row["number"], {})
        for name, values in zip(row["names"], zip(*row["rows"], strict=True), strict=True):
            curves.setdefault(name, {}).update(zip(row["steps"], values, strict=True))
    return found


def find_trial(trials: Sequence[FrozenTrial], number: int, study: str) -> FrozenTrial:
    """The trial of that number.

    Raises:
        OrchError: there is none.
    """
    for trial in trials:
        if trial.number == number:
            return trial
    raise OrchError(f"study '{study}' has no trial {number}; it has {len(trials)} trials")


def ranking(trials: Sequence[FrozenTrial], spec: StudySpec) -> list[FrozenTrial]:
    """Those that may win in a study of one metric, the best first."""
    able = [trial for trial in trials if may_win(trial, spec.study.constraints)]
    maximize = spec.study.maximize
    return sorted(able, key=lambda trial: (rank(trial.value, maximize), trial.number))


def is_retried(trial: FrozenTrial) -> bool:
    """Whether it is a failed attempt that another trial stands for."""
    return facts.RETRIED_AS in trial.user_attrs


KERASTUNER, OPTUNA = "KerasTuner", "Optuna"
# What stands for the objective of a study that was imported without one.
IMPORTED = "imported"


class Origin(BaseModel):
    """The source of an imported study.

    Attributes:
        tool: ``"Optuna"`` or ``"KerasTuner"``.
        version: of the tool that made the source; None: the source does not say.
        source: the storage's URL without a password, or the folder.
        study: its name there; None: the source has a single study without a name.
        trials: how many came from there. Their numbers are the first ones.
        has_times: the source says when each trial started and ended.
    """

    tool: str
    version: str | None = None
    source: str
    study: str | None = None
    trials: int
    has_times: bool

    @property
    def made_by(self) -> str:
        """``Optuna 4.2.0``, or ``KerasTuner`` where the version is unknown."""
        return self.tool if self.version is None else f"{self.tool} {self.version}"

    @property
    def place(self) -> str:
        """The study and its source: ``study 'one' at sqlite:///old.db``."""
        return self.source if self.study is None else f"study '{self.study}' at {self.source}"


def origin_of(attributes: Mapping[str, Any]) -> Origin | None:
    """The origin in a study's user attributes; None: it was made here, or by an older orch."""
    try:
        return Origin.model_validate(attributes[facts.IMPORTED])
    except (KeyError, ValidationError):
        return None


@dataclass(frozen=True)
class Output:
    """What a trial printed during one lease.

    Attributes:
        lease: which one; it is not the same in two outputs.
        text: the newest part.
        lines: how many whole lines it has printed, including those dropped from the text.
        ended: nothing more comes.
    """

    lease: tuple[str, int]
    text: str
    lines: int
    ended: bool

    @property
    def is_cut(self) -> bool:
        """Whether the oldest lines were dropped from the text."""
        return self.lines > self.text.count("\n")


def read_output(database: Database, trial_id: int) -> list[Output]:
    """What a trial printed, the oldest lease first; empty: nothing.

    Raises:
        StorageError: the database is out of reach.
    """
    rows = database.rows("output_of_trial", trial_id=trial_id)
    return [
        Output((row["worker_id"], row["lease"]), expanded(row["body"]), row["lines"], row["ended"])
        for row in rows
    ]


class LastLines(NamedTuple):
    """The last lines that a trial printed, by its id and its number."""

    trial_id: int
    number: int
    text: str
    ended: bool  # nothing more comes


def read_last_lines(
    database: Database,
    study_id: int | None = None,
    trial_id: int | None = None,
    known: Collection[int] = (),
    numbers: Collection[int] = (),
) -> list[LastLines]:
    """The last lines that trials printed, the newest trial first.

    Of a study, those of the newest hundred that failed and of the newest hundred others.

    Args:
        database: where they are.
        study_id: of this study's trials.
        trial_id: or of this one.
        known: the ids of trials that are left out.
        numbers: of the study's trials that are read as well.

    Raises:
        StorageError: the database is out of reach.
    """
    rows = database.rows(
        "last_outputs",
        study_id=study_id,
        trial_id=trial_id,
        known=list(known),
        numbers=list(numbers),
        most=_MOST_LAST_LINES,
    )
    return [
        LastLines(row["trial_id"], row["number"], tail(expanded(row["body"])), row["ended"])
        for row in rows
    ]


def compressed(text: str) -> bytes:
    """The text as it is stored."""
    return zlib.compress(text.encode())


def expanded(body: bytes | memoryview) -> str:
    """The text, without what a terminal obeys; of a body that is not one of ours, what fits."""
    try:
        # A few bytes may stand for any number of them.
        whole = zlib.decompressobj().decompress(bytes(body), LARGEST_OUTPUT)
    except zlib.error:
        return ""
    return printable(whole.decode(errors="replace"))


def tail(text: str, characters: int = TAIL) -> str:
    """The last whole lines of a text, or the end of the last one where that is longer."""
    if len(text) <= characters:
        return text
    end = text[-characters:]
    _, newline, lines = end.partition("\n")
    return lines if newline and lines else end
