"""Manifests and recorded events judged as the stream judges them, before or after the fact.

A manifest is a YAML or JSON file of one workload: `submitted` with the fields of a submission, and `routed` with those
of a routing if it is known where the runs go. Recorded events are JSON lines, job events, results and records of
the gate mixed, gzip or plain; they go through the very stage that a worker runs.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from app.conventions import ADMISSIONS, JOBS, RESULTS
from app.core import events, facts
from app.core.catalog import Catalog
from app.core.decode import MAX_BYTES
from app.core.facts import Facts
from app.core.judge import violation
from app.core.outcomes import Outcomes, Violation
from app.core.policy import Policy, Verdict
from app.core.records import Batch
from app.core.run import Routing, routing_values
from app.core.runs import RunStage
from app.documents import line_of, read, unusable
from app.errors import SettingError
from app.unreadable import UNREADABLE

_BATCH: Final = 1_000
_MOST_RECORDED_BYTES: Final = 4 * 2**30
#: The envelope that a manifest does not have.
_ENVELOPE: Final = {"event_id": "manifest", "run_id": "manifest", "at": datetime(2026, 1, 1, tzinfo=UTC)}


class Judged(Struct, frozen=True):
    """A run or manifest, where it stands, and the rules it breaks."""

    name: str
    file: str
    line: int
    violations: list[Violation]
    #: Input documents that were judged, by digest.
    documents: dict[str, bytes]

    @property
    def denials(self) -> list[Violation]:
        """The rules broken that are enforced."""
        return [each for each in self.violations if each.mode == "enforce"]

    @property
    def denied(self) -> bool:
        """Whether there is one."""
        return bool(self.denials)


class Recording(Policy):
    """A policy that keeps the documents it judged."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.pack, policy.evaluate, policy.bundle, policy.labels)
        self.documents: dict[str, bytes] = {}

    def judge(self, asked: Facts) -> Verdict:
        """As the policy does."""
        verdict = super().judge(asked)
        if verdict.breaches and verdict.input_digest not in self.documents:
            self.documents[verdict.input_digest] = msgspec.json.encode(asked.document())
        return verdict


def check(path: Path, policy: Policy, catalog: Catalog, now: float) -> list[Judged]:
    """Judge what a file holds, with the exemptions that hold at `now` (seconds since the epoch).

    Raises
    ------
    SettingError
        If it cannot be read, holds what is neither manifest nor event, or nothing that could be judged.
    """
    manifest = path.suffix in {".yaml", ".yml", ".json"}
    found = _manifest(path, policy, now) if manifest else _recorded(path, policy, catalog, now)
    if not found:
        raise SettingError(f"{path} holds nothing to judge", "name a manifest, or events in which a run is routed")
    return found


# -- manifests ---------------------------------------------------------------------------------------------------------


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    submitted: dict[str, Any]
    routed: dict[str, Any] | None = None


def _manifest(path: Path, policy: Policy, now: float) -> list[Judged]:
    manifest = read(path, _Manifest)
    submitted = _event(path, "submitted", manifest.submitted, events.Submitted)
    recording = Recording(policy)
    asked = [Facts((facts.RUN,), facts.declared(submitted), facts.derived(submitted))]
    if manifest.routed is not None:
        routed = _event(path, "routed", manifest.routed, events.Routed)
        routing = Routing(*routing_values(routed))
        asked = [Facts((facts.RUN, facts.ROUTING), asked[0].declared, asked[0].derived, routing)]
    if clear := facts.clear(submitted):
        asked.append(Facts((facts.TEXT,), clear=clear))
    name = submitted.workload or path.stem
    violations = [
        violation(breach, verdict, policy.revision, violation_id="", run_id=name, at="")
        for verdict in (policy.exempted(recording.judge(each), each.declared, each.routing, now) for each in asked)
        for breach in verdict.breaches
    ]
    return [Judged(name, str(path), line_of(path, "submitted") or 1, violations, recording.documents)]


