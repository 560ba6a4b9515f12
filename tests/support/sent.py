"""What a test sends, where it came to stand, and what must become of each record: counted from what was sent alone."""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import hostile
from records import Record

from app.conventions import DEAD_LETTER, GAP_HEADER, HEARTBEAT_HEADER, JOBS, REBASELINE_HEADER, RESULTS
from app.core.sli import RUNS
from simulators.traffic import Message

#: What a record is meant to be, beside the reason of a dead letter: an event, or something that nobody thought of.
EVENT = "event"
HOSTILE = "hostile"
APPLIED = "applied"
DUPLICATE = "duplicate"
CONFLICT = "conflicting_duplicate"
#: Headers of which a record can be our own.
_CONTROLS = frozenset(name for name in hostile.HEADERS if name.startswith("qethics-"))
_MOST_BYTES = 1_000_000


class Intended(NamedTuple):
    """A record that is to be sent, and what it is meant to be."""

    message: Message
    meant: str = EVENT


class Sent(NamedTuple):
    """A record that was sent, and where it stands; the offset is a position, as outcomes name it."""

    topic: str
    partition: int
    offset: int
    message: Message
    meant: str = EVENT

    @property
    def place(self):
        return self.topic, self.partition, self.offset


def placed(intended, metadata, short):
    """Records that were sent, with what the broker said of each; `short` is full name -> short name of a topic."""
    return [Sent(short[at.topic], at.partition, at.offset, *one) for one, at in zip(intended, metadata, strict=True)]


# -- records that are not as they should be --------------------------------------------------------------------------


def _with(*headers) -> Callable[[Message], Message]:
    return lambda message: message._replace(headers=headers)


def _value(change) -> Callable[[Message], Message]:
    return lambda message: message._replace(value=change(message.value))


def _changed(old: bytes, new: bytes) -> Callable[[Message], Message]:
    return _value(lambda value: value.replace(old, new, 1))


def _ending(text: bytes) -> Callable[[Message], Message]:
    return _value(lambda value: value[:-1] + text + b"}")


#: Headers that make nothing else of an event.
HARMLESS = (
    *(("note", None), ("", None), ("traceparent", None), ("traceparent", b"\xff\xfe"), ("content-type", None)),
    *(("ce_id", None), ("ce_source", b"\xff"), ("correlation-id", None)),
)
_REFUSED = (
    ("null_value", _value(lambda value: None)),
    ("empty_value", _value(lambda value: b"")),
    ("not_utf8", _ending(b',"x":"\xff\xfe"')),
    ("malformed_json", _value(lambda value: value[:-1])),
    ("non_finite", _ending(b',"x":NaN')),
    ("too_deep", _ending(b',"x":' + b"[" * 65 + b"]" * 65)),
    ("duplicate_key", _ending(b',"run_id":"twice"')),
    ("missing_field", _changed(b'"producer":', b'"product":')),
    ("time_out_of_range", _changed(b'"at":"2', b'"at":"1')),
    ("cloudevents", _with(("ce_specversion", None))),
    ("cloudevents", _with(("ce_specversion", b"1.0"), ("ce_id", b"\xff"))),
    ("invalid_field", _with((HEARTBEAT_HEADER, None))),
    ("invalid_field", _with((GAP_HEADER, None))),
    ("invalid_field", _with((HEARTBEAT_HEADER, b"1"), (GAP_HEADER, b"gateway"))),
    ("unknown_type", _with((REBASELINE_HEADER, b"1"))),
)
#: Topic -> what an event of it can be made into, with the reason it is a dead letter for.
REFUSED = {
    JOBS: (*_REFUSED, ("unknown_type", _changed(b'"type":"', b'"type":"no-'))),
    RESULTS: (
        *_REFUSED,
        ("counts_mismatch", _changed(b'"shots":', b'"shots":1')),
        ("bad_bitstring", _changed(b'"counts":{"', b'"counts":{"2')),
    ),
}
_LAST_DIGIT = re.compile(rb'("at":"[^"]*)(\d)Z"')


def conflicting(message):
    """Another event under the id of an event: a microsecond apart."""

    def other(found):
        return found[1] + b"%d" % ((int(found[2]) + 1) % 10) + b'Z"'

    return message._replace(value=_LAST_DIGIT.sub(other, message.value, count=1))


def mixed(messages, *, refused, conflicts, harmless, seed):
    """Events, and among them shares of records that are refused, that conflict, and that have odd headers."""
    rng = random.Random(seed)
    made = []
    for message in messages:
        given = message._replace(headers=(rng.choice(HARMLESS),)) if rng.random() < harmless else message
        made.append(Intended(given))
        if rng.random() < conflicts:
            made.append(Intended(conflicting(message)))
        if rng.random() < refused:
            meant, change = rng.choice(REFUSED[message.topic])
            made.append(Intended(change(message), meant))
    return made


