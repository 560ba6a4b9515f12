"""Spans out to a collector (OTLP over HTTP), sampled, and never in the way of what they show.

Runs are traced as they close, when it is known what became of them: the share that is asked for, and those that broke
a rule, failed or lack something, so many a second at most. A queue between us and the collector is bounded; what it
does not take is counted. Where nothing is asked for there is no tracer, and nothing costs anything.
"""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from app.core import spans
from app.core.outcomes import DecisionRecord, Evidence, Violation
from app.core.spans import Limit, Sampler, Span
from app.core.trace import RUN, span_id
from app.settings import Settings
from app.stream.protocol import Batch

_SERVICE: Final = "qethics"
_RECORDED: Final = TraceFlags(TraceFlags.SAMPLED)
_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "consumer": SpanKind.CONSUMER}
_OK: Final = Status()
_FAILED: Final = Status(StatusCode.ERROR)
#: Spans that may wait for the collector, and how many go in one request.
_QUEUE: Final = 8_192
_TOGETHER: Final = 512
_DELAY_MILLIS: Final = 1_000
#: Batches, checkpoints and restores a second at most.
_OWN_PER_SECOND: Final = 2.0
#: Open runs whose violations are remembered until they close, and of each the first so many.
_MOST_VIOLATING: Final = 10_000
_MOST_VIOLATIONS: Final = 20
_MOST_LINKS: Final = 100
_STOP_SECONDS: Final = 2.0


class Shown(NamedTuple):
    """A traced run that stands for a figure: an exemplar."""

    trace_id: str
    run_id: str
    value: float
    at: float


