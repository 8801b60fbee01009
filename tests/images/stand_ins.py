"""What a registry would give, made of Debian's packages: the images that deploy/ names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from images.machine import Machine, bootstrap

HERE = Path(__file__).parent
PIP = Path("/etc/pip.conf")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class StandIn:
    """An image under the name of a public one, as far as deploy/ makes use of it."""

    name: str
    suite: str
    packages: list[str]
    hooks: list[str]
    changes: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return f"{self.name.replace('/', '-').replace(':', '-')}.tar"

    def make(self, folder: Path) -> None:
        if not (folder / self.file).exists():
            hooks = [f"--{each}" for each in self.hooks]
            bootstrap(self.suite, self.packages, folder / self.file, *hooks)

    def bring(self, machine: Machine) -> None:
        """Give it to the engine, which finds its file in /images; a new one would have a new identity."""
        if machine(f"docker image inspect docker.io/{self.name}").returncode == 0:
            return
        changes = " ".join(f"--change '{each}'" for each in self.changes)
        machine.ok(f"docker import {changes} /images/{self.file} docker.io/{self.name}")


def stand_ins() -> list[StandIn]:
    # pip in the build asks the index that pip on this machine asks.
    index = [
        f"customize-hook=copy-in {each} {each.parent}"
        for each in (PIP, CERTIFICATES)
        if each.exists()
    ]
    return [
        StandIn(
            "library/python:3.11-slim", "bookworm",
            ["ca-certificates", "python-is-python3", "python3-venv"], index, ['CMD ["python"]'],
        ),
        StandIn(
            "library/postgres:17", "trixie", ["postgresql-17"],
            [
                'essential-hook=echo postgres:x:999: >>"$1/etc/group"',
                "essential-hook=echo postgres:x:999:999::/var/lib/postgresql:/bin/bash"
                ' >>"$1/etc/passwd"',
                f"customize-hook=copy-in {HERE}/postgres/docker-entrypoint.sh /usr/local/bin",
                'customize-hook=rm -rf "$1/etc/postgresql" "$1"/var/lib/postgresql/*',
                'customize-hook=chroot "$1" install -d -o 999 -g 999 -m 1777'
                " /var/lib/postgresql/data",
                # Who is not root there may not make it.
                'customize-hook=chroot "$1" install -d -o 999 -g 999 -m 3777 /run/postgresql',
            ],
            [
                "ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "ENV PGDATA=/var/lib/postgresql/data", "ENV LANG=C.UTF-8",
                "VOLUME /var/lib/postgresql/data", "EXPOSE 5432", "STOPSIGNAL SIGINT",
                'ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["postgres"]',
            ],
        ),
        StandIn(
            "nginxinc/nginx-unprivileged:1.28-alpine", "trixie", ["nginx-light"],
            [
                f"customize-hook=copy-in {HERE}/nginx/nginx.conf /etc/nginx",
                'customize-hook=rm -f "$1"/etc/nginx/conf.d/*',
            ],
            [
                "USER 101", "EXPOSE 8080", "STOPSIGNAL SIGQUIT",
                'CMD ["nginx", "-g", "daemon off;"]',
            ],
        ),
    ]  # fmt: skip
