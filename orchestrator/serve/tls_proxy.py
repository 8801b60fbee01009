"""The embedded server on a network: a TLS proxy in front of it, and its certificate.

It needs the package cryptography, of the extra ``serve``.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import ipaddress
import signal
import socket
import ssl
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from psycopg2.extensions import parse_dsn

from orchestrator.base.files import write_whole
from orchestrator.errors import StorageError, UsageError
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.roles import ROLES, WORKER, make_roles, move_passwords, read_password
from orchestrator.storage.schema import prepare

# The gate: lets a lab network reach the embedded server, by TLS and as orch's roles only.
#
# The embedded server listens on a socket that one user of this machine reaches, without a
# password, and its binaries have no TLS. The gate listens on the network in its place. It speaks
# PostgreSQL's protocol up to the start-up message (message flow and SSL session encryption,
# chapter 54.2 of PostgreSQL's documentation), which must come by TLS and name one of the roles;
# everything after that passes through, the password exchange (SCRAM) too.

_SSL_REQUEST, _GSS_REQUEST, _PROTOCOL = 80877103, 80877104, 3
_LONGEST_STARTUP = 10_000  # bytes; PostgreSQL's own limit
_STARTUP_SECONDS = 20.0
_PIECE = 64 * 1024
_DAYS = 3650
_DAY = datetime.timedelta(days=1)


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


_RULE = f"local all {','.join(ROLES)} scram-sha-256\n"


@dataclass(frozen=True)
class Opened:
    """An embedded server that is ready for a gate.

    Attributes:
        listen: the address that the gate listens on.
        host: the address by which others reach it.
    """

    listen: str
    host: str
    port: int
    database: str
    socket: Path
    password: str
    certificate: Certificate

    def invitation(self) -> str:
        """The line of shell to paste on another machine.

        It keeps the certificate and the password there, readable by its user only, and names both
        in ORCH_STORAGE; the password is in neither that variable nor a process's arguments. The
        space before it keeps it out of a shell's history that leaves such lines out.
        """
        certificate = base64.b64encode(self.certificate.public.read_bytes()).decode()
        name = f"$HOME/.postgresql/orch-{self.host.replace(':', '-')}-{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        escaped = self.host.replace(":", "\\:")
        return (
            f" (umask 077; mkdir -p ~/.postgresql; echo {certificate} | base64 -d > {name}.crt; "
            f"echo '{escaped}:{self.port}:*:{WORKER}:{self.password}' > {name}.pgpass); "
            f'export ORCH_STORAGE="postgresql://{WORKER}@{host}:{self.port}/{self.database}'
            f'?sslmode=verify-full&sslrootcert={name}.crt&passfile={name}.pgpass"'
        )


def open_to_network(server: EmbeddedServer, listen: str, port: int) -> Opened:
    """Make roles, passwords and a certificate, so that others may log in through a gate.

    Args:
        server: started if it does not run.
        listen: an address or a name of this machine; 0.0.0.0 or ::, all of them.
        port: the port for the network.

    Raises:
        StorageError: the server cannot be started.
        UsageError: ``listen`` is not an address of this machine, or the port is taken.
    """
    names = _names(listen)
    _check_free(listen, port)
    url = server.ensure_running()
    dsn = parse_dsn(url)
    if not dsn.get("host", "").startswith("/"):
        raise StorageError("orch db serve needs a system with Unix sockets; use a PostgreSQL there")
    database = Database(url)
    prepare(database)
    passfile = server.folder / "roles.pgpass"
    # Older versions had the socket in the data folder; who was invited then keeps the password.
    move_passwords(passfile, f"postgresql:///?host={quote(str(server.data))}", url)
    password = _worker_password(database, passfile)
    _ask_for_passwords(database, server.data / "pg_hba.conf")
    database.close()
    return Opened(
        listen=listen,
        host=names[0],
        port=port,
        database=dsn["dbname"],
        socket=Path(dsn["host"]) / f".s.PGSQL.{dsn['port']}",
        password=password,
        certificate=certificate_for(server.folder / "served", names),
    )


def _worker_password(database: Database, passfile: Path) -> str:
    """The password of the workers' role; the roles are made where they are missing."""
    make_roles(database, passfile)
    password = read_password(passfile, database.url, WORKER)
    if password is None:  # the roles are older than this file
        make_roles(database, passfile, renew=True)
        password = read_password(passfile, database.url, WORKER)
    assert password is not None
    return password


def _ask_for_passwords(database: Database, hba: Path) -> None:
    """Let the server ask orch's roles for theirs, as it asks no user of this machine."""
    if _RULE not in hba.read_text():
        # The first rule that fits decides: before the one that trusts this machine's users.
        hba.write_text(_RULE + hba.read_text())
        database.execute("SELECT pg_reload_conf()")


def run_gate(opened: Opened) -> None:
    """Let others in until SIGINT or SIGTERM.

    Raises:
        UsageError: the port is taken, or the address is not this machine's.
    """
    asyncio.run(_run_gate(opened))


async def _run_gate(opened: Opened) -> None:
    gate = Gate(opened.socket, opened.certificate, ROLES)
    try:
        listening = await gate.open(opened.listen, opened.port)
    except OSError as error:
        raise _cannot_listen(opened.listen, opened.port, error) from None
    ended = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, ended.set)
    async with listening:
        await ended.wait()


def _check_free(listen: str, port: int) -> None:
    """Listen for a moment, before roles and a certificate are made."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listen, port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise _cannot_listen(listen, port, error) from None


def _cannot_listen(listen: str, port: int, error: OSError) -> UsageError:
    return UsageError(
        f"cannot listen on {listen} port {port}: {error.strerror}; "
        "name an address of this machine with --listen and a free port with --port"
    )


def _names(listen: str) -> list[str]:
    """By what others reach an address that is listened on; the first is the one to tell them."""
    own = [
        each.address
        for addresses in psutil.net_if_addrs().values()
        for each in addresses
        if each.family == socket.AF_INET and not ipaddress.ip_address(each.address).is_loopback
    ]
    try:
        address = ipaddress.ip_address(listen)
    except ValueError:
        return [listen, *own]
    if not address.is_unspecified:
        return [listen, socket.gethostname()]
    if not own:
        raise UsageError("this machine has no address on a network; name one with --listen")
    return [*own, socket.gethostname()]


@dataclass(frozen=True)
class Certificate:
    """A certificate and its private key, as PEM files.

    Attributes:
        public: the certificate; others verify the server with it.
        private: the key, for its owner only (mode 600).
    """

    public: Path
    private: Path

    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, as ``openssl x509 -fingerprint -sha256`` prints it."""
        return self._load().fingerprint(hashes.SHA256()).hex(":").upper()

    def names(self) -> set[str]:
        """The host names and addresses that it is for."""
        extension = self._load().extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return {str(each.value) for each in extension.value}

    def _load(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.public.read_bytes())


def certificate_for(folder: Path, names: Sequence[str]) -> Certificate:
    """The certificate in the folder, made when none is there that is for all these names.

    Args:
        folder: where ``server.crt`` and ``server.key`` are kept.
        names: host names and addresses by which others reach the server.

    Raises:
        OSError: the folder cannot be written.
    """
    found = Certificate(folder / "server.crt", folder / "server.key")
    if found.public.exists() and found.private.exists() and set(names) <= found.names():
        return found
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orch")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)  # clocks differ
        .not_valid_after(now + _DAYS * _DAY)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_whole(found.private, private, private=True)
    write_whole(found.public, certificate.public_bytes(pem))
    return found


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