class Tracer:
    """Makes spans of outcomes and of our own steps, and sends them.

    Parameters
    ----------
    exporter
        Takes spans in a thread of its own, and may be slow or fail.
    sampler
        Which runs are traced.
    instance
        What tells this process from others of the deployment.
    version
        Of this build.
    """

    def __init__(self, exporter: SpanExporter, sampler: Sampler, instance: str, version: str) -> None:
        #: Spans offered, exported and failed.
        self.counts: Counter[str] = Counter()
        #: Fidelity of traced runs, the last first; the last traced run of each (rule, severity).
        self.fidelities: list[Shown] = []
        self.violations: dict[tuple[str, str], Shown] = {}
        self._sampler = sampler
        self._batches, self._steps = Limit(_OWN_PER_SECOND), Limit(_OWN_PER_SECOND)
        self._ids = RandomIdGenerator()
        self._violating: OrderedDict[str, list[Violation]] = OrderedDict()
        self._resource = Resource.create(
            {"service.name": _SERVICE, "service.instance.id": instance, "service.version": version}
        )
        self._scope = InstrumentationScope(_SERVICE, version)
        self._processor = BatchSpanProcessor(
            _Counting(exporter, self.counts),
            max_queue_size=_QUEUE,
            schedule_delay_millis=_DELAY_MILLIS,
            max_export_batch_size=_TOGETHER,
        )

    # -- what follows from records ---------------------------------------------------------------------------------

    def batch(self, batch: Batch, outcomes: Any, taken_at: float, applied_at: float, written_at: float) -> None:
        """A batch was taken, applied and written: trace it, and the runs that it closed (`app.stream.protocol`)."""
        now = time.monotonic()
        for violation in outcomes.violations:
            self._remember(violation)
        closed = [each for each in outcomes.evidence if isinstance(each, Evidence) and self._run(each, batch, now)]
        if not self._batches.take(now):
            return
        trace, own = self._new_trace(), self._new_span()
        of_kafka: dict[str, spans.Value] = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": batch.topic,
            "messaging.destination.partition.id": str(batch.partition),
            "messaging.kafka.offset": batch.first,
            "messaging.batch.message_count": len(batch.records),
        }
        links = [
            Link(_context(spans.identified(each.traceparent, each.run_id)[0], span_id(each.run_id, RUN)))
            for each in closed[:_MOST_LINKS]
        ]
        name = f"process {batch.topic}"
        self._send(Span(name, trace, own, None, taken_at, written_at, of_kafka, kind="consumer"), links)
        self._send(Span("apply", trace, self._new_span(), own, taken_at, applied_at))
        self._send(Span("write", trace, self._new_span(), own, applied_at, written_at))

    def checkpoint(self, name: str, partition: int, size: int, began_at: float, ended_at: float) -> None:
        """A checkpoint was written."""
        self._step("checkpoint", began_at, ended_at, {"stage": name, "partition": partition, "state_bytes": size})

    def restore(self, units: int, began_at: float, ended_at: float) -> None:
        """State was read back."""
        self._step("restore", began_at, ended_at, {"units": units})

    def admission(self, record: DecisionRecord, trace: str | None, began_at: float) -> None:
        """The gate decided, with a `traceparent` or none."""
        found, _, recorded = spans.identified(trace, record.run_id)
        if self._sampler.wants(found, recorded=recorded, grave=record.answer != "allow", now=time.monotonic()):
            self._send(spans.of_admission(record, trace, began_at, time.time()))

    @property
    def left_out(self) -> int:
        """Runs that were to be traced, and were too many."""
        return self._sampler.left_out

    def close(self) -> None:
        """Send what waits, for a moment at most."""
        ending = threading.Thread(target=self._processor.shutdown, daemon=True)
        ending.start()
        ending.join(_STOP_SECONDS)

    # -- one run ---------------------------------------------------------------------------------------------------

    def _run(self, evidence: Evidence, batch: Batch, now: float) -> bool:
        """Trace a closed run, if it is to be traced."""
        broken = self._violating.pop(evidence.run_id, [])
        trace, _, recorded = spans.identified(evidence.traceparent, evidence.run_id)
        if not self._sampler.wants(trace, recorded=recorded, grave=spans.is_grave(evidence), now=now):
            return False
        for each in spans.of_run(evidence):
            self._send(each)
        for violation in broken:
            self._send(spans.of_violation(violation))
            self._show(violation, trace)
        fidelity = evidence.fields["fidelity"]
        if fidelity is not None:
            shown = Shown(trace, evidence.run_id, fidelity["value"], time.time())
            self.fidelities = [shown, *self.fidelities[: _MOST_LINKS - 1]]
        return True

    def _remember(self, violation: Violation) -> None:
        known = self._violating.setdefault(violation.run_id, [])
        if len(known) < _MOST_VIOLATIONS:
            known.append(violation)
        if len(self._violating) > _MOST_VIOLATING:
            self._violating.popitem(last=False)

    def _show(self, violation: Violation, trace: str) -> None:
        if violation.mode == "enforce":
            self.violations[violation.rule, violation.severity] = Shown(trace, violation.run_id, 1.0, time.time())

    # -- spans -----------------------------------------------------------------------------------------------------

    def _step(self, name: str, began_at: float, ended_at: float, of: Mapping[str, spans.Value]) -> None:
        if self._steps.take(time.monotonic()):
            attributes = {spans.PREFIX + key: value for key, value in of.items()}
            self._send(Span(name, self._new_trace(), self._new_span(), None, began_at, ended_at, attributes))

    def _new_trace(self) -> str:
        return f"{self._ids.generate_trace_id():032x}"

    def _new_span(self) -> str:
        return f"{self._ids.generate_span_id():016x}"

    def _send(self, span: Span, links: Sequence[Link] = ()) -> None:
        self.counts["offered"] += 1
        parent = None if span.parent_id is None else _context(span.trace_id, span.parent_id)
        self._processor.on_end(
            ReadableSpan(
                span.name,
                context=_context(span.trace_id, span.span_id),
                parent=parent,
                resource=self._resource,
                attributes=span.attributes,
                links=links,
                kind=_KINDS[span.kind],
                status=_FAILED if span.failed else _OK,
                start_time=int(span.began_at * 1e9),
                end_time=int(span.ended_at * 1e9),
                instrumentation_scope=self._scope,
            )
        )


class _Counting(SpanExporter):
    """An exporter that counts what became of the spans."""

    def __init__(self, exporter: SpanExporter, counts: Counter[str]) -> None:
        self._exporter = exporter
        self._counts = counts

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        done = self._exporter.export(spans)
        self._counts["exported" if done is SpanExportResult.SUCCESS else "failed"] += len(spans)
        return done

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _context(trace_id: str, span_id: str) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=_RECORDED)


def tracer(settings: Settings, instance: str, version: str) -> Tracer | None:
    """The tracer of a process; None where no endpoint is set.

    Headers, certificates and time-outs of the exporter are OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_...`,
    https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
    """
    if not settings.otlp_endpoint:
        return None
    exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint)
    return Tracer(exporter, Sampler(settings.trace_ratio, settings.trace_runs_per_second), instance, version)
