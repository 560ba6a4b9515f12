"""Processes that listen beyond loopback: not without a token and TLS, and with them they still find each other."""

import json
import ssl
import tarfile
import urllib.error
import urllib.request

import pytest
from command import one_line, qethics
from mutated import notification
from signing import built, key_pair, self_signed

from app.catalog import DEFAULT_DIRECTORY

EVERYWHERE = "0.0.0.0"  # noqa: S104 - this is what it is about
COMMANDS = {"worker": "WEB", "admission": "ADMISSION", "pager": "PAGER"}


@pytest.mark.once
@pytest.mark.parametrize("command", COMMANDS)
def test_no_process_listens_beyond_loopback_without_a_token_and_tls(command, tmp_path):
    pair, bundle, token = key_pair(tmp_path), tmp_path / "bundle.tar.gz", tmp_path / "token"
    bundle.write_bytes(built(DEFAULT_DIRECTORY, pair, 1))
    token.write_text("s3cret-token")
    name = f"QETHICS_{COMMANDS[command]}"
    environment = {f"{name}_HOST": EVERYWHERE, f"{name}_PORT": "0", "QETHICS_DATA_DIRECTORY": str(tmp_path / "data")}
    environment |= {"QETHICS_POLICY_BUNDLE": str(bundle), "QETHICS_POLICY_KEYS": str(pair.public)}
    one_line(qethics(command, **environment), f"{name}_TOKEN_FILE", "QETHICS_INSECURE_LISTEN")
    one_line(qethics(command, **environment, **{f"{name}_TOKEN_FILE": str(token)}), f"{name}_CERT_FILE")


@pytest.mark.broker
def test_with_a_token_and_tls_worker_and_pager_serve_and_the_pager_asks_the_worker(cluster, tmp_path):
    token, key, certificate = (tmp_path / name for name in ("token", "tls.key", "tls.crt"))
    token.write_text("s3cret-token\n")
    self_signed(key, certificate)
    context = ssl.create_default_context(cafile=certificate)

    def of(name):
        files = {"TOKEN": token, "CERT": certificate, "KEY": key}
        return {
            f"QETHICS_{name}_HOST": EVERYWHERE,
            **{f"QETHICS_{name}_{kind}_FILE": str(path) for kind, path in files.items()},
        }

    def ask(process, path, body=None, given="s3cret-token"):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {given}"}
        url, data = f"https://127.0.0.1:{process.port}{path}", None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers), timeout=10, context=context
            ) as said:
                return said.status, said.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    worker = cluster.start(**of("WEB"))
    cluster.await_(lambda: ask(worker, "/readyz")[0] == 200, 60, "the worker ready over TLS")
    assert ask(worker, "/status.json")[0] == 200
    assert ask(worker, "/status.json", given="wrong")[0] == 401
    assert ask(worker, "/metrics", given="wrong")[0] == 200

    pager = cluster.pager(
        is_awaited=False,
        SSL_CERT_FILE=str(certificate),
        QETHICS_WEB_TOKEN_FILE=str(token),
        QETHICS_WORKER_URLS=f"https://127.0.0.1:{worker.port}",
        **of("PAGER"),
    )
    cluster.await_(lambda: ask(pager, "/readyz")[0] == 200, 60, "the pager ready over TLS")
    assert ask(pager, "/v1/alertmanager", notification(), given="wrong")[0] == 401
    status, said = ask(pager, "/v1/alertmanager", notification())
    assert status == 200
    (incident_id,) = json.loads(said)["incidents"]
    path = cluster.settings.data_directory / "incidents" / f"{incident_id}.tar.gz"
    cluster.await_(path.is_file, 90, "the bundle of evidence")
    with tarfile.open(path) as bundle:
        pages = json.load(bundle.extractfile("workers.json"))
    assert json.loads(pages[f"https://127.0.0.1:{worker.port}"])["ready"]
    for process in (worker, pager):
        assert "s3cret" not in process.log.read_text()
