"""Lines that say the same in a row are said once, with a count, and none is swallowed."""

from __future__ import annotations

from orchestrator.report.progress import Fold


def said(*lines: str) -> list[str]:
    written: list[str] = []
    fold = Fold(written.append)
    for line in lines:
        fold.add(line)
    fold.end()
    return written


def test_the_first_line_is_printed_at_once_and_repeats_are_counted() -> None:
    written: list[str] = []
    fold = Fold(written.append)
    fold.add("waiting")
    assert written == ["waiting"]
    for _ in range(11):
        fold.add("waiting")
    assert written == ["waiting"]
    fold.add("there again")
    assert written == ["waiting", "… (12 times)", "there again"]


def test_the_remaining_count_is_printed_at_the_end() -> None:
    assert said("a", "b", "b") == ["a", "b", "… (2 times)"]
    assert said("a", "b", "a") == ["a", "b", "a"]


def test_equal_lines_of_different_processes_and_attempts_are_counted_together() -> None:
    lines = [f"[{pid}] waiting for the database: refused" for pid in (17, 18, 17)]
    assert said(*lines) == [lines[0], "… (3 times)"]
    failed = [f"trial {number} FAIL (ValueError: no such layer)" for number in range(4)]
    assert said(*failed) == [failed[0], "… (4 times)"]
    complete = ["trial 1 COMPLETE 0.5", "trial 2 COMPLETE 0.5"]
    assert said(*complete) == complete, "each is a result"


def test_a_line_is_compared_by_its_key() -> None:
    written: list[str] = []
    fold = Fold(written.append)
    fold.add("trial 1 FAIL (no); 0/9 trials, about 9 s left", key="trial 1 FAIL (no)")
    fold.add("trial 2 FAIL (no); 0/9 trials, about 8 s left", key="trial 2 FAIL (no)")
    fold.end()
    assert written == ["trial 1 FAIL (no); 0/9 trials, about 9 s left", "… (2 times)"]


def test_a_traceback_is_counted_with_its_line() -> None:
    record = "trial {} failed: ValueError: no\nTraceback:\n  line 3\n"
    output = "".join(f"[{pid}] {record.format(pid)}" for pid in (1, 2, 3)) + "[1] leaving\n"
    written: list[str] = []
    Fold(written.append).add_output(output)
    assert written == [
        "[1] trial 1 failed: ValueError: no\nTraceback:\n  line 3", "… (3 times)", "[1] leaving",
    ]  # fmt: skip
