"""optuna-dashboard over a storage of ours: readable attributes, notes, and who may do what."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import json
import logging
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.base.optuna_internals import CachedStorage, copy_trial, pareto_front
from orchestrator.errors import OrchError, UsageError
from orchestrator.report.numbers import duration
from orchestrator.report.reader import summarise
from orchestrator.report.section import section
from orchestrator.report.trial import checkpoints_line
from orchestrator.serve.metrics import metrics_served
from orchestrator.spec.choices import domain_of, place_of
from orchestrator.spec.eligibility import constraints_of, may_win, rank
from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.database import Database
from orchestrator.storage.rdb_storage import make_rdb_storage, open_optuna_storage
from orchestrator.storage.studies import open_study, read_last_lines

# The end of what a trial printed. The page shows it as an attribute, but it is stored apart.
_PRINTED = f"{facts.PREFIX}printed"
_WORDS = {
    facts.WORKER: "worker",
    facts.SECONDS: "time",
    facts.THREADS: "CPU threads",
    facts.SEED: "seed",
    facts.RESTARTS: "went on after",
    facts.REASON: "reason",
    facts.LOG: "log",
    _PRINTED: "printed last",
    facts.ATTEMPT: "attempt",
    facts.LOSSES: "times lost",
    facts.RETRY_OF: "retry of trial",
    facts.RETRIED_AS: "retried as trial",
}
_Environ = dict[str, Any]
_StartResponse = Callable[..., Any]
_Application = Callable[[_Environ, _StartResponse], Iterable[bytes]]

_PASSWORD_VARIABLE = "ORCH_DASHBOARD_PASSWORD"
_READING = ("GET", "HEAD")
_SHORTEST_PASSWORD = 8


class ReadableStorage(CachedStorage):
    """Optuna's storage; what is read of a trial has readable attributes, and what is only for
    the orchestrator is left out.

    Args:
        url: the database.
    """

    def __init__(self, url: str) -> None:
        super().__init__(make_rdb_storage(url))
        self._database = Database(url)
        self._readable: dict[int, tuple[FrozenTrial, dict[str, Any]]] = {}
        self._printed: dict[int, str] = {}  # what trials printed last
        self._printed_all: set[int] = set()  # to which nothing more comes

    def get_trial(self, trial_id: int) -> FrozenTrial:
        artifacts = self._artifacts(trial_id=trial_id)
        self._read_printed(trial_id=trial_id)
        return self._shown(super().get_trial(trial_id), artifacts.get(trial_id, {}))

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=False, states=states)
        artifacts = self._artifacts(study_id=study_id)
        self._read_printed(study_id=study_id)
        return [self._shown(trial, artifacts.get(trial._trial_id, {})) for trial in trials]

    def _artifacts(
        self, study_id: int | None = None, trial_id: int | None = None
    ) -> dict[int, dict[str, Any]]:
        """The notes of artifacts by trial. Models are kept, and fall out, after a trial has ended,
        when Optuna takes the trial from its cache."""
        found: dict[int, dict[str, Any]] = {}
        rows = self._database.rows("artifacts_of_trials", study_id=study_id, trial_id=trial_id)
        for row in rows:
            found.setdefault(row["trial_id"], {})[row["key"]] = json.loads(row["value_json"])
        return found

    def _read_printed(self, study_id: int | None = None, trial_id: int | None = None) -> None:
        """Read what trials printed last, of those that may have printed more."""
        for each in read_last_lines(self._database, study_id, trial_id, self._printed_all):
            self._readable.pop(each.trial_id, None)
            self._printed[each.trial_id] = each.text
            if each.ended:
                self._printed_all.add(each.trial_id)

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        complete = self.get_all_trials(study_id, states=[TrialState.COMPLETE])
        able = [trial for trial in complete if may_win(trial)]
        if not able:  # the page needs one to show; it marks it as infeasible
            return super().get_best_trial(study_id)
        maximize = self.get_study_directions(study_id)[0] == StudyDirection.MAXIMIZE
        return min(able, key=lambda trial: (rank(trial.value, maximize), trial.number))

    def _shown(self, trial: FrozenTrial, artifacts: dict[str, Any]) -> FrozenTrial:
        known, artifacts_known = self._readable.get(trial._trial_id, (None, None))
        if known is not None and artifacts == artifacts_known:
            return known
        others = {k: v for k, v in with_list_of_constraints(trial).items() if not _is_artifact(k)}
        printed = self._printed.get(trial._trial_id)
        ours = {} if printed is None else {_PRINTED: printed}
        shown = copy_trial(trial, readable({**trial.user_attrs, **ours}), {**others, **artifacts})
        for name, domain in trial.distributions.items():
            if isinstance(domain, CategoricalDistribution) and not _has_hash(domain):
                _show_choices_as_text(shown, name, domain)
        if trial.state.is_finished():
            self._readable[trial._trial_id] = shown, artifacts
        return shown


def _has_hash(domain: CategoricalDistribution) -> bool:
    """Whether optuna-dashboard can put the choices into a set; lists and dicts it cannot."""
    return not any(isinstance(choice, list | dict) for choice in domain.choices)


def _show_choices_as_text(trial: FrozenTrial, name: str, domain: CategoricalDistribution) -> None:
    """The choices as the page writes them anyway. The trial's own mappings stay as they are."""
    words = [str(each) if isinstance(each, list | dict) else each for each in domain.choices]
    value = words[place_of(domain, trial.params[name])]
    trial.distributions = {**trial.distributions, name: domain_of(words)}
    trial.params = {**trial.params, name: value}


