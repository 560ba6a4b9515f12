"""The policy in force, and exemptions, through the run stage: a function of the log."""

import shutil
from contextlib import closing
from datetime import UTC, datetime
from types import SimpleNamespace

import msgspec
import pytest
from records import Log, lifecycle, result
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.conventions import JOBS, POLICY_HEADER, RESULTS
from app.core.exemptions import Exemption
from app.core.facts import Facts
from app.core.policy import Policy
from app.core.runs import RunStage
from app.policy.bundle import read_keys
from app.policy.bundles import Bundles
from app.policy.inline import Inline
from app.policy.trust import Revocations, Trust

PUT = ((POLICY_HEADER, b"1"),)
DAY = 86_400


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def make(tmp_path_factory, pair):
    """Bundles of the project's rules, with some modes or exemptions of their own."""

    def bundle(version, modes="{}", exemptions=()):
        directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path_factory.mktemp("rules") / "policies")
        governance = directory / "governance.yaml"
        governance.write_text(governance.read_text().replace("modes: {}", f"modes: {modes}"))
        (directory / "exemptions.yaml").write_text(msgspec.json.encode({"exemptions": exemptions}).decode())
        return built(directory, pair, version)

    return bundle


@pytest.fixture(scope="module")
def bundles(pair):
    found = Bundles(read_keys(pair.public))
    yield found
    found.close()


@pytest.fixture(scope="module")
def first(make, bundles):
    data = make(1)
    bundles.current = bundles.load(data)
    return data


class Bench:
    """A stage with its logs."""

    def __init__(self, catalog, policies, partition=0):
        self.stage, self.log, self.now = RunStage(catalog, policies, 1), Log(partition), Log.START
        self.outcomes = []

    def apply(self, batch):
        self.outcomes.append(self.stage.apply(batch))
        return self.outcomes[-1]

    def put(self, data):
        return self.apply(self.log.batch(JOBS, [data], self.now, PUT))

    def jobs(self, *values):
        return self.apply(self.log.batch(JOBS, values, self.now))

    def beat(self, to=None):
        self.now = self.now + 1 if to is None else to
        for topic in RunStage.topics:
            for batch in self.log.agreed(topic, self.now) if to else [self.log.heartbeat(topic, self.now)]:
                self.apply(batch)

    def alerts(self, name):
        return [alert for each in self.outcomes for alert in each.alerts if alert.name == name]


@pytest.fixture
def bench(catalog, bundles, first):
    made = Bench(catalog, bundles)
    made.beat()
    return made


def misrouted(run_id, **fields):
    return lifecycle(run_id, submitted={"sensitivity": "regulated", **fields}, routed={"endpoint": "nowhere"})[:3]


def test_events_are_judged_by_the_policy_that_is_in_force_at_their_place_in_the_log(bench, make):
    softer = make(2, modes="{approved_endpoint: warn}")
    before = bench.jobs(*misrouted("run-1")).violations
    assert bench.put(softer).dead_letters == []
    after = bench.jobs(*misrouted("run-2")).violations
    modes = [{each.rule: each.mode for each in found}["approved_endpoint"] for found in (before, after)]
    assert modes == ["enforce", "warn"]
    assert len({each.policy_revision for each in before}) == 1
    assert {each.policy_revision for each in after} == {bench.stage.policy.revision}
    assert before[0].policy_revision != after[0].policy_revision
    assert bench.stage.counters["policy", "activated"] == 1


def test_a_restored_stage_goes_on_with_the_policy_that_was_in_force(bench, make, catalog, bundles, first):
    bench.put(make(2, modes="{approved_endpoint: warn}"))
    restored = Bench(catalog, bundles)
    restored.stage.restore(bench.stage.snapshot())
    assert restored.stage.policy.digest == bench.stage.policy.digest
    restored.log.offsets = dict(bench.log.offsets)
    assert bench.jobs(*misrouted("run-1")).violations == restored.jobs(*misrouted("run-1")).violations


def test_an_older_or_damaged_bundle_in_the_log_changes_nothing_and_is_not_lost(bench, make):
    newest = make(3, modes="{approved_endpoint: warn}")
    bench.put(newest)
    revision = bench.stage.policy.revision
    for bad, why in (
        (make(2), "version 2 is not above 3"),
        (make(3), "version 3 is not above 3"),
        (newest[:-50], "it is not whole"),
        (b"", "it is not whole"),
    ):
        (letter,) = bench.put(bad).dead_letters
        assert letter.reason.value == "policy_refused"
        assert why in letter.detail
        assert letter.record.value == bad
    assert bench.stage.policy.revision == revision
    assert bench.stage.counters["policy", "refused"] == 4
    (alert,) = bench.alerts("PolicyBundleRefused")
    assert (alert.status, alert.labels) == ("firing", {"source": "jobs/0"})
    assert not bench.put(newest).dead_letters, "it is in force: every worker that does not know it yet says it again"
    bench.put(make(4))
    assert [each.status for each in bench.alerts("PolicyBundleRefused")] == ["firing", "resolved"]


