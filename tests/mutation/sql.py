"""Mutation testing of the claim's SQL: each mutant is one wrong line; the tests must notice it.

    python tests/mutation/sql.py                      # all
    python tests/mutation/sql.py hold_lease           # those of one function
    python tests/mutation/sql.py finish_trial:left_at # with that in their text

Works on a copy, on a server of its own. Prints a line for each mutant; exits 1 when one survives that
is not explained here, or when a mutant's text is not in the SQL any more.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer

ROOT = Path(__file__).parent.parent.parent
SQL = Path("orchestrator/storage/sql/functions")
TESTS = [
    "test_lease_rules.py",
    "test_endings.py",
    "test_claim.py",
    "test_parts.py",
    "test_worker.py",
    "test_reporter.py",
    "test_claim_model.py",
    "test_constraints.py",
    "test_read_by_optuna.py",
    "test_lock_order.py",
    "test_other_server.py",
    "test_logs.py",
]


@dataclass(frozen=True)
class Mutant:
    """A text of a function, and what stands there instead.

    Attributes:
        function: without its schema.
        text: its first occurrence in the function is replaced.
        instead: by this.
        survives: why no test can notice; empty: one must.
    """

    function: str
    text: str
    instead: str = ""
    survives: str = ""


MUTANTS = [
    # The budget
    Mutant("lock_study", " FOR NO KEY UPDATE"),
    Mutant("take_trial", "v_unfinished >= v_study.budget", "v_unfinished > v_study.budget"),
    Mutant("take_trial", "v_running >= v_study.budget", "v_running > v_study.budget"),
    Mutant("take_trial", "v_unfinished + v_running >=", "v_unfinished >="),
    Mutant("claim", "p_version <> (", "false AND p_version <> ("),
    Mutant("take_trial", "v_study.state <> 'open'", "false"),
    Mutant("take_trial", "v_now > v_study", "v_now < v_study"),
    Mutant("take_trial", "ORDER BY number LIMIT", "ORDER BY number DESC LIMIT"),
    Mutant("take_trial", "a.key = 'orch:paused'", "false"),
    Mutant("take_trial", "trial_id IS NULL AND v_study.planned", "false"),
    Mutant("take_stage", "AND stage = coalesce(p_stage, stage)"),
    # The lease: taken back
    Mutant("take_trial", "PERFORM orch.take_back_lost(p_study);"),
    Mutant("take_trial", "AND t.state = 'RUNNING'"),
    Mutant("take_trial", "SET renewed_at = v_now", "SET renewed_at = l.renewed_at"),
    Mutant("take_trial", "renewed_at < v_now", "renewed_at > v_now"),
    Mutant("take_trial", "worker_id = p_worker)", "true)"),
    Mutant("take_back_lost", "l.renewed_at <", "l.renewed_at >"),
    Mutant("take_back_lost", "AND pg_postmaster_start_time() <", "AND now() >"),
    Mutant("take_back_lost", "WHERE l.study_id = p_study", "WHERE true"),
    Mutant("take_back_lost", "SKIP LOCKED"),
    Mutant("take_back_lost", "v_lost.state = 'RUNNING'", "true"),
    # The lease: held
    Mutant("hold_lease", "PERFORM orch.lock_study((SELECT study_id FROM trials WHERE trial_id = p_trial));"),
    Mutant("hold_lease", "AND worker_id = p_worker"),
    Mutant("hold_lease", "AND state = 'RUNNING'"),
    Mutant("hold_lease", "FOR UPDATE", "", "who calls it changes the lease next, and waits there"),
    Mutant("write", "AND l.worker_id = v_worker"),
    Mutant("write", "AND t.state = 'RUNNING'"),
    Mutant("write", "SET renewed_at = clock_timestamp()", "SET renewed_at = l.renewed_at"),
    Mutant("write", "NOT p_durable", "true", "only a crash of the server at that moment shows it"),
    Mutant("save", "AND worker_id = orch.worker_of(p_token)"),
    Mutant("save", "OFFSET 2", "OFFSET 3"),
    Mutant("save", "PERFORM orch.store(p_trial, p_writes);"),
    # The end of an attempt
    Mutant("end_attempt", "v_next - 1 <= orch", "v_next - 1 < orch"),
    Mutant("end_attempt", "to_jsonb(v_next)", "to_jsonb(v_attempt)"),
    Mutant("end_attempt", "to_jsonb(v_losses)", "to_jsonb(0)"),
    Mutant("attempts_of", "p_losses > 10", "p_losses >= 10"),
    Mutant("attempts_of", "THEN NULL", "THEN 1"),
    Mutant("fail", "'orch:attempt'))::integer, 1) = 1", "'orch:attempt'))::integer, 1) > 0"),
    Mutant("fail", "p_signature) > 1", "p_signature) > 0"),
    Mutant("fail", "PERFORM orch.end_doubtful(v_study, p_signature, p_reason);"),
    Mutant("first_attempts_with", "t.study_id = p_study AND"),
    Mutant("take_trial", "v_running + v_waiting < v_study", "v_running + v_waiting <= v_study"),
    Mutant("take_trial", "AND t.number = v_number - 1"),
    Mutant("end_doubtful", "AND t.state = 'WAITING'"),
    Mutant("stop_misused", "wrong_use = true", "wrong_use = false"),
    Mutant("end_attempt", "failures_in_row >= orch", "failures_in_row > orch"),
    Mutant("end_attempt", "coalesce(orch.attribute(p_trial, 'orch:retry_of'), to_jsonb(v_number))", "to_jsonb(v_number)"),
    Mutant("end_attempt", "UPDATE orch.checkpoint SET trial_id = v_retry WHERE trial_id = p_trial;"),
    Mutant("end_attempt", "AND step <= orch.last_checkpoint(v_retry)", survives="rewind removes the rest"),
    Mutant("end_attempt", "PERFORM orch.rewind(v_retry, orch.last_checkpoint(v_retry));"),
    Mutant("end_attempt", "DELETE FROM orch.lease WHERE trial_id = p_trial;"),
    Mutant("end_attempt", "PERFORM orch.forget_checkpoints(p_trial);"),
    # The end of a trial
    Mutant("end_trial", "AND state = 'RUNNING'"),
    Mutant("end_trial", "AND worker_id = p_worker"),
    Mutant("end_trial", "PERFORM orch.store(p_trial, p_writes);"),
    Mutant("end_trial", "SET failures_in_row = 0", "SET failures_in_row = failures_in_row"),
    Mutant("end_trial", "PERFORM orch.forget_checkpoints(p_trial);"),
    Mutant("count_work", "trials = trials + p_trials", "trials = trials"),
    Mutant("release", "PERFORM orch.rewind(p_trial, orch.last_checkpoint(p_trial));"),
    Mutant("release", "DELETE FROM orch.lease WHERE trial_id = p_trial;"),
    Mutant("pause", "'orch:paused', 'true'", "'orch:waits', 'true'"),
    Mutant("rewind", "step > p_step", "step >= p_step"),
    Mutant("rewind", "DELETE FROM orch.logged WHERE trial_id = p_trial AND step > p_step;"),
    Mutant("merge_logged", "ORDER BY u.place DESC", "ORDER BY u.place"),
    Mutant("rewind", "AND p_step < 0", "AND false"),
    Mutant("end_trial", "FOR NO KEY UPDATE"),
    Mutant("end_trial", "serial >= p_serial", "true"),
    Mutant("end_trial", "ended_by = p_worker", "ended_by = NULL"),
    # What a plan does, and which models are kept
    Mutant("advance_plan", "step DESC", "step ASC"),
    Mutant("advance_plan", "AND state = 'WAITING'"),
    Mutant("advance_plan", "PERFORM orch.forget_checkpoints(trial_id)", "PERFORM trial_id"),
    Mutant("is_model_wanted", "< p_keep", "<= p_keep"),
    Mutant("keep_best_model", "LIMIT p_keep", "LIMIT p_keep + 1"),
    Mutant("keep_best_model", "v_sign * a.value", "a.value"),
    Mutant("keep_best_model", "DELETE FROM trial_system_attributes a USING fallen f\n        WHERE", "DELETE FROM trial_system_attributes a USING fallen f\n        WHERE false AND"),
    Mutant("keep_best_model", "m.study_id = v_study AND"),
    # Which trials may win
    Mutant("able_trials", "AND t.state = 'COMPLETE'"),
    Mutant("able_trials", "AND f.value_type <> 'FINITE'", "AND false"),
    Mutant("able_trials", "AND v.objective = 0", "AND v.objective >= 0"),
    Mutant("able_trials", "AND orch.is_violated(c.key, c.value_json)"),
    Mutant("able_trials", "orch.violation(u.value_json) > 0 AND", "true AND"),
    Mutant("able_trials", "c.key = 'constraints' OR ", ""),
    Mutant("is_violated", "violation(p_json) > 0", "violation(p_json) >= 0"),
    Mutant("any_violated", "violation(value) > 0", "violation(value) >= 0"),
    Mutant("any_violated", "p_list LIKE '[_%]' AND", ""),
    Mutant("violation", "WHEN p_json = '-Infinity' THEN -1e9"),
    Mutant("violation", "WHEN p_json = 'false' THEN 0"),
    Mutant("violation", "WHEN p_json = 'true' THEN 1"),
    Mutant("violation", "ELSE 1e9", "ELSE -1e9"),
    Mutant("write_constraints", "ON CONFLICT DO NOTHING", "ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"),
    Mutant("write_constraints", "value_json::jsonb = (", "value_json::jsonb <> ("),
    Mutant("end_attempt", "PERFORM orch.forget_constraints(ARRAY[v_retry]);"),
    Mutant("release", "PERFORM orch.forget_constraints(ARRAY[p_trial]);"),
    Mutant("take_trial", "PERFORM orch.forget_constraints(ARRAY[v_held]);"),
    Mutant("advance_plan", "PERFORM orch.forget_constraints(p_promote);"),
    # What a worker is told with its claim and with its end
    Mutant("take_trial", "'FAIL');", "'WAITING');"),
    Mutant("take_trial", "coalesce(datetime_start, orch.utc_now())", "orch.utc_now()"),
    Mutant("claim", "left_at = NULL", "left_at = left_at"),
    Mutant("claim", "p_since IS NOT NULL AND", "false AND"),
    Mutant("changed_since", "AND xid <> coalesce(p_known, '0')"),
    Mutant("changed_since", "p_server = p_now", "true"),
    Mutant("changed_here", "p_claimed || ", ""),
    Mutant("position_now", "WHERE s.started_at = v_started"),
    Mutant("worker_of", "substr(p_token::text, 15, 1) = '4'", "true"),
    Mutant("finish", "PERFORM orch.lock_study(p_study);"),
    Mutant("delete_study", "PERFORM 1 FROM orch.lease WHERE study_id = p_study ORDER BY trial_id FOR UPDATE;\n    DELETE FROM orch.lease WHERE study_id = p_study;"),
    Mutant("finish", "ended <> 'ended'", "false"),
    Mutant("finish", "p_version <> (", "false AND p_version <> ("),
    Mutant("finish", "p_since IS NOT NULL AND", "false AND"),
    Mutant("why_not_ended", "orch.hold_lease(p_trial, p_worker)", "false"),
    Mutant("why_not_ended", "AND ended_by = p_worker"),
    Mutant("why_not_ended", "AND state = p_state"),
    Mutant("count_work", "left_at = NULL", "left_at = left_at"),
    Mutant("fail", "PERFORM orch.set_attribute(p_trial, key, value) FROM jsonb_each(p_attributes);"),
    Mutant("release", "datetime_start = NULL", "datetime_start = datetime_start"),
    Mutant("write", "CASE WHEN l.serial < p_after THEN l.serial ELSE p_serial END", "p_serial"),
    Mutant("write", "PERFORM orch.store(p_trial, p_writes);"),
    Mutant("write", "p_since IS NOT NULL", "false"),
    Mutant("store", "UPDATE\n        SET intermediate_value =", "UPDATE\n        SET intermediate_value = o.intermediate_value +"),
    # Plans
    Mutant("queue_trials", "ORDER BY number", "", "PostgreSQL keeps the list's order here by itself"),
    Mutant("advance_plan", "integer + 1", "integer"),
    Mutant("advance_plan", "p_promote || p_prune", "p_promote"),
    Mutant("advance_plan", "PERFORM orch.queue_trials(p_study, p_configurations, NULL, p_attributes);"),
    Mutant("advance_plan", "<> 'NAN'", "= intermediate_value_type"),
    Mutant("pause", "DELETE FROM orch.lease WHERE trial_id = p_trial RETURNING taken_at INTO v_taken;"),
]  # fmt: skip


class Copy:
    """A copy of the project whose SQL may be wrong, and a server that all runs share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "copy"
        for name in ("orchestrator", "objectives", "tests"):
            shutil.copytree(ROOT / name, self.folder / name)
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        self.right = {path: path.read_text() for path in (self.folder / SQL).glob("*.sql")}
        self.home = folder / "home"
        self.url = EmbeddedServer(self.home).ensure_running()
        self.limit_seconds = 600.0

    def apply(self, mutant: Mutant) -> bool:
        """False: the text is not there."""
        pattern = rf"FUNCTION orch\.{mutant.function}\(.*?^\$\$;"
        for path, right in self.right.items():
            path.write_text(right)
        for path, right in self.right.items():
            body = re.search(pattern, right, re.S | re.M)
            if body is not None and mutant.text in body.group():
                wrong = body.group().replace(mutant.text, mutant.instead, 1)
                path.write_text(right[: body.start()] + wrong + right[body.end() :])
                return True
        return False

    def killer(self) -> str | None:
        """The first test that fails; None: all pass."""
        self._empty()
        command = [sys.executable, "-m", "pytest", "-x", "--tb=no", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, *(f"tests/worker/{each}" for each in TESTS)],
                cwd=self.folder,
                env={**os.environ, "ORCH_TEST_HOME": str(self.home)},
                capture_output=True,
                text=True,
                timeout=self.limit_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "it does not end"
        if done.returncode == 0:
            return None
        failed = re.search(r"^(?:FAILED|ERROR) \S+?::(\S+)", done.stdout, re.M)
        return failed.group(1) if failed else done.stdout + done.stderr

    def _empty(self) -> None:
        # The schema is only made where it is missing.
        outside = Database(self.url.replace("/postgres?", "/template1?"))
        for row in outside.execute("SELECT datname FROM pg_database WHERE NOT datistemplate"):
            outside.execute(f"DROP DATABASE {row['datname']} WITH (FORCE)")
        outside.execute("CREATE DATABASE postgres")
        outside.close()


