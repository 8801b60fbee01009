"""Storage URLs: which are taken, how they show without a password, and the hosts that they name."""

from __future__ import annotations

import ipaddress
import os
import queue
import random
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from urllib.parse import quote, unquote

import psycopg2
from psycopg2.extensions import parse_dsn

from orchestrator.errors import StorageError

_HIDDEN = "***"
_SCHEME = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9]*)(?:\+(?P<driver>[\w.-]+))?://", re.ASCII)
_SECRET = re.compile(r"pass(?:word|wd|phrase)?$|pwd$|secret|token|credential|api_?key|access_?key")
_POSTGRESQL = ("postgresql", "postgres")
# Whose URLs have a user before the @.
_KNOWN = {
    "postgresql", "postgres", "mysql", "mariadb", "oracle", "mssql", "redis", "rediss", "mongodb",
    "s3", "gs", "http", "https",
}  # fmt: skip
_NO_SHARED_LOCKS = {
    "sqlite": "SQLite has no row locks that machines could share",
    "mysql": "MySQL is not supported; the claim is a PostgreSQL transaction",
    "redis": "Redis has no transactions that the claim could use",
}
_ENCODE = "in a user or a password, write"
_WRITE = "write postgresql://USER@HOST:PORT/DATABASE"
# libpq's keyword = value, the value bare or quoted, with backslashes.
_SETTING = re.compile(
    r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s\\']|\\.)(?:[^\s\\]|\\.)*|)(?=\s|$)"
)
_KEYWORD = re.compile(r"[\w.-]+")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_HOST = re.compile(r"(?:\[[^\]@/]*\]|[^\[\]:@/?#\s]*)(?::\d*)?$")
_SHORTEST_HIDDEN = 4  # a shorter secret is hidden only where it stands as a word of its own


def normalise(url: str) -> str:
    """The URL as every part reads it alike: ``postgresql://…``, percent-encoded.

    libpq takes ``#``, ``?`` and spaces in a password as they are; SQLAlchemy and others do not.

    Raises:
        StorageError: it is not a valid PostgreSQL URL; the message says what to write.
    """
    scheme = _SCHEME.match(url.strip())
    if scheme is None:
        raise StorageError(f"'{mask(url)}' is not a storage URL; {_WRITE}")
    name = scheme["name"].lower()
    if name not in _POSTGRESQL:
        reason = _NO_SHARED_LOCKS.get(name, f"'{name}' is not a PostgreSQL URL")
        raise StorageError(f"{reason}; {_WRITE}")
    parts = _Parts.of(url.strip()[scheme.end() :])
    problem = parts.problem(postgresql=True)
    if problem is not None:
        raise StorageError(f"'{mask(url)}' is not a valid storage URL: {problem}")
    return f"postgresql://{parts.encoded()}"


def mask(url: str) -> str:
    """The URL, or the keywords of libpq, with every password replaced by ``***``.

    What cannot be read without doubt is hidden up to its last ``@``.
    """
    text = url.strip()
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _mask_settings(text) if "=" in text else _after_last_at(text)
    rest = text[scheme.end() :]
    if scheme["name"].lower() == "sqlite" and rest.startswith("/"):
        path, question, query = rest.partition("?")
        return f"{scheme[0]}{path}{question}{_mask_query(query)}"
    parts = _Parts.of(rest)
    postgresql = scheme["name"].lower() in _POSTGRESQL
    if scheme["name"].lower().partition("+")[0] not in _KNOWN and parts.password is None:
        # As u://secret@host, where the scheme was forgotten: it may be a user and a password.
        return scheme[0] + _after_last_at(rest)
    return scheme[0] + (_mask_blindly(rest) if parts.problem(postgresql) else parts.masked())


def hide(text: str, url: str | None) -> str:
    """Text of others (an error's, a traceback's) without what ``url`` keeps secret."""
    for secret in sorted(_secrets(url) if url else (), key=len, reverse=True):
        pattern = re.escape(secret)
        if len(secret) < _SHORTEST_HIDDEN:
            pattern = rf"(?<![\w*]){pattern}(?![\w*])"
        text = re.sub(pattern, _HIDDEN, text)
    # A bound: a scheme is tried at each character, and a text may be one word of megabytes.
    text = re.sub(r"[A-Za-z][\w+.-]{0,40}://[^\s'\"<>]+", lambda found: mask(found[0]), text)
    return re.sub(r"\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", rf"\1{_HIDDEN}", text)


