"""Pages as headless Chromium draws them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path


def rendered(chromium: str, address: str, profile: Path, wanted: str) -> str:
    """The page's text once its scripts have drawn what is wanted."""
    for _ in range(5):
        done = subprocess.run(
            [
                chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
                "--no-first-run", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", f"--user-data-dir={profile}",
                "--virtual-time-budget=15000", "--dump-dom", address,
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if wanted in done.stdout:
            return done.stdout
        time.sleep(1)
    raise AssertionError(f"{wanted!r} is not on {address}: {done.stdout[-2000:]}")
