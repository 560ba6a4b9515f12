"""A bank of detectors: one model, all streams of a partition in arrays, a batch at a time."""

from math import sqrt
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.mixture import Mixture, Rows, triple
from detectors.model import Floats, Known, Model, Moments, share

Kind = Literal["catalog", "synthetic", "learned"]
KINDS: Final[tuple[Kind, ...]] = ("catalog", "synthetic", "learned")

#: Learning its first baseline, armed while a learned one grows, armed, out.
_LEARNING, _GROWING, _ARMED, _OUT = range(4)
#: What is kept of a stream beside its evidence.
_ROW: Final = np.dtype(
    [
        ("state", "u1"),
        ("kind", "u1"),
        #: The alternative that alarmed.
        ("lead", "u1"),
        #: Observations taken in, and those the baseline is from.
        ("n", "<u4"),
        ("learned", "<u4"),
        #: The baseline; of a learned one mean, sum of squared deviations and mean of 1 / of.
        ("location", "<f8"),
        ("spread", "<f8"),
        ("inverse", "<f4"),
        #: What will be learned from next: how many, their sums of deviations from `location` and of the squares of
        #: these, and the sum of 1 / of.
        ("more", "<u4"),
        ("sum", "<f8"),
        ("squares", "<f8"),
        ("inverses", "<f4"),
    ]
)
_VERSION: Final = 2
#: Half of the interval that an alarm gives for the size of a change, in standard errors. 1.96 would do if it were
#: known when the change began; measured over changes of 0.5 to 4 standard deviations, that covers 80 to 86 %,
#: this 93 to 96 %.
_HALF_WIDTH: Final = 2.8
#: A stream that is out has moved further when the mean of about so many observations is surely so many times as far
#: out as what was last said.
_LATELY: Final = 8
_FURTHER: Final = 1.5
_NEVER: Final = np.iinfo(np.int64).max
#: With fewer streams in a turn than this, one after the other is faster.
_MANY: Final = 6


class Baseline(NamedTuple):
    """What a stream is held against: (location, spread) in the model's meaning, and where they are from.

    `observations` is how many it was learned from; 0 where it was given.
    """

    location: float
    spread: float
    kind: Kind
    observations: int = 0


class Change(NamedTuple):
    """An alarm, that a stream which is out has moved half as far again, or its return to the baseline.

    `place` is that in the batch, `n` counts the stream's observations. `observations` is how long ago the change is
    estimated to have begun, `size` the mean since less the baseline's, with an interval that covers the truth in some
    95 % (less for counts with few shots). `evidence` says how much better a change explains what was seen than none
    does, averaged over every beginning since the last restart with the inflow as prior: at a fixed moment an e-value.
    `spent` is that inflow: the expected number of false alarms since then.
    """

    kind: Literal["alarm", "worse", "recovery"]
    row: int
    place: int
    n: int
    direction: Literal["up", "down"]
    size: float
    low: float
    high: float
    observations: float
    evidence: float
    spent: float


class _Snapshot(msgspec.Struct, array_like=True):
    version: int
    model: str
    shifts: list[float]
    rows: int
    arrays: dict[str, bytes]


