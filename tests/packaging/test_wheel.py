"""The wheel in an empty environment: ``orch`` works, away from the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Orch, open_folder

ROOT = Path(__file__).parents[2]
_NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "site", "secrets", "secret.yaml"
)
_LICENSE = "Apache License"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.strip()


@dataclass
class Installed(Orch):
    """The command of an environment that has the wheel, run in a folder that is not ours."""

    folder: Path = Path("/")

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        del environment["PYTHONPATH"]
        return environment

    def command(self, *arguments: str) -> list[str]:
        return [str(self.folder / "bin" / "orch"), *arguments]

    def python(self, *arguments: str) -> str:
        return subprocess.run(
            [str(self.folder / "bin" / "python"), *arguments], env=self.environment,
            cwd=self.home, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files alone, as an archive of it has them."""
    return Path(
        shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "orch", ignore=_NOT_SOURCE)
    )


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps",
        "--no-index", "--disable-pip-version-check", "--wheel-dir", "dist", ".", cwd=source,
        SETUPTOOLS_SCM_PRETEND_VERSION_FOR_OPTUNA_ORCHESTRATOR="7.8.9.post1.dev2+g0123abc",
    )  # fmt: skip
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Installed]:
    """An environment with the wheel and what it depends on, and without the repository.

    The dependencies are those of the environment that runs the tests: a path in a .pth file brings
    the packages there, but no .pth of theirs, and so not an editable repository.
    """
    with open_folder() as folder:
        environment, home = folder / "environment", folder / "home"
        home.mkdir()
        run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
        (packages,) = environment.glob("lib/python*/site-packages")
        borrowed = [path for path in sys.path if path.endswith("-packages")]
        (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
        run(
            sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install",
            "--quiet", "--no-deps", "--no-index", "--ignore-installed",
            "--disable-pip-version-check", wheel, cwd=folder,
        )  # fmt: skip
        yield Installed(home, folder=environment)
        run(environment / "bin" / "orch", "db", "stop", cwd=folder, ORCH_HOME=str(home))


def test_the_wheel_contains_every_package_file_and_example(source: Path, wheel: Path) -> None:
    carried = set(zipfile.ZipFile(wheel).namelist())
    packages = {
        str(path.relative_to(source)).replace("objectives/", "orchestrator/_objectives/")
        for package in ("orchestrator", "objectives")
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert packages - carried == set()
    assert "orchestrator/py.typed" in carried
    for example in (source / "examples").iterdir():
        assert [name for name in carried if name.endswith(f"share/orch/examples/{example.name}")]
    (license_,) = (name for name in carried if name.endswith("licenses/LICENSE"))
    assert _LICENSE in zipfile.ZipFile(wheel).read(license_).decode()
    # Whatever else were there would lie beside other packages' files.
    assert {name.split("/")[0].split("-")[0] for name in carried} == {
        "orchestrator", "optuna_orchestrator",
    }  # fmt: skip


def test_the_installed_command_prints_its_version_and_is_not_the_checkouts(
    installed: Installed,
) -> None:
    line = installed.ok("--version").strip()
    python = ".".join(map(str, sys.version_info[:3]))
    assert line == f"orch 7.8.9.post1.dev2+g0123abc (Python {python}, Optuna {version('optuna')})"
    assert installed.python("-m", "orchestrator", "--version") == line
    where = installed.python("-c", "import orchestrator; print(orchestrator.__path__)")
    assert str(installed.folder) in where and str(ROOT) not in where


def test_a_study_runs_and_is_reported(installed: Installed) -> None:
    assert "Create or resume a study" in installed.ok("--help")
    installed.ok("db", "start")
    installed.ok("run", "quadratic", "--trials", "4", "--workers", "1")
    page = installed.home / "report.html"
    installed.ok("report", "quadratic", "--format", "html", "--out", str(page))
    assert "quadratic" in page.read_text() and "<style>" in page.read_text()
    assert "kind: Job" in installed.ok(
        "launch", "kubernetes", "quadratic", "--workers", "2", "--image", "orch:1", "--dry-run"
    )
    # Workers of the commits after a release are not refused for that.
    pins = installed.python(
        "-c",
        "from orchestrator.resolve.pins import software_of; print(software_of('digits')['orch'])",
    )
    assert pins == "7.8.9"


def test_a_users_own_objectives_py_is_imported(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    objective = "from orchestrator.objective import Trial\ndef f(trial: Trial): return 1.0\n"
    (tmp_path / "objectives.py").write_text(objective)
    (tmp_path / "orchestrator.py").write_text("raise RuntimeError('nobody imports this')\n")
    installed.ok("run", "objectives:f", "--study", "mine", "--trials", "2", "--workers", "1")
    installed.ok("run", "quadratic", "--study", "ours", "--trials", "2", "--workers", "1")


def test_an_example_of_the_wheel_is_found_where_the_page_says(installed: Installed) -> None:
    folder = installed.python("-c", "import sysconfig; print(sysconfig.get_path('data'))")
    file = f"{folder}/share/orch/examples/hparams.toml"
    installed.ok("create", "hparams", "--spec", file, "--data", "digits")
    assert "grid" in installed.ok("show", "hparams")


def test_the_version_comes_from_the_tag_or_the_fallback(source: Path, tmp_path: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    root = tmp_path / "orch"
    root.mkdir()
    shutil.copy(source / "pyproject.toml", root)

    def git(*words: str) -> None:
        run("git", "-c", "user.name=t", "-c", "user.email=t", *words, cwd=root)

    def named() -> str:
        return run(sys.executable, "-m", "setuptools_scm", cwd=root)

    fallback = named()
    assert fallback == changelog_version()
    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")
    assert named().startswith(f"{fallback}.post1.dev1+g")
    git("tag", "v7.8.9")
    assert named() == "7.8.9"
    git("commit", "--quiet", "--allow-empty", "--message", "two")
    assert named().startswith("7.8.9.post1.dev1+g")


def changelog_version() -> str:
    """The version of the newest part of the changelog."""
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    heading = next(line for line in lines if line.startswith("## ["))
    return heading.removeprefix("## [").partition("]")[0]
