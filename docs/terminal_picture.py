"""Draw what a terminal shows as an SVG: ``terminal_picture.py TITLE OUT.svg < screen``.

The screen comes from a real terminal, as ``tmux capture-pane -p -e`` prints it.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text


def main(title: str, path: str) -> None:
    lines = sys.stdin.read().rstrip().splitlines()
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True)
    drawing = console.export_svg(title=title)
    # The picture asks no other host for a font.
    drawing = re.sub(r"@font-face \{.*?\}", "", drawing, flags=re.S)
    Path(path).write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
