"""A bank of detectors: one model, all streams of a partition in arrays, a batch at a time."""

from math import sqrt
from typing import Any, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.mixture import Mixture, Rows, triple
from detectors.model import Floats, Model, Moments, share

Kind = Literal["catalog", "synthetic", "learned"]
KINDS: Final[tuple[Kind, ...]] = ("catalog", "synthetic", "learned")

_LEARNING, _ARMED, _OUT = range(3)
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
        #: The baseline; while it is learned, mean and sum of squared deviations.
        ("location", "<f8"),
        ("spread", "<f8"),
        #: Sum of 1 / of, while learning.
        ("inverse", "<f8"),
    ]
)
_VERSION: Final = 1
#: Half of the interval that an alarm gives for the size of a change, in standard errors. 1.96 would do if it were
#: known when the change began; measured over changes of 0.5 to 4 standard deviations, that covers 80 to 86 %,
#: this 93 to 96 %.
_HALF_WIDTH: Final = 2.8
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
    """An alarm, or the return of a stream to its baseline.

    `place` is that in the batch, `n` counts the stream's observations. `observations` is how long ago the change is
    estimated to have begun, `size` the mean since less the baseline's, with an interval that covers the truth in some
    95 % (less for counts with few shots). `evidence` says how much better a change explains what was seen than none
    does, averaged over every beginning since the last restart with the inflow as prior: at a fixed moment an e-value.
    `spent` is that inflow: the expected number of false alarms since then.
    """

    kind: Literal["alarm", "recovery"]
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
    reversed test finds it back at its baseline or `rearm` is called; so one change is one alarm. An observation costs
    some microseconds in small batches and less than one in large ones; a stream about 220 bytes.

    Parameters
    ----------
    model
        What change looks like.
    learn
        Observations a baseline is learned from, >= 2.
    recovery_inflow
        Inflow an observation of the reversed test, in (0, 1): the larger, the sooner a stream counts as returned.
    """

    def __init__(self, model: Model, *, learn: int = 500, recovery_inflow: float = 1e-3) -> None:
        if learn < 2 or not 0 < recovery_inflow < 1:
            raise ValueError(f"learn >= 2 and recovery_inflow in (0, 1), not {learn} and {recovery_inflow}")
        self.model = model
        self.rows = 0
        self._learn = learn
        self._recovery_inflow = recovery_inflow
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
        """Coefficients of all rows; a row without a baseline gets those of a harmless one."""
        baselines = np.full((len(self._table), 2), 0.5)
        ready = self._table["state"] != _LEARNING
        for column, name in enumerate(("location", "spread")):
            baselines[ready, column] = self._table[name][ready]
        self._coefficients = self.model.coefficients(baselines)

    def rebaseline(self, row: int, baseline: Baseline | None = None) -> None:
        """Hold a stream against another baseline from here on, or let it learn one anew.

        Raises
        ------
        ValueError
            If the model cannot be prepared for the baseline.
        """
        self._mixture.restart(row)
        entry = self._table[row]
        if baseline is None:
            entry["state"], entry["kind"], entry["learned"] = _LEARNING, KINDS.index("learned"), 0
            entry["location"] = entry["spread"] = entry["inverse"] = 0.0
            return
        with np.errstate(all="ignore"):
            coefficients = self.model.coefficients(np.array([[baseline.location, baseline.spread]]))[0]
        if not np.isfinite(coefficients).all():
            raise ValueError(f"{self.model.name} cannot hold a stream against {baseline}")
        self._coefficients[row] = coefficients
        entry["state"], entry["kind"], entry["learned"] = _ARMED, KINDS.index(baseline.kind), baseline.observations
        entry["location"], entry["spread"] = baseline.location, baseline.spread

    def baseline(self, row: int) -> Baseline | None:
        """What a stream is held against; None while it learns."""
        entry = self._table[row]
        if entry["state"] == _LEARNING:
            return None
        kind = KINDS[int(entry["kind"])]
        return Baseline(float(entry["location"]), float(entry["spread"]), kind, int(entry["learned"]))

    def out(self, row: int) -> bool:
        """Whether a stream has alarmed and not returned."""
        return bool(self._table[row]["state"] == _OUT)

    def rearm(self, row: int) -> None:
        """Let a stream that is out alarm again."""
        if self.out(row):
            self._restart(row, _ARMED)

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
        Alarms and recoveries, by place in the batch.

        Raises
        ------
        ValueError
            If the model cannot judge one of the values (`Model.accepts`); nothing is then taken in.
        """
        if not self.model.accepts(values).all():
            raise ValueError(f"{self.model.name} cannot judge all of these values; see its `accepts`")
        places = np.arange(len(rows))
        learning = self._table["state"][rows] == _LEARNING
        if learning.any():
            taught = self._teach(rows, values, np.flatnonzero(learning))
            places = places[~taught]
        changes: list[Change] = []
        if len(places):
            self._watch(places, rows[places], values[places], inflow[places], changes)
        changes.sort(key=lambda change: change.place)
        return changes

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
        np.add.at(self._table["n"], rows, 1)

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
        before, at = int(entry["n"]), 0
        while at < len(places):
            if entry["state"] == _OUT:
                lead = int(entry["lead"])
                at, back = self._mixture.follow_back(
                    row, listed, at, self._possible(np.array([lead]))[0].tolist(), self._recovery_inflow
                )
                if back:
                    changes.append(self._recovery(row, places[at], before + at + 1, lead))
                    self._restart(row, _ARMED)
            else:
                at, statistic = self._mixture.follow(row, listed, observed, inflow, at)
                if statistic:
                    change, lead = self._alarm(row, places[at], before + at + 1, statistic)
                    changes.append(change)
                    self._restart(row, _OUT)
                    entry["lead"] = lead
            at += 1
        entry["n"] = before + len(places)

    def _teach(self, rows: Rows, values: Floats, places: Rows) -> NDArray[np.bool_]:
        """Learn from the first observations of streams without a baseline; which were used up by that."""
        taught = np.zeros(len(rows), dtype=bool)
        shares = share(values)
        for place in places.tolist():
            entry = self._table[rows[place]]
            if entry["state"] != _LEARNING:
                continue  # it has just learned enough
            taught[place] = True
            n, mean, value = int(entry["learned"]) + 1, float(entry["location"]), float(shares[place])
            step = value - mean
            mean += step / n
            entry["location"], entry["learned"] = mean, n
            entry["spread"] += step * (value - mean)
            entry["inverse"] += 1 / values[place, -1] if self.model.columns == 2 else 0.0
            entry["n"] += 1
            if n >= self._learn:
                moments = Moments(n, mean, float(entry["spread"]), float(entry["inverse"]) / n)
                self.rebaseline(int(rows[place]), Baseline(*self.model.learned(moments), "learned", n))
        return taught

    def _step(
        self, rows: Rows, tripled: Floats, observed: Floats, inflow: Floats, places: Rows, numbers: Rows,
        changes: list[Change],
    ) -> None:  # fmt: skip
        """One observation of each of some streams."""
        if self._any_out:
            out = self._table["state"][rows] == _OUT
            self._await_return(rows[out], tripled[out], places[out], numbers[out], changes)
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
            self._restart(row, _OUT)
            self._table[row]["lead"] = lead
            self._any_out = True

    def _alarm(self, row: int, place: int, n: int, statistic: float) -> tuple[Change, int]:
        shares, age, mean, spent = self._mixture.posterior(row)
        entry = self._table[row]
        location, spread = float(entry["location"]), float(entry["spread"])
        shift = float((shares * self.model.shifts).sum())
        lead = int(np.abs(self.model.shifts - shift).argmin())
        size = self.model.effect(mean, location, spread)
        half = _HALF_WIDTH * self.model.noise(location, spread) / sqrt(max(age, 1.0))
        evidence = statistic / spent if spent else float("inf")
        change = Change(
            "alarm", row, place, n, self._direction(lead), size, size - half, size + half, age, evidence, spent
        )
        return change, lead

    def _direction(self, lead: int) -> Literal["up", "down"]:
        return "up" if self.model.shifts[lead] > 0 else "down"

    def _await_return(self, rows: Rows, tripled: Floats, places: Rows, numbers: Rows, changes: list[Change]) -> None:
        """The reversed test: a stream is back when no alternative that may have been it explains it any more.

        For each, (r + a) / L is the statistic of its end, and the smallest of them counts, as one does not know which
        it was: those on the same side, and at least half as far out as what alarmed.
        """
        if not len(rows):
            return
        table, mixture, shifts = self._table, self._mixture, self.model.shifts
        lead = table["lead"][rows]
        back = mixture.step_back(rows, tripled[:, : len(shifts)], self._recovery_inflow)
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


def _turns(rows: Rows) -> tuple[Rows, list[int]]:
    """An order of observations in turns, and where each turn ends; in a turn no stream is twice."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    counts = np.diff(np.append(first, len(rows)))
    rank = np.arange(len(rows)) - np.repeat(first, counts)
    return order[np.argsort(rank, kind="stable")], np.cumsum(np.bincount(rank)).tolist()
