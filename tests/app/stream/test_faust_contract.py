"""What the transport overrides is private to Faust and aiokafka: these tests hold it in place.

They say what must be looked at again when the pinned versions move.
"""

import hashlib
import inspect
from importlib.metadata import version

import faust.transport.conductor
import pytest
from aiokafka.consumer import fetcher
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faust import App
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver

from app import kafka_batches
from app.stream import transport
from app.stream.agents import ShellApp
from app.stream.partitions import assignor


def test_the_versions_are_the_ones_the_overrides_were_written_against():
    assert version("faust-streaming") == "0.15.3"
    assert version("aiokafka") == "0.14.0"


#: What is overridden, with the parameters the overrides rely on.
OVERRIDDEN = [
    (driver.Consumer, transport.BatchConsumer, "getmany"),
    (driver.Consumer, transport.BatchConsumer, "_to_message"),
    (driver.Consumer, transport.BatchConsumer, "_add_gap"),
    (driver.Consumer, transport.BatchConsumer, "_new_offset"),
    (driver.Consumer, transport.BatchConsumer, "perform_seek"),
    (driver.Consumer, transport.BatchConsumer, "on_partitions_revoked"),
    (driver.Consumer, transport.BatchConsumer, "_new_consumer_thread"),
    (driver.AIOKafkaConsumerThread, transport.BatchConsumerThread, "_create_worker_consumer"),
    (fetcher.PartitionRecords, transport.LeanRecords, "_consumer_record"),
    (fetcher.PartitionRecords, kafka_batches.TolerantRecords, "_unpack_records"),
    (RangePartitionAssignor, assignor(1), "assign"),
    (driver.Producer, transport.BatchProducer, "_settings_auth"),
    (App, ShellApp, "_on_agent_error"),
]


@pytest.mark.parametrize(("stock", "ours", "name"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", value))
def test_an_overridden_method_exists_with_the_same_parameters_and_kind(stock, ours, name):
    theirs, own = getattr(stock, name), getattr(ours, name)
    assert theirs is not own, "it is overridden"
    assert list(inspect.signature(theirs).parameters) == list(inspect.signature(own).parameters)
    for kind in (inspect.iscoroutinefunction, inspect.isasyncgenfunction):
        assert kind(theirs) == kind(own)


def test_nothing_else_is_overridden():
    named = {name for _, _, name in OVERRIDDEN} | {
        "_joining",
        "_batches",
        "_begin_again",
        "_opened",
        "_passes_over",
        "_leniently",
        "_unreadable",
    }
    for ours in {ours for _, ours, _ in OVERRIDDEN} - {ShellApp}:
        own = {name for name, value in vars(ours).items() if inspect.isfunction(value)} - {"__init__"}
        assert own <= named


#: The text of methods whose way of calling ours is relied on: (what we rely on, method, digest of its source).
RELIED_ON = {
    "takes (tp, message) from getmany; drops what is below _read_offset": Consumer._drain_messages,
    "asks _new_offset for every partition with acknowledgements": Consumer._filter_committable_offsets,
    "resumes the flow only after perform_seek": Recovery._resume_streams,
    "waits for agents, then sends on_partitions_revoked": App._on_partitions_revoked,
    "returns records, or waits while the flow is stopped": Consumer._wait_next_records,
    "what ours does as well, for batches that can be read": fetcher.PartitionRecords._unpack_records,
    "looks PartitionRecords and MemoryRecords up when it is called": fetcher.Fetcher._proc_fetch_request,
    "stops at the end of the records, and takes over their next_fetch_offset": fetcher.FetchResult.getall,
}
DIGESTS = {
    "_drain_messages": "44a2500309e83c63",
    "_filter_committable_offsets": "dc5e9baf5d994485",
    "_resume_streams": "d986a6710c1aca98",
    "_on_partitions_revoked": "d5c895bbe57dc73a",
    "_wait_next_records": "6218e1969a636b3f",
    "_unpack_records": "b803e6d46480732c",
    "_proc_fetch_request": "59bf948fff47eed5",
    "getall": "3e717e30de5068d5",
}


@pytest.mark.parametrize("reliance", RELIED_ON)
def test_the_text_that_calls_ours_is_unchanged(reliance):
    method = RELIED_ON[reliance]
    digest = hashlib.sha256(inspect.getsource(method).encode()).hexdigest()[:16]
    assert DIGESTS[method.__name__] == digest, f"read it again: {reliance}"


def test_the_conductor_hands_a_message_with_any_value_to_the_schema():
    source = inspect.getsource(faust.transport.conductor.ConductorCompiler.build)
    assert "chan.decode(message, propagate=True)" in source
