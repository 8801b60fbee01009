"""The gate: lets a lab network reach the embedded server, by TLS and as orch's roles only.

The embedded server listens on a socket that one user of this machine reaches, without a password,
and its binaries have no TLS. The gate listens on the network in its place. It speaks PostgreSQL's
protocol up to the start-up message (message flow and SSL session encryption, chapter 54.2 of
PostgreSQL's documentation), which must come by TLS and name one of the roles; everything after that
passes through, the password exchange (SCRAM) too.
"""

from __future__ import annotations

import asyncio
import ssl
import struct
from collections.abc import Collection
from pathlib import Path

from orchestrator.storage.certificate import Certificate

_SSL_REQUEST, _GSS_REQUEST, _PROTOCOL = 80877103, 80877104, 3
_LONGEST_STARTUP = 10_000  # bytes; PostgreSQL's own limit
_STARTUP_SECONDS = 20.0
_PIECE = 64 * 1024


class Refused(Exception):
    """A client that may not pass."""


class Gate:
    """One listening address in front of one server.

    Args:
        socket: the server's own socket on this machine.
        certificate: what the gate shows.
        users: the roles that may pass.
    """

    def __init__(self, socket: Path, certificate: Certificate, users: Collection[str]) -> None:
        self._socket = socket
        self._users = set(users)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self._tls.load_cert_chain(certificate.public, certificate.private)

    async def open(self, address: str, port: int) -> asyncio.Server:
        """Listen.

        Raises:
            OSError: the address is not this machine's, or the port is taken.
        """
        return await asyncio.start_server(self._admit, address, port)

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(_STARTUP_SECONDS):
                await self._start_tls(reader, writer)
                startup = await _packet(reader)
                self._check(startup)
                answers, server = await asyncio.open_unix_connection(self._socket)
                server.write(struct.pack("!I", len(startup) + 4) + startup)
            await asyncio.gather(_pass(reader, server), _pass(answers, writer))
        except Refused as refusal:
            writer.write(_error(str(refusal)))
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # the client or the server went away; the other is told by the close
        finally:
            for each in (server, writer):
                if each is not None:
                    each.close()

    async def _start_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _packet(reader)
        if request == struct.pack("!I", _GSS_REQUEST):
            writer.write(b"N")
            request = await _packet(reader)
        if request != struct.pack("!I", _SSL_REQUEST):
            raise Refused("this server is reached by TLS only (no encryption was asked for)")
        writer.write(b"S")
        await writer.drain()
        await writer.start_tls(self._tls)

    def _check(self, startup: bytes) -> None:
        version, _, rest = startup[:2], startup[2:4], startup[4:]
        if version != struct.pack("!H", _PROTOCOL):
            raise Refused("this is no start-up message of PostgreSQL's protocol 3")
        words = rest.decode(errors="replace").split("\0")
        users = {
            value for key, value in zip(words[::2], words[1::2], strict=False) if key == "user"
        }
        if not users or not users <= self._users:
            raise Refused(f"only {', '.join(sorted(self._users))} may log in from the network")


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """The next message without a type: its length, itself included, and its body."""
    length = struct.unpack("!I", await reader.readexactly(4))[0] - 4
    if not 4 <= length <= _LONGEST_STARTUP:
        raise Refused("this is no start-up message of PostgreSQL's protocol 3")
    return await reader.readexactly(length)


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(_PIECE):
            sink.write(piece)
            await sink.drain()
    finally:
        sink.close()


def _error(message: str) -> bytes:
    fields = f"SFATAL\0VFATAL\0C28000\0M{message}\0\0".encode()
    return b"E" + struct.pack("!I", len(fields) + 4) + fields