def _is_artifact(key: str) -> bool:
    return key.startswith("artifacts:")


def with_list_of_constraints(trial: FrozenTrial) -> dict[str, Any]:
    """The trial's system attributes, its constraints as a list: optuna-dashboard reads no other."""
    found = constraints_of(trial)
    if not found:
        return trial.system_attrs
    others = {k: v for k, v in trial.system_attrs.items() if not k.startswith("constraints:")}
    return {**others, "constraints": list(found.values())}


def feasible_front(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[FrozenTrial]:
    """The Pareto front of the trials that may win, in place of optuna-dashboard's own."""
    return pareto_front(list(filter(may_win, trials)), directions)


def readable(attributes: dict[str, Any]) -> dict[str, Any]:
    """A trial's user attributes in plain words, the user's own untouched and first."""
    own = {key: value for key, value in attributes.items() if not key.startswith(facts.PREFIX)}
    ours = {word: attributes[key] for key, word in _WORDS.items() if key in attributes}
    if isinstance(ours.get("time"), int | float):
        ours["time"] = duration(ours["time"])
    if isinstance(ours.get("went on after"), list):
        ours["went on after"] = checkpoints_line(ours["went on after"])
    return own | {word: value for word, value in ours.items() if value is not None}


# What stands between these is ours; the rest of the note is the user's.
_START, _END = "### Verdict\n", "\n\n*(by orch, as of the last look)*"
_LOOK_SECONDS = 20.0


@contextmanager
def keep_notes(url: str) -> Iterator[None]:
    """Keep the notes up to date while the block runs, from a thread of its own."""
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(url, ended), name="notes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=5)


def _keep(url: str, ended: threading.Event) -> None:
    database = Database(url)
    seen: dict[str, tuple[int, int, str]] = {}
    storage: BaseStorage | None = None
    while not ended.is_set():
        with suppress(OrchError):  # away; the next look tries again
            storage = storage or open_optuna_storage(url)
            _look(database, storage, seen, ended)
        ended.wait(_LOOK_SECONDS)
    database.close()


def _look(
    database: Database,
    storage: BaseStorage,
    seen: dict[str, tuple[int, int, str]],
    ended: threading.Event,
) -> None:
    """Write the note of each study that has changed since it was seen."""
    after = {row["name"]: row["digest"] for row in database.rows("after_searches")}
    for row in database.rows("list_studies"):
        name = row["name"]
        state = row["finished"], row["budget"], after.get(name, "")
        if seen.get(name) != state and not ended.is_set():
            write = partial(write_note, database, storage, name)
            # A role that may only read, or a note that fails, costs the others none of theirs.
            if section(f"The note of study {name}", write, lambda line: False):
                seen[name] = state


def write_note(database: Database, storage: BaseStorage, name: str) -> bool:
    """Put the study's verdict into its note; what the user wrote there stays.

    Returns:
        True, once that is done.

    Raises:
        NoSuchStudy: it was deleted meanwhile.
        StorageError: the database is out of reach.
    """
    from optuna_dashboard import get_note, save_note

    study = optuna.Study(name, storage)
    stored = open_study(database, name)
    verdict = section(
        "The verdict", lambda: summarise(database, stored).verdict, lambda line: [line]
    )
    before = get_note(study)
    note = with_verdict(before, verdict)
    if note != before:
        save_note(study, note)
    return True


def with_verdict(note: str, verdict: list[str]) -> str:
    """The note with this verdict in place of an older one, or at its end."""
    lines = "\n".join(f"* {sentence}" for sentence in verdict)
    ours = f"{_START}{lines}{_END}"
    before, start, rest = note.partition(_START)
    if start and _END in rest:
        return before + ours + rest.partition(_END)[2]
    return f"{note.rstrip()}\n\n{ours}" if note.strip() else ours


_unread = logging.Logger("orch.unread", logging.CRITICAL + 1)


@dataclass(frozen=True)
class DashboardOptions:
    """How the dashboard is served.

    Attributes:
        host: the address to listen on; off this machine only with a password.
        port: the TCP port; 0 takes any free one.
        open_browser: open the page in the user's browser.
        password_file: where the password is, if not in the environment.
        read_only: refuse whatever could change something.
        metrics: ``[HOST:]PORT`` of the metrics; None: none.
    """

    host: str
    port: int
    open_browser: bool
    password_file: Path | None
    read_only: bool
    metrics: str | None


def serve(database: Database, options: DashboardOptions) -> None:
    """Serve the dashboard until interrupted.

    Raises:
        OrchError: a port is taken, or the password cannot be read.
    """
    import waitress

    password = _given_password(options.password_file)
    made = None
    if password is None and not _is_local(options.host):
        password = made = _make_password()
    application = _with_encoding(_application(database.url))
    if options.read_only:
        application = _reading_only(application)
    if password is not None:
        application = _with_password(application, password)
    try:
        server = waitress.create_server(
            application, host=options.host, port=options.port, threads=8
        )
    except OSError as error:
        raise OrchError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}; "
            "name another with --port"
        ) from None
    # A page sends more requests at once than there are threads; do not log that some wait.
    server.task_dispatcher.queue_logger = _unread
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{server.effective_port}/"
    with ExitStack() as stack:
        metrics = stack.enter_context(metrics_served(database.url, options.metrics))
        _say_where(url, made, metrics, options)
        if not options.read_only:
            stack.enter_context(keep_notes(database.url))
        if options.open_browser and not webbrowser.open(url):
            print("no browser was found here; open that address yourself", file=sys.stderr)
        server.run()  # returns at Ctrl-C


