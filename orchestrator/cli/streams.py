"""The command's own streams: whatever is printed can be encoded, and fits the terminal."""

from __future__ import annotations

import codecs
import io
import json
import sys
from typing import BinaryIO, TextIO

_HANDLER = "orch.plain"
# Braille dots of the upper and of the lower half of a character (report/text.py).
_UPPER, _LOWER = 0x01 | 0x02 | 0x08 | 0x10, 0x04 | 0x20 | 0x40 | 0x80
_PLAIN = {
    "…": "...", "–": "-", "—": "-", "−": "-", "·": ".", "•": "*", "×": "x", "±": "+/-",
    "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "↑": "^", "↓": "v",
    "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ", "∞": "inf",
    **dict(zip("▁▂▃▄▅▆▇█", "_.-=+*%#", strict=True)),
}  # fmt: skip
_VERTICAL = "│┃║┤├┆┊"


def make_encodable() -> None:
    """Let what this process prints never fail for a sign that its encoding does not have.

    Plain signs stand for those of a report; of names in other scripts, escapes.
    """
    codecs.register_error(_HANDLER, _plain)
    sys.stdout = _encodable(sys.stdout)
    sys.stderr = _encodable(sys.stderr)


def is_unicode(stream: TextIO) -> bool:
    """Whether a stream has every sign."""
    return _name(stream).lower().replace("_", "-").startswith("utf")


def print_document(content: str, form: str) -> None:
    """Print a report so that whatever reads it understands it, also without every sign."""
    if not is_unicode(sys.stdout):
        if form == "json":
            content = json.dumps(json.loads(content), indent=2) + "\n"
        if form == "html":
            content = content.encode("ascii", "xmlcharrefreplace").decode("ascii")
    sys.stdout.write(content)


class _PlainAscii(io.TextIOWrapper):
    """ASCII under a name of its own: typer writes UTF-8 to a stream that calls itself ASCII."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "ascii-plain"


def _encodable(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _PlainAscii):
        return stream  # a test's or a notebook's own
    if codecs.lookup(stream.encoding).name == "ascii":
        stream.flush()
        return _writer(stream.buffer, "ascii", stream.line_buffering)
    stream.reconfigure(errors=_HANDLER)
    return stream


def _writer(buffer: BinaryIO, encoding: str, line_buffering: bool) -> TextIO:
    kind = _PlainAscii if codecs.lookup(encoding).name == "ascii" else io.TextIOWrapper
    return kind(buffer, encoding, _HANDLER, line_buffering=line_buffering)


def _name(stream: TextIO) -> str:
    name = stream.encoding or "ascii"
    return "ascii" if name == "ascii-plain" else name


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_sign, error.object[error.start : error.end])), error.end


def _sign(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    code = ord(character)
    if 0x2800 <= code <= 0x28FF:
        dots = code - 0x2800
        return ("", ".", "'", ":")[2 * bool(dots & _UPPER) + bool(dots & _LOWER)] or " "
    if 0x2500 <= code <= 0x257F:
        return "|" if character in _VERTICAL else "-" if character in "─━═" else "+"
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        return "?"
    return character.encode("ascii", "backslashreplace").decode("ascii")
