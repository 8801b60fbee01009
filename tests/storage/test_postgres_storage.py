"""Our storage beside Optuna's own: the same trials, and no more read than has changed."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.storage.database import Database, Row
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.rdb_storage import open_optuna_storage
from orchestrator.storage.worker_storage import WorkerStorage

DOMAINS = {
    "n": IntDistribution(1, 1000, log=True),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "kind": CategoricalDistribution(("a", None, 2, 2.5)),
    "flag": CategoricalDistribution((False, True)),
}
TEMPLATES = [
    create_trial(
        value=0.1 + 0.2,
        params={"n": 3, "rate": 0.001, "kind": None, "flag": True},
        distributions=DOMAINS,
        intermediate_values={1: 1.0, 2: math.inf, 3: -math.inf, 10: 1e-300},
        user_attrs={"note": "ü\n\"\0", "list": [1, 2.0, None, {"a": True}], "big": 2**60},
        system_attrs={"nan": math.nan, "deep": {"x": [math.inf]}},
    ),
    create_trial(state=TrialState.PRUNED, value=-math.inf, intermediate_values={0: math.nan}),
    create_trial(state=TrialState.FAIL),
    create_trial(state=TrialState.RUNNING, params={"n": 7}, distributions={"n": DOMAINS["n"]}),
    create_trial(state=TrialState.WAITING, system_attrs={"fixed_params": {"n": 5}}),
]  # fmt: skip


class CountingDatabase(Database):
    """A real database that counts the trials that it gave."""

    given = 0

    def rows(self, query: str, **parameters: Any) -> list[Row]:
        found = super().rows(query, **parameters)
        if query == "changed_trials" and found:
            self.given += len(found[0]["others"])
        return found


@pytest.fixture
def study_id(database: Database) -> Iterator[int]:
    storage = PostgresStorage(database)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE])
    yield study_id
    storage.delete_study(study_id)


@pytest.fixture
def theirs(url: str) -> BaseStorage:
    return open_optuna_storage(url)


def shown(trials: Sequence[FrozenTrial], but: Sequence[str] = ()) -> list[dict[str, str]]:
    """Everything that a trial shows, in words: NaN is not equal to itself."""
    parts = (
        "number", "state", "values", "params", "distributions", "user_attrs", "system_attrs",
        "intermediate_values", "datetime_start", "datetime_complete", "_trial_id",
    )  # fmt: skip

    def word(value: object) -> str:
        return repr(dict(sorted(value.items())) if isinstance(value, dict) else value)

    return [
        {part: word(getattr(each, part)) for part in parts if part not in but} for each in trials
    ]


def test_optunas_storage_and_ours_read_each_others_writes(
    study_id: int, database: Database, theirs: BaseStorage
) -> None:
    ours = PostgresStorage(database)
    for template in TEMPLATES:
        theirs.create_new_trial(study_id, template)
        ours.create_new_trial(study_id, template)
    mine = ours.get_all_trials(study_id)
    assert shown(mine) == shown(theirs.get_all_trials(study_id))
    assert [list(each.params) for each in mine[:2]] == [list(DOMAINS)] * 2, "as they were drawn"
    for first, second in zip(mine[::2], mine[1::2], strict=True):
        assert shown([first], ["number", "_trial_id"]) == shown([second], ["number", "_trial_id"])


def test_only_the_first_to_start_a_waiting_trial_gets_it(study_id: int, database: Database) -> None:
    storage = PostgresStorage(database)
    trial_id = storage.create_new_trial(study_id)
    begun = storage.get_trial(trial_id).datetime_start
    assert begun is not None and abs((datetime.now() - begun).total_seconds()) < 60
    assert not storage.set_trial_state_values(trial_id, TrialState.RUNNING), "it runs already"
    assert storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    waiting = storage.create_new_trial(study_id, create_trial(state=TrialState.WAITING))
    assert storage.set_trial_state_values(waiting, TrialState.RUNNING)
    assert not storage.set_trial_state_values(waiting, TrialState.RUNNING)


def test_a_parameter_keeps_its_domain_type_within_one_study(
    study_id: int, database: Database, url: str
) -> None:
    storage, number, word = (
        PostgresStorage(database), FloatDistribution(0.0, 1.0), CategoricalDistribution(("a", "b")),
    )  # fmt: skip
    first, second = (storage.create_new_trial(study_id) for _ in range(2))
    storage.set_trial_param(first, "x", 0.5, number)
    other_study = storage.create_new_study([StudyDirection.MINIMIZE])
    for each in (storage, PostgresStorage(database)):  # one that knows it, and one that must ask
        with pytest.raises(ValueError):
            each.set_trial_param(second, "x", 1, word)
        each.set_trial_param(second, "x", 0.25, number)
        each.set_trial_param(each.create_new_trial(other_study), "x", 1, word)
    assert storage.get_trial(second).params == {"x": 0.25}
    storage.delete_study(other_study)


def test_times_are_local_as_in_optuna(
    study_id: int, database: Database, theirs: BaseStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        ours = PostgresStorage(database)
        trial_id = ours.create_new_trial(study_id)
        assert ours.get_trial(trial_id).datetime_start == theirs.get_trial(trial_id).datetime_start
        template = create_trial(value=0.5)
        made = [each.create_new_trial(study_id, template) for each in (ours, theirs)]
        for trial in [storage.get_trial(each) for storage in (ours, theirs) for each in made]:
            assert trial.datetime_start == template.datetime_start
            assert trial.datetime_complete == template.datetime_complete
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_sync_reads_only_changes(study_id: int, url: str, theirs: BaseStorage) -> None:
    for _ in range(30):
        theirs.create_new_trial(study_id, TEMPLATES[0])
    running = theirs.create_new_trial(study_id, TEMPLATES[3])
    database = CountingDatabase(url)
    ours = PostgresStorage(database)
    assert len(ours.get_all_trials(study_id)) == 31 and database.given == 31
    database.given = 0
    theirs.set_trial_intermediate_value(running, 1, 0.5)
    assert ours.get_all_trials(study_id)[30].intermediate_values == {1: 0.5}
    assert database.given == 1, "the running one"
    theirs.set_trial_state_values(running, TrialState.COMPLETE, [0.5])
    theirs.create_new_trial(study_id, TEMPLATES[1])
    trials = ours.get_all_trials(study_id)
    assert database.given == 3, "the one that ended, and the new one"
    assert trials[30].value == 0.5 and trials[31].state == TrialState.PRUNED
    ours.get_all_trials(study_id)
    assert database.given == 3, "all have ended"
    database.close()


class NoOutbox:
    """For a worker that only reads."""

    def write_param(self, name: str, value: float, distribution: str) -> None: ...

    def write_user_attribute(self, key: str, value: str) -> None: ...

    def write_system_attribute(self, key: str, value: str) -> None: ...


def test_a_sync_sees_changes_that_are_committed_late(study_id: int, url: str) -> None:
    """A transaction that began before a look and ends after it, beside a younger one."""
    late, early, reading = Database(url), Database(url), Database(url)
    storage = PostgresStorage(early)
    first, second = storage.create_new_trial(study_id), storage.create_new_trial(study_id)
    here = WorkerStorage(reading, study_id)
    late.execute("BEGIN")
    PostgresStorage(late).set_trial_user_attr(first, "by", "the late one")
    storage.set_trial_user_attr(second, "by", "the early one")
    here.sync()
    assert [each.user_attrs for each in here.get_all_trials(study_id)] == [
        {}, {"by": "the early one"},
    ]  # fmt: skip
    late.execute("COMMIT")
    here.sync()
    assert here.get_all_trials(study_id)[0].user_attrs == {"by": "the late one"}
    for each in (late, early, reading):
        each.close()


def test_a_workers_own_trial_is_not_overwritten_by_a_sync(
    study_id: int, database: Database
) -> None:
    storage = PostgresStorage(database)
    own = storage.create_new_trial(study_id)
    here = WorkerStorage(database, study_id)
    here.sync()
    here.start_trial(own, NoOutbox())
    for name in ("rate", "kind"):  # of two kinds, each with its own domain
        here.set_trial_param(own, name, 1.0, DOMAINS[name])
    with pytest.raises(ValueError, match="distribution"):
        here.set_trial_param(own, "rate", 1.0, DOMAINS["kind"])
    storage.set_trial_user_attr(own, "by", "another")
    here.sync()
    assert list(here.get_all_trials(study_id)[0].params) == ["rate", "kind"]


def test_a_manual_change_note_hides_no_other_change(study_id: int, database: Database) -> None:
    storage = PostgresStorage(database)
    first, second = (storage.create_new_trial(study_id) for _ in range(2))
    since = storage.trial_cache(study_id).position

    def changed() -> list[int]:
        answer = database.row("changed_trials", study_id=study_id, also=[], **asdict(since))
        assert answer is not None
        return [row[0] for row in answer["others"]]

    write = "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (%(id)s, %(key)s, '1')"
    assert changed() == []
    with database.transaction():
        database.execute("SELECT orch.note(%(id)s)", {"id": first})
        database.execute(write, {"id": first, "key": "a"})
        database.execute(write, {"id": second, "key": "a"})
    assert changed() == [first, second], "the other trial is noted, too"
    since = storage.trial_cache(study_id).position
    assert changed() == []
    database.execute(write, {"id": first, "key": "b"})
    assert changed() == [first], "and so is the next transaction"


def test_hot_queries_keep_their_plans(database: Database) -> None:
    rows = database.execute(
        "SELECT proname AS name FROM pg_proc WHERE pronamespace = 'orch'::regnamespace "
        "AND proconfig @> '{plan_cache_mode=force_generic_plan,enable_seqscan=off,"
        "enable_bitmapscan=off,jit=off}'"
    )
    assert {row["name"] for row in rows} == {
        "claim", "write", "finish", "read_changes",
    }  # fmt: skip


def test_plain_optuna_workers_and_ours_can_share_a_study(
    study_id: int, database: Database, url: str, theirs: BaseStorage
) -> None:
    name = theirs.get_study_name_from_id(study_id)

    def work(storage: BaseStorage) -> None:
        study = optuna.load_study(
            study_name=name, storage=storage, pruner=optuna.pruners.SuccessiveHalvingPruner()
        )
        study.optimize(report_three, n_trials=6)

    own = [Database(url) for _ in range(2)]
    storages = [theirs, open_optuna_storage(url), *map(PostgresStorage, own)]
    threads = [threading.Thread(target=work, args=(each,)) for each in storages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = [each.get_all_trials(study_id) for each in (PostgresStorage(database), *storages)]
    assert [trial.number for trial in seen[0]] == list(range(24))
    assert all(trial.state.is_finished() for trial in seen[0])
    for other in seen[1:]:
        assert shown(other) == shown(seen[0])
    for each in own:
        each.close()


def report_three(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.suggest_categorical("kind", ["a", "b"])
    for step in range(1, 4):
        trial.report(x / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("pid", os.getpid())
    return x


# Calls by name; a trial is named by its place among those made so far.
PLACES = st.integers(0, 5)
FLOATS = st.floats(allow_nan=False)
CALLS = st.one_of(
    st.tuples(st.just("create"), st.sampled_from([None, *TEMPLATES])),
    st.tuples(st.just("param"), PLACES, st.sampled_from(sorted(DOMAINS)), st.integers(0, 1)),
    st.tuples(st.just("report"), PLACES, st.integers(0, 3), st.floats()),
    st.tuples(st.just("user"), PLACES, st.sampled_from("ab"), st.none() | FLOATS | st.text()),
    st.tuples(st.just("system"), PLACES, st.sampled_from("ab"), st.lists(st.booleans())),
    st.tuples(
        st.just("state"),
        PLACES,
        st.sampled_from(list(TrialState)),
        st.none() | st.lists(FLOATS, min_size=1, max_size=1),
    ),
)


def make_call(storage: BaseStorage, study_id: int, made: list[int], call: tuple[Any, ...]) -> Any:
    """Run it; the answer, or the kind of error."""
    kind, *rest = call
    try:
        if kind == "create":
            made.append(storage.create_new_trial(study_id, rest[0]))
            return storage.get_trial_number_from_id(made[-1])
        place, *rest = rest
        trial_id = made[place] if place < len(made) else -1
        if kind == "param":
            storage.set_trial_param(
                trial_id, rest[0], float(1 if rest[0] == "n" else rest[1]), DOMAINS[rest[0]]
            )
        elif kind == "report":
            storage.set_trial_intermediate_value(trial_id, *rest)
        elif kind == "user":
            storage.set_trial_user_attr(trial_id, *rest)
        elif kind == "system":
            storage.set_trial_system_attr(trial_id, *rest)
        else:
            state, values = rest
            values = values if state.is_finished() and state != TrialState.FAIL else None
            if state == TrialState.COMPLETE:
                values = values or [0.0]  # Optuna in memory asserts that there is one
            return storage.set_trial_state_values(trial_id, state, values)
    except (KeyError, ValueError, RuntimeError) as error:
        return type(error)
    return None


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(calls=st.lists(CALLS, max_size=20), looks=st.sets(st.integers(0, 19), max_size=3))
def test_any_sequence_of_calls_equals_the_in_memory_storage(
    database: Database, calls: list[tuple[Any, ...]], looks: set[int]
) -> None:
    memory, ours = InMemoryStorage(), PostgresStorage(database)
    directions = [StudyDirection.MINIMIZE]
    studies = [each.create_new_study(directions) for each in (memory, ours)]
    made: tuple[list[int], list[int]] = ([], [])
    unequal = ["_trial_id", "datetime_start", "datetime_complete"]
    try:
        for number, call in enumerate(calls):
            answers = [
                make_call(storage, study_id, ids, call)
                for storage, study_id, ids in zip((memory, ours), studies, made, strict=True)
            ]
            assert answers[0] == answers[1], call
            if number in looks:  # a later look must not miss what an earlier one saw differently
                ours.get_all_trials(studies[1])
        expected = shown(memory.get_all_trials(studies[0]), unequal)
        for reader in (ours, PostgresStorage(database)):
            assert shown(reader.get_all_trials(studies[1]), unequal) == expected
        assert shown([ours.get_trial(each) for each in made[1]], unequal) == expected
    finally:
        ours.delete_study(studies[1])
