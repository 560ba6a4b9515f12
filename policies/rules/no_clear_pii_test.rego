package qethics_test.no_clear_pii

import rego.v1

import data.qethics.rules.text.no_clear_pii
import data.qethics_test.fixture

test_nothing if {
	no_clear_pii.deny == set() with input as fixture.changed({})
}

test_a_token if {
	no_clear_pii.deny == set() with input as fixture.changed({"clear": [{"field": "error", "text": "tok-81b2"}]})
}

test_an_at_sign if {
	no_clear_pii.deny == set() with input as fixture.changed({"clear": [{"field": "error", "text": "12 shots @ 3 s"}]})
}

test_a_long_number if {
	no_clear_pii.deny == set() with input as fixture.changed({"clear": [{"field": "error", "text": "12345678901234567890"}]})
}

test_an_address if {
	no_clear_pii.deny == {"error holds what looks like an email address"} with input as fixture.changed({"clear": [{"field": "error", "text": "ask ada@example.org"}]})
}

test_a_card if {
	no_clear_pii.deny == {"error holds what looks like a card number"} with input as fixture.changed({"clear": [{"field": "error", "text": "4111 1111 1111 1111"}]})
}

test_a_national_id if {
	no_clear_pii.deny == {"error holds what looks like a national id"} with input as fixture.changed({"clear": [{"field": "error", "text": "078-05-1120"}]})
}
