"""Decision records: what is in them, that nothing personal is, and that replaying one gives the same bytes."""

import json
import os
import shutil
from hashlib import sha256

import jsonschema
import msgspec
import pytest
from records import Log, event, lifecycle
from signing import built, key_pair

from app.catalog import DEFAULT_DIRECTORY
from app.cli import main
from app.contract import schema
from app.conventions import DECISIONS, JOBS, RESULTS
from app.core.evaluating import PolicyError
from app.core.policy import Policy
from app.core.replay import replayed
from app.core.runs import RunStage
from app.policy import bundle as bundles
from app.policy.evaluator import LABELS
from app.policy.inline import Inline
from app.policy.pack import load_pack
from app.sinks import decisions
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic


def written(catalog, policy, *values, beats=1):
    """The lines of the topic that some events lead to."""
    stage, log = RunStage(catalog, policy, 4), Log()
    for topic in RunStage.topics:
        stage.apply(log.heartbeat(topic, Log.START))
    found = list(decisions.SINK.lines(stage.apply(log.batch(JOBS, values))))
    for beat in range(beats):
        for topic in RunStage.topics:
            found += decisions.SINK.lines(stage.apply(log.heartbeat(topic, Log.START + 1 + beat)))
    return found


#: The bound says how many; the full number is that of the proof.
RECORDS = 10_000 if os.environ.get("PROVE") == "full" else 400

MISROUTED = lifecycle(submitted={"sensitivity": "internal"}, routed={"endpoint": "nowhere"})


def test_a_record_says_who_asked_what_and_which_rules_said_what(catalog, policy):
    (line,) = written(catalog, policy, *MISROUTED[:3])
    record = json.loads(line.value)
    assert line.key == b"run-1"
    assert (record["run_id"], record["requested_by"], record["path"]) == ("run-1", "test", "qethics/decision")
    assert record["bundles"]["qethics"]["digest"] == policy.digest
    assert record["labels"]["engine"].startswith("gordon-to-regorus ")
    assert record["input"]["routing"]["endpoint"] == "nowhere"
    assert record["result"]["allow"] is False
    assert {found["rule"] for found in record["result"]["violations"]} == {"approved_endpoint"}
    assert record["answer"] == "deny"
    jsonschema.validate(record, schema(DECISIONS))


def test_the_digest_is_that_of_the_input_in_the_record(catalog, policy):
    (line,) = written(catalog, policy, *MISROUTED[:3])
    record = msgspec.json.decode(line.value, type=dict[str, msgspec.Raw])
    assert msgspec.json.decode(record["input_digest"]) == sha256(record["input"]).hexdigest()


def test_a_verdict_that_finds_nothing_is_not_recorded(catalog, policy):
    assert written(catalog, policy, *lifecycle()[:3]) == []


def test_personal_data_is_masked_and_listed_as_masked(catalog, policy):
    (line,) = written(catalog, policy, event("failed", error="write to zoe@example.org or 4111 1111 1111 1111"))
    assert b"zoe" not in line.value
    assert b"4111" not in line.value
    record = json.loads(line.value)
    assert record["masked"] == ["/input/clear/0/text"]
    assert record["input"]["clear"] == [{"field": "error", "text": "xxxxx xx xxx@xxxxxxx.xxx xx 0000 0000 0000 0000"}]
    assert replayed(line.value, policy) == line.value


def test_what_a_run_declares_is_masked_too(catalog, policy):
    submitted = {"submitter": "zoe@example.org", "consent": {"granted": True, "scopes": ["zoe@example.org"]}}
    lines = written(catalog, policy, *lifecycle(submitted=submitted, routed={"endpoint": "at@example.org"})[:3])
    for line in lines:
        assert b"zoe" not in line.value
        assert b"at@" not in line.value
        assert replayed(line.value, policy) == line.value
    masked = {pointer for line in lines for pointer in json.loads(line.value)["masked"]}
    assert masked >= {"/input/run/submitter", "/input/run/consent", "/input/routing/endpoint", "/input/clear/0/text"}


def test_what_was_decided_without_a_decision_is_not_replayed(catalog, policy):
    def broken(document):
        raise PolicyError("too slow")

    line = written(catalog, Policy(policy.pack, broken), *MISROUTED[:3])[0]
    with pytest.raises(PolicyError, match="the rules gave no decision"):
        replayed(line.value, policy)