@dataclass(frozen=True)
class _Parts:
    """What stands after ``://``, cut where libpq cuts it, and not decoded.

    Attributes:
        user: None: there is no ``@`` before the first ``/``.
        password: None: there is no ``:`` in what is before that ``@``.
        hosts: with their ports, several with commas between them.
        path: from the first ``/`` on; may be empty.
        query: without its ``?``; None: there is none.
    """

    user: str | None
    password: str | None
    hosts: str
    path: str
    query: str | None

    @classmethod
    def of(cls, rest: str) -> _Parts:
        user = password = None
        found = re.match(r"[^@/]*@", rest)
        if found is not None:
            user, colon, given = found[0][:-1].partition(":")
            password = given if colon else None
            rest = rest[found.end() :]
        before, question, query = rest.partition("?")
        hosts, slash, path = before.partition("/")
        return cls(user, password, hosts, slash + path, query if question else None)

    def problem(self, postgresql: bool) -> str | None:
        """What makes the parts doubtful, so that a password may be in another than its own."""
        if "@" in self.hosts + self.path:
            return f"{_ENCODE} an @ as %40 and a / as %2F"
        if "?" in (self.user or ""):
            return f"{_ENCODE} a ? as %3F"
        if not all(_HOST.match(each) for each in self.hosts.split(",")):
            return f"its host or port is not valid; {_ENCODE} an @ as %40 and a / as %2F"
        pairs = filter(None, (self.query or "").split("&"))
        if not all(_is_setting(pair, postgresql) for pair in pairs):
            return f"after the ? only libpq's settings may follow; {_ENCODE} an @ as %40"
        given = f"{self.user}{self.password}{self.path}{self.query}"
        if _BAD_PERCENT.search(given) or not _is_utf8(given):
            return f"{_ENCODE} a % as %25 and other signs in UTF-8"
        return None

    def masked(self) -> str:
        login = "" if self.user is None else self.user
        login += "" if self.password is None else f":{_HIDDEN}"
        login += "" if self.user is None else "@"
        query = "" if self.query is None else f"?{_mask_query(self.query)}"
        return f"{login}{self.hosts}{self.path}{query}"

    def encoded(self) -> str:
        login = "" if self.user is None else _encode(self.user, "")
        login += "" if self.password is None else f":{_encode(self.password, '')}"
        login += "" if self.user is None else "@"
        pairs = [pair.partition("=") for pair in (self.query or "").split("&") if pair]
        query = "&".join(f"{_encode(key, '')}={_encode(value, '/:,')}" for key, _, value in pairs)
        return f"{login}{self.hosts}{_encode(self.path, '/')}{'?' + query if query else ''}"


def _encode(text: str, safe: str) -> str:
    return quote(unquote(text), safe=safe)


def _is_utf8(text: str) -> bool:
    try:
        unquote(text, errors="strict").encode()
    except UnicodeError:
        return False
    return True


def _is_setting(pair: str, postgresql: bool) -> bool:
    key, equals, value = pair.partition("=")
    if not equals or "=" in value:
        return False
    if postgresql:
        return _is_keyword(unquote(key))
    return _KEYWORD.fullmatch(unquote(key)) is not None and "@" not in value


@cache
def _is_keyword(key: str) -> bool:
    """Whether libpq has a setting of that name in a URL."""
    if not re.fullmatch(r"[a-z_]+", key):
        return False
    try:
        parse_dsn(f"postgresql://?{key}=true")
    except psycopg2.ProgrammingError:
        return False
    return True


def _is_secret(key: str) -> bool:
    return _SECRET.search(unquote(key).lower()) is not None


def _mask_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(
        f"{key}{equals}{_HIDDEN if equals and _is_secret(key) else value}"
        for key, equals, value in pairs
    )


def _mask_blindly(rest: str) -> str:
    """Hide everything that may be a password, in a URL that cannot be read without doubt."""
    keyword = _first_secret_keyword(rest)
    at = rest.rfind("@")
    if keyword is not None and keyword < at:
        return _HIDDEN  # which of the two holds a password cannot be known
    end = "" if keyword is None else _HIDDEN
    kept = rest[at + 1 : keyword]
    # A host's port that is not a number may be a password, of a URL whose host was forgotten.
    kept = re.sub(r"^([^/?:]*|\[[^\]]*\]):(?!\d*(?:[/?,]|$))[^/?]*", rf"\1:{_HIDDEN}", kept)
    return (f"{_HIDDEN}@" if at >= 0 else "") + kept + end


def _first_secret_keyword(text: str) -> int | None:
    """Where the value of the first setting of a secret begins."""
    for found in re.finditer(r"([\w%.-]+)\s*=", text):
        if _is_secret(found[1]):
            return found.end()
    return None