def _application(url: str) -> Any:
    import optuna_dashboard
    from optuna_dashboard import _app

    # Its own takes trials of older versions of Optuna, which had no constraints.
    _app.get_pareto_front_trials = feasible_front
    return _with_style(
        optuna_dashboard.wsgi(
            ReadableStorage(url),
            # The kept models and pictures, in the artifact view of their trials.
            artifact_store=PostgresArtifactStore(Database(url), limit_bytes=0),
        )
    )


# An attribute may have several lines, e.g. what a trial printed. The page would show them as one.
_STYLE = b"<style>p.MuiTypography-body1{white-space:pre-wrap;overflow-wrap:anywhere}</style>"
_PAGE = "/dashboard"
_IF_CHANGED = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_MATCH")


def _with_style(application: _Application) -> _Application:
    """Add our style to optuna-dashboard's page."""

    def styled(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not environ["PATH_INFO"].startswith(_PAGE):
            return application(environ, start_response)
        begun: dict[str, Any] = {}

        def begin(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            begun.update(status=status, headers=headers)

        # A browser may have the page of before, without the style.
        asked = {key: value for key, value in environ.items() if key not in _IF_CHANGED}
        page = b"".join(application(asked, begin)).replace(b"</head>", _STYLE + b"</head>", 1)
        others = [each for each in begun["headers"] if each[0].lower() != "content-length"]
        start_response(begun["status"], [*others, ("Content-Length", str(len(page)))])
        return [page]

    return styled


def _say_where(url: str, made: str | None, metrics: str | None, options: DashboardOptions) -> None:
    mode = ", read-only" if options.read_only else ""
    lines = [f"optuna-dashboard at {url}{mode} (Ctrl-C ends it)"]
    if made is not None:
        lines.append(f"its password, for any user name: {made}")
    if not _is_local(options.host):
        lines.append(
            f"it listens on {options.host} without TLS: whoever listens on the way can read the "
            "password; put a TLS proxy in front, or use an SSH tunnel"
        )
    if metrics is not None:
        lines.append(f"metrics at {metrics}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _is_local(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _given_password(path: Path | None) -> str | None:
    """The password in the file, else in ``ORCH_DASHBOARD_PASSWORD``; None: none is given.

    Raises:
        OrchError: the file cannot be read.
        UsageError: the password is too short.
    """
    if path is not None:
        try:
            password = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise OrchError(f"cannot read {path}: {error.strerror}") from None
    else:
        found = os.environ.get(_PASSWORD_VARIABLE)
        if found is None:
            return None
        password = found
    if len(password) < _SHORTEST_PASSWORD:
        raise UsageError(f"the dashboard's password needs {_SHORTEST_PASSWORD} characters or more")
    return password


def _make_password() -> str:
    """A fresh password that nobody guesses."""
    return secrets.token_urlsafe(15)


def _with_encoding(application: _Application) -> _Application:
    """optuna-dashboard fails on a request that names no encoding, e.g. a probe of Kubernetes."""

    def named(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        return application({"HTTP_ACCEPT_ENCODING": "identity"} | environ, start_response)

    return named


def _with_password(application: _Application, password: str) -> _Application:
    """Answer only those who know the password (basic authentication, RFC 7617; any user name)."""
    expected = password.encode()

    def guarded(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        if hmac.compare_digest(_sent_password(environ), expected):
            return application(environ, start_response)
        headers = [("WWW-Authenticate", 'Basic realm="orch", charset="UTF-8"')]
        return _refuse(start_response, "401 Unauthorized", "the password is needed", headers)

    return guarded


def _reading_only(application: _Application) -> _Application:
    """Refuse whatever could change something: every method but GET and HEAD."""

    def guarded(environ: _Environ, start_response: _StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _READING:
            return application(environ, start_response)
        headers = [("Allow", ", ".join(_READING))]
        return _refuse(
            start_response, "405 Method Not Allowed", "this dashboard is read-only", headers
        )

    return guarded


def _sent_password(environ: _Environ) -> bytes:
    scheme, _, encoded = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        _, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b""
    return password


def _refuse(
    start_response: _StartResponse, status: str, reason: str, headers: list[tuple[str, str]]
) -> Iterable[bytes]:
    body = f'{{"reason": "{reason}"}}\n'.encode()
    kind = ("Content-Type", "application/json")
    start_response(status, [kind, ("Content-Length", str(len(body))), *headers])
    return [body]
