"""What Prometheus and Alertmanager themselves say of the files: `promtool` and `amtool`, where they are installed."""

import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

_SECONDS: Final = 600.0
_PROMTOOL: Final = ("promtool", "install Debian's package `prometheus`, or unpack a release of Prometheus")
_AMTOOL: Final = ("amtool", "install Debian's package `prometheus-alertmanager`")


class Checked(NamedTuple):
    """One check: what was asked, whether it was good (None: not asked, the tool is missing), and what was said."""

    what: str
    ok: bool | None
    detail: str


def check(directory: Path) -> list[Checked]:
    """Check rules, their tests and the configurations below a directory that holds `prometheus` and `alertmanager`."""
    prometheus, alertmanager = directory / "prometheus", directory / "alertmanager"
    rules = sorted(map(str, prometheus.glob("rules/**/*.yaml")))
    tests = sorted(map(str, prometheus.glob("tests/**/*.yaml")))
    config = str(prometheus / "prometheus.yaml")
    return [
        _run("promtool check rules", _PROMTOOL, ["check", "rules", "--lint=all", "--lint-fatal", *rules]),
        _run("promtool check config", _PROMTOOL, ["check", "config", "--lint=all", "--lint-fatal", config]),
        _run("promtool test rules", _PROMTOOL, ["test", "rules", *tests]),
        _run("amtool check-config", _AMTOOL, ["check-config", str(alertmanager / "alertmanager.yaml")]),
    ]


def _run(what: str, tool: tuple[str, str], arguments: list[str]) -> Checked:
    name, remedy = tool
    path = shutil.which(name)
    if path is None:
        return Checked(what, None, f"{name} is not installed: {remedy}")
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Checked(what, False, f"no answer within {_SECONDS:.0f} s")
    said = (done.stdout + done.stderr).strip()
    return Checked(what, done.returncode == 0, "0 findings" if done.returncode == 0 else said)
