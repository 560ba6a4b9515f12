"""The gate as a process: its policy, its directives, its ways in, and where it keeps its records."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from importlib.metadata import version
from typing import Any

import msgspec

from app import kafka
from app.access import Access, access
from app.admission.gatekeeper import Gatekeeper
from app.admission.http import application
from app.admission.metrics import AdmissionCollector
from app.admission.relay import Relay
from app.conventions import ADMISSIONS, DIRECTIVES
from app.core.outcomes import DecisionRecord
from app.core.policy import NONE, Policy
from app.directives import Directives
from app.errors import SettingError
from app.follow import FollowCollector
from app.policy.bundles import Bundles
from app.policy.trust import TrustFiles
from app.policy.watch import Source, Watch
from app.serving import (
    forever,
    listening,
    own_directory,
    quiet_libraries,
    registry_of,
    serve,
    told_to_stop,
)
from app.settings import Settings
from app.sinks.policy_metrics import PolicyCollector
from app.tracing import tracer

log = logging.getLogger("qethics.admission")


def run_admission(settings: Settings) -> None:
    """Run one gate until it is told to stop.

    Raises
    ------
    QethicsError
        If it cannot begin; the error says why and what to do.
    """
    quiet_libraries(settings.log_level)
    if settings.policy_bundle is None or settings.policy_keys is None:
        raise SettingError(
            "the gate goes by a signed bundle, and none is set",
            "make one with `qethics policy build`, and set QETHICS_POLICY_BUNDLE and QETHICS_POLICY_KEYS",
        )
    trust = TrustFiles(settings.policy_keys, settings.policy_revocations)
    with (
        listening(settings.admission_host, settings.admission_port, "admission_port") as listener,
        closing(Bundles(*trust.trust)) as bundles,
    ):
        allowed = access(settings, "admission", listener)
        directory = own_directory(settings.data_directory / f"admission-{settings.admission_port}")
        source = Source(settings.policy_bundle, bundles, directory / "policy-version", trust)
        asyncio.run(_Gate(settings, bundles, source, listener, allowed).run())


class _Gate:
    """One gate process: what it holds, in the order it is started."""

    def __init__(
        self,
        settings: Settings,
        bundles: Bundles,
        source: Source,
        listener: socket.socket,
        allowed: Access,
    ) -> None:
        self._settings = settings
        self._bundles = bundles
        self._source = source
        self._listener = listener
        self._name = f"{socket.gethostname()}:{listener.getsockname()[1]}"
        self._allowed = allowed

    async def run(self) -> None:
        """Start everything, wait, stop everything."""
        stop = told_to_stop()
        settings = self._settings
        await kafka.ensure_topics(settings)
        async with AsyncExitStack() as stack:
            # Decisions of one moment go out together.
            producer = await kafka.opened(stack, kafka.producer(settings, linger_ms=1), settings)
            reader = await kafka.opened(stack, kafka.consumer(settings, fetch_max_wait_ms=50), settings)
            options = {"fetch_max_wait_ms": 20, "auto_offset_reset": "none"}  # the relay seeks, and says so
            asker = kafka.consumer(settings, group_id=f"{settings.group}-admission", **options)
            await kafka.opened(stack, asker, settings)
            directives = Directives(reader, settings.topic(DIRECTIVES), settings.partitions)

            async def keep(record: DecisionRecord) -> None:
                topic, key = settings.topic(ADMISSIONS), record.run_id.encode()
                await producer.send_and_wait(topic, msgspec.json.encode(record), key=key)

            spans = tracer(settings, self._name, version("qethics"))
            if spans is not None:
                stack.callback(spans.close)
            gatekeeper = Gatekeeper(
                policy=lambda: self._source.policy or NONE,
                directives=directives.active,
                not_ready=directives.not_ready,
                keep=keep,
                deadline_seconds=settings.admission_deadline_seconds,
                concurrency=settings.admission_concurrency,
                traced=(lambda *_: None) if spans is None else spans.admission,
            )
            stack.callback(gatekeeper.close)
            watch = self._watch()
            stack.push_async_callback(await self._serve(gatekeeper, directives, watch))
            tasks = [
                forever(watch.run(settings.policy_seconds)),
                forever(directives.run()),
                forever(Relay(asker, producer, gatekeeper, settings).run()),
            ]
            await stop.wait()
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _watch(self) -> Watch:
        async def activate(partition: int, bundle: bytes) -> None:
            """The gate goes by the source itself, and by no partition."""

        return Watch(self._source, self._bundles, in_force=self._in_force, activate=activate)

    def _in_force(self) -> dict[int, Policy]:
        """What the gate goes by, as if it were a partition."""
        return {0: self._source.policy or NONE}

    async def _serve(self, gatekeeper: Gatekeeper, directives: Directives, watch: Watch) -> Callable[[], Any]:
        followed = FollowCollector(directives.follow, self._settings.topic_prefix)
        collectors = AdmissionCollector(gatekeeper, directives), PolicyCollector(self._in_force, watch), followed
        registry, allowed = registry_of(*collectors), self._allowed
        pages = application(gatekeeper, registry, directives.active, allowed.token, allowed.hosts)
        stop = await serve(pages, self._listener, allowed.certificate)
        log.info("the gate answers at %s://%s:%d/v1/admission", allowed.scheme, *self._listener.getsockname()[:2])
        return stop
