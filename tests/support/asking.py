"""Questions to a gate, as a scheduler asks them."""

import json
import urllib.error
import urllib.request
import uuid

from records import SUBMITTED

ROUTING = {"provider": "ibm", "endpoint": "ibm-us-east/quantum", "region": "us-east", "backend": "ibm_fez"}


def question(run_id=None, *, routing=ROUTING, dry_run=False, **fields):
    run = {name: value for name, value in {**SUBMITTED, **fields}.items() if value is not None}
    return {
        "request_id": uuid.uuid4().hex,
        "run_id": run_id or f"run-{uuid.uuid4().hex[:8]}",
        "run": run,
        **({"routing": routing} if routing else {}),
        "requested_by": "scheduler-1",
        "dry_run": dry_run,
    }


def post(gate, path, body, headers=None, scheme="http", context=None):
    """Status and JSON body of an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{scheme}://127.0.0.1:{gate.port}{path}", data, {"Content-Type": "application/json", **(headers or {})}
    )
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ask(gate, **fields):
    status, answer = post(gate, "/v1/admission", question(**fields))
    assert status == 200, answer
    return answer