def _settings(text: str) -> Iterator[re.Match[str]] | None:
    """The settings of libpq's keyword form; None: it is not one."""
    found, position = [], 0
    while position < len(text):
        setting = _SETTING.match(text, position)
        if setting is None or not _is_keyword(setting[1]):
            return None
        found.append(setting)
        position = setting.end()
    return iter(found)


def _mask_settings(text: str) -> str:
    settings = _settings(text)
    if settings is None:
        keyword = _first_secret_keyword(text)
        kept = _after_last_at(text[:keyword])
        return kept if keyword is None else f"{kept}{_HIDDEN}"
    return "".join(
        each[0][: each.start(2) - each.start()] + _HIDDEN if _is_secret(each[1]) else each[0]
        for each in settings
    )


def _after_last_at(text: str) -> str:
    _, at, after = text.rpartition("@")
    return f"{_HIDDEN}@{after}" if at else text


def _secrets(url: str) -> set[str]:
    """What of a URL must be shown nowhere, as it is written and as it is meant."""
    text = url.strip()
    scheme = _SCHEME.match(text)
    found: set[str] = set()
    if scheme is None:
        settings = _settings(text)
        found = {each[2].strip("'") for each in settings or () if _is_secret(each[1])}
        found |= {re.sub(r"\\(.)", r"\1", each) for each in found}
        return found - {"", _HIDDEN}
    parts = _Parts.of(text[scheme.end() :])
    if parts.problem(scheme["name"].lower() in _POSTGRESQL):
        hidden = text[scheme.end() :].rpartition("@")[0]
        found = {hidden, *(each for each in re.split(r"[:/?#&=@\s]+", hidden) if len(each) > 2)}
    pairs = [pair.partition("=") for pair in (parts.query or "").split("&")]
    found |= {parts.password or "", *(value for key, _, value in pairs if _is_secret(key))}
    found |= {unquote(each) for each in found}
    found |= {quote(each, safe="", errors="replace") for each in found}
    return found - {"", _HIDDEN}


_random = random.Random()  # not the process's: an objective may have seeded that one


def hosts_of(url: str) -> list[dict[str, str]]:
    """The servers that the URL, or the environment in its place, names, in libpq's order.

    Returns:
        The host, its address and its port, each as libpq's parameters; one without any where libpq
        itself must find out.

    Raises:
        psycopg2.Error: it is not a valid URL.
    """
    dsn = parse_dsn(url)
    if dsn.get("service") or os.environ.get("PGSERVICE"):
        return [{}]  # only libpq reads the service file

    def listed(key: str, variable: str) -> list[str]:
        text = dsn.get(key) or os.environ.get(variable) or ""
        return text.split(",")

    names, found = listed("host", "PGHOST"), listed("hostaddr", "PGHOSTADDR")
    ports, count = listed("port", "PGPORT"), max(len(names), len(found))
    names, found = (each * count if each == [""] else each for each in (names, found))
    ports = ports * count if len(ports) == 1 else ports
    fits = len(names) == len(found) == len(ports)
    if not fits or not all(port.isdecimal() for port in ports if port):
        return [{}]  # libpq says what is wrong
    rows = zip(names, found, ports, strict=True)
    hosts = [{"host": name, "hostaddr": address, "port": port} for name, address, port in rows]
    balance = dsn.get("load_balance_hosts") or os.environ.get("PGLOADBALANCEHOSTS")
    return _random.sample(hosts, count) if balance == "random" else hosts


def addresses(host: dict[str, str], seconds: float) -> list[dict[str, str]]:
    """The host once for each of its addresses.

    Raises:
        psycopg2.OperationalError: the name has no address, or none was found in time.
    """
    name = host.get("host", "")
    if host.get("hostaddr") or not name or name[0] in "/@" or _is_address(name):
        return [host]
    return [{**host, "hostaddr": address} for address in _resolve(name, seconds)]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _resolve(name: str, seconds: float) -> list[str]:
    """The addresses of a name. libpq would ask for them while it holds up every thread."""
    answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            answer.put([str(each[4][0]) for each in found])
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, name="orch name", daemon=True).start()
    try:
        found = answer.get(timeout=seconds)
    except queue.Empty:
        found = TimeoutError(f"timeout expired: no answer in {seconds:g} s")
    if isinstance(found, Exception):
        reason = getattr(found, "strerror", None) or found
        raise psycopg2.OperationalError(
            f'could not translate host name "{name}" to address: {reason}'
        )
    return found
