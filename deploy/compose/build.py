"""The configuration of Prometheus and Alertmanager for docker-compose.yml: the shipped one with other addresses.

`python deploy/compose/build.py` writes it; `--check` says what is stale; `--secrets` makes the key of the S3 store,
once.
"""

import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
DEPLOY: Final = HERE.parent
#: File -> what its addresses are called inside the compose network.
ADDRESSES: Final = {
    "prometheus/prometheus.yaml": {
        '"127.0.0.1:6066"': '"worker-1:6066", "worker-2:6066"',
        "127.0.0.1:6068": "pager:6068",
        "127.0.0.1:9093": "alertmanager:9093",
    },
    "alertmanager/alertmanager.yaml": {"127.0.0.1:6068": "pager:6068"},
}
KEY: Final = HERE / "secrets" / "s3.json"


def documents() -> dict[Path, str]:
    """Path -> content of every file."""
    found = {}
    for name, addresses in ADDRESSES.items():
        text = (DEPLOY / name).read_text()
        for old, new in addresses.items():
            if old not in text:
                raise SystemExit(f"deploy/{name} does not say {old}; correct ADDRESSES in {__file__}")
            text = text.replace(old, new)
        note = f"# Made of deploy/{name} by deploy/compose/build.py; change it there.\n"
        found[HERE / Path(name).name] = note + text
    return found


def make_key(path: Path = KEY) -> bool:
    """Make the key of the store, if there is none; says whether it did."""
    if path.exists():
        return False
    credentials = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(32)}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    # The directory keeps it from others on this machine; in the container whoever the store runs as must read it.
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_text(json.dumps({"identities": [{"name": "qethics", "credentials": [credentials], "actions": actions}]}))
    return True


def main(arguments: Sequence[str]) -> int:
    """Write what is stale, or with `--check` only say so."""
    made = documents()
    stale = [path for path, text in made.items() if not path.is_file() or path.read_text() != text]
    if "--secrets" in arguments:
        make_key()
    if "--check" not in arguments:
        for path in stale:
            path.write_text(made[path])
    for path in stale:
        sys.stdout.write(f"{path}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
