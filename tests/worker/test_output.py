"""A worker's output is cut into its trials, made plain text, and bounded."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg2
import pytest
from worker.workplace import Workplace, take

from orchestrator.errors import StorageError
from orchestrator.storage.claims import Claims, worker_id
from orchestrator.storage.studies import LARGEST_OUTPUT, expanded, read_output, tail
from orchestrator.worker.output import Marks, TrialOutput, WorkerOutput

URL = "postgresql://me:very%20secret@host/db"
WORKER = UUID(int=7)


class Written:
    """A worker's output file, with a worker at one end and its supervisor at the other."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.marks = Marks(self.descriptor, WORKER)
        self.read = WorkerOutput(path, WORKER, most_last=1000)

    def write(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def texts(self) -> list[tuple[int, str, bool]]:
        self.read.read()
        return [(each.trial_id, each.text(URL), each.ended) for each in self.read.trials]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path / "log")
    yield made
    os.close(made.descriptor)


def of_one(*parts: str) -> str:
    output = TrialOutput(1, 1)
    for part in parts:
        output.add(part.encode())
    return output.text(URL)


def test_each_trial_has_what_was_written_between_its_marks(written: Written) -> None:
    written.write("before\n")
    written.marks.begin(11)
    written.write("first ")
    written.marks.write_outside("[1] a line of orch\n")
    written.write("trial\n")
    written.marks.end()
    written.write("between\n")
    written.marks.begin(12)
    written.write("second")
    assert written.texts() == [(11, "first trial\n", True), (12, "second", False)]
    written.write(" trial")
    assert written.texts()[1] == (12, "second trial", False)
    written.read.read(is_over=True)
    assert written.texts()[1] == (12, "second trial", True)
    whole = b"before\nfirst [1] a line of orch\ntrial\nbetween\nsecond trial"
    assert written.read.unshown(is_over=True) == whole == written.read.last()


def test_a_mark_that_is_read_in_two_parts_is_still_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "log"
    whole = Written(tmp_path / "whole")
    whole.marks.begin(5)
    whole.write("in it")
    whole.marks.end()
    whole.write("\x1e out of it")
    content = (tmp_path / "whole").read_bytes()
    for cut in range(len(content) + 1):
        output = WorkerOutput(path, WORKER, most_last=1000)
        path.write_bytes(content[:cut])
        output.read()
        path.write_bytes(content)
        output.read(is_over=True)
        [trial] = output.trials
        assert (trial.trial_id, trial.text(URL)) == (5, "in it")
        assert output.last() == b"in it\x1e out of it"


def test_the_marks_of_another_worker_are_text(written: Written) -> None:
    written.marks.begin(1)
    Marks(written.descriptor, uuid4()).begin(2)
    [(trial, text, _)] = written.texts()
    assert trial == 1 and text.strip().endswith("2.1")


def test_a_trial_that_a_worker_runs_twice_has_two_leases(written: Written) -> None:
    for word in ("one", "two"):
        written.marks.begin(3)
        written.write(word)
    assert [(text, each.lease) for (_, text, _), each in
            zip(written.texts(), written.read.trials, strict=True)] == [("one", 1), ("two", 2)]  # fmt: skip


def test_of_a_line_that_is_written_over_the_last_state_stays() -> None:
    assert of_one("a\n1/3\r2/3\r3/3\r\nb\n") == "a\n3/3\nb\n"
    assert of_one("\r1/3", "\r2/3\r", "\r3/3", "\nend") == "3/3\nend"
    assert of_one("loading\r", "\n") == "loading\n"
    assert of_one("\r".join(["x" * 1000] * 2000)) == "x" * 1000


def test_colours_titles_links_and_control_characters_are_left_out() -> None:
    assert (
        of_one("\x1b[1;31mred\x1b[0m\x1b[2K \x1b]8;;http://x\x1b\\link\x1b]8;;\x07\n")
        == "red link\n"
    )
    assert of_one("a\x00b\x07c\x08d\x7fe\x9bKf\tg\x1bM\x1b(B") == "abcdef\tg"
    assert of_one("\x1b]0;a title without an end\nnext\n") == "\nnext\n"


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    output = TrialOutput(1, 1)
    output.add("ü".encode()[:1])
    output.add("ü".encode()[1:] + b" \xff\xfe\n")
    assert output.text(URL) == "ü ��\n"


def test_passwords_are_masked() -> None:
    text = of_one("a postgresql://me:other@host/db\nvery secret\npassword=abc\n")
    assert "other" not in text and "very secret" not in text and "abc" not in text
    split = of_one("password =\nabc\nnext\n")
    assert split.count("\n") == 3, "who follows a trial counts its lines"