class Bank:
    """Streams under one model.

    A stream learns its baseline (unless it was given one), is then armed, and after an alarm is *out* until the
    reversed test finds it back at its baseline or `rearm` is called; so one change is one alarm. A learned baseline
    grows: whenever as many observations again have come it is learned anew from all of them, until `grow` are reached
    or the stream alarms. An observation costs some microseconds in small batches and less than one in large ones; a
    stream at most 256 bytes.

    Parameters
    ----------
    model
        What change looks like.
    learn
        Observations a baseline is first learned from, >= 2.
    grow
        Observations a baseline is at last learned from; `learn` or less means that it does not grow.
    doubt
        Probability, in (0, 0.5), that the truth is further from a learned baseline than is allowed for, on one side:
        such a stream rings without a change. The smaller, the later changes are seen.
    """

    def __init__(self, model: Model, *, learn: int = 500, grow: int = 0, doubt: float = 1e-3) -> None:
        if learn < 2 or not 0 < doubt < 0.5:
            raise ValueError(f"learn >= 2 and doubt in (0, 0.5), not {learn} and {doubt}")
        self.model = model
        self.rows = 0
        self._learn = learn
        self._grow_to = max(grow, learn)
        self._doubt = doubt
        self._mixture = Mixture(model.weights)
        self._table = np.zeros(0, dtype=_ROW)
        self._coefficients = np.zeros((0, 0, 0))
        #: Whether a stream of the batch at hand may be out.
        self._any_out = False

    def add(self, baseline: Baseline | None = None) -> int:
        """A new stream; without a baseline it learns one from what comes first. Returns its row."""
        row = self.rows
        self.rows += 1
        if self.rows > len(self._table):
            self._grow(max(16, 2 * len(self._table)))
        self.rebaseline(row, baseline)
        return row

    def _grow(self, rows: int) -> None:
        table = np.zeros(rows, dtype=_ROW)
        table[: len(self._table)] = self._table
        self._table = table
        self._mixture.grow(rows)
        self._prepare()

    def _prepare(self) -> None:
        """Coefficients of all rows that have a baseline."""
        ready = np.flatnonzero(self._table["state"][: self.rows] != _LEARNING)
        harmless = self.model.coefficients(Known.given(0.5, 0.25), self._doubt)
        self._coefficients = np.zeros((len(self._table), *harmless.shape[1:]))
        self._prepare_rows(ready)

    def _prepare_rows(self, rows: Rows) -> None:
        if not len(rows):
            return
        baselines = [self._held(row) for row in rows.tolist()]
        learned = [baseline.observations or np.inf for baseline in baselines]
        known = np.array([[each.location, each.spread] for each in baselines])
        inverse = np.where(np.isinf(learned), 0.0, self._table["inverse"][rows])
        columns = (known[:, 0], known[:, 1], np.array(learned), inverse)
        self._coefficients[rows] = self.model.coefficients(Known(*(each[:, None] for each in columns)), self._doubt)

    def rebaseline(self, row: int, baseline: Baseline | None = None) -> None:
        """Hold a stream against another baseline from here on, or let it learn one anew.

        Raises
        ------
        ValueError
            If that cannot be a baseline under the model.
        """
        if baseline is not None:
            try:
                self.model.check(baseline.location, baseline.spread)
            except ValueError as error:
                raise ValueError(f"{self.model.name}: {error}") from error
        self._mixture.restart(row)
        n = self._table[row]["n"]
        self._table[row] = np.zeros((), dtype=_ROW)
        entry = self._table[row]
        entry["n"] = n
        if baseline is None:
            entry["state"], entry["kind"] = _LEARNING, KINDS.index("learned")
            return
        entry["state"], entry["kind"] = _ARMED, KINDS.index(baseline.kind)
        entry["location"], entry["spread"] = baseline.location, baseline.spread
        self._prepare_rows(np.array([row]))

    def baseline(self, row: int) -> Baseline | None:
        """What a stream is held against; None while it learns."""
        return None if self._table[row]["state"] == _LEARNING else self._held(row)

    def _held(self, row: int) -> Baseline:
        entry = self._table[row]
        kind, learned = KINDS[int(entry["kind"])], int(entry["learned"])
        location, spread = float(entry["location"]), float(entry["spread"])
        if learned:
            location, spread = self.model.learned(Moments(learned, location, spread, float(entry["inverse"])))
        return Baseline(location, spread, kind, learned)

    def out(self, row: int) -> bool:
        """Whether a stream has alarmed and not returned."""
        return bool(self._table[row]["state"] == _OUT)

    def rearm(self, row: int) -> None:
        """Let a stream that is out alarm again."""
        if self.out(row):
            self._restart(row, _ARMED)

    def _leave(self, row: int, lead: int, size: float) -> None:
        """A stream is out. What it would have learned from next is not of its baseline, or may not be."""
        entry = self._table[row]
        *_, mean, _ = self._mixture.posterior(row)
        self._restart(row, _OUT)
        self._mixture.follow_mean(row, mean, size)
        entry["lead"], entry["more"], entry["sum"], entry["squares"], entry["inverses"] = lead, 0, 0.0, 0.0, 0.0

    def _restart(self, row: int, state: int) -> None:
        self._mixture.restart(row)
        self._table[row]["state"] = state

    # -- observations ------------------------------------------------------------------------------------------------

    def run(self, row: int, values: Floats, inflow: float) -> list[Change]:
        """Take in observations of one stream, shape (n,) or (n, columns), with the same inflow each; its alarms."""
        shaped = np.asarray(values, dtype=np.float64).reshape(-1, self.model.columns)
        changes = self.update(np.full(len(shaped), row), shaped, np.full(len(shaped), inflow))
        return [change for change in changes if change.kind == "alarm"]

    def update(self, rows: Rows, values: Floats, inflow: Floats) -> list[Change]:
        """Take in a batch of observations.

        However a sequence is cut into batches, the state and the changes are the same to the bit.

        Parameters
        ----------
        rows
            The stream of each, shape (n,); those of one stream in their order.
        values
            Shape (n, columns).
        inflow
            The expected false alarms each may add, shape (n,), >= 0; fixed before the value was seen.

        Returns
        -------
        Alarms, what has moved further, and recoveries, by place in the batch.

        Raises
        ------
        ValueError
            If the model cannot judge one of the values (`Model.accepts`), or an inflow is negative or not finite;
            nothing is then taken in.
        """
        if not self.model.accepts(values).all():
            raise ValueError(f"{self.model.name} cannot judge all of these values; see its `accepts`")
        if not (inflow.min(initial=0.0) >= 0 and inflow.max(initial=0.0) < np.inf):
            raise ValueError("an inflow is finite and not negative")
        values = self.model.shaped(values)
        changes: list[Change] = []
        places = np.arange(len(rows))
        while len(places):
            places = self._until_due(places, rows, values, inflow, changes)
        changes.sort(key=lambda change: change.place)
        return [self._sized(change, values) for change in changes]

    def _until_due(
        self, places: Rows, rows: Rows, values: Floats, inflow: Floats, changes: list[Change]
    ) -> Rows:  # fmt: skip
        """Take in the observations of each stream until its baseline is to be learned anew; the places left over."""
        here = rows[places]
        states = self._table["state"][here]
        growing = states <= _GROWING
        left = places[:0]
        if growing.any():
            soon = _ranks(here) < self._due(here)
            left, places, here = places[~soon], places[soon], here[soon]
            states, growing = states[soon], growing[soon]
        armed = states != _LEARNING
        if armed.all():
            self._watch(places, here, values[places], inflow[places], changes)
        elif armed.any():
            watched = places[armed]
            self._watch(watched, here[armed], values[watched], inflow[watched], changes)
        np.add.at(self._table["n"], here, 1)
        if growing.any():
            self._grow_baselines(here[growing], values[places[growing]])
        return left

    def _due(self, rows: Rows) -> NDArray[np.int64]:
        """After how many observations the baseline of each stream is to be learned anew."""
        table = self._table
        learned, more = table["learned"][rows].astype(np.int64), table["more"][rows]
        until = np.where(table["state"][rows] == _LEARNING, self._learn, np.minimum(2 * learned, self._grow_to))
        due: NDArray[np.int64] = np.where(table["state"][rows] <= _GROWING, until - learned - more, _NEVER)
        return due

    def _grow_baselines(self, rows: Rows, values: Floats) -> None:
        """Add up what baselines will be learned from, and learn those that are due."""
        table, shares = self._table, share(values)
        # The first value of a stream is what the others are counted from: sums of small numbers stay exact.
        new = (table["state"][rows] == _LEARNING) & (table["more"][rows] == 0)
        if new.any():
            streams, first = np.unique(rows[new], return_index=True)
            table["location"][streams] = shares[new][first]
        # A stream that has just alarmed is growing no more.
        still = table["state"][rows] <= _GROWING
        rows, shares, values = rows[still], shares[still], values[still]
        deviations = shares - table["location"][rows]
        np.add.at(table["more"], rows, 1)
        np.add.at(table["sum"], rows, deviations)
        np.add.at(table["squares"], rows, deviations**2)
        if self.model.columns == 2:
            np.add.at(table["inverses"], rows, 1 / values[:, 1])
        streams = np.unique(rows)
        ready = streams[self._due(streams) == 0]
        for row in ready.tolist():
            self._learn_row(row)
        self._prepare_rows(ready)

    def _learn_row(self, row: int) -> None:
        entry = self._table[row]
        before, more = int(entry["learned"]), int(entry["more"])
        n = before + more
        step = float(entry["sum"]) / n
        entry["location"] += step
        entry["spread"] += max(float(entry["squares"]) - n * step**2, 0.0)
        entry["inverse"] = (float(entry["inverse"]) * before + float(entry["inverses"])) / n
        entry["learned"], entry["state"] = n, _GROWING if n < self._grow_to else _ARMED
        entry["more"] = entry["sum"] = entry["squares"] = entry["inverses"] = 0

    def _watch(self, places: Rows, rows: Rows, values: Floats, inflow: Floats, changes: list[Change]) -> None:
        """Observations of streams that have a baseline, turn by turn: in a turn no stream is twice."""
        coefficients = self._coefficients[rows]
        ratios, observed = self.model.ratios(values, coefficients), self.model.observed(values, coefficients)
        order, ends = _turns(rows)
        if len(rows) < _MANY * len(ends):
            self._watch_few(places, rows, ratios, observed, inflow, changes)
            return
        places, rows, inflow = places[order], rows[order], inflow[order]
        tripled, observed = triple(ratios[order]), observed[order]
        before = self._table["n"][rows]
        self._any_out = bool((self._table["state"][rows] == _OUT).any())
        first = 0
        for turn, last in enumerate(ends, 1):
            cut = slice(first, last)
            numbers = before[cut] + turn
            self._step(rows[cut], tripled[cut], observed[cut], inflow[cut], places[cut], numbers, changes)
            first = last

    def _watch_few(
        self, places: Rows, rows: Rows, ratios: Floats, observed: Floats, inflow: Floats, changes: list[Change]
    ) -> None:
        """The same stream by stream, to the bit: with few streams a turn is too short for arrays."""
        for row in dict.fromkeys(rows.tolist()):
            own = np.flatnonzero(rows == row)
            self._follow(row, places[own].tolist(), ratios[own], observed[own].tolist(), inflow[own].tolist(), changes)

    def _follow(
        self, row: int, places: list[int], ratios: Floats, observed: list[float], inflow: list[float],
        changes: list[Change],
    ) -> None:  # fmt: skip
        """The observations of one stream, from change to change."""
        entry, listed = self._table[row], ratios.tolist()
        before, at = int(entry["n"]), 0  # `n` itself is counted in `_until_due`
        while at < len(places):
            if entry["state"] == _OUT:
                lead, first = int(entry["lead"]), at
                at, back = self._mixture.follow_back(
                    row, listed, at, self._possible(np.array([lead]))[0].tolist(), inflow
                )
                for since in range(first, min(at + 1, len(places))):
                    self._worsened(row, places[since], before + since + 1, observed[since], changes)
                if back:
                    changes.append(self._recovery(row, places[at], before + at + 1, lead))
                    self._restart(row, _ARMED)
            else:
                at, statistic = self._mixture.follow(row, listed, observed, inflow, at)
                if statistic:
                    change, lead = self._alarm(row, places[at], before + at + 1, statistic)
                    changes.append(change)
                    self._leave(row, lead, change.size)
            at += 1

    def _step(
        self, rows: Rows, tripled: Floats, observed: Floats, inflow: Floats, places: Rows, numbers: Rows,
        changes: list[Change],
    ) -> None:  # fmt: skip
        """One observation of each of some streams."""
        if self._any_out:
            out = self._table["state"][rows] == _OUT
            self._await_return(rows[out], tripled[out], observed[out], inflow[out], places[out], numbers[out], changes)
            armed = ~out
            rows, tripled, observed = rows[armed], tripled[armed], observed[armed]
            inflow, places, numbers = inflow[armed], places[armed], numbers[armed]
        statistic = self._mixture.step(rows, tripled, observed, inflow)
        if statistic.max(initial=0.0) < 1.0:
            return
        for hit in np.flatnonzero(statistic >= 1.0).tolist():
            row = int(rows[hit])
            change, lead = self._alarm(row, int(places[hit]), int(numbers[hit]), float(statistic[hit]))
            changes.append(change)
            self._leave(row, lead, change.size)
            self._any_out = True

    def _alarm(self, row: int, place: int, n: int, statistic: float) -> tuple[Change, int]:
        shares, age, mean, spent = self._mixture.posterior(row)
        location, spread, *_ = self._held(row)
        shift = float((shares * self.model.shifts).sum())
        lead = int(np.abs(self.model.shifts - shift).argmin())
        size = self.model.effect(mean, location, spread)
        evidence = statistic / spent if spent else float("inf")
        return Change("alarm", row, place, n, self._direction(lead), size, size, size, age, evidence, spent), lead

    def _sized(self, change: Change, values: Floats) -> Change:
        """With the interval of its size: for that the size of the observation it was found in is needed."""
        if change.kind != "alarm":
            return change
        baseline = self._held(change.row)
        noise = self.model.noise(baseline.location, baseline.spread, change.size, float(values[change.place, -1]))
        half = _HALF_WIDTH * noise * sqrt(1 / max(change.observations, 1.0) + 1 / (baseline.observations or np.inf))
        return change._replace(low=change.size - half, high=change.size + half)

    def _direction(self, lead: int) -> Literal["up", "down"]:
        return "up" if self.model.shifts[lead] > 0 else "down"

    def _worsened(self, row: int, place: int, n: int, observed: float, changes: list[Change]) -> None:
        """Whether a stream that is out has moved much further than was said."""
        mean, said = self._mixture.mean(row)
        mean += (observed - mean) / _LATELY
        location, spread, *_ = self._held(row)
        size = self.model.effect(mean, location, spread)
        half = _HALF_WIDTH * self.model.noise(location, spread, size, np.inf) / sqrt(_LATELY)
        if size * said > 0 and abs(size) - half >= _FURTHER * abs(said):
            said = size
            way = self._direction(int(self._table[row]["lead"]))
            changes.append(Change("worse", row, place, n, way, size, size - half, size + half, _LATELY, 0.0, 0.0))
        self._mixture.follow_mean(row, mean, said)

    def _await_return(
        self, rows: Rows, tripled: Floats, observed: Floats, inflow: Floats, places: Rows, numbers: Rows,
        changes: list[Change],
    ) -> None:  # fmt: skip
        """The reversed test: a stream is back when no alternative that may have been it explains it any more.

        For each, (r + a) / L is the statistic of its end, and the smallest of them counts, as one does not know which
        it was: those on the same side, and at least half as far out as what alarmed. Its inflow is that of the
        stream: a return that is none leads to another alarm, and so may be no more frequent than a false one.
        """
        if not len(rows):
            return
        table, mixture, shifts = self._table, self._mixture, self.model.shifts
        for row, place, number, value in zip(
            rows.tolist(), places.tolist(), numbers.tolist(), observed.tolist(), strict=True
        ):
            self._worsened(row, place, number, value, changes)
        lead = table["lead"][rows]
        back = mixture.step_back(rows, tripled[:, : len(shifts)], inflow)
        smallest = np.where(self._possible(lead), back, np.inf).min(axis=1)
        for hit in np.flatnonzero(smallest >= 1.0).tolist():
            row = int(rows[hit])
            changes.append(self._recovery(row, int(places[hit]), int(numbers[hit]), int(lead[hit])))
            self._restart(row, _ARMED)

    def _possible(self, lead: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """Which alternatives may have been what alarmed as `lead`, shape (n, K)."""
        shifts = self.model.shifts
        possible: NDArray[np.bool_] = shifts * np.sign(shifts[lead])[:, None] >= 0.5 * np.abs(shifts[lead])[:, None]
        return possible

    def _recovery(self, row: int, place: int, n: int, lead: int) -> Change:
        return Change("recovery", row, place, n, self._direction(lead), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    # -- durability --------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """The whole state: msgpack, no code."""
        used = slice(0, self.rows)
        arrays = {"mixture": self._mixture.state[used].tobytes(), "table": self._table[used].tobytes()}
        return msgspec.msgpack.encode(
            _Snapshot(_VERSION, self.model.name, self.model.shifts.tolist(), self.rows, arrays)
        )

    def restore(self, snapshot: bytes) -> None:
        """Continue exactly where `snapshot` was taken.

        Raises
        ------
        ValueError
            If it was taken from another model, with other shifts, by other code, or is damaged.
        """
        try:
            found = msgspec.msgpack.decode(snapshot, type=_Snapshot)
        except msgspec.MsgspecError as error:
            raise ValueError(f"the snapshot is damaged: {error}") from error
        here = (_VERSION, self.model.name, self.model.shifts.tolist())
        if (found.version, found.model, found.shifts) != here:
            raise ValueError(f"the snapshot is of {found.model} version {found.version} {found.shifts}, this is {here}")
        mixture = Mixture(self.model.weights, found.rows)
        try:
            table = np.frombuffer(found.arrays["table"], dtype=_ROW).copy()
            mixture.state = np.frombuffer(found.arrays["mixture"]).reshape(mixture.state.shape).copy()
        except (KeyError, ValueError) as error:
            raise ValueError(f"the snapshot is damaged: {error}") from error
        if len(table) != found.rows:
            raise ValueError(f"the snapshot is damaged: {len(table)} rows of {found.rows}")
        self.rows, self._table, self._mixture = found.rows, table, mixture
        self._prepare()


def _ranked(rows: Rows) -> tuple[Rows, Rows]:
    """An order in which the observations of a stream are together, and in that order the rank of each in its stream."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(first, len(rows)))
    return order, np.arange(len(rows)) - np.repeat(first, counts)


def _ranks(rows: Rows) -> Rows:
    """How many observations of the same stream are before each."""
    order, rank = _ranked(rows)
    ranks = np.empty_like(rank)
    ranks[order] = rank
    return ranks


def _turns(rows: Rows) -> tuple[Rows, list[int]]:
    """An order of observations in turns, and where each turn ends; in a turn no stream is twice."""
    order, rank = _ranked(rows)
    return order[np.argsort(rank, kind="stable")], np.cumsum(np.bincount(rank)).tolist()
