"""The policy engine in this process: for checks at a desk, and for the process that does nothing else."""

from collections.abc import Mapping
from typing import Any

import msgspec
import regorus

from app.core.evaluating import DECISION, PolicyError


class Inline:
    """Rules in this process. The engine is bound to the thread that made it, and nothing limits its time.

    Parameters
    ----------
    modules
        File name -> Rego source.
    data
        The document the rules see as `data`.

    Raises
    ------
    PolicyError
        If a module does not parse, or the data does not fit.
    """

    def __init__(self, modules: Mapping[str, str], data: Mapping[str, Any]) -> None:
        self.engine = regorus.Engine()
        try:
            for name, source in sorted(modules.items()):
                self.engine.add_policy(name, source)
            self.engine.add_data_json(msgspec.json.encode(data).decode())
        except RuntimeError as error:
            raise PolicyError(said(error)) from error

    def __call__(self, document: bytes) -> bytes:
        """The decision on an input document, both as JSON.

        Raises
        ------
        PolicyError
            If there is none.
        """
        return self.ask(DECISION, document)

    def ask(self, path: str, document: bytes) -> bytes:
        """The value of a rule on an input document."""
        try:
            self.engine.set_input_json(document.decode())
            return self.engine.eval_rule_as_json(path).encode()
        except (RuntimeError, UnicodeDecodeError) as error:
            raise PolicyError(said(error)) from error


def said(error: Exception) -> str:
    """The engine adds a stack of its own, which says nothing to whoever wrote the rule."""
    return str(error).partition("Stack backtrace")[0].strip()
