"""TensorBoard of a study: its logs, and ``python -m orchestrator.serve.tensorboard LOGDIR …``.

Every trial is a run, in the HParams plugin's own format. TensorBoard's own library writes the
files. It would import TensorFlow, which takes seconds and which it does not need:
:func:`_without_tensorflow` gives it its own stand-in.
"""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.extras import install
from orchestrator.base.files import home
from orchestrator.errors import OrchError
from orchestrator.report.numbers import MOST, counted
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.storable import clean
from orchestrator.storage.studies import (
    Curves,
    StoredStudy,
    is_retried,
    open_study,
    read_logs,
    read_trials,
)

_LOGS_AT_ONCE = 100  # trials
_COMPLETE = "complete"  # a file that says that a trial's folder is final
_START_SECONDS = 90.0
_POLL_SECONDS = 2.0


def _without_tensorflow() -> None:
    """Let TensorBoard work with its own stand-in for TensorFlow.

    Raises:
        OrchError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise OrchError(f"TensorBoard is not installed; {install('tensorboard')}")
    if "tensorflow" not in sys.modules:
        sys.modules.setdefault(
            "tensorboard.compat.notf", types.ModuleType("tensorboard.compat.notf")
        )


class HParamsLogs:
    """The log folder of one study.

    Args:
        folder: where; made if it is missing.
        spec: the study's spec.
        read_logs: what the trials of some numbers have logged; None: nothing.

    Raises:
        OrchError: TensorBoard is not installed, or the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        spec: StudySpec,
        read_logs: Callable[[Sequence[int]], Mapping[int, Curves]] | None = None,
    ) -> None:
        _without_tensorflow()
        self._folder = folder
        self._spec = spec
        self._read_logs = read_logs
        self._domains: dict[str, BaseDistribution] = {}
        self._steps_written: dict[int, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OrchError(f"cannot write the folder {folder}: {error.strerror}") from None

    def write(self, trials: Iterable[FrozenTrial]) -> int:
        """Bring the folder up to date. A trial that has ended is written once.

        Returns:
            How many trials the folder has.

        Raises:
            OrchError: the folder cannot be written.
        """
        shown = [
            trial for trial in trials if trial.state != TrialState.WAITING and not is_retried(trial)
        ]
        domains = {name: each for trial in shown for name, each in trial.distributions.items()}
        try:
            if domains.keys() != self._domains.keys():
                self._domains = domains
                self._write_experiment()
            due = [trial for trial in shown if not (self._of(trial) / _COMPLETE).exists()]
            # The logs of thousands are not held in memory at once.
            for first in range(0, len(due), _LOGS_AT_ONCE):
                some = due[first : first + _LOGS_AT_ONCE]
                logs = self._read_logs([trial.number for trial in some]) if self._read_logs else {}
                for trial in some:
                    self._write_trial(trial, logs.get(trial.number, {}))
        except OSError as error:
            raise OrchError(f"cannot write in {self._folder}: {error.strerror}") from None
        return len(shown)

    def _of(self, trial: FrozenTrial) -> Path:
        return self._folder / f"trial-{trial.number:05d}"

    def _write_trial(self, trial: FrozenTrial, logs: Curves) -> None:
        final = self._of(trial)
        steps = len(trial.intermediate_values) + sum(map(len, logs.values()))
        if not trial.state.is_finished() and self._steps_written.get(trial.number) == steps:
            return
        # Beside the folder that TensorBoard reads, then in its place at once.
        made = Path(tempfile.mkdtemp(prefix=".orch-", dir=self._folder.resolve().parent))
        try:
            _write_events(made, _events(trial, self._spec, logs))
            if trial.state.is_finished():
                (made / _COMPLETE).touch()
            shutil.rmtree(final, ignore_errors=True)
            made.rename(final)
            final.chmod(0o755)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        self._steps_written[trial.number] = steps

    def _write_experiment(self) -> None:
        # Not the package's `api`, which brings its Keras callback, and TensorFlow.
        from tensorboard.plugins.hparams import summary_v2 as api

        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        summary = api.hparams_config_pb(
            hparams=[api.HParam(name, _domain(api, each)) for name, each in self._domains.items()],
            metrics=[api.Metric(metric) for metric in self._spec.study.metrics],
        )
        _write_events(self._folder, [(datetime.now(UTC).timestamp(), 0, summary)])


def _events(trial: FrozenTrial, spec: StudySpec, logs: Curves) -> list[tuple[float, int, Any]]:
    """A trial's events: wall time in seconds, step, summary."""
    from tensorboard.plugins.hparams import api_pb2
    from tensorboard.plugins.hparams import summary_v2 as api

    started, ended = _seconds(trial.datetime_start), _seconds(trial.datetime_complete)
    params = {name: _plain(value) for name, value in trial.params.items()}
    name = f"trial-{trial.number:05d}"
    events = [(started, 0, api.hparams_pb(params, trial_id=name, start_time_secs=started))]
    curves = _curves(trial, spec, logs)
    steps = sorted({step for curve in curves.values() for step in curve})
    times = {
        step: started + (ended - started) * place / len(steps)
        for place, step in enumerate(steps, start=1)
    }
    for step in steps:
        for tag, curve in curves.items():
            if step in curve:
                events.append((times[step], step, _scalar(tag, curve[step])))
    last = steps[-1] if steps else 0
    for metric, value in zip(spec.study.metrics, trial.values or (), strict=False):
        # HParams shows the newest of a metric's values: that must be the trial's.
        curve = curves.get(metric, {})
        if not curve or curve[max(curve)] != value:
            events.append((ended, last + bool(curve), _scalar(metric, value)))
    if trial.state.is_finished():
        failed = trial.state == TrialState.FAIL
        status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
        events.append((ended, 0, _session_end(status, ended)))
    return events


def _curves(trial: FrozenTrial, spec: StudySpec, logs: Curves) -> Curves:
    """What is drawn by step, by TensorBoard's tags: what was reported, then what was logged."""
    metric = spec.study.metrics[0]
    # With folds or repeats, each is a training; the metric itself is their mean.
    reported = metric if spec.training.rounds == 1 else f"{metric}_of_training"
    curves = {reported: trial.intermediate_values} if trial.intermediate_values else {}
    return {clean(name): curve for name, curve in ({**logs, **curves}).items()}


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto import summary_pb2

    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])


