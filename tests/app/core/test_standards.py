"""What decides is the policy's: whatever the files of a worker say, the verdicts are those of the bundle in force."""

import shutil
from datetime import timedelta

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from records import SUBMITTED, Log, event, lifecycle, result
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY, load_catalog
from app.conventions import ADMISSIONS, JOBS, POLICY_HEADER, RESULTS, SAMPLES
from app.core.evidence import FIELDS
from app.core.policy import NONE
from app.core.runs import RunStage
from app.core.standards import STRICTEST, Standards
from app.core.streams import StreamStage
from app.policy import bundle
from app.policy.bundle import BundleError, read, read_keys
from app.policy.bundles import Bundles
from app.policy.pack import load_pack, load_tests

PUT = ((POLICY_HEADER, b"1"),)
SHIPPED = {name: yaml.safe_load((DEFAULT_DIRECTORY / name).read_text()) for name in ("catalog.yaml", "evidence.yaml")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def bundles(pair):
    found = Bundles(read_keys(pair.public))
    yield found
    found.close()


@pytest.fixture(scope="module")
def make(tmp_path_factory, pair):
    """Bundles of the project's rules, with a `catalog.yaml` or `evidence.yaml` of their own."""

    def bundle(version, **files):
        directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path_factory.mktemp("rules") / "policies")
        for name, content in files.items():
            (directory / f"{name}.yaml").write_text(yaml.safe_dump(content))
        return built(directory, pair, version)

    return bundle


class Bench:
    """Both stages of the one partition."""

    def __init__(self, catalog, policies):
        self.runs, self.streams = RunStage(catalog, policies, 1), StreamStage(catalog, 1)
        self.log, self.now = Log(), Log.START
        self.violations, self.evidence, self.directives = [], [], []
        self.beat(2)

    def put(self, topic, values, headers=()):
        self._apply(self.log.batch(topic, values, self.now, headers))

    def _apply(self, batch):
        outcomes = self.runs.apply(batch)
        self.violations += [(each.rule, each.reason) for each in outcomes.violations]
        self.evidence += [(each.run_id, each.complete, each.required) for each in outcomes.evidence]
        for pack in outcomes.packs.values():
            self._say(self.streams.apply(self.log.batch(SAMPLES, [msgspec.msgpack.encode(pack)], self.now)))

    def _say(self, outcomes):
        self.directives += [
            (type(each).__name__, each.directive, each.target)
            for each in outcomes.directives
            if each.directive == "freeze_offload"
        ]

    def beat(self, seconds):
        for _ in range(seconds):
            self.now += 1
            for topic in (JOBS, RESULTS, ADMISSIONS):
                self._apply(self.log.heartbeat(topic, self.now))
            self._say(self.streams.apply(self.log.heartbeat(SAMPLES, self.now)))

    def run(self, name, score=0.9, usd=1.25, **submitted):
        """A run that lacks nothing, with the score of its explanation and its price."""
        explanation = {"method": "shap", "digest": "sha256:x", "score": score}
        told = {"decision": {"explanation": explanation}, "cost": {"amount_usd": usd}}
        for each in lifecycle(name, at=self.now, submitted=submitted):
            self.put(JOBS, [each | told.get(each["type"], {})])
        self.put(RESULTS, [result(name, at=self.now)])

    def indicator(self, sli):
        return {key: value for key, value in self.runs.counters.items() if key[1:2] == (sli,)}

    @property
    def verdicts(self):
        indicators = [self.indicator(sli) for sli in ("M1", "M3", "M5", "M6")]
        money = {key: value for key, value in self.runs.counters.items() if key[0] in {"spend", "refund"}}
        said = self.violations, self.evidence, self.directives
        return (*indicators, money, self.streams.budget_hours(), *said)


def played(catalog, policies):
    bench = Bench(catalog, policies)
    bench.run("good")
    bench.run("badly-explained", score=0.3)
    bench.run("credit", score=0.7, workload="credit-scoring", tier="high", purpose="credit-decision")
    bench.run("small", workload="bid-pricing", tier="low", purpose="bidding", cost_center="marketing", score=0.4)
    bench.run("dear", usd=499.0)
    bench.put(JOBS, [event("submitted", "bare", at=bench.now, workload="ghz-5", tier="low"), event("failed", "bare")])
    bench.put(JOBS, [event("submitted", "estimated", at=bench.now, **{**SUBMITTED, "estimated_cost_usd": 45.0})])
    bench.run("over", usd=2.0)
    bench.beat(75)
    return bench.verdicts


names = st.sampled_from(FIELDS)
workload = st.fixed_dictionaries(
    {"tier": st.sampled_from(["low", "medium", "high"]), "explanation_floor": st.floats(0, 1)},
    optional={"synchronous": st.booleans(), "favourable": st.sampled_from(["approve", "deny"])},
).map(lambda found: {"purposes": ["anything"], **found})
centers = st.dictionaries(
    st.sampled_from([*SHIPPED["catalog.yaml"]["cost_centers"], "new"]),
    st.fixed_dictionaries({"hour_usd": st.floats(0, 1e9), "run_usd": st.floats(0, 1e9)}),
)
requirements = st.fixed_dictionaries({"always": st.lists(names, unique=True), "quantum": st.lists(names, unique=True)})


@pytest.fixture(scope="module")
def expected(catalog, make, bundles):
    """What is decided where the files of the worker are those that the bundle was made of."""
    bundles.current = bundles.load(make(1))
    return played(catalog, bundles)


