"""What an Alertmanager would tell: every alert that fired, as firing and as over, and none twice as new."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.core.evidence import instant
from app.core.outcomes import Alert
from app.core.paging import UNTOLD_SECONDS, Book, posted
from app.core.telling import Telling

NOW = 1_790_000_000
WAIT, INTERVAL, HOLD = 5, 60, 75


class Alertmanager:
    """One group of Alertmanager 0.25 (`dispatch`, `provider/mem`, `notify.DedupStage`), by the second.

    What it was sent is in memory; what it has notified of is on disk.
    """

    def __init__(self):
        self.up = True
        self.alerts, self.flush_at = {}, None
        self.notified, self.told = set(), []

    def stop(self):
        self.up, self.alerts, self.flush_at = False, {}, None

    def post(self, alert, now):
        name = alert.labels["alertname"]
        self.alerts[name] = alert
        if self.flush_at is None:
            # At once, if it began longer ago than the wait.
            self.flush_at = now + (0 if alert.starts_at < instant(now - WAIT) else WAIT)

    def tick(self, now):
        if self.flush_at is None or now < self.flush_at:
            return
        firing = {name for name, each in self.alerts.items() if each.ends_at > instant(now)}
        fresh, over = firing - self.notified, (set(self.alerts) - firing) & self.notified
        if fresh or over:
            self.told += [("firing", name, self.alerts[name].starts_at, self.alerts[name]) for name in fresh]
            self.told += [("resolved", name, self.alerts[name].ends_at, self.alerts[name]) for name in over]
            self.notified = firing
        self.alerts = {name: each for name, each in self.alerts.items() if name in firing}
        self.flush_at = now + INTERVAL if self.alerts else None


class World:
    """A topic, a pager and Alertmanagers of a cluster, by the second; the pager looks once a second."""

    def __init__(self, alertmanagers=1):
        self.now = NOW
        self.topic, self.told = [], {}
        self.alertmanagers = [Alertmanager() for _ in range(alertmanagers)]
        self.episodes = []
        self.start()

    def start(self):
        """A pager that knows what the topic and its own file say."""
        self.book = Book("")
        for each in self.topic:
            self.book.take(each, self.now)
        self.told = dict(self.told)
        self.ways = [Telling(self.told, {"page": HOLD}) for _ in self.alertmanagers]

    def say(self, status, name="A"):
        self.topic.append(made(status, self.now, name))
        self.book.take(self.topic[-1], self.now)

    def fire(self):
        if not self.episodes or self.episodes[-1][1] is not None:
            self.episodes.append([self.now, None])
            self.say("firing")

    def end(self):
        if self.episodes and self.episodes[-1][1] is None:
            self.episodes[-1][1] = self.now
            self.say("resolved")

    def wait(self, seconds):
        for _ in range(seconds):
            self.now += 1
            self.book.forget(self.now)
            for one, way in zip(self.alertmanagers, self.ways, strict=True):
                due = way.due(self.book.leases(), self.now)
                if one.up:
                    for each in due:
                        one.post(posted(each, self.now, ""), self.now)
                        way.taken(each, self.now, self.now)
                    one.tick(self.now)
                elif due:
                    way.failed()

    def do(self, what, seconds):
        first = self.alertmanagers[0]
        if what == "down":
            first.stop()
        elif what == "up":
            first.up = True
        elif what == "again":  # so quickly that no request failed
            first.stop()
            first.up = True
        elif what == "restart":
            self.start()
        elif what in ("fire", "end"):
            getattr(self, what)()
        self.wait(seconds)

    def said(self, status):
        return [each for one in self.alertmanagers for each in one.told if each[0] == status]


def made(status, at, name="A", **fields):
    known = {"alert_id": f"{name}{at}", "fingerprint": name, "labels": {}, "summary": "s", "figures": {}}
    return Alert(name=name, severity="page", status=status, at=instant(at), **{**known, **fields})


action = st.tuples(
    st.sampled_from(["fire", "end", "fire", "end", "down", "up", "again", "restart", "wait"]), st.integers(1, 240)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(action, max_size=14))
@example([("down", 1), ("fire", 20), ("end", 5), ("up", 75)])
@example([("down", 1), ("fire", 20), ("restart", 5), ("end", 5), ("restart", 1), ("up", 10), ("restart", 10)])
@example([("fire", 3), ("again", 1), ("end", 1)])
@example([("fire", 90), ("end", 1), ("down", 30), ("up", 1)])
@example([("down", 1), ("fire", 20), ("end", 5), ("fire", 20), ("end", 5), ("fire", 20), ("end", 5), ("up", 200)])
def test_whatever_fires_is_told_as_firing_and_as_over_and_nothing_is_told_twice_as_new(actions):
    world = World()
    for what, seconds in actions:
        world.do(what, seconds)
    world.end()
    world.do("up", 400)
    firing, over = world.said("firing"), world.said("resolved")
    began = [at for _, _, at, _ in firing]
    assert len(set(began)) == len(began), "told twice as new"
    starts = [instant(at) for at, _ in world.episodes]
    assert set(began) <= set(starts)
    if starts:
        # Of several times before anybody could be told one is told, with the number of the others; one that comes
        # before Alertmanager has told that the one before it is over goes on with it.
        assert began, "never told"
        assert over, "never told that it is over"
        assert over[-1][2] == instant(world.episodes[-1][1])
        assert world.alertmanagers[0].notified == set()


def test_what_ended_while_alertmanager_was_away_is_told_with_its_own_times():
    world = World()
    world.do("down", 1)
    world.fire()
    world.wait(20)
    world.end()
    world.wait(1_200)
    world.do("up", 200)
    (began, ended) = world.episodes[0]
    ((_, _, starts_at, fired),) = world.said("firing")
    ((_, _, ends_at, over),) = world.said("resolved")
    assert (starts_at, ends_at) == (instant(began), instant(ended)) == (over.starts_at, over.ends_at)
    assert f"over at {instant(ended)}" in fired.annotations["description"]


def test_several_times_in_one_outage_are_one_page_that_says_how_many():
    world = World()
    world.do("down", 1)
    for _ in range(3):
        world.do("fire", 20)
        world.do("end", 20)
    world.do("up", 200)
    ((_, _, starts_at, fired),) = world.said("firing")
    assert starts_at == instant(world.episodes[-1][0])
    assert f"fired 3 times since {instant(world.episodes[0][0])}" in fired.annotations["description"]
    assert len(world.said("resolved")) == 1


def test_a_pair_tells_once_what_one_of_it_told_while_the_other_was_away():
    world = World(alertmanagers=2)
    world.do("down", 1)
    world.do("fire", 20)
    world.do("end", 200)
    world.do("up", 400)
    assert [len(one.told) for one in world.alertmanagers] == [0, 2]


def test_what_ended_too_long_ago_is_not_told():
    world = World()
    world.alertmanagers[0].stop()
    for name, ago in (("old", UNTOLD_SECONDS + 60), ("new", UNTOLD_SECONDS - 60)):
        for each in (made("firing", NOW - ago - 60, name), made("resolved", NOW - ago, name)):
            world.topic.append(each)
    world.start()
    world.do("up", 300)
    assert [name for _, name, _, _ in world.said("firing")] == ["new"]
    assert [name for _, name, _, _ in world.said("resolved")] == ["new"]


def test_an_end_alone_is_told_as_well_and_ends_what_was_told():
    """A compacted topic has the last record only, and an end does not always say since when."""
    world = World()
    world.topic = [made("resolved", NOW - 30, "untold"), made("firing", NOW - 100, "told")]
    world.start()
    world.wait(200)
    world.topic[1] = made("resolved", world.now, "told")
    world.start()
    world.wait(200)
    assert sorted(name for _, name, _, _ in world.said("firing")) == ["told", "untold"]
    assert sorted(name for _, name, _, _ in world.said("resolved")) == ["told", "untold"]
