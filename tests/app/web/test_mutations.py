"""Requests of every kind of wrong to every page of every process: refused in words, never a fault, never silence."""

import asyncio
import logging
from contextlib import closing

import msgspec
import pytest
from collecting import Publisher, Shell
from mutated import admission, answered, flood, notification, paging, serving, statuses, web, written
from records import Log, lifecycle

from app.admission.gatekeeper import Gatekeeper
from app.admission.http import application as gate_pages
from app.admission.metrics import AdmissionCollector
from app.conventions import EVIDENCE, JOBS
from app.core.incidents import Incidents, Notification
from app.core.policy import Policy
from app.core.runs import RunStage
from app.core.sli import SLIS
from app.paging.desk import Desk
from app.paging.http import application as pager_pages
from app.paging.records import Records
from app.paging.runpage import RunPages
from app.policy.evaluator import Evaluator
from app.policy.pack import load_pack
from app.serving import registry_of
from app.sinks.metrics import StageCollector
from app.web.server import application as worker_pages
from app.web.status import detectors, status

REQUESTS = 2_400
TOKEN = b"s3cret-token"
PROCESSES = 3


def worker(catalog, policy):
    """The worker's pages, of stages that have taken something in."""
    shell, log = Shell(catalog, policy, 1), Log(0)
    shell.units["runs", 0].stage.apply(log.batch(JOBS, lifecycle("run-1")))
    registry = registry_of(StageCollector(shell, Publisher(), dict, catalog, {"version": "1"}))
    names = {sli.id: sli.text for sli in SLIS}
    build = {"version": "1"}
    return worker_pages(
        registry, lambda: status(shell, {}, build), lambda: names, lambda: detectors(shell), TOKEN
    ), web()


def gate(catalog, policy):
    """The gate's pages, with its real rules; what it decides is kept in a list."""
    kept = []

    async def keep(record):
        kept.append(msgspec.json.encode(record))

    keeper = Gatekeeper(
        policy=lambda: policy,
        directives=list,
        not_ready=lambda: None,
        keep=keep,
        deadline_seconds=1.0,
        concurrency=64,
    )

    class Known:
        """Directives that are known and empty."""

        active = staticmethod(list)
        unreadable = 0
        age_seconds = 1.0

    return gate_pages(keeper, registry_of(AdmissionCollector(keeper, Known())), list, TOKEN), admission()


def pager(catalog, policy):
    """The pager's pages, with an incident and a run of which there are records; acts are kept in a list."""
    stage, log, incidents, kept = RunStage(catalog, policy, 4), Log(), Incidents(), []
    stage.apply(log.heartbeat(JOBS, Log.START))
    jobs = log.batch(JOBS, lifecycle("run-1"))
    stage.apply(jobs)
    said = [(JOBS, record.value) for record in jobs.records]
    said += [(EVIDENCE, msgspec.json.encode(each)) for each in stage.finish().evidence]
    records = [
        {"topic": topic, "partition": 0, "offset": place, "at": "2026-09-21T00:00:00Z", "value": value.decode()}
        for place, (topic, value) in enumerate(said)
    ]
    for act in incidents.told(msgspec.convert(notification(), Notification), Log.START):
        incidents.take(act)
    (incident_id,) = incidents.known

    async def keep(act):
        kept.append(msgspec.json.encode(act))

    async def find(run_id, since, until):
        run_id.encode()
        return Records([dict(record) for record in records] if run_id == "run-1" else [])

    desk = Desk(incidents, keep, None)
    pages = pager_pages(desk, registry_of(), TOKEN, lambda: True, RunPages(find, "http://grafana", ""))
    return pages, paging(incident_id)


@pytest.fixture(scope="module")
def judging():
    """The rules, with their engine in a process of its own: the gate asks it from threads."""
    pack = load_pack()
    with closing(Evaluator.of(pack)) as evaluate:
        yield Policy(pack, evaluate)


@pytest.fixture(params=[worker, gate, pager], ids=lambda made: made.__name__)
def served(request, catalog, judging):
    return request.param(catalog, judging)


def test_every_page_has_a_good_request_and_answers_it(served):
    pages, good = served

    async def asked():
        async with serving(pages) as port:
            return [await answered(port, written(each, port, TOKEN)) for each in good]

    routes = {(route.method, route.resource.canonical) for route in pages.router.routes() if route.method != "HEAD"}
    answers = asyncio.run(asked())
    assert [statuses(answer) for answer in answers] == [[200]] * len(good), answers
    asked_for = {
        (each.method, resource.canonical)
        for each in good
        for resource in pages.router.resources()
        if resource.get_info().get("path") == each.path
        or ("pattern" in resource.get_info() and resource.get_info()["pattern"].fullmatch(each.path))
    }
    assert routes <= asked_for


def test_no_request_of_any_kind_of_wrong_finds_a_fault(served, caplog):
    """Seeded: what fails is found again by its number."""
    pages, good = served
    number = REQUESTS // PROCESSES

    async def asked():
        async with serving(pages) as port:
            found, faults = await flood(port, good, TOKEN, range(number))
            after = [await answered(port, written(each, port, TOKEN)) for each in good]
            assert [statuses(answer) for answer in after] == [[200]] * len(good)
            return found, faults

    with caplog.at_level(logging.ERROR):
        found, faults = asyncio.run(asked())
    assert not faults, faults[:5]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text[:2_000]
    # Half a request is dropped without a word.
    assert found["none"] < number / 100, found
    assert min(found[status] for status in (200, 400, 401, 403, 404, 405, 421)) > 0, found
