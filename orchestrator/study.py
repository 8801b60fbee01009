"""A study: everything that one does with it, in Python as on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import optuna
from optuna.trial import FrozenTrial

from orchestrator.base.extras import missing
from orchestrator.errors import OrchError, UsageError
from orchestrator.report.listing import (
    BestTrials,
    SearchSpace,
    best_of,
    space_of_study,
    state_word,
    study_page,
)
from orchestrator.report.reader import summarise
from orchestrator.report.render import format_of, shown_in
from orchestrator.report.section import section
from orchestrator.report.summary import Summary
from orchestrator.report.trial import follow, printed, trial_page
from orchestrator.resolve.objective import asked_facts, check_consent, remember_command
from orchestrator.resolve.resolve import Resumed
from orchestrator.resolve.resolve import resume as resume_study
from orchestrator.spec.keywords import seconds_of
from orchestrator.spec.model import StudySpec
from orchestrator.storage import studies
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy, open_study, ranking, read_logs, read_trials
from orchestrator.storage.url import mask
from orchestrator.training import handover
from orchestrator.training.handover import Handover

if TYPE_CHECKING:
    from orchestrator.winner.confirm import ConfirmedTrials
    from orchestrator.winner.predict import Predictions
    from orchestrator.winner.refit import Refitted
    from orchestrator.winner.replay import Replay

__all__ = ["Study", "Summary"]

State = Literal["open", "stopping", "exhausted", "failed", "done"]
Format = Literal["text", "json", "csv", "markdown", "html", "parquet"]
Seconds = float | str
Progress = Literal["auto", False]
OnTrial = Callable[[FrozenTrial], None]


class Study:
    """A study in a storage; :func:`create_study` and :func:`load_study` make one.

    It is a context manager, and may be used after a fork: it opens a connection of its own there.

    Example:
        with orch.create_study("bowl", objective="quadratic", trials=20) as study:
            study.run(workers=2)
            print(study.best.params)

    Attributes:
        name: the study's name.
        storage: the storage's URL, without its password.
    """

    def __init__(
        self,
        database: Database,
        name: str,
        handed: Sequence[Handover] = (),
        resumed: Resumed | None = None,
    ) -> None:
        self.name = name
        self.storage = mask(database.url)
        self._database = database
        self._handed = tuple(handed)
        self._resumed = resumed

    def __repr__(self) -> str:
        return f"Study({self.name!r}, storage={self.storage!r})"

    @property
    def spec(self) -> StudySpec:
        """The specification as it is stored now.

        Example:
            study.spec.training.epochs

        Raises:
            NoSuchStudy: the study was deleted.
            StorageError: the storage is out of reach.
        """
        return self._stored().spec

    @property
    def state(self) -> State:
        """``"open"``, ``"stopping"``, ``"exhausted"``, ``"failed"`` or ``"done"``.

        Example:
            if study.state == "failed": print(study.report())

        Raises:
            NoSuchStudy: the study was deleted.
            StorageError: the storage is out of reach.
        """
        row = self._database.row("progress", study_id=self._stored().study_id)
        assert row is not None
        done = row["complete"] + row["pruned"]
        return cast(State, state_word(row["state"], done, row["budget"]))

    def run(
        self,
        *,
        workers: int | None = None,
        timeout: Seconds | None = None,
        gpus: str | Sequence[str] | None = None,
        allow_mismatch: bool = False,
        allow_command: bool = False,
        progress: Progress = "auto",
        on_trial: OnTrial | None = None,
    ) -> Self:
        """Work on the study here until it is done; a stopped one is taken up again.

        It returns when the study is done, in this thread. Ctrl-C (KeyboardInterrupt) asks the
        workers to leave, and their trials are given back; a second one ends them at once. When this
        process dies, its workers leave by themselves, and another ``run`` continues.

        Example:
            study.run(workers=4, on_trial=lambda trial: print(trial.number, trial.value))

        Args:
            workers: worker processes; None: one per core, at most 4. With 0 the trials run in this
                process, one after the other, e.g. for a debugger.
            timeout: start no trials after this time, e.g. ``90`` or ``"30m"``.
            gpus: the GPUs to share out: ``"all"``, ``"none"``, ``"0,1"`` or a list.
            allow_mismatch: join even if this machine's code or versions differ from the study's.
            allow_command: run the command that the study stores, though you have not given it on
                this machine. It is then remembered here.
            progress: False shows nothing.
            on_trial: called with each trial that ends, here or elsewhere. With ``workers=0`` from
                another thread.

        Raises:
            StudyFailed: too many configurations failed, or this machine may not take part.
            UsageError: the study or the objective is used wrongly.
            StorageError: the storage is out of reach.
            KeyboardInterrupt: it was interrupted; the workers have left.
        """
        from orchestrator.workers import LocalRun  # which loads what a worker needs

        local = LocalRun.prepare(self._database, workers, gpus, self._handed)
        seconds = seconds_of(timeout)
        self._check_consent(allow_command)
        with self._lent():
            resumed = self._take_up(allow_mismatch)
            local.work(resumed, timeout=seconds, shown=progress == "auto", on_trial=on_trial)
        return self

    def resume(
        self,
        *,
        trials: int | None = None,
        add: int | None = None,
        allow_mismatch: bool = False,
        allow_command: bool = False,
    ) -> Self:
        """Take the study up on this machine, without working on it yet: all of it, or nothing.

        This machine's code and data are compared, the budget is raised, and a stopped or failed
        study is opened again. :meth:`run` does the same by itself, but for the budget.

        Example:
            study.resume(add=20).run(workers=2)

        Args:
            trials: the new budget, which must be higher; None: as it is.
            add: instead, how many trials to add.
            allow_mismatch: join even if this machine's code or versions differ from the study's.
            allow_command: as in :meth:`run`.

        Raises:
            UsageError: the budget is not higher, or the objective cannot be loaded.
            StudyFailed: this machine's data or software differ from the study's.
            StorageError: the storage is out of reach.
        """
        self._check_consent(allow_command)
        with self._lent():
            self._resumed = resume_study(self._database, self.name, trials, add, allow_mismatch)
        return self

    def watch(self, *, progress: Progress = "auto") -> Self:
        """Wait, with progress, until the study is done elsewhere. Ctrl-C closes only the view.

        Example:
            orch.load_study("mlp", storage="postgresql://orch@db.lab/orch").watch()

        Raises:
            NoSuchStudy: the study was deleted.
            StorageError: the storage is out of reach when it begins.
        """
        from orchestrator.report.progress import watch

        watch(self._database, self._stored(), progress == "auto")
        return self

    def stop(self) -> int:
        """Let running trials finish and start no new ones, on any machine.

        Example:
            study.stop()

        Returns:
            How many workers are alive; they leave after their trial.

        Raises:
            StorageError: the storage is out of reach.
        """
        self._resumed = None
        return studies.stop(self._database, self._stored())

    def delete(self) -> None:
        """Remove the study with all its trials.

        Example:
            orch.load_study("old").delete()

        Raises:
            StorageError: the storage is out of reach.
        """
        from orchestrator.report.winner import keep_confirmation

        stored = self._stored()
        keep_confirmation(self._database, stored)
        studies.delete(self._database, stored)

    def add_budget(self, trials: int) -> None:
        """Add trials to the budget; of two that do so at once, both count.

        Example:
            study.add_budget(20)

        Raises:
            UsageError: not a positive number.
            StorageError: the storage is out of reach.
        """
        studies.add_budget(self._database, self._stored(), _positive(trials))

    def set_budget(self, trials: int) -> None:
        """Raise the budget to this number of trials.

        Example:
            study.set_budget(100)

        Raises:
            UsageError: it is not higher.
            StorageError: the storage is out of reach.
        """
        studies.raise_budget(self._database, self._stored(), _positive(trials))

    def enqueue(
        self,
        *configurations: Mapping[str, Any],
        source: Study | str | None = None,
        top: int = 5,
    ) -> int:
        """Queue configurations; workers take them before anything else. All of them, or none.

        Example:
            study.enqueue({"units": 64}, {"units": 128})
            study.enqueue(source="mlp-small", top=3)

        Args:
            configurations: parameters by name; what is left out is drawn.
            source: a study whose best trials are queued as well; what does not fit is left out.
            top: how many of them.

        Returns:
            How many were queued.

        Raises:
            UsageError: an unknown parameter, or a value that its domain does not have.
            StorageError: the storage is out of reach.
        """
        from orchestrator.resolve.queue import enqueue

        stored = self._stored()
        best: list[FrozenTrial] = []
        if source is not None:
            other = source if isinstance(source, Study) else Study(self._database, source)
            found = other._stored()
            best = ranking(read_trials(other._database, found), found.spec)[:top]
            if not best:
                raise UsageError(
                    f"study '{other.name}' has no complete, feasible trial to start from"
                )
        with self._lent():
            enqueue(self._database, stored, configurations, [trial.params for trial in best])
        return len(configurations) + len(best)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, failed attempts included, as Optuna's own.

        Example:
            values = [trial.value for trial in study.trials]

        Raises:
            StorageError: the storage is out of reach.
        """
        return read_trials(self._database, self._stored())

    @property
    def best(self) -> FrozenTrial:
        """The winner: the best trial of the search, or of a confirmation that has ended.

        Example:
            print(study.best.number, study.best.value, study.best.params)

        Raises:
            UsageError: the study has several metrics, so it has :attr:`best_trials`.
            OrchError: no trial may win yet.
            StorageError: the storage is out of reach.
        """
        from orchestrator.report.winner import read_winner

        stored, trials = self._stored(), self.trials
        if len(stored.spec.study.metrics) > 1:
            raise UsageError(
                "a study of several metrics has no single best trial; use best_trials(top=…)"
            )
        winner = read_winner(self._database, stored, trials)
        if winner is None:
            raise OrchError(f"study '{self.name}' has no complete, feasible trial yet")
        return studies.find_trial(trials, winner.number, self.name)

    def best_trials(self, top: int = 1) -> BestTrials:
        """The best trials, the winner first, or those of the Pareto front; it prints as lines.

        Example:
            for trial in study.best_trials(3): print(trial.value)

        Raises:
            StorageError: the storage is out of reach.
        """
        return BestTrials(self.summary(format="text"), self.trials, top)

    def best_model(self) -> Any:
        """The Keras model of the winner, or else of the next best trial whose model was saved.

        A model that Keras cannot load alone, e.g. of a class without ``get_config``, is built again
        by the study's objective with the trial's parameters, and gets the saved weights.

        Example:
            study.best_model().predict(x)

        Raises:
            OrchError: no model was saved, it is damaged, or this machine cannot build it again.
            StorageError: the storage is out of reach.
        """
        from orchestrator.winner.models import best_model

        with self._lent():
            return best_model(self._database, self._stored(), self.trials, self._winner)

    def write_models(self, folder: Path | str, top: int = 1) -> list[Path]:
        """Write the saved models of the best trials, e.g. ``trial-00017.keras``.

        Of a model that Keras cannot save whole, the weights: ``trial-00017.weights.h5``.

        Example:
            study.write_models("models", top=3)

        Raises:
            OrchError: none was saved, one is damaged, or the folder cannot be written.
            StorageError: the storage is out of reach.
        """
        from orchestrator.winner.models import write_models

        return write_models(self._database, self._stored(), Path(folder), top, self._winner)

    def to_dataframe(self, *, logs: bool = False) -> Any:
        """The trials as a pandas DataFrame, a row each, with Optuna's own columns.

        Example:
            study.to_dataframe().sort_values("value_val_accuracy")
            study.to_dataframe(logs=True).loc[0].plot(y="val_loss")

        Args:
            logs: instead, a row for each step of each trial and a column for each name that they
                log, e.g. all that Keras logs.

        Raises:
            UsageError: pandas is missing.
            StorageError: the storage is out of reach.
        """
        try:
            import pandas
        except ImportError:  # Optuna's own message names no fix
            raise missing("pandas", "pandas", "to_dataframe") from None
        if logs:
            found = read_logs(self._database, self._stored())
            parts = {
                number: pandas.DataFrame(curves).sort_index() for number, curves in found.items()
            }
            return pandas.concat(parts or {0: pandas.DataFrame()}, names=["number", "step"])
        return optuna.Study(self.name, PostgresStorage(self._database)).trials_dataframe()

    def summary(self, *, thorough: bool = False, format: Format | None = None) -> Summary:
        """The report as data; ``print`` shows it as text.

        Example:
            study.summary().epochs.saved_ratio
            study.summary().trials[0].logs["val_loss"]

        Args:
            thorough: with the importances by fANOVA, whether a claim depends on them or not.
            format: read no more than a report in that format shows; None: all logs.

        Raises:
            UsageError: the format needs a package that is not installed.
            StorageError: the storage is out of reach.
        """
        if format is not None:
            return summarise(self._database, self._stored(), **shown_in(format))
        return summarise(self._database, self._stored(), thorough, "all")

    def report(self, path: Path | str | None = None, format: Format | None = None) -> str:
        """The report as text, or written to a file in the format of its name.

        Example:
            print(study.report())
            study.report("report.html")

        Args:
            path: a file, e.g. ``report.html``, ``report.md``, ``trials.csv``; None: no file.
            format: ``"text"``, ``"json"``, ``"csv"``, ``"markdown"``, ``"html"`` or ``"parquet"``;
                None: as the file's name says, else text.

        Returns:
            What is in the file; of parquet, the report as text.

        Raises:
            UsageError: the format is unknown, or needs a package that is not installed.
            OrchError: the file cannot be written.
            StorageError: the storage is out of reach.
        """
        form = cast(Format, format_of(path, format))

        def render() -> str:
            return self.summary(format=form).render(form)

        if path is None:
            # What was trained counts, not whether all of it can be shown.
            return section("The report", render, "{}\n".format) if form == "text" else render()
        summary = self.summary(format=form)
        summary.write(Path(path), form)
        return summary.render("text" if form == "parquet" else form)

    def show(self, trial: int | None = None) -> str:
        """The spec, the state and the live workers as text, or all that is known of one trial.

        Example:
            print(study.show())
            print(study.show(trial=3))

        Args:
            trial: a trial's number: its state, values and parameters, how it ran, why it failed,
                and what it printed last.

        Raises:
            OrchError: the study has no trial of that number.
            StorageError: the storage is out of reach.
        """
        if trial is not None:
            return trial_page(self._database, self._stored(), trial)
        return study_page(self._database, self._stored())

    def logs(self, trial: int) -> str:
        """What a trial printed, the newest 64 KiB; empty: nothing.

        It has what the worker process and all that the objective starts wrote to standard output
        and standard error, without colours and earlier states of progress bars. Each attempt has
        its own: a retry is a new trial. Trials of ``run(workers=0)`` print to your own output,
        which is not stored.

        Example:
            print(study.logs(3))

        Args:
            trial: the trial's number.

        Raises:
            OrchError: the study has no trial of that number.
            StorageError: the storage is out of reach.
        """
        return printed(self._database, self._stored(), trial)

    def follow_logs(self, trial: int) -> Iterator[str]:
        """What a trial prints, wherever it runs, as it comes; it ends with the trial.

        If the trial fails and is retried, a line says so, and what the retry prints comes next. New
        lines come with the worker's heartbeat (``worker.heartbeat_seconds``).

        Example:
            for lines in study.follow_logs(3): print(lines, end="")

        Args:
            trial: the trial's number; it may be waiting.

        Raises:
            OrchError: the study has no trial of that number.
            StorageError: the storage is out of reach when it begins; later, it is waited for.
        """
        return follow(self._database, self._stored(), trial)

    def search_space(self) -> SearchSpace:
        """The search space, its size and its cost; it prints as a table.

        Example:
            print(study.search_space())

        Raises:
            StorageError: the storage is out of reach.
        """
        stored = self._stored()
        if stored.facts.space is not None:
            return SearchSpace(stored.spec, space_of_study(self._database, stored))
        with self._lent():  # of an older orch
            return SearchSpace(stored.spec, asked_facts(stored.spec))

    def confirm(
        self,
        *,
        top: int = 3,
        seeds: int = 5,
        workers: int | None = None,
        gpus: str | Sequence[str] | None = None,
        progress: Progress = "auto",
    ) -> ConfirmedTrials:
        """Train the best trials again with fresh seeds: is the winner really better?

        It is a study of its own, NAME-confirm, which workers elsewhere may join.

        Example:
            print(study.confirm(top=3, seeds=5, workers=2))

        Args:
            top: how many of the best trials.
            seeds: how many fresh seeds for each.
            workers: as in :meth:`run`; so for ``gpus`` and ``progress``.

        Raises:
            UsageError: the study has several metrics, or was confirmed in another way.
            OrchError: there are not enough complete trials.
            StorageError: the storage is out of reach.
            KeyboardInterrupt: it was interrupted; another call continues.
        """
        from orchestrator.winner.confirm import confirm_study, read_confirmed
        from orchestrator.workers import LocalRun

        local = LocalRun.prepare(self._database, workers, gpus, self._handed)
        stored, trials = self._stored(), self.trials
        self._check_consent()
        with self._lent():
            confirming = confirm_study(self._database, stored, trials, top, seeds)
            local.work(Resumed(confirming), shown=progress == "auto")
        return read_confirmed(self._database, stored, trials, confirming)

    def refit(self, path: Path | str, *, trial: int | None = None) -> Refitted:
        """Train the winner on all training data, evaluate it once on the test set, save it.

        It trains in this process.

        Example:
            print(study.refit("best.keras"))

        Args:
            path: the model's file.
            trial: the number of another trial; None: the winner.

        Raises:
            UsageError: the file's name does not fit the model.
            OrchError: there is no trial to refit, or the file cannot be written.
            StorageError: the storage is out of reach.
        """
        from orchestrator.winner.refit import refit

        with self._lent():
            return refit(self._database, self._stored(), self.trials, Path(path), trial)

    def predict(
        self,
        path: Path | str | None = None,
        *,
        model: Path | str | None = None,
        count: int = 10,
        seed: int = 0,
    ) -> Predictions:
        """Predict random test examples, and draw them in a PNG.

        Of the saved model the dashboard then shows the picture, a confusion matrix and the layers.

        Example:
            study.predict("digits.png", count=20)

        Args:
            path: the picture; None: none is drawn.
            model: a file of :meth:`refit`; None: the saved model of the best trial.
            count: how many examples.
            seed: which ones.

        Raises:
            UsageError: the picture's name does not end in ``.png``.
            OrchError: there is no model, or it does not fit the study's data.
            StorageError: the storage is out of reach.
        """
        from orchestrator.winner.predict import predict_and_draw

        out = None if path is None else Path(path)
        own = None if model is None else Path(model)
        with self._lent():
            return predict_and_draw(self._database, self._stored(), out, own, count, seed)

    def replay(self, trial: int) -> Replay:
        """Train a trial again in this process, and compare every value with the record.

        Example:
            assert study.replay(3).largest_difference == 0

        Raises:
            OrchError: there is no such trial, it has not ended well, or this machine's data differ.
            StorageError: the storage is out of reach.
        """
        from orchestrator.winner.replay import replay

        self._check_consent()
        with self._lent():
            return replay(self._stored(), self.trials, trial)

    def tensorboard(
        self,
        *,
        logdir: Path | str | None = None,
        serve: bool = True,
        live: bool = False,
        host: str = "127.0.0.1",
        port: int = 6006,
    ) -> None:
        """Write TensorBoard's logs, every trial a run with its hparams, and serve them.

        It serves until Ctrl-C (KeyboardInterrupt).

        Example:
            study.tensorboard(serve=False, logdir="logs")

        Args:
            logdir: where to; None: a folder in ORCH_HOME.
            serve: False only writes the logs.
            live: follow the study until it is done.
            host: the address to listen on.
            port: the port; 0: any free one.

        Raises:
            OrchError: the port is taken, or TensorBoard is missing.
            StorageError: the storage is out of reach.
        """
        from orchestrator.serve.tensorboard import show_study

        folder = None if logdir is None else Path(logdir)
        show_study(self._database, self._stored(), folder, serve, live, host, port)

    def close(self) -> None:
        """Close the connection; whatever is called next opens a new one.

        Example:
            study.close()
        """
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        from orchestrator.report.page import frame

        return frame(self.name, lambda: self.summary(format="text"))

    @property
    def _winner(self) -> int | None:
        ranked = best_of(self.summary(format="text"))
        return ranked[0].number if ranked else None

    def _stored(self) -> StoredStudy:
        return open_study(self._database, self.name)

    def _take_up(self, allow_mismatch: bool) -> Resumed:
        """The study as it was taken up before, or now; what was stopped meanwhile is opened."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None and self._stored().state == "open":
            return resumed
        allow = allow_mismatch or bool(resumed and resumed.mismatch)
        return resume_study(self._database, self.name, allow_mismatch=allow)

    def _check_consent(self, allow: bool = False) -> None:
        spec = self._stored().spec
        check_consent(spec, allow)
        remember_command(spec)

    @contextmanager
    def _lent(self) -> Iterator[None]:
        with handover.lent(self._handed):
            yield


def _positive(trials: int) -> int:
    if isinstance(trials, bool) or not isinstance(trials, int) or trials < 1:
        raise UsageError(f"trials is {trials!r}; write a whole number of 1 or more")
    return trials
