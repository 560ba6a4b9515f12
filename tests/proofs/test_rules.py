"""What pages, as Prometheus and Alertmanager themselves see it."""

import json

import pytest
from command import qethics

pytestmark = pytest.mark.once


def test_prometheus_and_alertmanager_take_every_file_and_every_rule_s_test_passes():
    done = qethics("rules", "check", "--json", timeout=900)
    checks = {each["what"]: (each["ok"], each["detail"]) for each in json.loads(done.stdout)["checks"]}
    assert checks == {
        "rules are those of the objectives": (True, "10 objectives"),
        "promtool check rules": (True, "0 findings"),
        "promtool check config": (True, "0 findings"),
        "promtool test rules": (True, "0 findings"),
        "amtool check-config": (True, "0 findings"),
    }
    assert done.returncode == 0
