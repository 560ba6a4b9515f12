"""What the policy decides by numbers and lists rather than by rules: explanation floors, required evidence, budgets.

They are part of the policy's data, so where the policy comes in a signed bundle they are signed with it, and which of
them hold is a function of the log. Nothing that decides is read from the files of a worker.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from app.core.catalog import OTHER, TIERS, UNKNOWN
from app.core.evidence import BITS, FIELDS, SOURCES, Requirements

_BEFORE_IT_RAN: Final = frozenset({"submitted", "admitted"})


class CostCenter(Struct, frozen=True, forbid_unknown_fields=True):
    """What a cost center may spend: dollars an hour, and dollars that one run may be estimated to cost."""

    hour_usd: Annotated[float, Meta(ge=0)]
    run_usd: Annotated[float, Meta(ge=0)]


class _Workload(Struct, frozen=True):
    explanation_floor: Annotated[float, Meta(ge=0, le=1)]


class _Data(Struct, frozen=True):
    workloads: dict[str, _Workload]
    evidence: dict[str, Requirements]
    cost_centers: dict[str, CostCenter]


class Standards:
    """The floors, requirements and budgets of one policy.

    Parameters
    ----------
    data
        The policy's data, which the rules see as `data`.

    Raises
    ------
    ValueError
        If a part is missing or cannot be used; it says which.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        try:
            found = msgspec.convert(data, _Data)
        except msgspec.ValidationError as error:
            raise ValueError(f"the policy data does not say what decides: {error}") from error
        for tier, requirements in found.evidence.items():
            for name in requirements.always + requirements.quantum:
                if name not in BITS:
                    raise ValueError(f"evidence.{tier}: there is no evidence field {name!r}")
        for tier in TIERS:
            if tier not in found.evidence:
                raise ValueError(f"evidence.{tier} is missing: every tier says what it requires")
        self._floors = {name: workload.explanation_floor for name, workload in found.workloads.items()}
        self._evidence = found.evidence
        #: Cost center -> dollars an hour.
        self.budgets: dict[str, float] = {name: center.hour_usd for name, center in found.cost_centers.items()}
        self._bits: dict[tuple[str | None, str | None, bool], int] = {}

    def floor(self, workload: str | None) -> float:
        """Return the least explanation score of a workload, in [0, 1]; an unknown one must be explained perfectly."""
        return self._floors.get(workload or "", 1.0)

    def cost_center(self, name: str | None) -> str:
        """Return the label of a cost center."""
        return UNKNOWN if name is None else name if name in self.budgets else OTHER

    def fields(self, tier: str | None, runtime: str | None, *, has_result: bool) -> tuple[str, ...]:
        """Return the evidence that a run must have.

        Parameters
        ----------
        tier
            The declared one; a run without one, or of an unknown one, is held to the highest.
        runtime
            Where it ran; an unknown one is held to all that any asks for.
        has_result
            False of a run that was refused or failed: it owes nothing that only comes after it ran.
        """
        asked = self._evidence.get(tier or "high", self._evidence["high"]).fields(runtime)
        return asked if has_result else tuple(name for name in asked if SOURCES[name] in _BEFORE_IT_RAN)

    def bits(self, tier: str | None, runtime: str | None, *, has_result: bool) -> int:
        """Return the same as bits (`evidence.BITS`)."""
        key = tier, runtime, has_result
        bits = self._bits.get(key)
        if bits is None:
            bits = self._bits[key] = sum(BITS[name] for name in self.fields(tier, runtime, has_result=has_result))
        return bits


#: Without a policy: every explanation must be perfect, every field is required, and nobody has a budget.
STRICTEST: Final = Standards(
    {"workloads": {}, "evidence": {tier: {"always": FIELDS, "quantum": ()} for tier in TIERS}, "cost_centers": {}}
)
