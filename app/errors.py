"""The few errors that reach a person. Each says what is wrong, whose fault it is and what to do next."""


class QethicsError(Exception):
    """Root of every error this project raises on purpose.

    Parameters
    ----------
    what
        One line: the fact that is wrong, naming the value.
    remedy
        One line: what the reader can do about it.
    """

    whose = "qethics"

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} [{self.whose}] -> {self.remedy}"


class SettingError(QethicsError):
    """A setting, flag or policy file says something that cannot be used."""

    whose = "your configuration"


class EnvironmentFault(QethicsError):
    """Something around us is missing or refuses: a broker, a port, a directory, a wheel."""

    whose = "the environment"