def _session_end(status: int, seconds: float) -> Any:
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=seconds)
    )
    value = summary_pb2.Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(data),
        tensor=metadata.NULL_TENSOR,
    )
    return summary_pb2.Summary(value=[value])


def _write_events(folder: Path, events: Iterable[tuple[float, int, Any]]) -> None:
    from tensorboard.compat.proto import event_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(folder))
    for seconds, step, summary in events:
        writer.add_event(event_pb2.Event(wall_time=seconds, step=step, summary=summary))
    writer.close()


def _domain(api: Any, each: BaseDistribution) -> Any:
    if isinstance(each, CategoricalDistribution):
        values = list(map(_plain, each.choices))
        kinds = set(map(type, values))
        # The plugin's discrete domains are of one type.
        return api.Discrete(values if len(kinds) == 1 else list(map(str, values)))
    if isinstance(each, IntDistribution):
        return api.IntInterval(each.low, each.high)
    assert isinstance(each, FloatDistribution)
    return api.RealInterval(float(each.low), float(each.high))


def _plain(value: Any) -> bool | int | float | str:
    value = clean(value)  # a file of events has no lone surrogate
    if isinstance(value, int) and not -MOST <= value <= MOST:
        return str(value)  # the plugin's numbers are floats
    return value if isinstance(value, bool | int | float | str) else str(value)


def _seconds(moment: datetime | None) -> float:
    # The database has UTC without a time zone.
    return (moment.replace(tzinfo=UTC) if moment else datetime.now(UTC)).timestamp()


def show_study(
    database: Database,
    study: StoredStudy,
    folder: Path | None,
    serve: bool,
    live: bool,
    host: str,
    port: int,
) -> None:
    """Write a study's logs, and serve them until interrupted.

    Args:
        database: where the study is.
        study: the study.
        folder: for the logs; None: one in ``ORCH_HOME``.
        serve: False: only write them.
        live: follow the study until it is done.
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.

    Raises:
        OrchError: the port is taken, or TensorBoard does not start.
    """
    if serve:
        port = free_port(host, port)
    folder = home() / "tensorboard" / study.name if folder is None else folder
    logs = HParamsLogs(folder, study.spec, partial(read_logs, database, study))
    count = logs.write(read_trials(database, study))
    print(f"{counted(count, 'trial')} in {folder}", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        if serve:
            _say_where(host, stack.enter_context(tensorboard(folder, host, port)))
        if live:
            _follow(database, study.name, logs)
        while serve:
            time.sleep(_POLL_SECONDS)


def _say_where(host: str, address: str) -> None:
    if host != "127.0.0.1":
        print(
            f"TensorBoard listens on {host}, without a password: whoever reaches this machine can "
            "read the study",
            file=sys.stderr,
        )
    print(f"TensorBoard at {address}#hparams (Ctrl-C ends it)", file=sys.stderr, flush=True)


def _follow(database: Database, name: str, logs: HParamsLogs) -> None:
    """Write what is new every two seconds, and once more when the study is done."""
    while True:
        study = open_study(database, name)
        trials = read_trials(database, study)
        logs.write(trials)
        ended = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
        if study.state != "open" or ended >= study.spec.study.trials:
            return
        time.sleep(_POLL_SECONDS)


@contextmanager
def tensorboard(folder: Path, host: str, port: int) -> Iterator[str]:
    """TensorBoard on a log folder while the block runs.

    Args:
        folder: the logs.
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.

    Yields:
        The address of its page, once it answers.

    Raises:
        OrchError: the port is taken, or TensorBoard does not start.
    """
    port = free_port(host, port)
    command = [sys.executable, "-P", "-m", "orchestrator.serve.tensorboard"]
    command += ["--logdir", str(folder), "--host", host, "--port", str(port)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://{host}:{port}/"
    try:
        _wait_for(process, address)
        yield address
    finally:
        process.terminate()
        process.wait()


def free_port(host: str, port: int) -> int:
    """The port, or any free one for 0.

    Raises:
        OrchError: it is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OrchError(
                f"cannot listen on {host}:{port}: {error.strerror}; name another with --port"
            ) from None
        return int(probe.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            lines = process.stderr.read().decode(errors="replace").strip().splitlines()
            raise OrchError(f"TensorBoard did not start: {lines[-1] if lines else 'no reason'}")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise OrchError(f"TensorBoard did not answer at {address} within {_START_SECONDS:.0f} s")


def main() -> int:
    """TensorBoard's own command, without the import of TensorFlow."""
    _without_tensorflow()
    from tensorboard.main import run_main

    run_main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