def test_tensorflows_usual_news_are_not_a_trials() -> None:
    news = (
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        "I0000 00:00:1732000000.1 17 service.cc:148] XLA service initialized\n"
        "2026-11-26 17:00:00.1: W tensorflow/core/x.cc:1] something\n"
        "WARNING:tensorflow:5 out of the last 5 calls triggered tf.function retracing\n"
    )
    output = TrialOutput(1, 1)
    output.add(news.encode())
    output.ended = True
    assert output.text(URL) == "" and not output.is_due(0) and output.lines == 0
    assert of_one(f"{news}2026-11-26 is a date\nWARNING: mine\n") == (
        "2026-11-26 is a date\nWARNING: mine\n"
    )


@pytest.mark.parametrize("line", ["short\n", "x" * 70_000 + "\n", "ü" * 1_000_000])
def test_the_newest_64_kib_are_kept_and_no_more_memory_than_that_needs(line: str) -> None:
    output = TrialOutput(1, 1)
    for _ in range(100):
        output.add(line.encode() * max(1, 100_000 // len(line)))
    text = output.text(URL)
    assert LARGEST_OUTPUT - 10 <= len(text.encode()) <= LARGEST_OUTPUT
    assert len(output._kept) + len(output._rest) <= 8 * LARGEST_OUTPUT
    assert text.endswith(line[-6:]) and set(text.split("\n")) <= {line.strip(), "", text.strip()}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs Linux")
def test_the_disk_gets_back_what_was_read(written: Written, tmp_path: Path) -> None:
    for _ in range(20):
        written.write("x" * 2**20)
        written.read.read()
    found = (tmp_path / "log").stat()
    assert found.st_size >= 20 * 2**20
    assert found.st_blocks * 512 < 8 * 2**20
    assert len(written.read.unshown(is_over=True)) <= 5 * 2**20


def test_a_trial_is_due_when_it_has_printed_and_once_more_when_it_ends() -> None:
    class Sent(Claims):
        def __init__(self) -> None:
            self.texts: list[str] = []

        @property
        def url(self) -> str:
            return URL

        def store_output(
            self, trial_id: int, lease: int, text: str, lines: int, ended: bool
        ) -> None:
            self.texts.append(f"{text}{lines}{ended}")

    output, claims = TrialOutput(1, 1), Sent()
    assert not output.is_due(0)
    output.add(b"a\n")
    assert output.is_due(0) and not output.is_due(60)
    output.send(claims)
    assert not output.is_due(0)
    output.ended = True
    assert output.is_due(60)
    output.send(claims)
    assert not output.is_due(0) and claims.texts == ["a\n1False", "a\n1True"]


def test_only_a_worker_of_the_study_stores_output_and_only_rows_of_its_own(
    place: Workplace,
) -> None:
    place.create(trials=2)
    claims, stranger = place.claims(), Claims(place.database, 10**6, uuid4())
    trial = take(claims)
    claims.store_output(trial, 1, "mine", 0, False)
    stranger.store_output(trial, 1, "not mine", 0, True)
    claims.store_output(10**6, 1, "of no trial", 0, True)
    other = place.claims()
    other.join("other")
    other.store_output(trial, 1, "of another lease", 0, True)
    claims.store_output(trial, 1, "mine\nlonger", 1, True)
    found = read_output(place.database, trial)
    assert [(each.text, each.lines, each.ended) for each in found] == [
        ("mine\nlonger", 1, True),
        ("of another lease", 0, True),
    ]
    assert found[0].lease == (str(worker_id(claims.token)), 1)
    assert place.execute("SELECT count(*) AS n FROM orch.output WHERE trial_id = 1000000") == [
        {"n": 0}
    ]


def test_of_many_leases_the_newest_eight_are_kept(place: Workplace) -> None:
    place.create()
    claims = place.claims()
    trial = take(claims)
    for lease in range(1, 13):
        claims.store_output(trial, lease, f"lease {lease}", 0, True)
    kept = [each.text for each in read_output(place.database, trial)]
    assert kept == [f"lease {lease}" for lease in range(5, 13)]


def test_a_worker_cannot_fill_the_database(place: Workplace) -> None:
    place.create()
    claims = place.claims()
    trial = take(claims)
    with pytest.raises(StorageError, match=r"check constraint"):
        place.database.call(
            "store_output", trial=trial, token=str(claims.token), lease=1, lines=1, ended=True,
            body=psycopg2.Binary(os.urandom(70_000)),
        )  # fmt: skip


def test_what_comes_from_the_database_is_bounded_and_has_no_escape_codes() -> None:
    assert expanded(zlib.compress(b"a\x1b[31mb\n")) == "a�[31mb\n"
    assert expanded(b"not compressed") == ""
    assert len(expanded(zlib.compress(b"x" * 10**8))) == LARGEST_OUTPUT


def test_a_tail_has_whole_lines() -> None:
    assert tail("a\nb\n") == "a\nb\n"
    assert tail("first line\nsecond\n", 10) == "second\n"
    assert tail("x" * 20, 5) == "xxxxx"
