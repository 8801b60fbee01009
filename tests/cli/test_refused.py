"""A refused command has changed nothing: not a row, not a file."""

from __future__ import annotations

import hashlib
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
from conftest import Orch, open_folder

from orchestrator.errors import StorageError, StudyFailed, UsageError
from orchestrator.resolve.resolve import create, resume
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.studies import add_budget, open_study, raise_budget
from orchestrator.winner.confirm import confirm_study

_OBJECTIVE = """\
from orchestrator.training.builtin.digits import Digits

def f(trial):
    return trial.suggest_float('x', 0, {high})

class Net(Digits):
    pass
"""
# What is no change: logs, the server's own files, and what it needs to be started once.
_NOT_STATE = ("logs/", "postgres/", "postgres.lock")


@dataclass
class Place:
    """A server, and two folders of a user: the studies were made in ``as_made``."""

    orch: Orch
    database: Database
    folder: Path
    port: int  # somebody else listens there

    def state(self) -> dict[str, object]:
        """Every row of the database, its roles, and every file of the user's."""
        tables = self.database.execute(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname IN ('public', 'orch')"
        )
        rows: dict[str, object] = {
            each["name"]: self.database.execute(
                f"SELECT t::text AS line FROM {each['name']} t ORDER BY t::text"
            )
            for each in tables
        }
        rows["roles"] = self.database.execute(
            "SELECT rolname, rolpassword FROM pg_authid ORDER BY rolname"
        )
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            inside = name.removeprefix("home/")
            if path.is_file() and not inside.startswith(_NOT_STATE):
                rows[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return rows

    def call(self, cwd: str, line: str) -> subprocess.CompletedProcess[str]:
        words = line.format(port=self.port, url=self.orch.storage, folder=self.folder).split(" ")
        environment = {
            **self.orch.environment,
            # No sbatch, no kubectl.
            "PATH": str(Path(sys.executable).parent),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        environment.pop("PYTHONPATH")
        if cwd == "no_home":
            environment["ORCH_HOME"] = "/dev/null/home"
        return subprocess.run(
            self.orch.command(*words),
            env=environment,
            cwd=self.folder / ("as_made" if cwd == "no_home" else cwd),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def made(self, line: str) -> None:
        done = self.call("as_made", line)
        assert done.returncode == 0, done.stderr


def _digits(path: Path, last: float) -> None:
    x = np.zeros((40, 8, 8), np.uint8)
    x[-1] = last
    y = np.arange(40) % 10
    np.savez(path, x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with open_folder() as folder, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        home = folder / "home"
        home.mkdir()
        url = EmbeddedServer(home).ensure_running()
        for name, high, last in (("as_made", 1, 1), ("changed", 2, 2)):
            (folder / name).mkdir()
            (folder / name / "mine.py").write_text(_OBJECTIVE.format(high=high))
            _digits(folder / name / "d.npz", last)
        (folder / "empty").mkdir()
        optuna.create_study(storage=f"sqlite:///{folder}/old.db", study_name="old")
        (folder / "no.db").touch()
        made = Place(Orch(home, url), Database(url), folder, taken.getsockname()[1])
        # The objective comes from the folder that a command is given in.
        made.made("run mine:f --study f --trials 2 --workers 1")
        made.made("run quadratic --study q --trials 2 --workers 1")
        made.made("create none --objective quadratic")
        made.made("create data --objective digits --data d.npz --epochs 1 --trials 2")
        done = optuna.create_study(storage=f"sqlite:///{folder}/done.db")
        done.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
        made.made("import optuna sqlite:///{folder}/done.db read")
        made.made("create both --objective mine:Net --data d.npz --epochs 1 --trials 2")
        yield made
        made.database.close()
        EmbeddedServer(home).stop()


# Where it is given, its exit code, and the command.
REFUSED = [
    # A source, data or software that are not the study's.
    ("changed", 1, "run mine:f --study f --trials 14"),
    ("changed", 1, "run digits --study data --data d.npz --epochs 1 --trials 14"),
    ("changed", 1, "run digits --study data --data d.npz --epochs 1 --trials 14 --allow-mismatch"),
    ("changed", 1, "run mine:Net --study both --data d.npz --epochs 1 --trials 14 --allow-mismatch"),
    ("changed", 1, "resume f --add 2"),
    ("changed", 1, "resume f --trials 14"),
    ("changed", 1, "resume data --add 2"),
    ("changed", 1, "resume both --add 2 --allow-mismatch"),
    ("changed", 1, "worker both"),
    ("changed", 1, "worker both --allow-mismatch"),
    ("changed", 2, "worker f --allow-mismatch --gpus 9"),
    ("changed", 2, "worker f --allow-mismatch --timeout soon"),
    ("changed", 2, "worker f --allow-mismatch --metrics-port x"),
    ("changed", 1, "worker f --allow-mismatch --metrics-port {port}"),
    ("changed", 2, "worker f --allow-mismatch --processes 0"),
    ("changed", 1, "refit data --out m.keras"),
    ("changed", 1, "predict data --out p.png"),
    # An objective or data that cannot be found.
    ("empty", 2, "run mine:f --study f --trials 14"),
    ("empty", 2, "resume f --add 2"),
    ("empty", 1, "resume data --add 2"),
    ("empty", 2, "enqueue f --params x=0.5"),
    ("empty", 1, "worker f"),
    # A spec that differs, or is wrong.
    ("as_made", 2, "run mine:f --study f --trials 14 --seed 5"),
    ("as_made", 2, "run mine:f --study f --trials 1"),
    ("as_made", 2, "run mine:f --study f --trials 14 --set sampler.nonsense=1"),
    ("as_made", 2, "run mine:f --study f --trials 14 --set nonsense.key=1"),
    ("as_made", 2, "run mine:f --study f --trials 14 --timeout soon"),
    ("as_made", 2, "run quadratic --study new --param z=1"),
    ("as_made", 2, "run quadratic --study new --sampler grid"),
    ("as_made", 2, "create new --objective mine:f --sampler grid"),
    ("as_made", 2, "create f --objective mine:f"),
    ("as_made", 2, "create new --objective quadratic --pruner nonsense"),
    ("as_made", 1, "create new --objective digits --data gone.npz"),
    # What a verb says about its workers.
    ("as_made", 2, "run mine:f --study f --trials 14 --gpus 9"),
    ("as_made", 2, "run mine:f --study f --trials 14 --workers 0"),
    ("as_made", 2, "run mine:f --study new --gpus 9"),
    ("as_made", 2, "resume f --add 2 --gpus 9"),
    ("as_made", 2, "resume f --add 2 --workers 0"),
    ("no_home", 1, "run mine:f --study f --trials 14"),
    ("no_home", 1, "run mine:f --study new"),
    ("no_home", 1, "resume f --add 2"),
    ("no_home", 1, "worker f"),
    ("no_home", 1, "confirm q --top 1 --seeds 2"),
    # A budget.
    ("as_made", 2, "resume f --add 0"),
    ("as_made", 2, "resume f --trials 2"),
    ("as_made", 2, "resume f --trials 1"),
    ("as_made", 2, "resume f --trials 4 --add 2"),
    # A study that is not there, or that is.
    ("as_made", 1, "resume nowhere --add 2"),
    ("as_made", 1, "worker nowhere"),
    ("as_made", 1, "stop nowhere"),
    ("as_made", 1, "delete nowhere --yes"),
    ("as_made", 2, "delete f"),
    ("as_made", 1, "tensorboard nowhere"),
    ("as_made", 1, "space nowhere"),
    # Several configurations: all or none.
    ("as_made", 2, "enqueue q --params x=1 --params z=1"),
    ("as_made", 2, "enqueue q --params x=1 --params x=99"),
    ("as_made", 2, "enqueue q --params x=1 --params x"),
    ("as_made", 1, "enqueue q --params x=1 --from nowhere"),
    ("as_made", 2, "enqueue q --params x=1 --from none"),
    ("as_made", 2, "enqueue q"),
    ("as_made", 2, "enqueue f --params x=0.5 --params x=true"),
    # Imports.
    ("as_made", 2, "import optuna sqlite:///{folder}/gone.db new"),
    ("as_made", 2, "import optuna sqlite:///{folder}/no.db new"),
    ("as_made", 2, "import optuna sqlite:///{folder}/old.db f"),
    ("as_made", 2, "import optuna sqlite:///{folder}/old.db new --study nowhere"),
    ("as_made", 2, "import optuna sqlite:///{folder}/old.db new --objective nothing"),
    ("as_made", 2, "import optuna sqlite:///{folder}/old.db new --epochs 3"),
    ("as_made", 2, "import kerastuner {folder} new"),
    # An imported study that can only be read.
    ("as_made", 2, "resume read --add 2"),
    ("as_made", 2, "resume read --trials 14 --allow-mismatch"),
    ("as_made", 2, "worker read"),
    ("as_made", 2, "worker read --allow-mismatch"),
    ("as_made", 2, "enqueue read --params x=0.5"),
    ("as_made", 2, "confirm read --top 1 --seeds 2"),
    ("as_made", 2, "refit read --out m.keras"),
    ("as_made", 1, "predict read --out p.png"),
    # The winner.
    ("as_made", 1, "confirm q --top 9"),
    ("as_made", 2, "confirm q --top 1 --seeds 2 --gpus 9"),
    ("as_made", 2, "confirm q --top 1 --seeds 1"),
    ("as_made", 1, "refit q --out m.keras"),
    ("as_made", 1, "refit data --out m.keras"),
    ("as_made", 2, "refit data --out m.txt"),
    ("as_made", 1, "refit data --out missing/m.keras"),
    ("as_made", 1, "refit data --out /proc/m.keras"),
    ("as_made", 2, "predict data --out p.txt"),
    ("as_made", 1, "predict data --out missing/p.png"),
    ("as_made", 1, "predict data --out p.png"),
    ("as_made", 1, "best q --models models"),
    ("as_made", 1, "replay q 99"),
    # What listens, and what is written elsewhere.
    ("as_made", 1, "report q --format html --out missing/r.html"),
    ("as_made", 1, "tensorboard q --port {port}"),
    ("as_made", 1, "tensorboard q --no-serve --logdir /dev/null/logs"),
    ("as_made", 1, "dashboard --port {port}"),
    ("as_made", 1, "dashboard --password-file gone"),
    ("as_made", 2, "dashboard --port 0 --metrics-port x"),
    ("as_made", 2, "db roles --passfile /dev/null/pass"),
    ("as_made", 2, "db serve --listen 127.0.0.1 --port {port}"),
    ("as_made", 2, "db serve --listen 203.0.113.1"),
    ("as_made", 1, "launch slurm nowhere --workers 2"),
    ("as_made", 2, "launch slurm q --workers 2"),
    ("as_made", 2, "launch kubernetes q --workers 2 --image i"),
    ("as_made", 2, "launch scale slurm q --workers 2"),
]  # fmt: skip


@pytest.mark.parametrize(("cwd", "code", "line"), REFUSED)
def test_a_refused_command_changes_nothing(place: Place, cwd: str, code: int, line: str) -> None:
    before = place.state()
    done = place.call(cwd, line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert place.state() == before


def test_an_allowed_mismatch_is_recorded_with_its_budget(place: Place) -> None:
    place.made("create g --objective mine:f --trials 2")
    done = place.call("changed", "resume g --add 1 --workers 1 --allow-mismatch")
    assert done.returncode == 0 and "the report will say so" in done.stderr
    assert open_study(place.database, "g").spec.study.trials == 3
    assert len(place.orch.report("g")["mismatches"]) == 1


def test_a_command_that_fails_halfway_rolls_back_its_earlier_writes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(place.database, StudySpec.parse({"study": {"name": "h", "objective": "quadratic"}}))
    before = place.state()
    place.database.execute(
        "CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'no room'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE OF state ON orch.study "
        "FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse()"
    )
    try:
        with pytest.raises(StorageError, match="no room"):
            resume(place.database, "h", add=5)
    finally:
        place.database.execute("DROP TRIGGER refuse ON orch.study")
    assert place.state() == before


def test_two_concurrent_budget_additions_both_count(place: Place) -> None:
    study = create(
        place.database,
        StudySpec.parse({"study": {"name": "added", "objective": "quadratic", "trials": 3}}),
    )
    assert place.orch.storage is not None
    other = Database(place.orch.storage)
    # Both have read a budget of 3; the second waits for the first.
    second = threading.Thread(target=add_budget, args=(other, study, 4))
    with place.database.transaction():
        add_budget(place.database, study, 2)
        second.start()
    second.join()
    other.close()
    assert open_study(place.database, "added").spec.study.trials == 9
    row = place.database.execute(
        "SELECT budget FROM orch.study WHERE study_id = %(id)s", {"id": study.study_id}
    )
    assert row == [{"budget": 9}]
    # Of two that name a budget, the lower one comes too late.
    with pytest.raises(UsageError, match="is 9 already"):
        raise_budget(place.database, study, 8)


def test_a_winner_is_not_confirmed_on_different_data(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.folder / "changed")
    trial = optuna.trial.create_trial(value=1.0)
    before = place.state()
    with pytest.raises(StudyFailed, match="this machine's data are not those of study 'data'"):
        confirm_study(place.database, open_study(place.database, "data"), [trial], 1, 2)
    assert place.state() == before


@pytest.mark.parametrize(
    ("right", "words"), [("SCHEMA public", "database"), ("DATABASE {name}", "schema public")]
)
def test_a_role_that_cannot_create_every_table_creates_none(
    place: Place, right: str, words: str
) -> None:
    assert place.orch.storage is not None
    name = f"bare_{words[:6]}"
    place.database.execute(f"CREATE DATABASE {name}")
    place.database.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    url = place.orch.storage.replace("/postgres?", f"/{name}?")
    owner = Database(url)
    owner.execute(
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT CREATE ON {right.format(name=name)} TO {name}"
    )
    # The embedded server asks all but its administrator for a password.
    theirs = re.sub(r"postgres@(.*?)&requirepeer=[^&]*", rf"{name}:x@\1", url)
    line = Orch(place.orch.home, theirs).refused(1, "db", "init")
    assert f"it lacks the right CREATE on the {words}" in line
    assert not owner.execute("SELECT FROM pg_tables WHERE schemaname IN ('public', 'orch')")
    owner.close()


def test_an_import_that_fails_halfway_leaves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attribute holds a character that PostgreSQL cannot store."""
    url = f"sqlite:///{place.folder}/nul.db"
    study = optuna.create_study(storage=url, study_name="nul")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    study.set_user_attr("nul\0", 1)
    before = place.state()
    done = place.call("as_made", f"import optuna {url} nul")
    assert done.returncode == 1 and "cannot store the trials" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert place.state() == before
