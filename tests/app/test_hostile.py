"""Whatever a record holds ends no process: every reader of a topic is given the same kinds of hostile records.

With those of `tests/app/core/test_hostile.py`, where the stages are looked at more closely, they are 50,000. A place in
`app` where a consumer is made and that is not in `CONSUMERS` fails a test.
"""

import ast
import asyncio
import time
from contextlib import closing
from pathlib import Path

import msgspec
from aiokafka.errors import MessageSizeTooLargeError
from hostile import STAGE, STATE, records
from prometheus_client.openmetrics.exposition import generate_latest
from shelf import Shelf, drained

import app
from app import kafka
from app.access import Access
from app.admission.gatekeeper import Gatekeeper
from app.admission.relay import Relay
from app.catalog import load_catalog
from app.conventions import (
    ADMISSION_REPLIES,
    ADMISSION_REQUESTS,
    ALERTS,
    CHECKPOINTS,
    DEAD_LETTER,
    DECISIONS,
    DIRECTIVES,
    EVIDENCE,
    INCIDENTS,
    JOBS,
    REPLAY_REQUESTS,
    RESULTS,
    TOPICS,
    VIOLATIONS,
)
from app.core.incidents import Incidents
from app.core.paging import posted
from app.core.policy import Policy
from app.core.runs import RunStage
from app.core.streams import StreamStage
from app.core.telling import Telling
from app.directives import Directives
from app.follow import Follow
from app.gameday.run import _Day
from app.paging import records as paging
from app.paging import runpage
from app.paging.desk import Desk
from app.paging.metrics import PagerCollector
from app.paging.service import _Pager
from app.policy.evaluator import Evaluator
from app.policy.pack import load_pack
from app.serving import registry_of
from app.settings import load
from app.stream.checkpoint import CheckpointError, CheckpointStore
from app.stream.logs import Mark

COUNT = 1_500
GATE_COUNT = 600
#: Brokers' default limit of a record batch.
MOST_BYTES = 1_048_588
OF_RUNS = (JOBS, RESULTS, VIOLATIONS, DECISIONS, EVIDENCE, REPLAY_REQUESTS)

#: Where a consumer is made -> the topics that it reads.
CONSUMERS = {
    "admission/service.py run": {ADMISSION_REQUESTS, DIRECTIVES},
    "gameday/run.py run": {DIRECTIVES, REPLAY_REQUESTS},
    "main.py run": {CHECKPOINTS, *RunStage.topics, *StreamStage.topics},  # the second looks up what was read
    "paging/records.py _each": {*OF_RUNS},
    "paging/service.py run": {ALERTS, DIRECTIVES, INCIDENTS},
    "stream/agents.py _agent": {*RunStage.topics, *StreamStage.topics},
    "stream/transport.py _create_worker_consumer": {*RunStage.topics, *StreamStage.topics},
}
#: What makes them for others, and the benches of other libraries, which read what they wrote.
NOT_OF_A_DEPLOYMENT = {"kafka.py consumer", "bench/peers.py"}


def makers():
    """The functions in `app` that make a consumer."""
    root = Path(app.__file__).parent
    for path in root.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for node in ast.walk(function):
                    called = node.func if isinstance(node, ast.Call) else None
                    name = getattr(called, "attr", getattr(called, "id", ""))
                    if name in {"consumer", "AIOKafkaConsumer", "agent"}:
                        yield path.relative_to(root).as_posix(), function.name


def test_every_place_where_a_consumer_is_made_is_known():
    found = {f"{path} {name}" for path, name in makers() if path not in NOT_OF_A_DEPLOYMENT}
    assert found - NOT_OF_A_DEPLOYMENT == set(CONSUMERS)
    assert set().union(*CONSUMERS.values()) == set(TOPICS) - {ADMISSION_REPLIES, DEAD_LETTER}


def test_no_decoding_is_guarded_by_less_than_what_it_raises():
    guards = [
        f"{path.name}:{node.lineno}"
        for path in Path(app.__file__).parent.rglob("*.py")
        if path.name != "unreadable.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"MsgspecError", "DecodeError"}
    ]
    assert guards == []


def followed(take, *topics, count=COUNT):
    """Have a follower hand on hostile records of some topics."""
    shelf = Shelf({topic: records(topic, count, 1) for topic in topics})
    follow = Follow(shelf, topics, 1, take)
    asyncio.run(drained(shelf, follow.run()))
    assert follow.read.is_set()


class Written:
    """A producer: keeps what it is given, and refuses what a broker would by its default limit."""

    def __init__(self):
        self.topics = {}

    async def send_and_wait(self, topic, value, *, key=None, partition=None, headers=()):
        if len(value or b"") + len(key or b"") > MOST_BYTES and not topic.endswith(DEAD_LETTER):
            raise MessageSizeTooLargeError
        assert all(isinstance(name, str) for name, _ in headers)
        assert all(len(text or b"") <= 1_024 for _, text in headers)
        self.topics.setdefault(topic, []).append(value)


