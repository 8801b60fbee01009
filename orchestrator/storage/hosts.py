"""The hosts of a storage's URL, and their addresses, found without waiting for ever."""

from __future__ import annotations

import ipaddress
import os
import queue
import random
import socket
import threading

import psycopg2
from psycopg2.extensions import parse_dsn

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
        psycopg2.OperationalError: the name has none, or none is known within so many seconds.
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
