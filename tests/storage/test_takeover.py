"""Other users of the machine: none of them reaches the embedded server, or stops it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from conftest import Orch, open_folder
from fault_site import wait_until
from psycopg2.extensions import parse_dsn

from orchestrator.base.files import home
from orchestrator.errors import StorageError
from orchestrator.storage import embedded as socket_folder
from orchestrator.storage.embedded import (
    EmbeddedServer,
    check_socket_folder,
    make_socket_folder,
    without_trust,
)
from orchestrator.storage.programs import Programs, SystemUser

_CHECKOUT = Path(__file__).parents[2]
_STRANGER = f"orch-stranger-{os.getpid()}"  # one for each of the processes that run tests
_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as a second user")


@pytest.fixture(scope="module")
def stranger() -> Iterator[SystemUser]:
    """Another user of this machine."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("only root may make a second user, with useradd")
    try:
        pwd.getpwnam(_STRANGER)
    except KeyError:
        subprocess.run(["useradd", _STRANGER], check=True)
    yield SystemUser.of(pwd.getpwnam(_STRANGER).pw_uid)
    subprocess.run(["userdel", _STRANGER], check=True)


def _python_of(user: SystemUser) -> str:
    """This version's Python as the user may run it: ours may lie in root's private folder."""
    systems = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for each in (sys.executable, systems):
        may = subprocess.run(
            ["test", "-x", each], user=user.uid, group=user.gid, extra_groups=[], check=False
        )
        if may.returncode == 0:
            return each
    pytest.skip(f"another user may run neither {sys.executable} nor {systems}")