def test_no_request_ends_a_gate_or_keeps_it_from_the_next():
    settings, written = load({}, partitions=1), Written()
    now_ms = int(time.time() * 1000) + 60_000  # none is too old
    found = records(ADMISSION_REQUESTS, GATE_COUNT, 1, now_ms)
    long_name = b'{"' + b"x" * 1_048_500 + b'":1}'
    found += [each._replace(offset=GATE_COUNT, value=long_name) for each in found[:1]]
    shelf = Shelf({settings.topic(ADMISSION_REQUESTS): found})

    async def keep(record):
        msgspec.json.encode(record)

    pack = load_pack()
    with closing(Evaluator.of(pack)) as evaluate:
        policy = Policy(pack, evaluate)
        keeper = Gatekeeper(
            policy=lambda: policy,
            directives=list,
            not_ready=lambda: None,
            keep=keep,
            deadline_seconds=2.0,
            concurrency=64,
        )
        asyncio.run(drained(shelf, Relay(shelf, written, keeper, settings).run()))
        keeper.close()
    replies = [msgspec.json.decode(value) for value in written.topics[settings.topic(ADMISSION_REPLIES)]]
    assert shelf.asked_again == 0
    assert len(replies) == len(found)
    refused = [each for each in replies if each.get("error", "").startswith("no admission request")]
    assert len(refused) == len(written.topics[settings.topic(DEAD_LETTER)]) > GATE_COUNT / 10


def test_no_directive_ends_whoever_obeys():
    shelf = Shelf({DIRECTIVES: records(DIRECTIVES, 2 * COUNT, 1)})
    known = Directives(shelf, DIRECTIVES, 1)
    asyncio.run(drained(shelf, known.run()))
    msgspec.json.encode(known.active())
    assert known.unreadable > COUNT / 10
    assert known.not_ready() is None


def test_no_alert_and_no_act_ends_a_pager(tmp_path):
    settings = load({}, partitions=1, topic_prefix="", data_directory=tmp_path)
    pager = _Pager(settings, load_catalog().alerting, None, Access(None, None, frozenset()), tmp_path)
    incidents = Incidents()
    topics = {ALERTS: pager._alert, INCIDENTS: pager._act(incidents)}
    followed(lambda record: topics[record.topic](record), *topics, count=2 * COUNT)
    assert pager._unreadable > COUNT / 5
    now, told = time.time(), Telling({}, {})
    for lease in told.due(pager._book.leases(), now):
        msgspec.json.encode(posted(lease, now, "http://127.0.0.1/"))
        told.taken(lease, now, now)
    pager._book.forget(now)
    pager._told.keep(set())
    desk = Desk(incidents, None, None)
    read = lambda: [], desk, lambda: pager._unreadable, lambda: now, {"version": "1"}
    assert generate_latest(registry_of(PagerCollector(pager._book, *read)))
    msgspec.json.encode([(one, one.phase) for one in incidents.listed()])
    assert len(incidents.reopened()) <= len(incidents.known)


def test_no_record_about_a_run_ends_the_page_of_it(monkeypatch):
    settings = load({}, partitions=1, topic_prefix="")
    shelf = Shelf({topic: records(topic, COUNT, 1) for topic in OF_RUNS})
    monkeypatch.setattr(kafka, "consumer", lambda *_, **__: shelf)
    names = [f"run-{number}" for number in range(50)]
    span = {"since": 0.0, "until": time.time(), "seconds": 60.0}
    found = asyncio.run(paging.about_runs(settings, OF_RUNS, names, **span))
    assert all(one.records and one.is_whole for one in found.values())
    for name, one in found.items():
        runpage.render(name, (0.0, 1.0), one, "http://grafana").encode()
        msgspec.json.encode(one)
    asyncio.run(shelf.seek_to_beginning())
    affected = asyncio.run(paging.affected(settings, **span))
    msgspec.json.encode(affected)
    assert "unreadable in violations" in affected.runs


def test_no_order_and_no_replay_ends_a_game_day():
    day = _Day(None, "", None, [], None, print)
    topics = {REPLAY_REQUESTS: day._asked, DIRECTIVES: day._ordered}
    followed(lambda record: topics[record.topic](record), *topics)
    assert day._orders
    assert day._replays


def test_a_checkpoint_is_whole_or_says_that_it_is_not():
    ends = {"whole": 0, "none": 0, "refused": 0}
    found = records(CHECKPOINTS, 2 * COUNT, 1)
    for at in range(0, len(found), 3):
        shown = [found[at]._replace(key=f"{STAGE}/c/0".encode(), value=STATE), *found[at : at + 3]]
        shelf = Shelf({CHECKPOINTS: [each._replace(offset=place) for place, each in enumerate(shown)]})
        try:
            read = asyncio.run(CheckpointStore(None, shelf, CHECKPOINTS).read(STAGE, 0))
        except CheckpointError as error:
            ends["refused"] += "printf" in str(error)  # it names the way out
            continue
        ends["none" if read is None else "whole"] += 1
        for mark in read[2].marks.values() if read is not None else ():
            assert mark.offset >= 0
        assert min(read[0].values(), default=0) >= 0 if read is not None else True
    assert min(ends.values()) > 20


def test_what_is_looked_up_again_may_hold_anything():
    for one, other in zip(records(JOBS, COUNT, 1), records(RESULTS, COUNT, 1), strict=True):
        mark = Mark.of(one, one.offset)
        assert mark.difference(one) is None
        assert isinstance(mark.difference(other), str | None)
