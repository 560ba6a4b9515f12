"""The pager, between a real broker and a real Alertmanager: no page is lost, and none is said twice."""

import asyncio
import json
import os
import signal
import tarfile
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import datetime

import pytest
import yaml
from command import qethics
from faulty import FaultyWay, Webhook
from paging import Setting, made, telling
from records import lifecycle, result

from app.broker import embedded_broker
from app.conventions import DIRECTIVES, INCIDENTS, JOBS, RESULTS, WATCHDOG_SILENT_ALERT
from app.core.evidence import instant
from app.paging.http import RUNBOOKS
from simulators.traffic import Message

pytestmark = [pytest.mark.once, pytest.mark.broker]

FULL = os.environ.get("PROVE", "full") == "full"
#: How long Alertmanager is away.
AWAY_SECONDS = 600 if FULL else 20
READ_AT = "qethics_pager_read_timestamp_seconds"


def test_no_page_is_lost_while_alertmanager_is_away_slow_broken_and_without_its_memory(setting, tmp_path):
    """What the issue asks for, in one go; the stream beside it goes on as if nothing was."""
    setting.start()
    await_ = setting.cluster.await_
    setting.say(made("Before"))
    await_(lambda: setting.firing() == ["Before"], 5, "a page arrives")

    setting.way.mode = "cut"
    began = time.monotonic()
    setting.say(made("WhileCut"), made("Over"), made("Over", "resolved"))
    time.sleep(AWAY_SECONDS)
    assert setting.firing() == ["Before"] if AWAY_SECONDS < 200 else True
    setting.way.mode = "open"
    away = f"after {time.monotonic() - began:.0f} s away"
    await_(lambda: setting.told("Over") and setting.told("Over", "resolved"), 20, f"what is over is told {away}")
    await_(lambda: setting.firing() == ["Before", "WhileCut"], 10, f"both {away}")

    setting.way.mode = "slow"
    setting.say(made("WhileSlow"))
    await_(lambda: setting.firing("WhileSlow"), 25, "through a way that takes ten seconds")

    setting.way.mode = 500
    setting.say(made("WhileBroken"), made("Before", "resolved"))
    time.sleep(5)
    assert not setting.firing("WhileBroken")
    setting.way.mode = "open"
    await_(lambda: setting.firing() == ["WhileBroken", "WhileCut", "WhileSlow"], 10, "after 500")

    # It is back without its memory: killed, its directory gone, another process on the same port.
    setting.server.stop()
    setting.server = telling(setting.webhook, tmp_path / "another", setting.server.port)
    await_(lambda: setting.firing() == ["WhileBroken", "WhileCut", "WhileSlow"], 65, "after losing its memory")

    for name in ("WhileBroken", "WhileCut", "WhileSlow"):
        setting.say(made(name, "resolved"))
    await_(lambda: setting.firing() == [], 10, "all resolved")
    await_(
        lambda: all(setting.told(name, "resolved") for name in ("WhileBroken", "WhileCut", "WhileSlow")), 20, "told so"
    )
    # One notification of each, and one more of those that the Alertmanager without memory could not know of.
    assert len(setting.told("Before")) == 1 or AWAY_SECONDS > 200
    for name in ("WhileBroken", "WhileCut", "WhileSlow"):
        assert 1 <= len(setting.told(name)) <= 2 + AWAY_SECONDS // 200, name


def test_a_page_that_fired_and_ended_while_alertmanager_was_away_is_told_when_it_is_back_and_once(setting, tmp_path):
    """The pager is killed as well: before the page ends, after it, and when it was told."""

    def killed():
        setting.pager.send(signal.SIGKILL)
        setting.pager.process.wait()
        setting.start()

    def alerts(status):
        return [each for told in setting.told("Short", status) for each in told["alerts"]]

    setting.start()
    setting.server.stop()
    now = time.time()
    for began in (now - 900, now - 600, now - 300):
        setting.say(made("Short", at=began))
        killed()
        setting.say(made("Short", "resolved", at=began + 60))
    killed()
    setting.server = telling(setting.webhook, tmp_path / "alertmanager", setting.server.port)
    setting.cluster.await_(lambda: alerts("resolved"), 40, "told that it is over")
    killed()
    time.sleep(10)
    ((fired,), (over,)) = alerts("firing"), alerts("resolved")
    times = [datetime.fromisoformat(each).timestamp() for each in (fired["startsAt"], over["startsAt"], over["endsAt"])]
    assert times == pytest.approx([now - 300, now - 300, now - 240], abs=0.01)
    assert "It fired 3 times since" in fired["annotations"]["description"]


