"""A command's arguments, its lines, its process and its checkpoint folder, each by itself."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pytest
from fault_site import wait_until

from orchestrator import Command, UsageError
from orchestrator.errors import FailedTrialError, ObjectiveError
from orchestrator.spec.command import arguments_of, command_reference, filled, name_of
from orchestrator.spec.model import StudySpec
from orchestrator.training.command import as_text, read_report, variable
from orchestrator.training.command_process import CheckpointFolder, CommandProcess

# What a command consists of


@pytest.mark.parametrize(
    "arguments",
    [
        ["python", "train.py", "--lr", "{lr}"],
        ["./a b.sh", "it's", '"', "", "a\nb", "ü", "$HOME", "`x`", "{{}}", "-", "--"],
        ["sh", "-c", "echo '{{\"step\": 1}}' > {out}"],
    ],
)
def test_a_command_comes_back_from_its_text_and_from_a_spec_file(arguments: list[str]) -> None:
    assert arguments_of(command_reference(arguments)) == arguments
    spec = StudySpec.parse({"study": {"name": "s", "objective": arguments}})
    assert spec.document()["study"]["objective"] == arguments
    assert StudySpec.parse(spec.document()) == spec
    written = StudySpec.parse({"study": {"name": "s", "objective": spec.study.objective}})
    assert written == spec


def test_values_stand_in_the_places_of_their_names_and_no_shell_reads_them() -> None:
    values = {"lr": "0.1", "name": "$(rm -rf /); 'x' {lr}"}
    arguments = ["train", "--lr={lr}", "{name}", "{{lr}}", "a{lr}b{lr}"]
    assert filled(arguments, values) == ["train", "--lr=0.1", values["name"], "{lr}", "a0.1b0.1"]


def test_an_argument_without_its_parameter_goes_with_the_option_before_it() -> None:
    arguments = ["train", "-v", "--lr", "{lr}", "--momentum", "{momentum}", "--m={momentum}", "x"]
    assert filled(arguments, {"lr": "1"}) == ["train", "-v", "--lr", "1", "x"]


@pytest.mark.parametrize("value, text", [(True, "true"), (1e-05, "1e-05"), (0.1, "0.1"), (3, "3")])
def test_values_are_written_so_that_they_are_read_back(value: object, text: str) -> None:
    assert as_text(value) == text
    assert variable("learning rate-2") == "ORCH_PARAM_LEARNING_RATE_2"


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "a command is a list"),
        (["train", 3], 'write "3"'),
        (["train", "{"], "write {{ and }}"),
        (["train", "a}b"], "write {{ and }}"),
        (["train", "{}"], "write {{ and }}"),
        ([""], "names its program"),
        (["train", "a\0"], "NUL"),
    ],
)
def test_what_is_no_command_is_refused_in_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]+$") as error:
        Command(arguments)
    assert words in str(error.value)
    with pytest.raises(UsageError, match=r"study\.objective"):
        StudySpec.parse({"study": {"name": "s", "objective": arguments}})


def test_a_study_is_called_as_its_script_is() -> None:
    assert name_of(["python", "-u", "src/train.py", "--config={c}.toml"]) == "train"
    assert name_of(["./fit.sh", "{lr}"]) == "fit"


# A line of its output


@pytest.mark.parametrize(
    "line",
    [
        "hello", "", "{", "{}", "[1]", "3", '{"step": "train"}', '{"step": true, "loss": true}',
        '{"step": 1.5}', '{"step": Infinity}', '{"loss": "mse"}', '{"a": ' * 100_000, "\x00\xff",
    ],
)  # fmt: skip
def test_other_lines_are_none_of_our_business(line: str) -> None:
    assert read_report(line.encode("latin-1"), ["loss"]) is None


def test_a_line_with_a_step_reports_its_metrics_and_logs_its_other_numbers() -> None:
    line = b' {"step": 3.0, "loss": 0.5, "acc": 1, "ok": true, "name": "x", "more": {"a": 1}}\r'
    report = read_report(line, ["loss"])
    assert report is not None
    assert (report.step, report.values, report.others) == (3, {"loss": 0.5}, {"acc": 1.0})


def test_a_metric_that_is_null_was_not_measured() -> None:
    report = read_report(b'{"step": 3, "loss": null, "acc": 1}', ["loss"])
    assert report is not None and report.values == {} and report.others == {"acc": 1.0}


@pytest.mark.parametrize("value", ['"0.5"', "true", "[1]", "{}", "1" + "0" * 400])
def test_a_metric_that_is_no_number_fails_for_certain(value: str) -> None:
    with pytest.raises(FailedTrialError, match="must be a number"):
        read_report(f'{{"step": 3, "loss": {value}}}'.encode(), ["loss"])


# Its process


def started(folder: Path, script: str, leave_seconds: float = 30.0) -> CommandProcess:
    return CommandProcess([sys.executable, "-c", script], os.environ, folder, leave_seconds)


def read_all(process: CommandProcess) -> list[bytes]:
    lines = []
    while not process.has_ended:
        lines += process.read()
    process.close()
    return lines


def test_the_lines_and_the_exit_code_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print('a'); print('b', end=''); print('e', file=sys.stderr); exit(3)"
    process = started(tmp_path, script)
    assert [line for line in read_all(process) if line] == [b"a", b"b"]
    assert process.exit_code == 3 and process.last_lines() == ["e"]
    assert capsys.readouterr() == ("a\nb", "e\n")


def test_a_program_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    process = CommandProcess([str(tmp_path / "no")], os.environ, tmp_path)
    read_all(process)
    with pytest.raises(RuntimeError, match="No such file"):
        _ = process.exit_code


@pytest.mark.parametrize(
    "script",
    [
        "import sys\nfor _ in range(100): sys.stdout.write('x' * 10**6)",
        "import sys\nfor _ in range(100): sys.stdout.write('{\"step\": 1}' * 90000 + '\\n')",
        "import os\nfor _ in range(100): os.write(1, b'\\x00\\xff\\r\\x1b[2J' * 150000)",
        "import sys\nfor _ in range(100): sys.stderr.write('x' * 999 + '\\n' + 'y' * 10**6)",
    ],
)
def test_much_output_fills_neither_the_memory_nor_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    process = started(tmp_path, script + "\nprint('\\nlast')")
    last = b""
    while not process.has_ended:
        last = next((line for line in reversed(process.read()) if line), last)
    process.close()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    shown = "".join(capsys.readouterr())
    assert last == b"last" and grown < 60_000
    assert "bytes of output are left out here" in shown
    is_short = len(shown) < 8_000_000
    assert is_short, len(shown)


def test_a_stopped_command_may_leave_and_what_ignores_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('leaving', flush=True), exit(0)))\n"
        "stubborn = r'import os, signal, time; signal.signal(15, signal.SIG_IGN);"
        ' os.write(1, b"up\\n"); time.sleep(99)\'\n'
        "for session in (False, True):\n"
        "    subprocess.Popen([sys.executable, '-c', stubborn], start_new_session=session)\n"
        "time.sleep(99)\n"
    )
    process = started(tmp_path, script, leave_seconds=0.5)
    lines: list[bytes] = []
    while lines.count(b"up") < 2:
        assert not process.has_ended
        lines += process.read()
    family = psutil.Process().children(recursive=True)
    assert len(family) == 4  # the shim, the command, and its two children
    process.stop()
    assert process.exit_code == 0
    assert not any(each.is_running() for each in family)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")
def test_a_daemon_dies_with_its_command(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True); time.sleep(99)\n"
        "    os._exit(0)\n"
        "os.wait(); time.sleep(0.2)\n"
    )
    process = started(tmp_path, script)
    lines = read_all(process)
    assert process.exit_code == 0
    assert not psutil.pid_exists(int(lines[0]))


def test_a_command_dies_at_once_with_the_process_that_runs_it(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from orchestrator.training.command_process import CommandProcess\n"
        "stubborn = 'import os, signal, time; signal.signal(15, signal.SIG_IGN);"
        " print(os.getpid(), flush=True); time.sleep(99)'\n"
        "process = CommandProcess([sys.executable, '-c', stubborn], os.environ,"
        f" Path({str(folder)!r}))\n"
        "while not process.has_ended: process.read()\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    command = int(worker.stdout.readline())
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    wait_until(lambda: not psutil.pid_exists(command) and not folder.exists())


# Its checkpoint folder


def test_a_folder_comes_back_with_what_is_in_it(tmp_path: Path) -> None:
    with CheckpointFolder() as folder, CheckpointFolder() as other:
        assert folder.size() is None
        (folder.path / "empty").mkdir()
        assert folder.size() is None, "a folder without files is no checkpoint"
        (folder.path / "sub").mkdir()
        (folder.path / "sub" / "ü\udcff.bin").write_bytes(bytes(range(256)))
        (folder.path / "run.sh").write_text("#!/bin/sh\n")
        (folder.path / "run.sh").chmod(0o750)
        (folder.path / "latest").symlink_to("sub")
        (folder.path / "outside").symlink_to("../../etc")
        os.mkfifo(folder.path / "fifo")
        assert folder.size() is not None
        other.fill(folder.copy())
        names = sorted(each.name for each in other.path.iterdir())
        assert names == ["empty", "latest", "run.sh", "sub"]
        assert (other.path / "latest" / "ü\udcff.bin").read_bytes() == bytes(range(256))
        assert (other.path / "run.sh").stat().st_mode & 0o777 == 0o750
    assert not folder.path.exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped"])
def test_a_copy_writes_nothing_outside_of_the_folder(name: str) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with CheckpointFolder() as folder, pytest.raises(ObjectiveError, match="outside"):
        folder.fill(content.getvalue())


def test_a_copy_writes_through_no_link(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("link/escaped"))
    with CheckpointFolder() as folder:
        folder.fill(content.getvalue())
    assert not list(tmp_path.iterdir())
