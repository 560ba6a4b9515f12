"""The transition table."""

from app.core import events, ledger


def test_every_step_has_a_row_and_every_row_leads_to_steps():
    assert set(ledger.NAMES) | {""} == set(ledger.TRANSITIONS)
    assert set().union(*ledger.TRANSITIONS.values()) == set(ledger.NAMES)


def test_rejected_and_rolled_back_lead_nowhere():
    assert not ledger.TRANSITIONS["rejected"]
    assert not ledger.TRANSITIONS["rolled_back"]


def test_a_history_is_read_in_the_order_it_happened_not_in_the_order_it_arrived():
    code = {kind: ledger.CODES[kind] for kind in ledger.STEPS}
    history = ledger.entry(code[events.Started], 3.0) + ledger.entry(code[events.Submitted], 1.0)
    assert ledger.steps(history) == [("submitted", 1.0), ("started", 3.0)]


def test_an_illegal_change_names_both_states():
    path = [("submitted", 1.0), ("completed", 2.0), ("rolled_back", 3.0)]
    assert ledger.illegal_transitions(path) == [("submitted", "completed")]
    assert ledger.illegal_transitions([("started", 1.0)]) == [("none", "started")]
