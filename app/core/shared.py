"""One object for all equal values: most runs say the same as others, and an open run is memory."""

from typing import Any, Final, TypeVar, cast

from app.core.evidence import mask
from app.core.remembered import Remembered
from app.core.run import Declared, Run, declared_values

_T = TypeVar("_T")
_KEPT: Final = 65_536


class Shared:
    """Values that runs share."""

    def __init__(self) -> None:
        self._values: Remembered[Any, Any] = Remembered(lambda value: value, _KEPT)
        self._declared = Remembered(_with_bits, _KEPT)

    def value(self, value: _T) -> _T:
        """The object that stands for all values equal to this one."""
        return cast(_T, self._values[value])

    def declared(self, declared: Declared) -> tuple[Declared, int]:
        """The object that stands for a declaration, and the bits of the fields it has."""
        return self._declared[declared]

    def again(self, subject: Run) -> None:
        """Let a run that was read back share what it says with the others."""
        if subject.declared is not None:
            subject.declared, _ = self.declared(subject.declared)
        subject.derived = self.value(subject.derived)
        subject.producers = self.value(subject.producers)
        subject.policy_revision = self.value(subject.policy_revision)
        subject.routing = self.value(subject.routing)
        if subject.results is not None:
            subject.results.origin = self.value(subject.results.origin)


def _with_bits(declared: Declared) -> tuple[Declared, int]:
    return declared, mask(Declared.__struct_fields__, declared_values(declared))
