"""What the chaos proof expects of each record it sends is what the run stage makes of it, without any broker."""

from collections import Counter

from cluster import shuffled
from records import Log, Record
from sent import REFUSED, Sent, mixed, odd, reckoned, varied

from app.core.records import Batch
from app.core.runs import RunStage
from app.core.sli import RUNS
from simulators.scenarios import SCENARIOS
from simulators.traffic import Traffic

NAMES = {"applied": "events_applied", "duplicate": "duplicates"}


def test_every_record_becomes_what_it_was_meant_to_be(catalog, policy):
    traffic = Traffic(SCENARIOS["steady"], seed=1, start=Log.START, rate=4000, results_per_run=4)
    events = varied(traffic.runs(300), share=0.05, seed=1)
    intended = mixed(events, refused=0.1, conflicts=0.05, harmless=0.1, seed=1)
    intended = [*odd(200, 1), *shuffled(intended, duplicates=0.1, within=2000, seed=1)]
    stage, places, sent, letters = RunStage(catalog, policy, 1), Counter(), [], {}
    for one in intended:
        message = one.message
        offset = places[message.topic]
        places[message.topic] += 1
        sent.append(Sent(message.topic, 0, offset, *one))
        record = Record(offset, int(Log.START * 1000), message.key, message.value, tuple(message.headers))
        for letter in stage.apply(Batch(message.topic, 0, offset, offset + 1, [record])).dead_letters:
            letters[letter.topic, 0, offset] = letter.reason.value, letter.record.value
    wrong, figures = reckoned(sent, letters, shown(stage.counters))
    assert wrong == {}
    reasons = {meant for kinds in REFUSED.values() for meant, _ in kinds}
    assert reasons | {"conflicting_duplicate", "duplicate", "applied"} <= figures.keys()
    assert figures["hostile dead letters"] > 0


def shown(counters):
    """The counters of a stage as `/metrics` shows them."""
    found = {}
    for (what, *labels), value in counters.items():
        if what in NAMES:
            found[f"qethics_{NAMES[what]}_total", (("partition", "0"), ("topic", labels[0]))] = value
        elif what == "rejected":
            given = (("partition", "0"), ("reason", labels[0]), ("stage", RUNS))
            found["qethics_dead_letters_total", given] = value
    return found
