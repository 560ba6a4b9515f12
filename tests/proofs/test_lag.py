"""What waits in Kafka while Alertmanager is in trouble. The broker matters to it: it runs on both."""

import asyncio
import os
import threading
import time

import pytest
from paging import made

from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

pytestmark = [pytest.mark.broker, pytest.mark.alone]

#: How long each state of Alertmanager lasts.
SECONDS = 150 if os.environ.get("PROVE", "full") == "full" else 15
#: Events a second.
RATE = 300


def test_an_alertmanager_that_is_away_or_slow_slows_no_event(setting):
    """Consumer lag beside it, in records that wait: with everything well, and with Alertmanager away and then slow."""
    setting.cluster.start()
    setting.cluster.await_ready()
    setting.start()
    traffic = Traffic(SCENARIOS["healthy"], seed=5, start=time.time(), rate=RATE)
    sending = threading.Thread(
        target=lambda: asyncio.run(setting.cluster.produce(traffic.for_seconds(4 * SECONDS + 10), paced=True)),
        daemon=True,
    )
    sending.start()
    time.sleep(10)
    lags = {}
    # Well again at the end, so that what only drifts with time is not taken for Alertmanager's doing.
    for period, mode in (("well", "open"), ("away", "cut"), ("slow", "slow"), ("well again", "open")):
        setting.way.mode = mode
        setting.say(made(f"While {period}".title().replace(" ", "")))
        until, seen = time.monotonic() + SECONDS, []
        while time.monotonic() < until:
            seen.append(setting.cluster.total("lag"))
            time.sleep(0.1)
        lags[period] = sum(seen) / len(seen)
    well = (lags["well"] + lags["well again"]) / 2
    changes = {period: (lags[period] - well) / RATE for period in ("away", "slow")}
    said = {name: round(value, 2) for name, value in lags.items()}
    print(f"records that wait: {said}; change as a share of a second's events: {changes}")  # noqa: T201 - the figure
    assert max(changes.values()) < 0.05
    setting.cluster.await_(lambda: len(setting.firing()) == 4, 30, "and no page was lost")
    sending.join(30)
