"""What several proofs begin with."""

import pytest
from faulty import FaultyWay, Webhook
from paging import QUICK, Setting

from app.gameday.servers import alertmanager


@pytest.fixture
def setting(bootstrap, tmp_path):
    with Webhook() as webhook:
        away = {f"http://127.0.0.1:6068/v1/{path}": webhook.url for path in ("alertmanager",)}
        server = alertmanager(tmp_path / "alertmanager", {**QUICK, **away})
        server.start()
        with FaultyWay(server.url) as way:
            one = Setting(bootstrap, tmp_path, way, server, webhook)
            try:
                yield one
            finally:
                one.cluster.end()
                one.server.stop()
                server.stop()