def test_a_thousand_runs_that_go_where_they_may_not_are_one_notification(setting):
    setting.cluster.start()
    setting.cluster.await_ready()
    setting.start()
    began = time.time()
    jobs = [
        Message(0.0, JOBS, value["run_id"].encode(), json.dumps(value).encode())
        for number in range(1_000)
        for value in lifecycle(f"run-{number}", at=began - 10, routed={"provider": "aws-braket", "endpoint": "nowhere"})
        if value["type"] != "cost"  # what a thousand runs cost is another cause
    ]
    asyncio.run(setting.cluster.produce(jobs))
    await_ = setting.cluster.await_
    await_(lambda: setting.firing("UnauthorizedRouting"), 30, "the page")

    def page():
        (found,) = setting.server.get('/api/v2/alerts?filter=alertname="UnauthorizedRouting"')
        return found["annotations"]

    await_(lambda: "runs 1000" in page()["description"], 90, "the page counts every run")
    assert len(page()["runs"].split(",")) == 10
    groups = {(told["receiver"], told["groupKey"]) for told in setting.webhook.told if told["receiver"] != "deadman"}
    assert len(groups) == 1
    assert {receiver for receiver, _ in groups} == {"page"}


def test_a_device_is_one_notification_whatever_runs_on_it_and_what_is_a_workloads_alone_is_its_own(setting):
    setting.start()
    workloads = ("route-planning", "credit-scoring", "bidding")
    of_device = {"backend": "ibm_fez", "signal": "fidelity"}
    of_decisions = {"backend": "any", "signal": "decision"}
    setting.say(
        *[made("FidelityCollapse", labels={"workload": workload, **of_device}) for workload in workloads],
        *[made("DecisionDrift", labels={"workload": workload, **of_decisions}) for workload in workloads],
        *[made("ReplayDivergence", labels={"workload": workload}) for workload in workloads],
    )

    def told(name):
        """Notification -> the workloads it names."""
        alerts = [(each["groupKey"], alert) for each in setting.told(name) for alert in each["alerts"]]
        found = {key: set() for key, _ in alerts}
        for key, alert in alerts:
            if alert["labels"]["alertname"] == name:
                found[key].add(alert["labels"]["workload"])
        return sorted(map(sorted, found.values()))

    one_each = sorted([workload] for workload in workloads)
    setting.cluster.await_(lambda: told("FidelityCollapse") == [sorted(workloads)], 20, "the device once")
    setting.cluster.await_(lambda: told("DecisionDrift") == one_each, 20, "each workload's decisions")
    setting.cluster.await_(lambda: told("ReplayDivergence") == one_each, 20, "each workload's replays")


def test_an_alert_survives_kill_9_fires_on_and_resolves_once(setting):
    setting.start()
    await_ = setting.cluster.await_
    setting.say(made("Kept"), made("Ended"), made("Ended", "resolved"))
    await_(lambda: setting.told("Ended", "resolved"), 20, "however short, it is told")
    await_(lambda: setting.firing() == ["Kept"], 5, "fires")
    for _ in range(2):
        setting.pager.send(signal.SIGKILL)
        setting.pager.process.wait()
        setting.start()
        time.sleep(1)
        assert setting.firing() == ["Kept"]
    setting.say(made("Kept", "resolved"))
    await_(lambda: setting.told("Kept", "resolved"), 10, "told that it is over")
    setting.pager.send(signal.SIGKILL)
    setting.pager.process.wait()
    setting.start()
    time.sleep(5)
    assert setting.firing() == []
    assert len(setting.told("Kept", "resolved")) == 1
    assert len(setting.told("Kept")) == 1
    assert len(setting.told("Ended")) == len(setting.told("Ended", "resolved")) == 1


def test_one_malformed_alert_keeps_none_of_the_others(setting):
    setting.start()
    bad = made("Bad", labels={"backend": "ibm_fez", "x": "y" * 10})
    setting.say(
        b"{not json", b'{"alert_id": 1}', made("Good1", labels={"": "x", "a b": "c", "empty": ""}), bad, made("Good2")
    )
    setting.cluster.await_(lambda: setting.firing() == ["Bad", "Good1", "Good2"], 5, "all that can be read")
    assert setting.metric("qethics_pager_refused_total") == 0
    assert "qethics_pager_unreadable_total 2.0" in setting.pager.page("/metrics")


