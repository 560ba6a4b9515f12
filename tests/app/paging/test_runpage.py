"""The page of a run, over HTTP."""

import asyncio
import base64
import html
import time

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry
from records import Log, lifecycle, result

from app.conventions import JOBS, RESULTS
from app.core.incidents import Incidents
from app.core.runs import RunStage
from app.errors import EnvironmentFault
from app.paging.desk import Desk
from app.paging.http import application
from app.paging.records import Records
from app.paging.runpage import BACK_SECONDS, RunPages


@pytest.fixture(scope="module")
def records(catalog, policy):
    """What stands in the topics about a run that was sent where it may not go, with markup in a field."""
    stage, log = RunStage(catalog, policy, 4), Log()
    stage.apply(log.heartbeat(JOBS, Log.START))
    jobs = log.batch(JOBS, lifecycle("run-1", submitted={"purpose": "<script>"}, routed={"endpoint": "nowhere"}))
    found = stage.apply(jobs)
    stage.apply(log.batch(RESULTS, [result("run-1")]))
    values = [("jobs", record.value) for record in jobs.records]
    values += [("violations", msgspec.json.encode(each)) for each in found.violations]
    values += [("evidence", msgspec.json.encode(each)) for each in stage.finish().evidence]
    return [
        {"topic": f"t.{topic}", "partition": 0, "offset": offset, "at": f"2026-09-21T00:00:{offset:02}Z",
         "value": value.decode()}
        for offset, (topic, value) in enumerate(values)
    ]  # fmt: skip


def ask(path, find, token=None, headers=None):
    """What is answered at a path, and what was looked for."""
    looked = []

    async def found(run_id, since, until):
        looked.append((run_id, since, until))
        given = await find()
        return given if isinstance(given, Records) else Records([dict(record) for record in given])

    async def asked():
        pages = RunPages(found, "http://grafana:3000", "t.")
        app = application(Desk(Incidents(), None, None), CollectorRegistry(), token, lambda: True, pages)
        async with TestClient(TestServer(app)) as client:
            answer = await client.get(path, headers=headers or {})
            return answer.status, await answer.text()

    return *asyncio.run(asked()), looked


def giving(records):
    async def find():
        return records

    return find


def raising(error):
    async def find():
        raise error

    return find


def test_the_page_has_evidence_what_is_missing_what_was_broken_and_every_record(records):
    status, text, looked = ask("/runs/run-1", giving(records))
    assert status == 200
    assert looked[0][0] == "run-1"
    assert time.time() - looked[0][1] == pytest.approx(BACK_SECONDS, abs=5)
    assert "a rule was broken" in text
    assert "approved_endpoint" in text
    assert "sha256:c" in text
    assert "no traceparent arrived" in text
    assert "http://grafana:3000/d/qethics-debug?var-run=run-1" in text
    assert text.count("<th>2026-") == len(records)
    assert "<script>" not in text
    assert html.escape("<script>") in text


def test_programs_get_the_records(records):
    status, text, _ = ask("/v1/runs/run-1", giving(records))
    found = msgspec.json.decode(text)
    assert status == 200
    assert found["run_id"] == "run-1"
    assert [each["topic"] for each in found["records"]][-1] == "evidence"


@pytest.mark.parametrize("at", ["1790000000", "1790000000000"])
def test_a_time_is_looked_at_in_seconds_or_milliseconds(records, at):
    _, _, looked = ask(f"/runs/run-1?at={at}", giving(records))
    assert looked[0][1:] == (1_790_000_000 - 120, 1_790_000_000 + 3_600)


@pytest.mark.parametrize("at", ["soon", "2026-11-22 12:00:00", "-1", "nan", "inf", "99999999999999999"])
def test_a_time_that_is_none_is_refused(records, at):
    status, text, looked = ask(f"/runs/run-1?at={at}", giving(records))
    assert (status, looked) == (400, [])
    assert "?at=SECONDS" in text