def _as(user: SystemUser, *words: str, home: Path | None = None) -> subprocess.Popen[str]:
    """Python with these words, as the user."""
    environment = {**os.environ, "HOME": str(home), "ORCH_HOME": str(home)}
    environment.pop("ORCH_STORAGE", None)
    environment["PYTHONPATH"] = os.pathsep.join([str(_CHECKOUT), sysconfig.get_path("purelib")])
    return subprocess.Popen(
        [_python_of(user), *words], user=user.uid, group=user.gid, extra_groups=[], cwd="/",
        text=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def _attempt(user: SystemUser, url: str) -> str:
    """What a user is told who connects as the administrator."""
    code = f"import psycopg2; psycopg2.connect({url!r}); print('I am in')"
    told, errors = _as(user, "-c", code).communicate(timeout=60)
    return told or errors


def _url(server: EmbeddedServer) -> str:
    url = server.url()
    assert url is not None
    return url


@pytest.fixture(params=["short", "with space", "long" * 30], ids=["short", "space", "long"])
def server(request: pytest.FixtureRequest, open_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(open_path / request.param / "home")
    server.ensure_running()
    yield server
    server.stop()


def test_only_its_user_can_reach_the_embedded_server(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    orch = Orch(server.folder)
    url = orch.ok("db", "url").strip()
    psycopg2.connect(url).close()
    assert "schema" in orch.ok("db", "status", "--storage", url)
    folder = Path(parse_dsn(url)["host"])
    inside = folder / f".s.PGSQL.{parse_dsn(url)['port']}"
    assert [stat.S_IMODE(each.lstat().st_mode) for each in (folder, inside)] == [0o700, 0o700]
    assert not any("trust" in line.split() for line in _rules(server))
    orch.ok("db", "stop")
    orch.ok("db", "start")
    assert orch.ok("db", "url").strip() == url, "workers find a restarted server again"


def _rules(server: EmbeddedServer) -> list[str]:
    lines = (server.data / "pg_hba.conf").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_another_user_cannot_log_in_even_where_the_folders_are_opened(
    server: EmbeddedServer, stranger: SystemUser
) -> None:
    url = _url(server)
    assert "Permission denied" in _attempt(stranger, url)
    folder = Path(parse_dsn(url)["host"])
    parents = [folder, *(each for each in folder.parents if each.name.startswith("orch-"))]
    modes = [each.stat().st_mode for each in parents]
    try:
        for each in (*parents, folder / f".s.PGSQL.{parse_dsn(url)['port']}"):
            each.chmod(0o777)
        assert "Peer authentication failed" in _attempt(stranger, url)
        assert "mode 0777" in Orch(server.folder).refused(3, "list")
    finally:
        for each, mode in zip(parents, modes, strict=True):
            each.chmod(mode)


def _start_as_before(server: EmbeddedServer, folder: Path) -> str:
    """Start a server as version 0.0 did: it trusts whoever reaches its socket."""
    server.stop()
    old = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 trust\n"
    (server.data / "pg_hba.conf").write_text(old)
    server._postgres(
        "pg_ctl", "-w", "-D", str(server.data), "-l", str(server.data / "log"),
        "-o", f"-h '' -k '{folder}'", "start",
    )  # fmt: skip
    return f"postgresql://postgres@/postgres?host={folder}"


@pytest.fixture
def older(open_path: Path) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(open_path / "home")
    server.ensure_running()
    yield server
    server.stop()


def test_an_older_server_open_to_others_is_refused_until_restarted(
    older: EmbeddedServer, open_path: Path, stranger: SystemUser
) -> None:
    shared = open_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    url = _start_as_before(older, shared)
    assert _attempt(stranger, url) == "I am in\n"
    orch = Orch(older.folder)
    message = orch.refused(3, "list")
    assert str(shared) in message and "orch db stop" in message
    orch.ok("db", "stop")
    orch.ok("db", "start")
    assert "I am in" not in _attempt(stranger, url) + _attempt(stranger, _url(older))


def test_an_older_server_with_a_private_socket_starts_asking_for_a_password(
    older: EmbeddedServer,
) -> None:
    _start_as_before(older, older.data)
    pid = older.pid()
    Orch(older.folder).ok("list")
    assert older.pid() == pid, "its workers keep their server"
    assert not any("trust" in line.split() for line in _rules(older))


def test_an_administrators_rules_stay_but_trust_rules_ask_for_a_password() -> None:
    text = (
        "# local all all trust\nlocal all orch_worker scram-sha-256\nlocal lab postgres,me trust\n"
        "hostssl all all 10.0.0.0 255.0.0.0 trust\nhost all all ::1/128 md5\n"
    )
    assert without_trust(text) == (
        "# local all all trust\nlocal all orch_worker scram-sha-256\n"
        "local lab postgres peer map=orch\nlocal lab me scram-sha-256\n"
        "hostssl all all 10.0.0.0 255.0.0.0 scram-sha-256\nhost all all ::1/128 md5\n"
    )
    assert without_trust(without_trust(text)) == without_trust(text)


def _link(folder: Path) -> None:
    folder.symlink_to(folder.parent)


def _open(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)


def _of_another(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)


def _file(folder: Path) -> None:
    folder.write_text("")


HOSTILE = [
    pytest.param(_link, "symbolic link", id="link"),
    pytest.param(_open, "mode 0777", id="open"),
    pytest.param(_of_another, "belongs to user 12345", id="other", marks=_AS_ROOT),
    pytest.param(_file, "not a folder", id="file"),
]


@pytest.mark.parametrize(("make", "words"), HOSTILE)
def test_a_socket_folder_owned_by_another_user_is_refused_and_named(
    older: EmbeddedServer, make: Callable[[Path], None], words: str
) -> None:
    folder = Path(parse_dsn(_url(older))["host"])
    older.stop()
    make(folder)
    message = Orch(older.folder).refused(3, "db", "start")
    assert words in message and str(folder) in message and "XDG_RUNTIME_DIR" in message
    assert older.pid() is None


@pytest.mark.parametrize(("make", "words"), HOSTILE)
def test_a_socket_folder_in_tmp_owned_by_another_user_is_refused_and_named(
    older: EmbeddedServer,
    tmp_path: Path,
    make: Callable[[Path], None],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = tmp_path / "orch-1"
    monkeypatch.setattr(socket_folder, "_of_user", lambda user: shared)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    user, long = older._programs.user, Path("/" + "long" * 30)
    made = make_socket_folder(long, older.data, user)
    assert made.parent == shared and stat.S_IMODE(shared.stat().st_mode) == 0o700
    shutil.rmtree(shared)
    make(shared)
    for call in (
        lambda: make_socket_folder(long, older.data, user),
        lambda: check_socket_folder(made, user),
    ):
        with pytest.raises(StorageError, match=words):
            call()


def test_a_long_home_puts_its_socket_into_the_private_runtime_folder(
    older: EmbeddedServer, open_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = open_path / "runtime"  # a short path, as the system's is
    runtime.mkdir(mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    me = SystemUser.of(os.geteuid())
    monkeypatch.setattr(socket_folder, "_of_user", lambda user: tmp_path / "orch-1")
    long = Path("/" + "long" * 30)
    assert make_socket_folder(long, older.data, me).parent == tmp_path / "orch-1"
    runtime.chmod(0o700)
    made = make_socket_folder(long, older.data, me)
    assert made.parent == runtime and made.name.startswith("orch-")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.bind(str(made / ".s.PGSQL.5432"))


def test_a_recreated_home_keeps_its_new_server(older: EmbeddedServer) -> None:
    old, before = older.pid(), _url(older)
    assert old is not None
    shutil.rmtree(older.folder)
    orch = Orch(older.folder)
    orch.ok("create", "new", "--objective", "quadratic")
    wait_until(lambda: not psutil.pid_exists(old), 90)
    assert _url(older) != before
    assert "new" in orch.ok("list")


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("made", ["", "global/pg_control"])
def test_an_interrupted_first_start_leaves_nothing(
    open_path: Path, sign: signal.Signals, made: str
) -> None:
    server = EmbeddedServer(open_path / "home")
    orch = Orch(server.folder)
    first = subprocess.Popen(
        orch.command("db", "start"), env=orch.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: any(each / made for each in server.folder.glob(".new-*")), 60)
    if sign == signal.SIGKILL:
        first.kill()
    else:
        os.killpg(first.pid, sign)
    first.wait()
    try:
        orch.ok("list")
        assert not list(server.folder.glob(".new-*")) and not list(
            server.folder.glob("postgres.incomplete-*")
        )
    finally:
        server.stop()


def test_two_users_run_their_servers_at_the_same_time(
    open_path: Path, stranger: SystemUser
) -> None:
    mine, theirs = Orch(open_path / "mine"), open_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, stranger.uid, stranger.gid)
    processes = [
        mine.start("db", "start"),
        _as(stranger, "-m", "orchestrator", "db", "start", home=theirs),
    ]
    try:
        ends = [(each.communicate(timeout=120), each.returncode) for each in processes]
        assert [code for _, code in ends] == [0, 0], ends
        shown, errors = _as(stranger, "-m", "orchestrator", "db", "url", home=theirs).communicate()
        assert _attempt(stranger, shown.strip()) == "I am in\n", errors
        # Root may do as the owner of a home does, and changes nothing there.
        assert "no studies" in Orch(theirs).ok("list")
        assert (theirs / "postgres").stat().st_uid == stranger.uid
    finally:
        mine("db", "stop")
        Orch(theirs)("db", "stop")


@_AS_ROOT
def test_roots_server_opens_no_parent_folder(open_path: Path) -> None:
    parent = open_path / "parent"
    parent.mkdir()
    parent.chmod(0o700)
    orch = Orch(parent / "home")
    message = orch.refused(3, "db", "start")
    assert str(parent / "home") in message and "set ORCH_HOME" in message
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    parent.chmod(0o711)
    orch.ok("db", "start")
    orch.ok("db", "stop")
    assert stat.S_IMODE(parent.stat().st_mode) == 0o711


@_AS_ROOT
def test_server_programs_that_only_root_can_reach_are_copied(
    open_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(open_path / "home")
    binaries = server._programs._installed()
    package = binaries.parents[1]
    closed = open_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(binaries.parent, closed / package.name / binaries.parent.name)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    moved = closed / binaries.relative_to(package.parent)
    monkeypatch.setattr(Programs, "_installed", lambda self: moved)
    server.ensure_running()
    server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@_AS_ROOT
def test_root_with_a_closed_home_keeps_its_data_in_var_lib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCH_HOME", raising=False)
    with open_folder() as folder:
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.delenv("XDG_DATA_HOME", raising=False)
        assert home() == folder / ".local/share/orch"
        folder.chmod(0o700)
        assert home() == Path("/var/lib/orch")
