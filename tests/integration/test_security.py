"""TLS and SASL against a broker that insists on them."""

import asyncio

import pytest
from cluster import Cluster
from command import one_line, qethics
from records import dump, lifecycle

from simulators.traffic import Message

pytestmark = [pytest.mark.broker, pytest.mark.real_kafka]


def secure(apache, tmp_path, **changes):
    values = {
        "security_protocol": "SASL_SSL",
        "ssl_ca_file": apache.ca_file,
        "sasl_username": "worker",
        "sasl_password_file": apache.password_files["worker"],
        **changes,
    }
    return Cluster(apache.secure_bootstrap, tmp_path, **values)


def test_a_worker_does_its_work_over_tls_with_sasl(apache, tmp_path):
    cluster = secure(apache, tmp_path)
    try:
        asyncio.run(cluster.topics())
        worker = cluster.start()
        cluster.await_ready()
        asyncio.run(cluster.produce([Message(0.0, "jobs", b"run-1", dump(value)) for value in lifecycle()]))
        cluster.await_(lambda: cluster.total("events_applied") == 7, 30, "everything applied")
        assert apache.password_files["worker"].read_text() not in worker.log.read_text()
    finally:
        cluster.end()


def test_a_wrong_password_is_said_in_one_line(apache, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password")
    settings = secure(apache, tmp_path, sasl_password_file=wrong).settings
    one_line(qethics("worker", **{**settings.environment(), "QETHICS_WEB_PORT": "0"}), apache.secure_bootstrap)


def test_a_certificate_that_nobody_vouches_for_is_refused(apache, tmp_path):
    settings = secure(apache, tmp_path).settings
    environment = settings.environment()
    del environment["QETHICS_SSL_CA_FILE"]
    one_line(qethics("topics", "create", **environment), apache.secure_bootstrap)
