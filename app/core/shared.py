"""One object for all equal values: most runs say the same as others, and an open run is memory."""

from typing import Any, Final, TypeVar, cast

from app.core.evidence import mask
from app.core.run import Declared, Run, Subject, declared_values

_T = TypeVar("_T")
_KEPT: Final = 65_536


class Shared:
    """Values that runs share. Bounded: when it is full it begins anew, which costs memory and changes nothing."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}
        self._declared: dict[Declared, tuple[Declared, int]] = {}

    def value(self, value: _T) -> _T:
        """The object that stands for all values equal to this one."""
        if len(self._values) >= _KEPT:
            self._values.clear()
        return cast(_T, self._values.setdefault(value, value))

    def declared(self, declared: Declared) -> tuple[Declared, int]:
        """The object that stands for a declaration, and the bits of the fields it has."""
        known = self._declared.get(declared)
        if known is None:
            if len(self._declared) >= _KEPT:
                self._declared.clear()
            present = mask(Declared.__struct_fields__, declared_values(declared))
            known = self._declared[declared] = declared, present
        return known

    def again(self, subject: Subject) -> None:
        """Let a run that was read back share what it says with the others."""
        if subject.declared is not None:
            subject.declared, _ = self.declared(subject.declared)
        if isinstance(subject, Run):
            subject.producers = self.value(subject.producers)
            subject.policy_revision = self.value(subject.policy_revision)
            subject.routing = self.value(subject.routing)
            if subject.results is not None:
                subject.results.origin = self.value(subject.results.origin)