def test_records_of_runs_of_every_kind_replay_to_identical_bytes(catalog, policy):
    """Of runs of every kind, with their faults; and what is changed in one is seen."""
    faulty = {"misrouted_share": 0.6, "unencrypted_share": 0.6, "unexplained_share": 0.6}
    scenario = msgspec.structs.replace(SCENARIOS["steady"], **faulty)
    stage, log, lines = RunStage(catalog, policy, 1), Log(), []
    seed = 0
    while len(lines) < RECORDS:
        traffic = Traffic(scenario, seed=seed, start=Log.START, rate=1000)
        seed += 1
        values = {JOBS: [], RESULTS: []}
        for message in traffic.runs(1_000):
            values[message.topic].append(message.value)
        for topic, of_topic in values.items():
            lines += [line.value for line in decisions.SINK.lines(stage.apply(log.batch(topic, of_topic)))]
        lines += [line.value for line in decisions.SINK.lines(stage.finish())]
    assert all(replayed(line, policy) == line for line in lines)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("result", "allow"), True),
        (("result", "violations"), []),
        (("answer",), "allow"),
        (("exemptions",), ["EX-1"]),
        (("masked",), ["/input/run"]),
        (("labels", "engine"), "another 1.0"),
        (("bundles", "qethics", "version"), 9),
    ],
)
def test_a_record_that_was_changed_does_not_replay_to_itself(catalog, policy, path, value):
    (line,) = written(catalog, policy, *MISROUTED[:3])
    record = json.loads(line.value)
    part = record
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    changed = msgspec.json.encode(record)
    assert replayed(changed, policy) != changed


def test_other_rules_another_input_and_what_is_no_record_are_refused(catalog, policy):
    (line,) = written(catalog, policy, *MISROUTED[:3])
    other = Policy(policy.pack._replace(version=3), policy.evaluate)
    with pytest.raises(PolicyError, match="it was decided by revision"):
        replayed(line.value, other)
    with pytest.raises(PolicyError, match="not what its digest says"):
        replayed(line.value.replace(b'"nowhere"', b'"ibm-eu-de/quantum"', 1), policy)
    for bad in (b"", b"{}", b"[1]", line.value[:-9], line.value.replace(b'"2026', b'"abcd')):
        with pytest.raises(PolicyError, match="no decision record"):
            replayed(bad, policy)


def test_a_record_with_an_exemption_replays_by_its_own_time(catalog, tmp_path):
    directory = shutil.copytree(DEFAULT_DIRECTORY, tmp_path / "policies")
    (directory / "exemptions.yaml").write_text(
        json.dumps(
            {
                "exemptions": [
                    {
                        "id": "EX-1",
                        "rule": "approved_endpoint",
                        "scope": {"run.workload": "route-planning"},
                        "owner": "logistics",
                        "reason": "until the contract is signed",
                        "approved_by": "board",
                        "granted": "2026-09-01T00:00:00Z",
                        "expires": "2026-11-01T00:00:00Z",
                    }
                ]
            }
        )
    )
    pack = load_pack(directory)
    policy = Policy(pack, Inline(pack.modules, pack.data))
    (line,) = written(catalog, policy, *MISROUTED[:3])
    record = json.loads(line.value)
    assert (record["answer"], record["exemptions"]) == ("allow", ["EX-1"])
    assert record["result"]["allow"] is False
    assert replayed(line.value, policy) == line.value
    later = line.value.replace(record["timestamp"].encode(), b"2026-12-01T00:00:00Z")
    assert b'"answer":"deny"' in replayed(later, policy)


def test_the_end_of_a_run_is_recorded_too(catalog, policy):
    values = lifecycle()
    lines = written(catalog, policy, values[0], *values[2:], beats=70)
    assert [json.loads(line.value)["input"]["judging"] for line in lines] == [["outcome"]]
    assert all(replayed(line.value, policy) == line.value for line in lines)


def test_records_are_replayed_by_the_command(capsys, catalog, tmp_path):
    pair = key_pair(tmp_path)
    path, bundle = tmp_path / "decisions.jsonl", tmp_path / "bundle.tar.gz"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 5))
    pack = bundles.read(bundle.read_bytes(), bundles.read_keys(pair.public)).pack
    policy = Policy(pack, Inline(pack.modules, pack.data), labels=LABELS)
    (line,) = written(catalog, policy, *MISROUTED[:3])
    path.write_bytes(line.value + b"\n" + line.value.replace(b'"deny"', b'"allow"') + b"\n")

    def replay(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["policy", "replay", str(path), *map(str, arguments)])
        return ended.value.code, capsys.readouterr().out

    code, out = replay("--bundle", bundle, "--keys", pair.public, "--json")
    assert code == 1
    assert json.loads(out) == {
        "revision": policy.revision,
        "identical": 1,
        "different": [{"line": 2, "why": "decided differently"}],
    }
    assert replay("--bundle", bundle)[0] == 2
    code, out = replay()
    assert code == 1
    assert "it was decided by revision" in out
