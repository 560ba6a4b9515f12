"""Fixtures that are shared: a broker, the catalog, the policy."""

import os

import pytest
from apache_kafka import apache_kafka

from app.broker import embedded_broker
from app.catalog import load_catalog
from app.policy.pack import load_policy

REAL = os.environ.get("QETHICS_TEST_BROKER") == "apache"


@pytest.fixture(scope="session")
def catalog():
    return load_catalog()


@pytest.fixture(scope="session")
def policy():
    return load_policy()


@pytest.fixture(scope="session")
def apache():
    """The Apache Kafka broker of this run; what it cannot start fails the run."""
    with apache_kafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def bootstrap(request):
    """host:port of the broker of this run: the embedded one, or Apache Kafka with QETHICS_TEST_BROKER=apache."""
    if REAL:
        yield request.getfixturevalue("apache").bootstrap
    else:
        with embedded_broker() as address:
            yield address


def pytest_collection_modifyitems(items):
    for item in items:
        if "real_kafka" in item.keywords and not REAL:
            item.add_marker(pytest.mark.skip(reason="needs Apache Kafka; `make test-kafka` runs it"))
        if "once" in item.keywords and REAL:
            item.add_marker(pytest.mark.skip(reason="not about the broker, or brings its own; once is enough"))


def pytest_terminal_summary(terminalreporter):
    if REAL:
        terminalreporter.write_line("The broker was Apache Kafka, in KRaft mode.")
    else:
        terminalreporter.write_line(
            "The broker was the embedded one (Tansu). The suite on Apache Kafka did NOT run: it needs Maven Central "
            "and Java; `make test-kafka` runs it."
        )