def test_a_pager_whose_broker_is_gone_lives_on_and_says_when_it_last_read(tmp_path):
    """What fires is sent all the same; that nothing new is heard is for the rule PagerStuck."""
    with FaultyWay("http://127.0.0.1:9") as way:
        with embedded_broker() as bootstrap:
            setting = Setting(bootstrap, tmp_path, way, None, None)
            setting.start()
            await_ = setting.cluster.await_
            first = setting.metric(READ_AT)
            assert time.time() - first < 15
            await_(lambda: setting.metric(READ_AT) > first, 25, "asked again, it has read everything")
        gone_at = time.time()
        try:
            await_(lambda: "are not to be had" in setting.pager.log.read_text(), 40, "it says so")
            assert setting.metric(READ_AT) < gone_at
            assert setting.pager.alive
            assert setting.pager.page("/healthz")
        finally:
            setting.pager.send(signal.SIGKILL)
            setting.pager.process.wait()


def test_every_alertmanager_is_told_and_one_that_is_away_keeps_nothing_from_the_other(setting, tmp_path):
    with Webhook() as webhook:
        other = telling(webhook, tmp_path / "other")
        try:
            both = f"{setting.way.url},{other.url}"
            setting.start(QETHICS_ALERTMANAGERS=both)

            def of_other():
                found = other.get("/api/v2/alerts?active=true")
                return sorted(each["labels"]["alertname"] for each in found if each["labels"]["severity"] != "none")

            await_ = setting.cluster.await_
            setting.say(made("Both"))
            await_(lambda: setting.firing() == of_other() == ["Both"], 5, "both are told")
            for mode in ("cut", "slow"):
                setting.way.mode = mode
                name = f"While{mode.title()}"
                setting.say(made(name))
                await_(lambda name=name: name in of_other(), 5, f"the other while one is {mode}")
            setting.way.mode = "open"
            await_(lambda: setting.firing() == ["Both", "WhileCut", "WhileSlow"], 30, "and the one, when it is back")
            assert len([each for each in webhook.told if each["receiver"] == "page"]) == 3
        finally:
            other.stop()


def test_a_silent_prometheus_pages_until_it_is_heard_of_again(setting):
    setting.start(QETHICS_WATCHDOG_SECONDS="3")

    def pages():
        return setting.server.get(f'/api/v2/alerts?active=true&filter=alertname="{WATCHDOG_SILENT_ALERT}"')

    await_ = setting.cluster.await_
    await_(pages, 10, "nobody has heard of it")
    await_(lambda: setting.told(WATCHDOG_SILENT_ALERT), 10, "somebody is told")
    assert pages()[0]["labels"]["severity"] == "page"
    # As Alertmanager tells the pager of the rule that always fires.
    told = {"status": "firing", "labels": {"alertname": "Watchdog", "severity": "none"}, "fingerprint": "f"}
    told |= {"startsAt": instant(time.time()), "endsAt": "0001-01-01T00:00:00Z"}
    heard = {"version": "4", "groupKey": "g", "receiver": "deadman", "alerts": [told]}

    def is_quiet():
        post(f"http://127.0.0.1:{setting.pager.port}/v1/alertmanager", heard)
        return not pages()

    await_(is_quiet, 10, "it is heard of")
    await_(lambda: setting.told(WATCHDOG_SILENT_ALERT, "resolved"), 15, "and told so")
    await_(pages, 15, "and is silent again")
    await_(lambda: len(setting.told(WATCHDOG_SILENT_ALERT)) == 2, 10, "which is told as well")
    # A pager that is started again says it before what the one before it said has ended.
    setting.pager.send(signal.SIGKILL)
    setting.pager.process.wait()
    setting.start(QETHICS_WATCHDOG_SECONDS="3")
    time.sleep(5)
    assert pages()
    assert len(setting.told(WATCHDOG_SILENT_ALERT, "resolved")) == 1