def varied(messages, *, share, seed):
    """The events, of which a share of the runs declares what no other does, so that the policy engine is asked anew."""
    rng = random.Random(seed)
    for message in messages:
        if b'"type":"submitted"' in message.value and rng.random() < share:
            yield message._replace(value=message.value.replace(b'"shots":1', b'"shots":%d' % rng.randrange(1, 900), 1))
        else:
            yield message


def odd(count, seed):
    """Hostile records that can be sent and are none of our own."""
    rng = random.Random(seed)
    made = []
    while len(made) < count:
        topic = rng.choice((JOBS, RESULTS))
        one: Record = hostile.record(topic, 0, rng)
        if not _CONTROLS & {name for name, _ in one.headers} and len(one.value or b"") < _MOST_BYTES:
            # Of one key, as a run is of one partition.
            made.append(Intended(Message(0.0, topic, b"hostile", one.value, one.headers), HOSTILE))
    return made


# -- what must become of them ----------------------------------------------------------------------------------------


def fates(sent):
    """Place -> what must become of a record, of all but the hostile ones. The first event under an id counts."""
    first: dict = {}
    found = {}
    for one in sorted(sent, key=lambda one: one.place):
        if one.meant == HOSTILE:
            continue
        fate = one.meant
        if fate == EVENT:
            says = json.loads(one.message.value)
            source = one.topic, one.partition, says["run_id"], says["producer"], says["event_id"]
            known = first.setdefault(source, says)
            fate = APPLIED if known is says else DUPLICATE if known == says else CONFLICT
        found[one.place] = fate
    return found


async def letters_of(cluster):
    """Place -> (reason, value) of every dead letter; one that was written again is one."""
    found = {}
    for records in (await cluster.read(DEAD_LETTER)).values():
        for record in records:
            about = {name: text.decode() for name, text in record.headers if not name.startswith("original-")}
            place = about["topic"], int(about["partition"]), int(about["offset"])
            found[place] = about["reason"], record.value
    return found


def reckoned(sent, letters, counters):
    """Hold dead letters and counters against what was sent; returns what does not fit, by name, and the figures.

    Parameters
    ----------
    sent
        The records that were there to be read.
    letters
        As of `letters_of`.
    counters
        As of `Cluster.counters`.
    """
    fate, by_place = fates(sent), {one.place: one for one in sent}
    dead = {place: what for place, what in fate.items() if what not in (APPLIED, DUPLICATE)}
    hostile_ones = {place for place in by_place if place not in fate}
    wrong = {
        "no dead letter": [place for place in dead if place not in letters],
        "dead letter of no bad record": [place for place in letters if place not in dead and place not in hostile_ones],
        "another reason": [place for place in dead if place in letters and letters[place][0] != dead[place]],
        "other bytes": [
            place
            for place, (_, value) in letters.items()
            if place in by_place and value != by_place[place].message.value
        ],
        "counters": _counted(fate, hostile_ones, letters, counters),
    }
    return {name: found for name, found in wrong.items() if found}, {
        **Counter(fate.values()),
        HOSTILE: len(hostile_ones),
        "hostile dead letters": sum(place in letters for place in hostile_ones),
    }


def _counted(fate, hostile_ones, letters, counters):
    """Where the counters are others than they must be: events by topic and partition, dead letters by reason."""
    wrong = []
    taken = Counter((*place[:2], what) for place, what in fate.items() if what in (APPLIED, DUPLICATE))
    spare = Counter(place[:2] for place in hostile_ones if place not in letters)
    for topic, partition in {key[:2] for key in taken} | set(spare):
        shown = {
            what: counters.get((f"qethics_{name}_total", (("partition", str(partition)), ("topic", topic))), 0)
            for what, name in ((APPLIED, "events_applied"), (DUPLICATE, "duplicates"))
        }
        over = {what: shown[what] - taken[topic, partition, what] for what in shown}
        if min(over.values()) < 0 or sum(over.values()) != spare[topic, partition]:
            wrong.append((topic, partition, shown, spare[topic, partition]))
    by_reason = Counter((place[1], reason) for place, (reason, _) in letters.items() if place[0] in REFUSED)
    for name, labels in counters:
        given = dict(labels)
        if name == "qethics_dead_letters_total" and given["stage"] == RUNS:
            by_reason[int(given["partition"]), given["reason"]] -= counters[name, labels]
    return wrong + [(*key, "dead letters", left) for key, left in by_reason.items() if left]
