"""docker-compose.yml, the Dockerfile and what they mount: as far as it can be seen without an engine."""

import importlib.util
import json
import re

import pytest
import yaml

from app.catalog import DEFAULT_DIRECTORY

ROOT = DEFAULT_DIRECTORY.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
each_service = pytest.mark.parametrize("name", SERVICES)
#: Nothing in these images can ask, or they end by themselves.
NOT_WATCHED = {"tempo", "otel-collector", "topics", "s3-bucket", "load"}


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("compose_build", ROOT / "deploy/compose/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_everything_is_there_with_two_workers():
    wanted = {"kafka", "worker-1", "worker-2", "pager", "load", "prometheus", "alertmanager", "grafana", "tempo"}
    assert wanted | {"otel-collector", "s3"} <= set(SERVICES)


@each_service
def test_an_image_has_an_exact_version(name):
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?", SERVICES[name]["image"])


@each_service
def test_what_is_published_is_published_on_loopback_alone(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@each_service
def test_a_service_is_watched(name):
    assert ("healthcheck" in SERVICES[name]) == (name not in NOT_WATCHED)


@each_service
def test_every_mounted_path_and_volume_exists(name):
    for volume in SERVICES[name].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert volume.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


@each_service
def test_no_secret_is_written_down(name):
    for variable, value in SERVICES[name].get("environment", {}).items():
        assert not re.search("password|secret|token|key", variable, re.I) or value in {"true", "false"}, variable


def test_nobody_can_log_in_to_grafana_with_a_default_password():
    found = SERVICES["grafana"]["environment"]
    assert found["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert found["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert found["GF_AUTH_BASIC_ENABLED"] == "false"


def test_every_setting_is_one_and_every_command_exists():
    from app.cli import _parser  # noqa: PLC0415 - the command line is what is asked
    from app.settings import load  # noqa: PLC0415

    ours = {name: one for name, one in SERVICES.items() if one["image"].startswith("qethics:")}
    for name, one in ours.items():
        _parser().parse_args(one["command"])
        load({key: str(value) for key, value in one["environment"].items()})
        assert one["read_only"], name
        assert one["cap_drop"] == ["ALL"]


def test_the_configuration_is_that_of_the_shipped_files(build):
    assert build.main(["--check"]) == 0


def test_prometheus_scrapes_who_is_there():
    config = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())
    targets = [target for job in config["scrape_configs"] for of in job["static_configs"] for target in of["targets"]]
    targets += config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    assert sorted(targets) == ["alertmanager:9093", "pager:6068", "worker-1:6066", "worker-2:6066"]
    assert {target.split(":")[0] for target in targets} <= set(SERVICES)


def test_the_key_of_the_store_is_made_once_and_is_no_default(build, tmp_path):
    one, other = tmp_path / "a" / "s3.json", tmp_path / "b" / "s3.json"
    assert build.make_key(one)
    assert build.make_key(other)
    assert one.parent.stat().st_mode & 0o077 == 0
    keys = [json.loads(path.read_text())["identities"][0]["credentials"][0]["secretKey"] for path in (one, other)]
    assert keys[0] != keys[1]
    assert min(map(len, keys)) >= 40
    assert not build.make_key(one)


def instructions():
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_is_pinned_not_root_and_copies_what_exists():
    for word, rest in instructions():
        if word == "FROM":
            assert re.match(r"python:\d+\.\d+\.\d+-slim-\w+( AS build)?$", rest)
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
    assert [rest for word, rest in instructions() if word == "USER"] == ["10001:10001"]


def test_what_the_image_installs_is_what_the_project_needs_by_hash():
    import tomllib  # noqa: PLC0415

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "requirements-runtime.lock").read_text()
    assert "://" not in re.sub(r"#.*", "", lock), "no registry is named"
    for needed in [*project["dependencies"], *project["optional-dependencies"]["image"]]:
        name = re.split(r"[^\w.-]", needed)[0]
        assert re.search(rf"(?m)^{re.escape(name)}==", lock), name
    assert "pytest" not in lock
    for extra in project["optional-dependencies"]["demo"]:
        assert re.split(r"[^\w.-]", extra)[0] not in lock, "the embedded broker is for demo, dev and tests"


def test_what_listens_beyond_loopback_says_so_and_knows_the_names_it_is_asked_by():
    ours = {name: one["environment"] for name, one in SERVICES.items() if one["image"].startswith("qethics:")}
    assert all(one["QETHICS_INSECURE_LISTEN"] == "true" for one in ours.values())
    asked = {"worker-1", "worker-2", "pager"}
    assert all(asked <= set(one["QETHICS_ALLOWED_HOSTS"].split(",")) for one in ours.values())