@given(
    workloads=st.fixed_dictionaries({name: workload for name in SHIPPED["catalog.yaml"]["workloads"]}),
    cost_centers=centers,
    tiers=st.fixed_dictionaries(dict.fromkeys(["low", "medium", "high"], requirements)),
)
@settings(max_examples=40, deadline=timedelta(seconds=5))
def test_no_file_of_a_worker_changes_what_is_decided(
    tmp_path_factory, bundles, expected, workloads, cost_centers, tiers
):  # fmt: skip
    directory = tmp_path_factory.mktemp("worker") / "policies"
    shutil.copytree(DEFAULT_DIRECTORY, directory)
    said = SHIPPED["catalog.yaml"] | {"workloads": workloads, "cost_centers": cost_centers}
    (directory / "catalog.yaml").write_text(yaml.safe_dump(said))
    (directory / "evidence.yaml").write_text(yaml.safe_dump(SHIPPED["evidence.yaml"] | {"tiers": tiers}))
    assert played(load_catalog(directory), bundles) == expected


def test_the_scenario_meets_every_kind_of_decision(expected):
    m1, m3, *_, hours, violations, _, directives = expected
    assert m1["bad", "M1", "low"] > 0
    assert m1["valid", "M1", "medium"] > m1["bad", "M1", "medium"]
    assert m3["bad", "M3", "high"] == 1
    assert m3["valid", "M3", "medium"] > m3["bad", "M3", "medium"] > 0
    assert "explained" in {rule for rule, _ in violations}
    assert hours["logistics", "quantum"] == (1, 0)
    assert directives == [("Directive", "freeze_offload", "logistics")]


# -- what is in force is a function of the log -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def versions(make):
    """Three bundles: the second asks for less and has a budget of twice as much, the third one of a fifth."""

    def catalog_of(floor, hour_usd):
        said = msgspec.json.decode(msgspec.json.encode(SHIPPED["catalog.yaml"]))
        said["workloads"]["route-planning"]["explanation_floor"] = floor
        said["cost_centers"]["logistics"]["hour_usd"] = hour_usd
        return said

    tiers = SHIPPED["evidence.yaml"]["tiers"] | {"medium": {"always": ["workload"], "quantum": []}}
    less = SHIPPED["evidence.yaml"] | {"tiers": tiers}
    return make(1), make(2, catalog=catalog_of(0.4, 1000.0), evidence=less), make(3, catalog=catalog_of(0.4, 100.0))


@pytest.fixture
def bench(catalog, bundles, versions):
    bundles.current = NONE
    made = Bench(catalog, bundles)
    made.put(JOBS, versions[:1], PUT)
    return made


def test_floors_and_required_evidence_hold_from_their_place_in_the_log_on(bench, versions):
    for version in (None, versions[1]):
        if version is not None:
            bench.put(JOBS, [version], PUT)
        bench.run(f"run-{version is None}", score=0.5)
        bench.beat(75)
    assert bench.indicator("M3") == {("valid", "M3", "medium"): 2, ("bad", "M3", "medium"): 1}
    first, second = (required for _, _, required in bench.evidence)
    assert len(first) > 20
    assert second == ("workload",)


def test_a_budget_that_a_bundle_raises_ends_the_freeze_and_one_that_it_lowers_begins_it(bench, versions):
    bench.run("dear", usd=501.0)
    assert bench.directives == [("Directive", "freeze_offload", "logistics")]
    bench.put(JOBS, [versions[1]], PUT)
    bench.beat(2)
    assert bench.directives[1:] == [("Lifted", "freeze_offload", "logistics")]
    bench.put(JOBS, [versions[2]], PUT)
    assert bench.directives[2:] == [("Directive", "freeze_offload", "logistics")]
    assert bench.streams.budgets["logistics"] == 100.0


def test_budgets_are_part_of_the_state(bench, catalog):
    bench.run("some")
    restored = StreamStage(catalog, 1)
    restored.restore(bench.streams.snapshot())
    assert restored.budgets == bench.streams.budgets == {"lending": 500.0, "logistics": 500.0, "marketing": 500.0}


def test_without_a_policy_nothing_is_taken_for_the_better(catalog, bundles):
    bundles.current = NONE
    bench = Bench(catalog, bundles)
    bench.run("run", score=0.99)
    assert bench.indicator("M3") == {("valid", "M3", "medium"): 1, ("bad", "M3", "medium"): 1}
    bench.beat(75)
    (evidence,) = bench.evidence
    assert evidence == ("run", False, FIELDS)


# -- what a bundle must say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda data: data.pop("evidence"), "evidence"),
        (lambda data: data["evidence"].pop("low"), "evidence.low"),
        (lambda data: data["evidence"]["low"]["always"].append("none"), "'none'"),
        (lambda data: data["workloads"]["ghz-5"].pop("explanation_floor"), "explanation_floor"),
        (lambda data: data["workloads"]["ghz-5"].update(explanation_floor=-1), ">= 0"),
        (lambda data: data["cost_centers"]["lending"].pop("hour_usd"), "hour_usd"),
    ],
)
def test_a_bundle_that_does_not_say_what_decides_is_refused(edit, named):
    pack = load_pack(DEFAULT_DIRECTORY, 1)
    data = msgspec.json.decode(msgspec.json.encode(pack.data))
    edit(data)
    with pytest.raises(ValueError, match=named):
        Standards(data)


def test_a_bundle_of_an_older_version_is_refused_with_the_way_out(pair, bundles):
    pack = load_pack(DEFAULT_DIRECTORY, 1)
    old = pack._replace(data={key: value for key, value in pack.data.items() if key != "evidence"})
    data = bundle.write(old, load_tests(DEFAULT_DIRECTORY), bundle.read_private_key(pair.private))
    with pytest.raises(BundleError, match=r"missing required field `evidence`; build and sign it again"):
        read(data, read_keys(pair.public))
    # One in a checkpoint goes on, by the strictest.
    assert bundles.restore(data).standards is STRICTEST
