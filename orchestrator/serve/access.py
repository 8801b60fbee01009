"""Who may do what on a page that is served: a password, and reading alone. WSGI middleware."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from orchestrator.errors import OrchError, UsageError

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

PASSWORD_VARIABLE = "ORCH_DASHBOARD_PASSWORD"
_READING = ("GET", "HEAD")
_SHORTEST_PASSWORD = 8


def is_local(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def given_password(path: Path | None) -> str | None:
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
        found = os.environ.get(PASSWORD_VARIABLE)
        if found is None:
            return None
        password = found
    if len(password) < _SHORTEST_PASSWORD:
        raise UsageError(f"the dashboard's password needs {_SHORTEST_PASSWORD} characters or more")
    return password


def make_password() -> str:
    """A fresh password that nobody guesses."""
    return secrets.token_urlsafe(15)


def with_password(application: Application, password: str) -> Application:
    """Answer only those who know the password (basic authentication, RFC 7617; any user name)."""
    expected = password.encode()

    def guarded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if hmac.compare_digest(_sent_password(environ), expected):
            return application(environ, start_response)
        headers = [("WWW-Authenticate", 'Basic realm="orch", charset="UTF-8"')]
        return _refuse(start_response, "401 Unauthorized", "the password is needed", headers)

    return guarded


def reading_only(application: Application) -> Application:
    """Refuse whatever could change something: every method but GET and HEAD."""

    def guarded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _READING:
            return application(environ, start_response)
        headers = [("Allow", ", ".join(_READING))]
        return _refuse(
            start_response, "405 Method Not Allowed", "this dashboard is read-only", headers
        )

    return guarded


def _sent_password(environ: Environ) -> bytes:
    scheme, _, encoded = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        _, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b""
    return password


def _refuse(
    start_response: StartResponse, status: str, reason: str, headers: list[tuple[str, str]]
) -> Iterable[bytes]:
    body = f'{{"reason": "{reason}"}}\n'.encode()
    kind = ("Content-Type", "application/json")
    start_response(status, [kind, ("Content-Length", str(len(body))), *headers])
    return [body]
