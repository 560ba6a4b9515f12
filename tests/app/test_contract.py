"""The generated documents are current, and say what `decode` does."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import dump, event, lifecycle, result

from app import contract
from app.core.decode import Rejection, decode_job, decode_result

DIRECTORY = Path(__file__).resolve().parents[2] / "docs" / "contract"


def test_the_documents_are_current():
    assert contract.write(DIRECTORY, only_check=True) == [], "run `qethics contract`"


@pytest.mark.parametrize("topic", contract.CHANNELS)
def test_every_schema_is_a_valid_schema(topic):
    jsonschema.Draft202012Validator.check_schema(contract.schema(topic))


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    document = contract.asyncapi()

    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = list(references(document))
    assert found
    for reference in found:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


VALIDATORS = {
    topic: jsonschema.Draft202012Validator(contract.schema(topic), format_checker=jsonschema.FormatChecker())
    for topic in ("jobs", "results")
}


@pytest.mark.parametrize("value", lifecycle(), ids=lambda value: value["type"])
def test_what_the_schema_takes_decode_takes(value):
    VALIDATORS["jobs"].validate(value)
    assert not isinstance(decode_job(dump(value)), Rejection)


def test_a_result_fits_its_schema():
    VALIDATORS["results"].validate(result())


simple = st.none() | st.booleans() | st.integers(-10, 10**12) | st.text(max_size=5) | st.just("x" * 2000)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([event("submitted"), event("cost", amount_usd=1.0), result()]),
    st.sampled_from(["tier", "shots", "run_id", "seq", "producer", "amount_usd", "counts", "seed", "workload"]),
    simple,
)
def test_schema_and_decode_agree_on_single_fields(base, field, value):
    changed = {**base, field: value}
    topic, decode = ("results", decode_result) if "counts" in base else ("jobs", decode_job)
    fits = VALIDATORS[topic].is_valid(json.loads(json.dumps(changed)))
    taken = decode(dump(changed))
    if isinstance(taken, Rejection) and taken.reason == "counts_mismatch":
        return  # sums are beyond JSON Schema
    assert fits == (not isinstance(taken, Rejection))
