"""Studies: create and open them, list and compare them, take them over from other tools."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from optuna.trial import Trial

from orchestrator.errors import ObjectiveError, UsageError, printable
from orchestrator.report.compare import Comparison
from orchestrator.report.compare import compare as compare_summaries
from orchestrator.report.listing import SearchSpace, StudyList, read_studies
from orchestrator.report.numbers import counted
from orchestrator.resolve.objective import asked_facts, remember_command
from orchestrator.resolve.resolve import Resumed, create, create_or_resume
from orchestrator.spec.keywords import spec_of
from orchestrator.spec.model import StudySpec
from orchestrator.storage.schema import open_database
from orchestrator.storage.studies import open_study
from orchestrator.study import Seconds, Study
from orchestrator.training import handover
from orchestrator.training.base import Objective
from orchestrator.training.command import Command
from orchestrator.training.data_source import Data
from orchestrator.training.handed_data import hand_over_data, keep
from orchestrator.training.handover import Handover
from orchestrator.training.registry import known

AnyData = Any  # what model.fit takes, a function that returns it, or a name
AnyObjective = str | Callable[[Trial], Any] | Objective | type[Objective] | object
Table = Mapping[str, Any]


def create_study(
    name: str | None = None,
    objective: AnyObjective | None = None,
    *,
    storage: str | None = None,
    spec: StudySpec | None = None,
    resume: bool = True,
    allow_mismatch: bool | Literal["software"] = False,
    metric: str | Sequence[str] | None = None,
    direction: str | Sequence[str] | None = None,
    trials: int | None = None,
    timeout: Seconds | None = None,
    epochs: int | None = None,
    folds: int | None = None,
    repeats: int | None = None,
    seed: int | None = None,
    sampler: str | Table | None = None,
    pruner: str | Table | None = None,
    terminator: str | Table | None = None,
    training: Table | None = None,
    data: AnyData | None = None,
    data_options: Table | None = None,
    options: Table | None = None,
    worker: Table | None = None,
    space: Mapping[str, Any] | None = None,
    constraints: Sequence[str] | None = None,
    warm_start: Sequence[str] | None = None,
    note: str | None = None,
) -> Study:
    """Create a study, or take up the stored one of the same spec.

    Example:
        def bowl(trial):
            return (trial.suggest_float("x", -10, 10) - 2) ** 2

        orch.create_study("bowl", objective=bowl, trials=40, sampler="tpe").run()

    Args:
        name: the study's name; None: the objective's.
        objective: a registered name (``"mnist"``), ``"package.module:function"``, a path
            ``"./train.py:function"``, a function of an ``optuna.Trial``, an ``Objective`` (class or
            object), a KerasTuner ``HyperModel``, ``KerasObjective(build_model)``, or a
            :class:`Command`.
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.
        spec: the whole specification; the other arguments win over it.
        resume: False refuses where there is a study of that name.
        allow_mismatch: True: where the spec or the objective's code differ from the stored study's,
            they hold for the trials to come; metric, direction, data and folds never change.
            ``"software"``: the spec must be the same, this machine's code and versions need not.
        metric: what is optimised, e.g. ``"val_accuracy"``; several make a study of several metrics.
        direction: ``"minimize"`` or ``"maximize"``, one for each metric.
        trials: the budget.
        timeout: start no trials after this time, e.g. ``"2h"``.
        epochs: epochs of a full trial.
        folds: k-fold cross-validation in every trial.
        repeats: trainings of a trial, with different seeds, averaged.
        seed: of the whole study.
        sampler: a name, or a table with a name and its options; so for the next two.
        pruner: what ends hopeless trials early.
        terminator: what ends the study when no gain is expected.
        training: the ``[training]`` table.
        data: what ``model.fit`` takes: a mapping with ``x``, ``y`` and what else is wanted, e.g.
            ``validation_data``, ``test_data`` or ``class_weight``; ``(x, y)``; or
            ``(x, y), (x_test, y_test)``. Or a function that returns it, ``"mnist"``, ``"digits"``,
            a PATH.npz, ``"package.module:function"``; or :class:`Data`.
        data_options: the ``[data]`` table.
        options: the ``[objective]`` table.
        worker: the ``[worker]`` table, e.g. ``{"grace_seconds": 30}``.
        space: the ``[space]`` table, e.g. ``{"units": {"choice": [16, 32], "prior": 32}}``.
        constraints: user attributes that must be 0 or less.
        warm_start: names of older studies in this storage, whose trials inform the sampler.
        note: Markdown for the dashboard and the report.

    Raises:
        UsageError: something is unknown or impossible, or the stored study differs.
        StudyFailed: this machine's data or code are not those of the stored study.
        StorageError: the storage is out of reach.
    """
    objective = _named(objective)
    handed = _handed(objective)
    data, data_options, handed_data = _named_data(data, data_options)
    reference = objective if isinstance(objective, str) else handed and handed.reference
    if spec is None and reference is None:
        raise UsageError("name the objective with objective=, or give a whole spec with spec=")
    if name is None and spec is None and handed is not None:
        name = StudySpec.default_name(handed.name)
    written = spec_of(
        spec,
        {
            "name": name, "objective": reference, "metric": metric, "direction": direction,
            "trials": trials, "timeout": timeout, "epochs": epochs, "folds": folds,
            "repeats": repeats, "seed": seed, "sampler": sampler, "pruner": pruner,
            "terminator": terminator, "training": training, "data": data,
            "data_options": data_options, "options": options, "worker": worker, "space": space,
            "constraints": constraints, "warm_start": warm_start, "note": note,
        },
    )  # fmt: skip
    database = open_database(storage)
    handovers = _given(handed, handed_data)
    with handover.lent(handovers):
        if resume:
            allows = bool(allow_mismatch)
            resumed = create_or_resume(database, written, allows, allow_mismatch is True)
        else:
            resumed = Resumed(create(database, written))
    _keep(handovers)
    remember_command(resumed.study.spec)
    return Study(database, resumed.study.name, handovers, resumed)


def load_study(
    name: str,
    *,
    storage: str | None = None,
    objective: AnyObjective | None = None,
    data: AnyData | None = None,
    upgrade: bool = True,
) -> Study:
    """Open a stored study.

    Example:
        orch.load_study("mlp", storage="postgresql://orch@db.lab/orch").run(workers=4)

    Args:
        name: the study's name.
        storage: a URL; None: ``ORCH_STORAGE``, else the embedded server.
        objective: the study's own, where it is a function of a notebook or script, which must be
            handed over again.
        data: the study's own, where they are a function of a notebook or script, or arrays that
            this machine does not have.
        upgrade: upgrade the tables of an older orch on the embedded server, where the running
            workers of that version then leave. Other servers are upgraded by ``server.upgrade``.

    Raises:
        NoSuchStudy: there is none of that name.
        UsageError: the objective or the data are not the study's.
        StorageError: the storage is out of reach.
    """
    objective = _named(objective)
    handed = _handed(objective)
    data, _, handed_data = _named_data(data, None)
    database = open_database(storage, create=False, upgrade=upgrade)
    stored = open_study(database, name)
    reference = handed.reference if handed is not None else objective
    if reference is not None and reference != stored.spec.study.objective:
        raise UsageError(
            f"the objective of study '{name}' is {stored.spec.study.objective}, not {reference}; "
            "give that one, or create a study of another name"
        )
    if data is not None and str(data) != stored.spec.data.name:
        raise UsageError(
            f"the data of study '{name}' are {stored.spec.data.name}, not {data}; give those, or "
            "create a study of another name"
        )
    handovers = _given(handed, handed_data)
    _keep(handovers)
    if objective is not None:
        remember_command(stored.spec)
    return Study(database, name, handovers)


def list_studies(*, storage: str | None = None) -> StudyList:
    """The studies of a storage; it prints as a table.

    Example:
        for study in orch.list_studies(): print(study.name, study.done)

    Raises:
        StorageError: the storage is out of reach.
    """
    database = open_database(storage, create=False, upgrade=False)
    found = read_studies(database)
    database.close()
    return found


def compare(*studies: Study | str, storage: str | None = None) -> Comparison:
    """Compare studies, and test whether a difference is more than noise; it prints as text.

    Studies whose specification differs in the seed alone are one group. With four seeds each, or
    more, the groups' best values are tested.

    Example:
        print(orch.compare("tpe-0", "tpe-1", "random-0", "random-1"))

    Args:
        studies: two or more, as objects or by name.
        storage: of the names; None: ``ORCH_STORAGE``, else the embedded server.

    Raises:
        NoSuchStudy: there is none of that name.
        UsageError: they cannot be compared.
        StorageError: the storage is out of reach.
    """
    database = None
    summaries = []
    for each in dict.fromkeys(studies):
        if isinstance(each, Study):
            summaries.append(each.summary(format="text"))
        else:
            database = database or open_database(storage, create=False, upgrade=False)
            summaries.append(Study(database, each).summary(format="text"))
    if database is not None:
        database.close()
    return compare_summaries(summaries)


def search_space(objective: AnyObjective | StudySpec, *, storage: str | None = None) -> SearchSpace:
    """The search space of an objective, a spec or, by its name, a study; it prints as a table.

    Example:
        print(orch.search_space("mnist"))

    Args:
        objective: an objective as :func:`create_study` takes it, a spec, or a study's name; a
            registered objective wins over a study of its name.
        storage: of the study; None: ``ORCH_STORAGE``, else the embedded server.

    Raises:
        NoSuchStudy: there is no objective or study of that name.
        UsageError: the objective cannot be loaded.
        StorageError: the storage is out of reach.
    """
    if isinstance(objective, StudySpec):
        return SearchSpace(objective, asked_facts(objective))
    objective = _named(objective)
    if isinstance(objective, str) and objective not in known() and ":" not in objective:
        with load_study(objective, storage=storage, upgrade=False) as study:
            return study.search_space()
    handed = _handed(objective)
    reference = handed.reference if handed is not None else objective
    with handover.lent(_given(handed)):
        spec = spec_of(None, {"objective": reference})
        return SearchSpace(spec, asked_facts(spec))


def import_optuna(
    source: str,
    name: str,
    *,
    study: str | None = None,
    objective: AnyObjective | None = None,
    data: str | Path | None = None,
    epochs: int | None = None,
    storage: str | None = None,
) -> Study:
    """Copy a study of an existing Optuna storage, whole or not at all.

    What could not be copied is a warning (``UserWarning``) each.

    Example:
        orch.import_optuna("sqlite:///old.db", "old", study="my-study").report("old.html")

    Args:
        source: the storage's URL, or the file of a journal storage.
        name: the new study's name.
        study: which one; None: the only one there.
        objective: for new trials; None: the study can only be read.
        data: on which it continues; None: the objective's own.
        epochs: with how many it continues.
        storage: where to; None: ``ORCH_STORAGE``, else the embedded server.

    Raises:
        UsageError: the name is taken, or there are several studies, or none of that name.
        OrchError: the source cannot be read, or a trial cannot be stored.
        StorageError: the storage is out of reach.
    """
    from orchestrator.importers.optuna import read_optuna

    return _imported(lambda: read_optuna(source, study), name, objective, data, epochs, storage)


def import_kerastuner(
    folder: Path | str,
    name: str,
    *,
    metric: str | None = None,
    objective: AnyObjective | None = None,
    data: str | Path | None = None,
    epochs: int | None = None,
    storage: str | None = None,
) -> Study:
    """Copy the trials of a finished KerasTuner project, whole or not at all.

    KerasTuner writes down neither the data nor the epochs, so say both where the study continues.

    Example:
        orch.import_kerastuner("my_dir/helloworld", "hello").best

    Args:
        folder: the tuner's ``directory/project_name``.
        name: the new study's name.
        metric: None: the one that gives the scores.
        objective: as for :func:`import_optuna`; so for the others.

    Raises:
        UsageError: the name is taken, or there is no such metric.
        OrchError: the project cannot be read, or a trial cannot be stored.
        StorageError: the storage is out of reach.
    """
    from orchestrator.importers.kerastuner import read_project

    path = Path(folder)
    return _imported(lambda: read_project(path, metric), name, objective, data, epochs, storage)


def _imported(
    read: Callable[[], Any],
    name: str,
    objective: AnyObjective | None,
    data: str | Path | None,
    epochs: int | None,
    storage: str | None,
) -> Study:
    from orchestrator.importers.imported import GoingOn, store

    if objective is None and (data is not None or epochs is not None):
        raise UsageError("--data and --epochs are for the --objective that goes on; name it")
    objective = _named(objective)
    handed = _handed(objective)
    reference = handed.reference if handed is not None else objective
    going_on = GoingOn(
        None if reference is None else str(reference), None if data is None else str(data), epochs
    )
    try:
        _show("reading the trials")
        imported = read()
        trials = counted(len(imported.trials), "trial")
        database = open_database(storage)
        with handover.lent(_given(handed)):
            store(
                database,
                name,
                imported,
                going_on,
                lambda written: _show(f"{written:,} of {trials} written"),
            )
    finally:
        _show("")
    for warning in imported.warnings:
        warnings.warn(printable(warning), stacklevel=3)
    return Study(database, name, _given(handed))


def _show(text: str) -> None:
    """Put this in the place of the last line of progress, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _named(objective: AnyObjective | None) -> AnyObjective | None:
    """A command by its text, as a study stores it; anything else as it is."""
    return objective.reference if isinstance(objective, Command) else objective


def _handed(objective: AnyObjective | None) -> Handover | None:
    """The objective as it is handed over; None: there is none, or it is a name.

    Raises:
        UsageError: it is not a valid objective.
    """
    if objective is None or isinstance(objective, str):
        return None
    try:
        return handover.hand_over(objective)
    except ObjectiveError as error:
        raise UsageError(str(error)) from None


def _named_data(
    data: AnyData | None, options: Table | None
) -> tuple[str | Path | None, Table | None, Handover | None]:
    """The data's name, their options, and how they are handed over where they need it.

    Raises:
        UsageError: they are not what ``model.fit`` takes.
    """
    if isinstance(data, Data):
        if data.fingerprint is not None:
            options = {**(options or {}), "fingerprint": data.fingerprint}
        data = data.source
    if data is None or isinstance(data, str | Path):
        return data, options, None
    fingerprint = (options or {}).get("fingerprint")
    handed = hand_over_data(data, fingerprint)
    return handed.reference, options, handed


def _given(*handovers: Handover | None) -> list[Handover]:
    return [each for each in handovers if each is not None]


def _keep(handovers: Sequence[Handover]) -> None:
    for each in handovers:
        if handover.is_arrays(each.reference):
            keep(each)
