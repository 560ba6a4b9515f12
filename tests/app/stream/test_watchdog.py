"""The watchdog ends a process that gets nowhere, and leaves one alone that has nothing to do."""

import asyncio

import pytest

from app.stream.shell import Shell


class Ended(Exception):
    """The process would have ended."""


class Watched(Shell):
    def __init__(self):
        unused = dict.fromkeys(
            (
                "sinks",
                "store",
                "commit",
                "beginnings",
                "replaced",
                "beat",
                "topic",
                "client_options",
                "consumer_options",
            )
        )
        super().__init__(
            partitions=4,
            deployment="d",
            kinds=(),
            checkpoint_seconds=1,
            heartbeat_seconds=1,
            stall_seconds=0.05,
            **unused,
        )

    def fail(self, error):
        raise Ended(str(error))


def watch(shell, waiting, seconds):
    return asyncio.run(asyncio.wait_for(shell.run_watchdog(lambda: waiting), seconds))


def test_no_assignment():
    with pytest.raises(Ended, match="no assignment"):
        watch(Watched(), 0, 5)


def test_records_wait_and_none_is_taken_in():
    shell = Watched()
    shell.ready, shell.units = True, {("runs", 0): None}
    with pytest.raises(Ended, match="7 records wait"):
        watch(shell, 7, 5)


@pytest.mark.parametrize("units", [{}, {("runs", 0): None}])
def test_nothing_to_do(units):
    shell = Watched()
    shell.ready, shell.units = True, units
    with pytest.raises(TimeoutError):
        watch(shell, 0, 0.3)
