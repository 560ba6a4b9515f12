"""The command line as a user runs it."""

import os
import subprocess
import sys


def qethics(*arguments, timeout=170, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("QETHICS_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**clean, "PYTHONWARNINGS": "ignore", **environment},
    )


def one_line(done, *texts):
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("qethics:")]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert "Unclosed" not in done.stderr
    assert " -> " in lines[0], "says what to do"
    for text in texts:
        assert text in lines[0]