@pytest.mark.parametrize("status", [400, 413])
def test_an_alert_that_alertmanager_does_not_take_is_counted_and_the_rest_are_taken(setting, status):
    """An Alertmanager that reads names as 0.25 does refuses this; one by one, the rest are taken all the same.

    A proxy before it may find the whole too large.
    """
    setting.start()
    setting.way.mode = status
    setting.say(made("One"), made("Two"))
    setting.cluster.await_(lambda: setting.metric("qethics_pager_refused_total") >= 2, 10, "refused is counted")
    setting.way.mode = "open"
    setting.say(made("Three"))
    setting.cluster.await_(lambda: setting.firing("Three"), 5, "the next is taken")


def test_a_maintenance_window_silences_what_it_names_and_nothing_else(setting):
    path = setting.cluster.settings.policies / "alerting.yaml"
    window = {
        "id": "fez-cooling",
        "begins": instant(time.time() - 60),
        "ends": instant(time.time() + 3_600),
        "matchers": {"backend": "ibm_fez"},
        "reason": "cooling is serviced",
        "by": "jane",
    }
    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**document, "maintenance": [window]}))
    setting.start()
    await_ = setting.cluster.await_
    await_(lambda: len(setting.server.get("/api/v2/silences")) == 1, 10, "a silence")
    setting.say(made("Silenced", labels={"backend": "ibm_fez"}), made("Told", labels={"backend": "ibm_brisbane"}))
    await_(lambda: setting.firing() == ["Told"], 5, "one of two is active")
    await_(lambda: setting.told("Told"), 10, "one is told")
    assert not setting.told("Silenced")
    # Corrected, the old one silences no longer. That of another deployment is left alone.
    (ours,) = setting.server.get("/api/v2/silences")
    theirs = {"createdBy": "qethics of another", "comment": "theirs"} | {at: ours[at] for at in ("startsAt", "endsAt")}
    matchers = [{"name": "backend", "value": "ibm_torino", "isRegex": False, "isEqual": True}]
    post(f"{setting.server.url}/api/v2/silences", {**theirs, "matchers": matchers})
    setting.pager.send(signal.SIGTERM)
    setting.pager.process.wait()
    path.write_text(yaml.safe_dump({**document, "maintenance": [{**window, "matchers": {"backend": "ibm_brisbane"}}]}))
    setting.start()
    await_(lambda: setting.silenced() == ["ibm_brisbane", "ibm_torino"], 10, "the corrected one")
    # Taken back, it is silent no longer.
    setting.pager.send(signal.SIGTERM)
    setting.pager.process.wait()
    path.write_text(yaml.safe_dump({**document, "maintenance": []}))
    setting.start()
    await_(lambda: setting.firing() == ["Silenced", "Told"], 10, "both are active")
    assert setting.silenced() == ["ibm_torino"]


