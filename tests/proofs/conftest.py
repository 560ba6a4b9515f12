"""What several proofs begin with."""

import pytest
from faulty import FaultyWay, Webhook
from paging import Setting, telling


@pytest.fixture
def setting(bootstrap, tmp_path):
    with Webhook() as webhook:
        server = telling(webhook, tmp_path / "alertmanager")
        with FaultyWay(server.url) as way:
            one = Setting(bootstrap, tmp_path, way, server, webhook)
            try:
                yield one
            finally:
                one.cluster.end()
                one.server.stop()
                server.stop()