def test_what_is_not_whole_says_so(records):
    _, text, _ = ask("/runs/run-1", giving(Records(records, left_out=7)))
    assert "7 more records are left out" in text
    _, text, _ = ask("/runs/run-1", giving(Records(records, is_whole=False)))
    assert "may not be all" in text
    _, text, _ = ask("/v1/runs/run-1", giving(Records(records, is_whole=False)))
    assert msgspec.json.decode(text)["is_whole"] is False


def test_so_many_are_read_at_once_and_no_more(records):
    async def asked():
        may_end = asyncio.Event()

        async def found(run_id, since, until):
            await may_end.wait()
            return Records([dict(record) for record in records])

        pages = RunPages(found, "", "t.")
        app = application(Desk(Incidents(), None, None), CollectorRegistry(), None, lambda: True, pages)
        async with TestClient(TestServer(app)) as client:
            waiting = [asyncio.ensure_future(client.get("/runs/run-1")) for _ in range(2)]
            while pages._reading < 2:
                await asyncio.sleep(0)
            refused = await client.get("/runs/run-1")
            may_end.set()
            return refused.status, [(await one).status for one in waiting], (await client.get("/runs/run-1")).status

    assert asyncio.run(asked()) == (429, [200, 200], 200)


def test_an_open_run_has_no_evidence_yet(records):
    _, text, _ = ask("/runs/run-1", giving(records[:2]))
    assert "It is not closed" in text


@pytest.mark.parametrize(
    ("find", "status", "said"),
    [
        (giving([]), 404, "nothing was said of it between"),
        (giving(Records(is_whole=False)), 504, "?at=SECONDS"),
        (raising(EnvironmentFault("no broker", "start it")), 503, "no broker"),
    ],
)
def test_what_cannot_be_shown_says_why_and_what_to_do(find, status, said):
    answered, text, _ = ask("/runs/run-1", find)
    assert answered == status
    assert said in text


def test_a_run_id_that_is_too_long_is_refused():
    assert ask("/runs/" + "x" * 300, giving([]))[0] == 400


@pytest.mark.parametrize("path", ["/runs/run-1", "/v1/runs/run-1"])
def test_with_a_token_nobody_sees_a_run_without_it(records, path):
    assert ask(path, giving(records), token=b"secret")[0] == 401
    assert ask(path, giving(records), token=b"secret", headers={"Authorization": "Bearer secret"})[0] == 200
    assert ask(path, giving(records), token=b"secret", headers={"Authorization": "Bearer other"})[0] == 401


@pytest.mark.parametrize(
    ("given", "status"), [("jane:secret", 200), (":secret", 200), ("secret:other", 401), ("secret", 401)]
)
def test_a_browser_gives_the_token_as_a_password_and_programs_do_not(records, given, status):
    headers = {"Authorization": "Basic " + base64.b64encode(given.encode()).decode()}
    assert ask("/runs/run-1", giving(records), token=b"secret", headers=headers)[0] == status
    assert ask("/v1/runs/run-1", giving(records), token=b"secret", headers=headers)[0] == 401
    assert ask("/runs/run-1", giving(records), token=b"secret", headers={"Authorization": "Basic %%%"})[0] == 401


FORGED = (
    "[]",
    "null",
    '{"kind":"run"}',
    '{"kind":"run","fields":[],"missing":1,"steps":{}}',
    "[" * 100_000,
    '"\\ud800"',
)


@pytest.mark.parametrize("topic", ["evidence", "violations", "jobs"])
def test_what_somebody_else_wrote_into_a_topic_is_shown_as_it_is_and_breaks_no_page(records, topic):
    """As where anybody may write to the topics."""
    said = [{**records[0], "topic": f"t.{topic}", "value": value} for value in (*FORGED, "<b>\u202e</b>")]
    status, text, _ = ask("/runs/run-1", giving(said + records))
    assert status == 200
    assert "a rule was broken" in text
    assert "&lt;b&gt;\\u202e&lt;/b&gt;" in text
