"""docker-compose.yml as Docker Compose reads it, and the configuration that it mounts as the real programs do."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from app.catalog import DEFAULT_DIRECTORY

pytestmark = pytest.mark.once

ROOT = DEFAULT_DIRECTORY.parent


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project that Docker Compose's own library makes of the file."""
    binary = tmp_path_factory.mktemp("compose") / "compose"
    go = shutil.which("go") or "/usr/local/go/bin/go"
    subprocess.run([go, "build", "-o", binary, "."], cwd=Path(__file__).parent.parent / "compose", check=True)
    done = subprocess.run([binary, ROOT / "docker-compose.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_docker_compose_takes_the_file(project):
    services = project["services"]
    assert len(services) == 13
    for name in ("worker-1", "worker-2"):
        assert services[name]["command"] == ["worker"]
        assert services[name]["healthcheck"]["test"][0] == "CMD"
        assert services[name]["depends_on"]["topics"]["condition"] == "service_completed_successfully"
    for one in services.values():
        for port in one.get("ports", []):
            assert port["host_ip"] == "127.0.0.1"
        for volume in one.get("volumes", []):
            assert volume["type"] != "bind" or Path(volume["source"]).exists()


def test_prometheus_and_alertmanager_take_what_is_mounted(tmp_path):
    shutil.copytree(ROOT / "deploy/prometheus/rules", tmp_path / "rules")
    programs = {"prometheus.yaml": ("promtool", "check", "config"), "alertmanager.yaml": ("amtool", "check-config")}
    for name, program in programs.items():
        path = Path(shutil.copy(ROOT / "deploy/compose" / name, tmp_path))
        done = subprocess.run([*program, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_steps_of_the_image_make_something_that_runs(tmp_path):
    """What the Dockerfile's build stage does, in a directory of its own."""
    home, venv = tmp_path / "qethics", tmp_path / "venv"
    home.mkdir()
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                into = home / (source if target != "./" else Path(source).name)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, into, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, into)

    def run(*command):
        done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("python3", "-m", "venv", venv)
    run(venv / "bin/pip", "install", "--quiet", "--require-hashes", "-r", "requirements-runtime.lock")
    run(venv / "bin/pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", ".")
    run(venv / "bin/pip", "uninstall", "--quiet", "--yes", "setuptools", "pip")
    assert run(venv / "bin/qethics", "--version").startswith("qethics ")
    # The catalog, the rules, the runbooks and the libraries are all found.
    program = (
        "import app.main, app.admission.service, app.paging.service, simulators.traffic;"
        "from app.policy.pack import load_policy; from app.catalog import load_catalog;"
        "from app.paging.http import RUNBOOKS;"
        "load_catalog(); print(len(load_policy().rules), len(list(RUNBOOKS.glob('*.md'))))"
    )
    rules, runbooks = map(int, run(venv / "bin/python", "-c", program).split())
    assert rules >= 20
    assert runbooks >= 40