def test_what_is_revoked_judges_nothing_from_then_on_and_a_lower_version_follows(catalog, pair, make, first):
    high = make(int(Log.START) + 80_000, modes="{approved_endpoint: dry_run}")
    with closing(Bundles(read_keys(pair.public))) as bundles:
        bench = Bench(catalog, bundles)
        bench.put(high)
        assert bench.jobs(*misrouted("run-1")).violations[0].mode == "dry_run"
        checkpoint = bench.stage.snapshot()
        bundles.go_by(Trust(bundles.trust.keys, Revocations(versions=(int(Log.START) + 80_000,))))
        (denied,) = {each.rule for each in bench.jobs(*misrouted("run-2")).violations}
        assert denied == "policy_error"
        assert "revoked" in bench.put(high).dead_letters[0].detail
        assert not bench.put(first).dead_letters
        assert "approved_endpoint" in {each.rule for each in bench.jobs(*misrouted("run-3")).violations}
        # A stage that is restored begins with what the file has, as one without a checkpoint.
        bundles.current = bundles.load(first)
        restored = Bench(catalog, bundles)
        restored.stage.restore(checkpoint)
        assert restored.stage.policy.pack.version == 1


def test_a_bundle_of_a_time_to_come_is_refused_in_the_log(bench, make):
    (letter,) = bench.put(make(2**53 - 1)).dead_letters
    assert "more than a day ahead" in letter.detail
    assert bench.stage.policy.pack.version == 1


def test_a_worker_without_keys_takes_no_bundle(catalog, policy, first):
    bench = Bench(catalog, policy)
    (letter,) = bench.put(first).dead_letters
    assert "QETHICS_POLICY_KEYS" in letter.detail
    assert bench.stage.policy is policy


# -- exemptions --------------------------------------------------------------------------------------------------------


def exemption(rule="approved_endpoint", days=30, **fields):
    return {
        "id": "EX-1",
        "rule": rule,
        "scope": {"run.workload": "route-planning", "routing.endpoint": "nowhere"},
        "owner": "logistics",
        "reason": "the contract is being signed",
        "approved_by": "board",
        "granted": stamp(Log.START),
        "expires": stamp(Log.START + days * DAY),
        **fields,
    }


def stamp(at):
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


def by_rule(outcomes, rule="approved_endpoint"):
    return [(each.mode, each.exemption) for each in outcomes.violations if each.rule == rule]


@pytest.fixture
def excused(catalog, bundles, make, first):
    bench = Bench(catalog, bundles)
    bench.put(make(2, exemptions=[exemption()]))
    bench.beat()
    return bench


def test_an_exempted_run_is_told_and_does_not_count_as_bad(excused):
    outcomes = excused.jobs(*misrouted("run-1", sensitivity="internal"))
    assert by_rule(outcomes) == [("exempt", "EX-1")]
    assert not [pack for pack in outcomes.packs.values() if pack.unauthorized]
    counters = excused.stage.counters
    assert counters["tolerated", "approved_endpoint", "exempt"] == 1
    assert not [pack for pack in outcomes.packs.values() if pack.broken]
    assert sum(value for key, value in counters.items() if key[:2] == ("bad", "M6")) == 0


@pytest.mark.parametrize("fields", [{"workload": "credit-scoring"}, {"workload": None}])
def test_an_exemption_is_for_its_scope_alone(excused, fields):
    outcomes = excused.jobs(*misrouted("run-1", **fields))
    assert by_rule(outcomes) == [("enforce", None)]


def test_an_exemption_is_from_its_rule_alone(excused):
    outcomes = excused.jobs(*misrouted("run-1", shots=1))
    assert by_rule(outcomes, "shots_range") == [("enforce", None)]


def test_an_exemption_ends_with_the_second_it_expires_in(excused):
    excused.beat(Log.START + 30 * DAY - 1)
    assert by_rule(excused.jobs(*misrouted("run-1"))) == [("exempt", "EX-1")]
    excused.beat(Log.START + 30 * DAY)
    assert by_rule(excused.jobs(*misrouted("run-2"))) == [("enforce", None)]


def test_a_backdated_event_gets_no_exemption_that_has_expired(excused):
    excused.beat(Log.START + 31 * DAY)
    late = lifecycle("run-1", at=Log.START + DAY, submitted={"sensitivity": "internal"}, routed={"endpoint": "nowhere"})
    assert by_rule(excused.jobs(*late[:3])) == [("enforce", None)]


def test_a_clock_that_goes_back_brings_no_exemption_back(excused):
    excused.beat(Log.START + 31 * DAY)
    excused.apply(excused.log.heartbeat(JOBS, Log.START + 29 * DAY))
    assert by_rule(excused.jobs(*misrouted("run-1"))) == [("enforce", None)]