def judge(copy: Copy, mutant: Mutant) -> tuple[bool, str]:
    """Whether all is as it should be, and a word about it."""
    if not copy.apply(mutant):
        return False, "its text is not in the SQL"
    began = time.monotonic()
    killer = copy.killer()
    if killer is not None:
        return True, f"killed by {killer} ({time.monotonic() - began:.0f} s)"
    return bool(mutant.survives), f"SURVIVES: {mutant.survives or 'no test notices'}"


def is_wanted(mutant: Mutant, names: list[str]) -> bool:
    pairs = [name.partition(":") for name in names] or [(mutant.function, "", "")]
    return any(mutant.function == function and text in mutant.text for function, _, text in pairs)


def main() -> int:
    wanted = [each for each in MUTANTS if is_wanted(each, sys.argv[1:])]
    # Its server ends with it, as with Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="orch-mutation-"))
    folder.chmod(0o755)
    copy = Copy(folder)
    try:
        began = time.monotonic()
        killer = copy.killer()
        if killer is not None:
            print(f"the tests fail without a mutant: {killer}")
            return 1
        # Of tests that pass none may count as one that does not end, however slow the machine is.
        copy.limit_seconds = 30 + 3 * (time.monotonic() - began)
        right = []
        for mutant in wanted:
            as_it_should, word = judge(copy, mutant)
            right.append(as_it_should)
            shown = f"'{mutant.text}'" + (
                f" -> '{mutant.instead}'" if mutant.instead else " dropped"
            )
            print(f"{mutant.function}: {shown}: {word}", flush=True)
        print(f"{len(right)} mutants, {right.count(False)} to look at")
        return 0 if all(right) else 1
    finally:
        EmbeddedServer(copy.home).stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
