"""Policy files: errors name file and key."""

import json
import re
import shutil

import pytest

from app.baselines import synthetic
from app.catalog import DEFAULT_DIRECTORY, load_catalog
from app.core.results import stream_key
from app.errors import SettingError
from app.policy.pack import load_pack, load_policy
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
        ("evidence.yaml", "seed, shots", "sede, shots", "evidence.medium"),
        ("evidence.yaml", "  high:", "  higher:", "evidence.high"),
        ("detectors.yaml", "detector: beta,", "detector: bete,", "watches.fidelity"),
        ("detectors.yaml", "{direction: down}", "{directoin: down}", "watches.fidelity"),
        ("detectors.yaml", "{direction: down}", "{direction: sideways}", "watches.fidelity"),
        ("detectors.yaml", "detector: beta,", "detector: beta_binomial,", "watches.fidelity"),
        ("detectors.yaml", "learn: 200}", "learn: 1}", "watches.error_rate"),
        ("detectors.yaml", "false_alerts_per_week: 2", "false_alerts_per_week: 0", "promise"),
        ("detectors.yaml", "false_alerts_per_week: 2", "false_alerts_per_week: .nan", "promise"),
        ("detectors.yaml", "share: 2", "share: .nan", "watches.fidelity"),
        ("detectors.yaml", "collapse: 0.1", "collapse: low", "promise.collapse"),
        ("catalog.yaml", "workloads:", "workloads: [", "catalog.yaml"),
    ],
)
def test_an_error_names_the_file_and_the_key(policies, file, old, new, named):
    change(policies / file, old, new)
    with pytest.raises(SettingError, match=file) as raised:
        load_catalog(policies), load_pack(policies)
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


def test_synthetic_baselines_can_be_put_into_the_file_and_are_what_is_then_simulated(policies):
    made = list(synthetic("route-planning", "ghz-5", "ibm_fez", shots=1000, jobs=400, seed=1))
    assert [entry["signal"] for entry in made] == ["fidelity", "error_rate"]
    again = list(synthetic("route-planning", "ghz-5", "ibm_fez", shots=1000, jobs=400, seed=2))
    for one, other in zip(made, again, strict=True):
        assert one["location"] == pytest.approx(other["location"], rel=0.05)
        assert one["spread"] == pytest.approx(other["spread"], rel=0.25)
    change(policies / "detectors.yaml", "baselines: []", f"baselines: {json.dumps(made)}")
    baselines = load_catalog(policies).baselines
    key = stream_key("route-planning", "ibm_fez")
    assert baselines[key, "fidelity", "beta"].kind == "synthetic"
    assert baselines[key, "fidelity", "beta"].location == made[0]["location"]
    with pytest.raises(SettingError, match="no circuit"):
        list(synthetic("w", "no-such", "ibm_fez", shots=1000, jobs=400, seed=1))
    with pytest.raises(SettingError, match="no calibration"):
        list(synthetic("w", "ghz-5", "no-such", shots=1000, jobs=400, seed=1))


GIVEN = {
    "workload": "route-planning", "backend": "ibm_fez", "signal": "fidelity", "detector": "beta", "location": 0.95,
    "spread": 0.01, "kind": "catalog", "source": "s",
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"location": 1.5}, "mean m between 0 and 1"),
        ({"location": 0.999, "spread": 0.01}, "nearer to its end watch the error rate"),
        ({"spread": -0.01}, "standard deviation"),
        ({"signal": "error_rate", "detector": "beta_binomial", "location": 0.0}, "rate p between 0 and 1"),
        ({"detector": "betting"}, "no model 'betting' watches 'fidelity'"),
        ({"signal": "queue_seconds"}, "watches 'queue_seconds'"),
        ({"workload": "no-such"}, "no 'no-such' on 'ibm_fez'"),
        ({"backend": "no-such"}, "on 'no-such'"),
    ],
)
def test_a_baseline_that_cannot_be_is_refused_with_its_place_in_the_file(policies, wrong, why):
    change(policies / "detectors.yaml", "baselines: []", f"baselines: {json.dumps([GIVEN, {**GIVEN, **wrong}])}")
    with pytest.raises(SettingError, match=re.escape(why)) as found:
        load_catalog(policies)
    assert "baselines[1]" in str(found.value)


def test_two_watches_whose_alerts_could_not_be_told_apart_are_refused(policies):
    line = "    - {detector: beta, parameters: {direction: down}, learn: 200, share: 2}\n"
    change(policies / "detectors.yaml", line, line + "    - {detector: beta, parameters: {direction: both}}\n")
    with pytest.raises(SettingError, match="beta is there twice"):
        load_catalog(policies)


@pytest.mark.parametrize(
    ("signal", "watch", "why"),
    [
        ("counts", "{detector: beta, parameters: {}}", "no detector 'beta'"),
        (
            "execution_seconds",
            "{detector: dirichlet_multinomial, parameters: {}}",
            "no detector 'dirichlet_multinomial'",
        ),
        ("counts", "{detector: dirichlet_multinomial, parameters: {}, learn: 5}", "learn >= 10"),
        ("execution_seconds", "{detector: gaussian, parameters: {}, grow: 10000000}", "at most 1,000,000"),
        ("execution_seconds", "{detector: beta_binomial, parameters: {}}", "takes counts"),
    ],
)
def test_a_watch_that_cannot_be_is_refused(policies, signal, watch, why):
    change(policies / "detectors.yaml", "  # The share of favourable", f"  {signal}:\n    - {watch}\n  # The share of")
    with pytest.raises(SettingError, match=why):
        load_catalog(policies)
