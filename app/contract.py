"""The contract as documents: JSON Schema of every record and an AsyncAPI 3.0 document, generated from the types."""

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from app.conventions import (
    ADMISSION_REPLIES,
    ADMISSION_REQUESTS,
    ADMISSIONS,
    ALERTS,
    DEAD_LETTER,
    DECISIONS,
    DIRECTIVES,
    EVIDENCE,
    INCIDENTS,
    JOBS,
    REPLAY_REQUESTS,
    RESULTS,
    TOPIC_PREFIX,
    VIOLATIONS,
)
from app.core.admission import AdmissionRefusal, AdmissionRequest, AdmissionResponse
from app.core.events import AnyJobEvent, Result
from app.core.facts import Document
from app.core.incidents import Act
from app.core.outcomes import Addendum, Alert, DecisionRecord, Directive, Evidence, ReplayRequest, Violation

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"

#: Topic -> (type of its values, key, what it is, whether we receive or send it).
CHANNELS: Final[dict[str, tuple[Any, str, str, str]]] = {
    JOBS: (AnyJobEvent, "run_id", "Steps in the life of runs; `type` is the tag.", "receive"),
    RESULTS: (Result, "run_id", "What devices and simulators returned.", "receive"),
    VIOLATIONS: (Violation, "run_id", "One record per policy violation.", "send"),
    DECISIONS: (
        DecisionRecord,
        "run_id",
        "What the policy was asked and said; in the stream, where it found something.",
        "send",
    ),
    ADMISSIONS: (DecisionRecord, "run_id", "One record per answer of the gate.", "send"),
    ADMISSION_REQUESTS: (AdmissionRequest, "run_id", "May this run go ahead?", "receive"),
    ADMISSION_REPLIES: (
        AdmissionResponse | AdmissionRefusal,
        "that of the request",
        "Answers to admission requests, with their `correlation-id` header, in the partition of the request.",
        "send",
    ),
    EVIDENCE: (Evidence | Addendum, "run_id", "One record per closed run, and one per event that came after.", "send"),
    DIRECTIVES: (Directive, "directive/target", "What schedulers must do now, until it expires.", "send"),
    ALERTS: (
        Alert,
        "fingerprint",
        "Alerts that the processor raised; the last record of each says how it stands.",
        "send",
    ),
    REPLAY_REQUESTS: (ReplayRequest, "run_id", "Runs that are to be made again; their results name them.", "send"),
    INCIDENTS: (Act, "incident id/act", "What happened to incidents: opened, acknowledged, ..., resolved.", "send"),
}


def schema(topic: str) -> dict[str, Any]:
    """The JSON Schema of a topic's values."""
    kind = CHANNELS[topic][0]
    (body,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return {"$schema": _DRAFT, "title": TOPIC_PREFIX + topic, **body, "$defs": components}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""
    kinds = [kind for kind, *_ in CHANNELS.values()]
    bodies, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for (topic, (_, key, text, action)), body in zip(CHANNELS.items(), bodies, strict=True):
        message = {"name": topic, "contentType": "application/json", "payload": body, "summary": text}
        message["bindings"] = {"kafka": {"key": {"type": "string", "description": key}}}
        channels[topic] = {
            "address": TOPIC_PREFIX + topic,
            "description": text,
            "messages": {topic: message},
            "bindings": {"kafka": {"topic": TOPIC_PREFIX + topic}},
        }
        operations[f"{action}-{topic}"] = {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
    channels[DEAD_LETTER] = {
        "address": TOPIC_PREFIX + DEAD_LETTER,
        "description": "Records that were not taken in: the original bytes and key; the headers say why.",
        "messages": {
            DEAD_LETTER: {
                "name": DEAD_LETTER,
                "contentType": "application/octet-stream",
                "headers": {
                    "type": "object",
                    "properties": {
                        name: {"type": "string"}
                        for name in ("id", "reason", "detail", "topic", "partition", "offset", "received_at")
                    },
                },
            }
        },
    }
    operations[f"send-{DEAD_LETTER}"] = {"action": "send", "channel": {"$ref": f"#/channels/{DEAD_LETTER}"}}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "qethics",
            "version": "1",
            "description": "Job events and results in; violations, evidence, alerts and dead letters out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": components},
    }


def documents() -> dict[str, str]:
    """File name -> content of every generated document."""
    made = {f"{topic}.schema.json": schema(topic) for topic in CHANNELS} | {"asyncapi.json": asyncapi()}
    made["policy-input.schema.json"] = {"$schema": _DRAFT, **msgspec.json.schema(Document)}
    return {name: json.dumps(document, indent=2, sort_keys=True) + "\n" for name, document in made.items()}


def write(directory: Path, *, only_check: bool = False) -> list[Path]:
    """Write the documents that are not current and say which; or only say."""
    stale = []
    for name, content in documents().items():
        path = directory / name
        if not path.is_file() or path.read_text() != content:
            stale.append(path)
            if not only_check:
                directory.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
    return stale
