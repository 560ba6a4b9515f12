"""Policy files: errors name file and key."""

import shutil

import pytest

from app.catalog import DEFAULT_DIRECTORY, load_catalog, load_policy
from app.errors import SettingError
from simulators.physics import CIRCUITS, ideal


@pytest.fixture
def policies(tmp_path):
    return shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "policies")


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("catalog.yaml", "explanation_floor: 0.8", "explanation_floor: high", "workloads"),
        ("catalog.yaml", "providers:", "provider:", "provider"),
        ("catalog.yaml", '"00000": 0.5', '"00000": 0.6', "ideals.ghz-5"),
        ("evidence.yaml", "seed, shots", "sede, shots", "tiers.medium"),
        ("evidence.yaml", "  high:", "  higher:", "tiers.high"),
        ("detectors.yaml", "detector: beta,", "detector: bete,", "watches.fidelity"),
        ("detectors.yaml", "{direction: down}", "{directoin: down}", "watches.fidelity"),
        ("detectors.yaml", "{direction: down}", "{direction: sideways}", "watches.fidelity"),
        ("detectors.yaml", "detector: beta,", "detector: beta_binomial,", "watches.fidelity"),
        ("detectors.yaml", "learn: 200}", "learn: 1}", "watches.error_rate"),
        ("detectors.yaml", "false_alerts_per_week: 2", "false_alerts_per_week: 0", "promise"),
        ("detectors.yaml", "collapse: 0.1", "collapse: low", "promise.collapse"),
        ("catalog.yaml", "workloads:", "workloads: [", "catalog.yaml"),
    ],
)
def test_an_error_names_the_file_and_the_key(policies, file, old, new, named):
    change(policies / file, old, new)
    with pytest.raises(SettingError, match=file) as raised:
        load_catalog(policies)
    assert named in str(raised.value)


def test_a_missing_file_is_named(policies):
    (policies / "evidence.yaml").unlink()
    with pytest.raises(SettingError, match=r"evidence\.yaml"):
        load_catalog(policies)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("rules/approved_endpoint.rego", "# METADATA\n", ""),
        ("rules/approved_endpoint.rego", "#   owner: platform\n", ""),
        ("rules/approved_endpoint.rego", "deny contains", "deny contians"),
        ("endpoints.yaml", "region: eu-de", "regoin: eu-de"),
    ],
)
def test_a_rule_or_its_data_that_cannot_be_used_is_refused(policies, file, old, new):
    change(policies / file, old, new)
    with pytest.raises(SettingError):
        load_policy(policies)


def test_the_revision_names_rules_and_data(policies):
    before = load_policy(policies).revision
    assert before == load_policy(policies).revision
    change(policies / "endpoints.yaml", "[public, internal]", "[public]")
    assert before != load_policy(policies).revision


@pytest.mark.parametrize("name", CIRCUITS)
def test_the_ideals_of_the_catalog_are_those_of_the_physics(catalog, name):
    assert dict(catalog.ideals[name].terms) == pytest.approx(ideal(name), abs=1e-12)