def test_how_the_logs_are_interleaved_does_not_decide_what_is_exempted(catalog, bundles, make, first):
    data = make(2, exemptions=[exemption()])
    found = []
    for late in (RESULTS, None):
        bench = Bench(catalog, bundles)
        bench.put(data)
        bench.beat()
        for topic in RunStage.topics:
            if topic != late:
                for batch in bench.log.agreed(topic, Log.START + 31 * DAY):
                    bench.apply(batch)
        found.append(by_rule(bench.jobs(*misrouted("run-1"))))
    assert found == [[("enforce", None)]] * 2


def test_a_refusal_ends_after_a_while_or_with_the_bundle_in_force(bench, make):
    newest = make(3)
    bench.put(newest)
    bench.put(b"")
    bench.put(newest)
    assert [each.status for each in bench.alerts("PolicyBundleRefused")] == ["firing", "resolved"]
    bench.put(b"")
    bench.beat(bench.now + 901)
    assert [each.status for each in bench.alerts("PolicyBundleRefused")] == ["firing", "resolved"] * 2
    assert len({each.fingerprint for each in bench.alerts("PolicyBundleRefused")}) == 1


def test_before_the_log_has_a_time_nothing_is_exempted(catalog, bundles, make, first):
    bench = Bench(catalog, bundles)
    bench.put(make(2, exemptions=[exemption()]))
    assert by_rule(bench.jobs(*misrouted("run-1"))) == [("enforce", None)]


def test_an_exemption_is_reported_while_it_holds_and_when_it_expires(excused):
    (firing,) = excused.alerts("PolicyExemption")
    assert (firing.status, firing.severity) == ("firing", "info")
    assert firing.labels == {"exemption": "EX-1", "rule": "approved_endpoint", "owner": "logistics"}
    assert firing.notes["reason"] == "the contract is being signed"
    for _ in range(5):
        excused.beat()
    excused.beat(Log.START + 30 * DAY)
    _, resolved = excused.alerts("PolicyExemption")
    assert (resolved.status, resolved.fingerprint) == ("resolved", firing.fingerprint)
    assert "expired" in resolved.summary


def test_an_exemption_that_is_withdrawn_ends_with_the_bundle(excused, make):
    excused.put(make(3))
    excused.beat()
    assert [each.status for each in excused.alerts("PolicyExemption")] == ["firing", "resolved"]
    assert "withdrawn" in excused.alerts("PolicyExemption")[-1].summary
    assert by_rule(excused.jobs(*misrouted("run-1"))) == [("enforce", None)]


def test_of_all_partitions_one_reports_an_exemption(catalog, bundles, make, first):
    data = make(2, exemptions=[exemption()])
    said = []
    for partition in range(4):
        bench = Bench(catalog, bundles, partition)
        bench.stage = RunStage(catalog, bundles, 4)
        bench.put(data)
        bench.beat()
        bench.beat()
        said += bench.alerts("PolicyExemption")
    assert len(said) == 1


def test_how_a_run_ended_is_exempted_too(catalog, bundles, make, first):
    bench = Bench(catalog, bundles)
    bench.put(make(2, exemptions=[exemption("admitted_first", scope={"run.workload": "route-planning"})]))
    bench.beat()
    values = lifecycle("run-1")
    bench.jobs(values[0], *values[2:])
    bench.apply(bench.log.batch(RESULTS, [result("run-1")], bench.now))
    for _ in range(70):
        bench.beat()
    found = [each for one in bench.outcomes for each in one.violations if each.rule == "admitted_first"]
    assert [(each.mode, each.exemption) for each in found] == [("exempt", "EX-1")]


def test_an_exempted_run_is_still_a_good_one(catalog, bundles, make, first):
    bench = Bench(catalog, bundles)
    bench.put(make(2, exemptions=[exemption("shots_range", scope={"run.workload": "route-planning"})]))
    bench.beat()
    outcomes = bench.jobs(*lifecycle("run-1", submitted={"shots": 1})[:3])
    assert [(each.rule, each.mode) for each in outcomes.violations] == [("shots_range", "exempt")]
    assert bench.stage.counters["valid", "M5"] == 1
    assert bench.stage.counters["bad", "M5"] == 0


def test_a_policy_that_gives_no_decision_cannot_be_exempted(bundles, first):
    one = msgspec.convert({**exemption("policy_error"), "scope": {"run.workload": "w"}}, Exemption)
    pack = bundles.current.pack._replace(exemptions=(one,))
    broken = Policy(pack, Inline({"decision.rego": "package qethics\n"}, {}))
    verdict = broken.judge(Facts(("run",)))
    assert broken.exempted(verdict, SimpleNamespace(workload="w"), None, Log.START + 1).denies
