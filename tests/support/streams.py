"""A stream stage and its log, and samples for it."""

import msgspec
from records import Log

from app.conventions import SAMPLES
from app.core.outcomes import Observation, Pack
from app.core.results import stream_key
from app.core.streams import StreamStage

KEY = stream_key("route-planning", "ibm_fez")


def observation(offset, fidelity, *, calibration="cal", errors=None, shots=1000, every=60, outcomes=None):
    at = Log.START + every * offset
    return Observation(
        offset, at, f"run-{offset}", calibration, fidelity, 0.01, 1.0, 2.0, errors, shots, None, outcomes
    )


def pack(first, values, **more):
    observations = [observation(first + index, value) for index, value in enumerate(values)]
    return Pack("results", 0, first, first + len(values), {KEY: observations}, **more)


class Bench:
    def __init__(self, catalog):
        self.stage = StreamStage(catalog, 4)
        self.log = Log()
        self.alerts, self.dead_letters, self.gaps, self.directives = [], [], [], []
        self.now = Log.START

    def apply(self, *packs):
        return self._take(self.log.batch(SAMPLES, [msgspec.msgpack.encode(one) for one in packs], self.now))

    def _take(self, batch):
        outcomes = self.stage.apply(batch)
        self.alerts += outcomes.alerts
        self.dead_letters += outcomes.dead_letters
        self.gaps += outcomes.gaps
        self.directives += outcomes.directives
        return outcomes

    def beat(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self._take(self.log.heartbeat(SAMPLES, self.now))
