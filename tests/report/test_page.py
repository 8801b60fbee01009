"""The HTML report in a real browser: it draws, asks nobody, says what the JSON says."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browser import Page
from conftest import Orch

from orchestrator.report.render import render
from orchestrator.report.summary import Summary

pytestmark = pytest.mark.usefixtures("stored")

# Every drawing has marks, and its words are as wide as words are.
_BLANK_DRAWINGS = """
return [...document.querySelectorAll("figure")].filter((figure) => {
    const drawing = figure.querySelector("svg");
    const box = drawing.getBBox();
    return drawing.children.length < 3 || box.width < 100 || box.height < 50;
}).map((figure) => figure.id);
"""
_CASES = {
    "report-empty": ("No trial has run yet", 0),
    "report-one": ("Trial 0 is the best of 1", 4),
    "report-pruned": ("no winner: all 4 trials that ended were pruned", 3),
    "report-failed": ("3 configurations failed", 2),
    "report-hostile": ("is the best of 9", 9),
    "report-pareto": ("on the Pareto front", 3),
    "report-many": ("is the best of 79", 11),
    "report-huge": ("is the best of 10,000", 11),
}


@pytest.fixture
def open_report(
    page: Page, summary_of: Callable[[str], Summary], as_file: Path
) -> Callable[..., str]:
    """Opens a study's page, and returns its text."""

    def open_it(name: str, **taste: Any) -> str:
        as_file.write_text(render(summary_of(name), "html"), encoding="utf-8")
        return show(page, as_file, **taste)

    return open_it


def show(page: Page, path: Path, **taste: Any) -> str:
    page.open(path.as_uri(), **taste)
    return str(page.script("return document.body.innerText"))


@pytest.mark.parametrize("name", _CASES)
def test_the_page_of_every_kind_of_study_loads_without_errors_or_requests(
    page: Page, open_report: Callable[..., str], name: str, as_file: Path
) -> None:
    sentence, figures = _CASES[name]
    text = open_report(name, width=390 if name == "report-pareto" else 1280)
    assert sentence in text
    assert page.script("return document.querySelectorAll('figure').length") >= figures
    assert page.script(_BLANK_DRAWINGS) == []
    assert page.complaints() == []
    asked = [each for each in page.requests() if not each.startswith("data:")]
    assert asked in ([], [as_file.as_uri()])
    wide, window = page.script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= window, "the page scrolls sideways"
    assert as_file.stat().st_size < 10_000_000


def test_the_page_agrees_with_the_json_report(orch: Orch, page: Page, as_file: Path) -> None:
    report = orch.report("report-many")
    orch.ok("report", "report-many", "--format", "html", "--out", str(as_file))
    text = show(page, as_file)
    best, states, epochs = report["best"], report["states"], report["epochs"]
    assert f"{best['value']:.5g}" == page.script("return document.querySelector('.much').innerText")
    assert f"{states['complete']} complete, {states['pruned']} pruned" in text
    assert f"{epochs['trained']} of {epochs['without_pruning']} run" in text, (
        "steps: a bowl has no epochs"
    )
    assert [sentence for sentence in report["verdict"] if sentence not in text] == []
    complete = [t for t in report["trials"] if t["state"] == "COMPLETE"]
    ranked = sorted(complete, key=lambda t: -t["value"])[:10]
    rows = page.script(
        "return [...document.querySelector('main table').tBodies[0].rows].map((row) =>"
        " [...row.cells].slice(0, 2).map((cell) => cell.innerText))"
    )
    assert rows == [[str(t["number"]), f"{t['value']:.5g}"] for t in ranked]
    embedded = page.script("return JSON.parse(document.getElementById('trial-data').textContent)")
    assert [row[0] for row in embedded["rows"]] == [t["number"] for t in report["trials"]]
    drawn = page.script("return JSON.parse(document.getElementById('point-data').textContent)")
    assert {p[2] for p in drawn["history"]} == {t["number"] for t in report["trials"]}
    for rung in report["rungs"]:
        assert f"{rung['passed']} of {rung['reached']} went on" in page.script(
            "return document.getElementById('rungs').textContent"
        )
    for share in report["importances_fanova"].values():
        assert f"{share * 100:.0f} %" in page.script(
            "return document.getElementById('importances').textContent"
        )


def test_hovering_a_point_names_its_trial_and_clicking_finds_it_in_the_table(
    page: Page, open_report: Callable[..., str]
) -> None:
    open_report("report-many")
    named = page.script(
        """
        const drawing = document.querySelector("#history svg");
        drawing.scrollIntoView();
        const [x, y, trial] = JSON.parse(document.getElementById("point-data").textContent).history[3];
        const box = drawing.getBoundingClientRect(), scale = box.width / drawing.viewBox.baseVal.width;
        const at = {clientX: box.left + x * scale, clientY: box.top + y * scale, bubbles: true};
        drawing.dispatchEvent(new PointerEvent("pointermove", at));
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(
            [trial, document.getElementById("tip").innerText,
             document.querySelectorAll(".ring").length]))));
        """
    )
    assert named[1].startswith(f"trial {named[0]},") and "learning_rate" in named[1]
    assert named[2] >= 2, "the trial is ringed in the other figures too"
    found = page.script(
        """
        const find = document.getElementById("find");
        find.value = "fail";
        find.dispatchEvent(new Event("input"));
        return document.getElementById("trials").tBodies[0].innerText;
        """
    )
    assert "lost" in found and found.startswith("7")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_accessibility_violation(
    page: Page, open_report: Callable[..., str], dark: bool
) -> None:
    open_report("report-many", dark=dark)
    axe = (files("axe_core_python") / "axe.min.js").read_text()
    page.script(f"{axe}; window.axe = axe; return true")
    faults = page.script("return axe.run().then((found) => found.violations)")
    serious = [
        (fault["id"], [node["html"] for node in fault["nodes"]][:3])
        for fault in faults
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_printed_page_is_light_and_omits_the_long_table(
    page: Page, open_report: Callable[..., str]
) -> None:
    open_report("report-many", dark=True)
    page._devtools("Emulation.setEmulatedMedia", {"media": "print"})
    assert (
        page.script("return getComputedStyle(document.querySelector('.screen')).display") == "none"
    )
    paper = page.script("return getComputedStyle(document.querySelector('figure')).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    page._devtools("Emulation.setEmulatedMedia", {"media": ""})
