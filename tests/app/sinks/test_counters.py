"""Every counter that a stage raises is a metric, with its whole value; and every metric of the table is raised."""

import ast
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from collecting import Publisher, Shell
from prometheus_client import CollectorRegistry
from records import SUBMITTED, Log, event, lifecycle, result
from streams import pack

import app.core
from app.conventions import (
    ADMISSIONS,
    HEARTBEAT_HEADER,
    JOBS,
    METRIC_PREFIX,
    POLICY_HEADER,
    REBASELINE_HEADER,
    RESULTS,
    SAMPLES,
)
from app.core.decode import Reason
from app.core.outcomes import Spending
from app.core.sli import COUNTERS, RUNS, SLIS, STREAMS
from app.core.streams import REFUSED
from app.sinks.metrics import StageCollector
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

CORE = Path(app.core.__file__).parent
#: Kinds of counters that are shown otherwise: the buckets are those of the histograms.
ELSEWHERE = {"bucket"}
PARTITIONS = 2


# -- from the source -----------------------------------------------------------------------------------------------


def first_texts(node, tree):
    """What the first element of a counter's key may be; a name stands for the tuples it is made of in its module."""
    match node:
        case ast.Tuple(elts=[ast.IfExp(body=ast.Constant(yes), orelse=ast.Constant(no)), *_]):
            return {yes, no}
        case ast.Tuple(elts=[ast.Constant("valid" | "bad"), ast.Constant(sli), *_]):
            return {sli}
        case ast.Tuple(elts=[ast.Constant(text), *_]):
            return {text}
    while isinstance(node, ast.Subscript):
        node = node.value
    names = {node.id} if isinstance(node, ast.Name) else set()
    found = set()
    for made in tree.body:
        target = (
            made.target
            if isinstance(made, ast.AnnAssign)
            else made.targets[0]
            if isinstance(made, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and target.id in names:
            for each in ast.walk(made):
                if isinstance(each, ast.Tuple) and isinstance(each.elts[0], ast.Constant):
                    found |= first_texts(each, tree)
    return found


def is_counters(node):
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lstrip("_") == "counters"


def raised(path):
    """(the line, what it may count) of every place where a module counts."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        match node:
            case ast.AugAssign(target=ast.Subscript(value=counters, slice=key)) if is_counters(counters):
                yield node.lineno, first_texts(key, tree)
            case ast.Call(func=ast.Attribute(value=counters, attr="judge"), args=[sli, *_]) if is_counters(counters):
                yield node.lineno, first_texts(ast.Tuple([sli]), tree)


#: What runs in the stream stage, and what in both; all else of the core counts in the run stage.
STAGES = {"streams.py": {STREAMS}, "output.py": {RUNS, STREAMS}}


def test_every_counter_of_the_source_is_in_the_table_at_its_stages_and_nothing_else_is():
    found = {}
    for path in sorted(CORE.glob("**/*.py")):
        for line, kinds in raised(path):
            assert kinds, (
                f"{path.name}:{line} counts under a key that this test cannot read: write its first element out"
            )
            for kind in kinds - ELSEWHERE:
                found.setdefault(kind, set()).update(STAGES.get(path.name, {RUNS}))
    # M9 is no counter: hours of spending may still be corrected.
    table = {sli.id: set(sli.stages) for sli in SLIS if sli.no_source is None and sli.id != "M9"}
    table |= {row.key: set(row.stages) for row in COUNTERS}
    assert found == table


def test_the_stream_stage_refuses_for_no_other_reasons_than_it_shows_at_zero():
    tree = ast.parse((CORE / "streams.py").read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Reason"
    }
    assert {Reason[name] for name in used} == set(REFUSED)


# -- at run time ---------------------------------------------------------------------------------------------------


class Driver:
    """Both stages of every partition; what the runs say reaches the streams."""

    def __init__(self, catalog, policy):
        self.shell = Shell(catalog, policy, PARTITIONS)
        self.logs = [Log(number) for number in range(PARTITIONS)]
        self.now = Log.START

    def stage(self, kind, partition):
        return self.shell.units[kind, partition].stage

    def put(self, topic, values, partition=0, headers=()):
        kind = STREAMS if topic == SAMPLES else RUNS
        batch = self.logs[partition].batch(topic, values, self.now, headers)
        for target, sample in self.stage(kind, partition).apply(batch).packs.items():
            self.put(SAMPLES, [msgspec.msgpack.encode(sample)], target)

    def beat(self, seconds, step=1.0):
        for _ in range(int(seconds / step)):
            self.now += step
            for topic in (JOBS, RESULTS, ADMISSIONS, SAMPLES):
                for partition in range(PARTITIONS):
                    self.put(topic, [b"{}"], partition, ((HEARTBEAT_HEADER, b"1"),))


def scenario(driver):
    """Traffic of every kind, everything that can be refused, and time enough for runs to close."""
    driver.beat(3)
    for seed, name in enumerate(SCENARIOS):
        traffic = Traffic(SCENARIOS[name], seed=seed, start=driver.now, rate=500)
        for message in traffic.runs(20):
            partition = sum(message.key) % PARTITIONS
            driver.put(message.topic, [message.value] * 2, partition, message.headers)
    driver.put(JOBS, [b"{", None, b'{"type": "x"}'])
    driver.put(RESULTS, [b"\xff"])
    driver.put(JOBS, [b"no bundle"], headers=((POLICY_HEADER, b"1"),))
    driver.put(ADMISSIONS, [b"{"])
    driver.put(SAMPLES, [b"\xc1", None], 1)
    driver.put(SAMPLES, [b"{}"], 1, ((REBASELINE_HEADER, b"1"),))
    driver.put(JOBS, lifecycle("run-x", at=driver.now, routed={"endpoint": "nowhere"}))
    driver.put(RESULTS, [result("run-x", at=driver.now, ideal_id="none")])
    driver.put(JOBS, [event("submitted", "run-y", at=driver.now, seq=50, **SUBMITTED | {"workload": "none"})])
    driver.put(JOBS, [event("fell_back", "run-y", at=driver.now, seq=1, reason="queue")])
    driver.beat(100)
    driver.put(JOBS, [event("review", "run-x", at=driver.now, seq=2, reviewer="r", verdict="upheld")])
    driver.beat(4_000, 50)


@pytest.fixture(scope="module")
def driven(catalog, policy):
    made = Driver(catalog, policy)
    scenario(made)
    registry = CollectorRegistry()
    registry.register(StageCollector(made.shell, Publisher(), lambda: {}, catalog, {"version": "1"}))
    return made, registry


def test_every_counter_of_both_stages_is_shown_with_its_value(driven):
    driver, registry = driven
    rows = {(side, sli.id): (sli.name + "_" + side, sli) for sli in SLIS for side in ("valid", "bad")}
    rows |= {(row.key,): (row.name, row) for row in COUNTERS}
    kinds = {RUNS: set(), STREAMS: set()}
    for (kind, partition), unit in driver.shell.units.items():
        for key, value in unit.stage.counters.items():
            if key[0] in ELSEWHERE or not value:
                continue
            prefix = key[:2] if key[0] in {"valid", "bad"} else key[:1]
            assert prefix in rows, f"nothing shows {key} = {value} of the stage {kind}"
            name, row = rows[prefix]
            labels = dict(zip(row.labels, key[len(prefix) :], strict=True), partition=str(partition))
            if len(row.stages) > 1:
                labels["stage"] = kind
            assert registry.get_sample_value(f"{METRIC_PREFIX}{name}_total", labels) == value, (kind, key)
            kinds[kind].add(prefix[-1])
    # The scenario is broad: most of what there is to count was counted.
    assert kinds[RUNS] >= {"M1", "M3", "M5", "M6", "rejected", "duplicate", "applied", "closed", "ended", "late"}
    assert kinds[STREAMS] >= {"M10", "rejected", "observed", "violation", "lost", "directive"}


def test_dead_letters_of_the_stream_stage_are_shown(driven):
    _, registry = driven

    def shown(reason, partition):
        labels = {"reason": reason, "stage": STREAMS, "partition": partition}
        return registry.get_sample_value("qethics_dead_letters_total", labels)

    assert [shown("malformed_json", partition) for partition in "01"] == [0, 3]


def test_a_broken_rule_is_counted_in_one_partition_and_is_at_zero_before(driven, policy):
    _, registry = driven
    (family,) = (each for each in registry.collect() if each.name == "qethics_policy_violations")
    shown = [sample.labels["rule"] for sample in family.samples]
    assert sorted(shown) == sorted(policy.rules), "each rule once, whatever the number of partitions"
    counted = sum(sample.value for sample in family.samples)
    assert counted > 0
    assert any(sample.value == 0 for sample in family.samples)


def test_no_series_is_shown_twice_whatever_stands_in_the_logs(catalog, policy):
    """A stream and a cost center live in one partition each; who writes to `samples` may say otherwise."""
    driver = Driver(catalog, policy)
    driver.beat(3)
    spending = [Spending(0, driver.now, "logistics", "quantum", 1_000_000, 2.0)]
    for partition in range(PARTITIONS):
        driver.put(SAMPLES, [msgspec.msgpack.encode(pack(0, [0.9] * 40, spending=spending))], partition)
    driver.beat(5)
    collector = StageCollector(driver.shell, Publisher(), lambda: {}, catalog, {"version": "1"})
    shown = Counter(
        (sample.name, *sorted(sample.labels.items())) for family in collector.collect() for sample in family.samples
    )
    assert [series for series, times in shown.items() if times > 1] == []
    center = ("cost_center", "logistics")
    assert ("qethics_spend_within_budget_valid", center, ("runtime", "quantum")) in shown
    assert ("qethics_fidelity_mean_ratio", ("backend", "ibm_fez"), ("workload", "route-planning")) in shown