def _event(path: Path, key: str, members: Mapping[str, Any], kind: Any) -> Any:
    envelope = {**_ENVELOPE, "type": key, "producer": "manifest", "seq": 0}
    known = kind.__struct_fields__
    for name in members:
        if name not in known or name in envelope:
            raise unusable(path, f"{key}.{name}", "there is no such field", line=line_of(path, key, name))
    try:
        return msgspec.convert({**envelope, **members}, kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$.")
        name = place.strip("`")
        raise unusable(path, f"{key}.{name}", what, line=line_of(path, key, name.split(".")[0])) from error


# -- recorded events ---------------------------------------------------------------------------------------------------


class _Record(NamedTuple):
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def _recorded(path: Path, policy: Policy, catalog: Catalog, now: float) -> list[Judged]:
    recording = Recording(policy)
    stage = RunStage(catalog, recording, 1, exemptions_at=lambda: now)
    lines: dict[str, int] = {}
    found: dict[str, list[Violation]] = {}
    for outcomes in _applied(path, stage, lines):
        for each in outcomes.violations:
            found.setdefault(each.run_id, []).append(each)
    return [
        Judged(
            run_id,
            str(path),
            lines[run_id],
            violations := found.get(run_id, []),
            {digest: recording.documents[digest] for digest in {each.input_digest for each in violations}},
        )
        for run_id in lines
        if _was_judged(stage, run_id)
    ]


def _was_judged(stage: RunStage, run_id: str) -> bool:
    subject = stage.runs.get(run_id) or stage.closed.get(run_id)
    return subject is not None and subject.judged


def _applied(path: Path, stage: RunStage, lines: dict[str, int]) -> Iterator[Outcomes]:
    """Feed a recording to a stage; what follows, and last what its end leads to."""
    offsets = dict.fromkeys(RunStage.topics, 0)
    for topic, values in _batches(path, lines):
        first = offsets[topic]
        records = [_Record(first + index, 0, None, value) for index, value in enumerate(values)]
        offsets[topic] = first + len(records)
        outcomes = stage.apply(Batch(topic, 0, first, offsets[topic], records))
        for letter in outcomes.dead_letters:
            what = f"{letter.reason.value}: {letter.detail}: {bytes(letter.record.value or b'')[:80]!r}"
            raise unusable(path, "", f"an event that is none: {what}")
        yield outcomes
    yield stage.finish()


class _Line(Struct):
    run_id: str
    type: str | None = None
    answer: str | None = None

    @property
    def topic(self) -> str:
        """Which topic it is of: an answer of the gate, a result or a job event."""
        return ADMISSIONS if self.answer is not None else RESULTS if self.type is None else JOBS


def _batches(path: Path, lines: dict[str, int]) -> Iterator[tuple[str, list[bytes]]]:
    """Events of one topic in a row, in the order of the file."""
    topic, waiting = JOBS, list[bytes]()
    for number, value in enumerate(_lines(path), 1):
        if not value.strip():
            continue
        try:
            line = msgspec.json.decode(value, type=_Line)
        except UNREADABLE as error:
            raise unusable(path, "", f"no event: {error}", line=number) from error
        lines.setdefault(line.run_id, number)
        of = line.topic
        if of != topic or len(waiting) >= _BATCH:
            if waiting:
                yield topic, waiting
            topic, waiting = of, []
        waiting.append(value)
    if waiting:
        yield topic, waiting


def _lines(path: Path) -> Iterable[bytes]:
    opened = gzip.open if path.suffix == ".gz" else open
    total = 0
    try:
        with opened(path, "rb") as file:
            while line := file.readline(MAX_BYTES + 2):
                total += len(line)
                if total > _MOST_RECORDED_BYTES:
                    raise unusable(path, "", f"more than {_MOST_RECORDED_BYTES} bytes; cut it up")
                yield line.rstrip(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise unusable(path, "", str(error)) from error
