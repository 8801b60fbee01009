"""Pages as headless Chromium draws them."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
# The text of a page with that of its web components, which have documents of their own.
_DEEP_TEXT = """
const walk = (node) => {
    let text = node.nodeType === 3 ? node.data + " " : "";
    for (const child of [...(node.shadowRoot?.childNodes ?? []), ...node.childNodes]) {
        if (!["STYLE", "SCRIPT", "TEMPLATE"].includes(child.nodeName)) text += walk(child);
    }
    return text;
};
return walk(document.body);
"""


def rendered(chromium: str, address: str, profile: Path, wanted: str) -> str:
    """The page's text once its scripts have drawn what is wanted."""
    for _ in range(5):
        done = subprocess.run(
            [
                chromium, *_ARGUMENTS, f"--user-data-dir={profile}",
                "--virtual-time-budget=15000", "--dump-dom", address,
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if wanted in done.stdout:
            return done.stdout
        time.sleep(1)
    raise AssertionError(f"{wanted!r} is not on {address}: {done.stdout[-2000:]}")


def pictured(chromium: str, address: str, profile: Path, file: Path) -> None:
    """The page as a PNG in the file, once its scripts have drawn it."""
    subprocess.run(
        [
            chromium, *_ARGUMENTS, f"--user-data-dir={profile}", "--window-size=1280,900",
            "--virtual-time-budget=15000", f"--screenshot={file}", address,
        ],
        capture_output=True, timeout=120, check=True,
    )  # fmt: skip


def deep_text(address: str, profile: Path, wanted: str, seconds: float = 60) -> str:
    """The page's text, web components included, once ``wanted`` is there."""
    with _session(profile) as call:
        call("url", {"url": address})
        deadline = time.monotonic() + seconds
        while True:
            text = str(call("execute/sync", {"script": _DEEP_TEXT, "args": []}))
            if wanted in text:
                return text
            assert time.monotonic() < deadline, f"{wanted!r} is not on {address}: {text[-2000:]}"
            time.sleep(0.5)


class Page:
    """One tab that a test drives."""

    def __init__(self, call: Any) -> None:
        self._call = call

    def open(self, address: str, dark: bool = False, width: int = 1280) -> None:
        """Go to the address, as a reader with that taste and that screen."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._devtools(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self._log("browser"), self._log("performance")  # what was there before is not the page's
        self._call("url", {"url": address})

    def script(self, body: str) -> Any:
        """What the body of a function returns in the page; a promise is waited for."""
        return self._call("execute/sync", {"script": body, "args": []})

    def complaints(self) -> list[str]:
        """What the console says since the page was opened."""
        return [entry["message"] for entry in self._log("browser")]

    def errors(self) -> list[str]:
        """Of the complaints the errors; Chromium also warns of a machine without a GPU."""
        entries = self._log("browser")
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]

    def refusals(self) -> list[str]:
        """The answers of 400 and more since the page was opened; call before :meth:`requests`."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        answers = [
            event["params"]["response"]
            for event in events
            if event["method"] == "Network.responseReceived"
        ]
        return [f"{each['status']} {each['url']}" for each in answers if each["status"] >= 400]

    def text(self, wanted: str, seconds: float = 30) -> str:
        """The page's text once ``wanted`` is in it."""
        deadline = time.monotonic() + seconds
        while wanted not in (text := str(self.script("return document.body.innerText"))):
            assert time.monotonic() < deadline, (wanted, text, self.complaints())
            time.sleep(0.2)
        return text

    def screenshot(self) -> bytes:
        """What is in the window, as a PNG."""
        return base64.b64decode(self._call("screenshot", None))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self._call("se/log", {"type": kind}))


@contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """A browser with one tab."""
    with _session(profile) as call:
        yield Page(call)


@contextmanager
def _session(profile: Path) -> Iterator[Any]:
    """A browser driven by ChromeDriver over the WebDriver protocol."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("needs ChromeDriver (Debian package chromium-driver)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        base = f"http://127.0.0.1:{port}"
        _wait(base)
        options = {"args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        wanted = {"capabilities": {"alwaysMatch": capabilities}}
        session = _post(f"{base}/session", wanted)["sessionId"]
        yield lambda path, body: _post(f"{base}/session/{session}/{path}", body)
        urllib.request.urlopen(
            urllib.request.Request(f"{base}/session/{session}", method="DELETE"), timeout=30
        )
    finally:
        process.terminate()
        process.wait()


def _post(address: str, body: dict[str, Any] | None) -> Any:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, content, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["value"]


def _wait(base: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"{base}/status", timeout=5):
                return
        except OSError:
            assert time.monotonic() < deadline, "ChromeDriver does not answer"
            time.sleep(0.1)
