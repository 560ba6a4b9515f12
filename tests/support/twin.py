"""The rule pack a second time, in plain Python: what must be denied of a document, from the text of the rules' titles.

Written from `docs/policy.md`, not from the Rego: the two agree on every document, or one of them is wrong.
"""

import re

EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
CARD = re.compile(r"(?<![0-9])[0-9](?:[ -]?[0-9]){12,18}(?![0-9])")
NATIONAL = re.compile(r"(?<![0-9])[0-9]{3}-[0-9]{2}-[0-9]{4}(?![0-9])")


def denied(document, data):
    """The names of the rules that a document breaks."""
    found = set()
    for part in document["judging"]:
        found |= _PARTS[part](document, data)
    return found


def _personal(run, data):
    return run["sensitivity"] in data["personal_sensitivities"] or run["sensitivity"] not in data["sensitivities"]


def _consents(run, scope):
    consent = run["consent"]
    return consent is not None and consent["granted"] and scope in consent["scopes"]


def _run(document, data):
    run = document["run"]
    quantum = run["runtime"] != "classical"
    workload = data["workloads"].get(run["workload"])
    center = data["cost_centers"].get(run["cost_center"])
    tiers = data["tiers"]
    cost, shots, canary = run["estimated_cost_usd"], run["shots"], run["canary_share"]
    material = data["reproducibility"]["always"] + (data["reproducibility"]["quantum"] if quantum else [])
    least = data["shots"]["least"].get(run["tier"])
    checks = {
        "encrypted_sensitive": (
            run["sensitivity"] in data["encrypted_sensitivities"] or run["sensitivity"] not in data["sensitivities"]
        )
        and run["encrypted"] is not True,
        "required_tags": any(run[tag] is None for tag in ("workload", "purpose", "submitter", "cost_center")),
        "known_workload": workload is None,
        "least_tier": run["tier"] not in tiers
        or (workload is not None and tiers.index(run["tier"]) < tiers.index(workload["tier"])),
        "allowed_purpose": run["purpose"] in data["forbidden_purposes"]
        or (workload is not None and run["purpose"] not in workload["purposes"]),
        "consent_scope": _personal(run, data) and not _consents(run, run["purpose"]),
        "tokenised_subject": _personal(run, data) and not run["tokenised"],
        "run_budget": center is None or (cost is not None and not 0 <= cost <= center["run_usd"]),
        "shots_range": quantum
        and (shots is None or (least is not None and shots < least) or shots > data["shots"]["most"]),
        "canary_share": run["canary"] is True
        and (canary is None or (run["tier"] in data["canary_share"] and canary > data["canary_share"][run["tier"]])),
        "reproducible": run["tier"] != "low" and any(name not in run["material"] for name in material),
        "declared_fallback": workload is not None
        and workload["synchronous"]
        and quantum
        and run["fallback"] != "classical",
    }
    return {name for name, broken in checks.items() if broken}


def _routing(document, data):
    run, routing = document["run"], document["routing"]
    endpoint = data["endpoints"].get(routing["endpoint"])
    checks = {
        "routed_as_declared": run["runtime"] == "classical" and routing["runtime"] != "classical",
        "approved_endpoint": endpoint is None
        or run["sensitivity"] not in endpoint["sensitivities"]
        or routing["provider"] != endpoint["provider"]
        or routing["region"] != endpoint["region"],
        "approved_region": run["sensitivity"] in data["residency"]
        and routing["region"] not in data["residency"][run["sensitivity"]],
        "endpoint_contract": endpoint is not None
        and endpoint["provider"] in data["third_parties"]
        and run["sensitivity"] not in endpoint["contract"] + data["uncontracted_sensitivities"],
        "third_party_consent": _personal(run, data)
        and routing["provider"] in data["third_parties"]
        and not _consents(run, "third-party-compute"),
    }
    return {name for name, broken in checks.items() if broken}


def _high(run, data):
    return run["tier"] == "high" or run["tier"] not in data["tiers"]


def _decision(document, data):
    decision = document["decision"]
    broken = _high(document["run"], data) and decision["acted_on"] is not False and decision["explained"] is not True
    return {"explained"} if broken else set()


def _outcome(document, data):
    run, outcome = document["run"], document["outcome"]
    most = data["calibration_hours"].get(run["tier"])
    age = outcome["calibration_age_hours"]
    provider = data["third_parties"].get(outcome["provider"])
    must_ask = run["tier"] in data["gate"]["tiers"] or (
        run["tier"] not in data["tiers"] and data["gate"]["tiers"] != []
    )
    asked_for = {"denied", "not_classical"} | ({"unasked", "asked_late", "other_facts"} if must_ask else set())
    checks = {
        "gate_obeyed": bool(asked_for & set(outcome["gate"])),
        "human_review": _high(run, data)
        and outcome["decided"]
        and outcome["acted_on"] is not False
        and not outcome["reviewed_first"],
        "admitted_first": outcome["routed"] and (outcome["rejected"] or not outcome["admitted"]),
        "known_cost": outcome["completed"] and run["estimated_cost_usd"] is None and not outcome["billed"],
        "signed_result": provider is not None and provider["signs_results"] and not outcome["signed"],
        "calibration_age": most is not None and (outcome["backend"] is not None if age is None else age > most),
    }
    return {name for name, broken in checks.items() if broken}


def _text(document, data):
    texts = [clear["text"] for clear in document["clear"]]
    found = any(shape.search(text) for text in texts for shape in (EMAIL, CARD, NATIONAL))
    return {"no_clear_pii"} if found else set()


_PARTS = {"run": _run, "routing": _routing, "decision": _decision, "outcome": _outcome, "text": _text}
