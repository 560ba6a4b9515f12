"""What a process needs before it listens to others than this machine."""

import socket

import pytest

from app.access import access
from app.errors import SettingError
from app.serving import listening
from app.settings import load

PROCESSES = ("web", "admission", "pager")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "token").write_text("s3cret\n")
    return tmp_path


def given(process, address="127.0.0.1", **settings):
    with listening(address, 0, f"{process}_port") as listener:
        return access(load({}, **settings), process, listener)


@pytest.mark.parametrize("process", PROCESSES)
def test_on_loopback_a_process_needs_nothing(process):
    assert given(process) == (None, None, frozenset())
    assert given(process, "localhost").scheme == "http"


@pytest.mark.parametrize("process", PROCESSES)
def test_beyond_loopback_it_needs_a_token_and_a_certificate_unless_it_is_said_that_it_does_not(process, files):
    token = {f"{process}_token_file": files / "token"}
    with pytest.raises(SettingError, match=f"QETHICS_{process.upper()}_TOKEN_FILE"):
        given(process, "0.0.0.0")  # noqa: S104 - this is what is refused
    with pytest.raises(SettingError, match=f"QETHICS_{process.upper()}_CERT_FILE"):
        given(process, "0.0.0.0", **token)  # noqa: S104
    assert given(process, "0.0.0.0", insecure_listen=True).token is None  # noqa: S104
    assert given(process, **token).token == b"s3cret"


def test_every_address_of_this_machine_but_loopback_is_beyond_it():
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with pytest.raises(SettingError, match="INSECURE_LISTEN"):
        given("pager", "::")
    assert given("pager", "::1").token is None


@pytest.mark.parametrize("content", [b"two words", b"line\nbreak", "t\u00f6ken".encode(), b"\xff", b"nul\x00"])
def test_a_token_that_no_header_can_carry_is_refused_at_the_start(files, content):
    (files / "token").write_bytes(content)
    with pytest.raises(SettingError, match="visible ASCII"):
        given("web", web_token_file=files / "token")


def test_further_names_are_names(files):
    assert given("web", allowed_hosts="worker-1, qethics.example.org").hosts == {"worker-1", "qethics.example.org"}
    for wrong in ("a:80", "http://a", "a b", "*", "a/b"):
        with pytest.raises(SettingError, match="ALLOWED_HOSTS"):
            load({}, allowed_hosts=wrong)