def test_incidents_are_opened_worked_on_and_measured_over_http_and_the_command_line(setting, tmp_path):
    setting.cluster.start()
    setting.cluster.await_ready()
    now = time.time()
    jobs = [Message(0.0, JOBS, value["run_id"].encode(), json.dumps(value).encode()) for value in lifecycle(at=now)]
    jobs.append(Message(0.0, RESULTS, b"run-1", json.dumps(result(at=now)).encode()))
    order = {"directive_id": "one", "directive": "fallback_classical", "target": "route-planning/ibm_fez"}
    order |= {"reason": "it collapses", "issued_at": instant(now), "expires_at": instant(now + 600)}
    jobs.append(Message(0.0, DIRECTIVES, b"fallback_classical/route-planning/ibm_fez", json.dumps(order).encode()))
    asyncio.run(setting.cluster.produce(jobs))
    worker = f"http://127.0.0.1:{setting.cluster.workers[0].port}"
    setting.start(QETHICS_WORKER_URLS=worker)
    await_ = setting.cluster.await_
    url = f"http://127.0.0.1:{setting.pager.port}"
    setting.say(made("FidelityCollapse", run_ids=("run-1", "run-2")))
    await_(lambda: setting.told("FidelityCollapse"), 10, "told")
    # What the receiver was sent is sent on to the pager: as Alertmanager would, repeated.
    for _ in range(3):
        post(f"{url}/v1/alertmanager", setting.told("FidelityCollapse")[0])
    listed = ask("list", "--open", pager=url)
    (one,) = listed["incidents"]
    incident_id = one["incident"]["incident_id"]
    assert (one["phase"], one["incident"]["severity"], listed["of"]) == ("detected", "page", 1)

    done = ask("acknowledge", incident_id, "--by", "jane", pager=url)
    assert done["phase"] == "acknowledged"
    ask("note", incident_id, "--by", "jane", "--text", "the cryostat warms up", pager=url)
    assert ask("mitigate", incident_id, "--by", "joe", pager=url)["incident"]["mitigated_by"] == "joe"
    setting.say(made("FidelityCollapse", "resolved"))
    await_(lambda: setting.told("FidelityCollapse", "resolved"), 10, "told that it is over")
    post(f"{url}/v1/alertmanager", setting.told("FidelityCollapse", "resolved")[0])
    await_(lambda: ask("show", incident_id, pager=url)["incident"]["evidence"], 40, "evidence")
    shown = ask("show", incident_id, pager=url)
    assert shown["phase"] == "resolved"
    assert "the cryostat warms up" in shown["incident"]["notes"][0]
    assert [row["n"] for row in ask("stats", pager=url)["seconds"]["page"].values()] == [1, 1, 1, 1]
    assert 'qethics_incident_resolution_valid_total{severity="page"} 1.0' in setting.pager.page("/metrics")

    page = setting.pager.page(f"/runs/run-1?at={now}", timeout=20)
    assert "Run run-1" in page
    assert page.count(f"{setting.cluster.settings.topic_prefix}") == 0, "topics are called by their short names"
    assert page.count(" jobs</th>") == 7
    assert page.count(" results</th>") == 1
    check_bundle(tmp_path / "data" / "incidents" / f"{incident_id}.tar.gz", worker)
    # All of it is in the topic: another pager knows it.
    setting.pager.send(signal.SIGKILL)
    setting.pager.process.wait()
    setting.start()
    assert ask("show", incident_id, pager=url) == shown
    acts = [act["act"] for act in asyncio.run(setting.cluster.values(INCIDENTS))]
    assert sorted(acts) == ["acknowledged", "captured", "mitigated", "noted", "opened", "resolved"]
    refused = qethics("incident", "show", "nothing", "--pager", url)
    assert refused.returncode == 2
    assert "no such incident" in refused.stderr


def check_bundle(path, worker):
    with tarfile.open(path) as archive:
        files = {name: archive.extractfile(name).read() for name in archive.getnames()}
    manifest = json.loads(files["manifest.json"])
    lacks = manifest["missing"]
    assert set(lacks) == {"metrics.json", "runs.json"}, "no Prometheus runs here, and that is said"
    assert lacks["runs.json"] == "nothing was found of run-2"
    runs = json.loads(files["runs.json"])
    topics = Counter(each["topic"].rpartition(".")[2] for each in runs["run-1"]["records"])
    assert (topics["jobs"], topics["results"]) == (7, 1)
    assert runs["run-1"]["is_whole"]
    assert runs["run-2"]["records"] == []
    assert json.loads(files["affected.json"])["is_whole"]
    assert [each["target"] for each in json.loads(files["directives.json"])] == ["route-planning/ibm_fez"]
    assert json.loads(json.loads(files["workers.json"])[worker])["build"]["policy_revision"]
    assert json.loads(json.loads(files["detectors.json"])[worker])[0]["snapshot"]
    assert "FidelityCollapse" in {each["labels"]["alertname"] for each in json.loads(files["alerts.json"])}


def post(url, document):
    body = json.dumps(document).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def ask(*arguments, pager):
    done = qethics("incident", *arguments, "--pager", pager, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_pager_s_pages_refuse_what_they_cannot_take(setting):
    setting.start()
    url = f"http://127.0.0.1:{setting.pager.port}/v1/alertmanager"
    for body, kind, status in (
        (b"{}", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"x" * (2**20 + 1), "application/json", 413),
        (b'{"version":"4","groupKey":"g","receiver":"r","alerts":[{"status":"firing","labels":{"severity":"page"},'
         b'"startsAt":"never","endsAt":"x","fingerprint":"f"}]}', "application/json", 400),
    ):  # fmt: skip
        request = urllib.request.Request(url, data=body, headers={"Content-Type": kind})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code == status
    for path in RUNBOOKS.glob("*.md"):
        assert f"# {path.stem}" in setting.pager.page(f"/runbooks/{path.stem}")
    assert setting.pager.page("/runbooks/Nothing") is None
    assert setting.pager.page("/runbooks/../settings") is None
    assert setting.pager.page("/healthz") == "ok\n"
