"""Who may ask a process over HTTP: its token, its certificate, the names it answers to; and that it has them."""

import re
import socket
import ssl
from ipaddress import ip_address
from typing import Final, Literal, NamedTuple

from app.errors import SettingError
from app.serving import secret
from app.settings import PREFIX, Settings, names

#: What a process' settings begin with.
Process = Literal["web", "admission", "pager"]
#: What a header can carry as a token (RFC 6750, section 2.1, taken generously).
_TOKEN: Final = re.compile(rb"[!-~]+\Z")


class Access(NamedTuple):
    """Who may ask a process."""

    #: What a request must carry, if anything.
    token: bytes | None
    #: With which the process serves TLS, if it does.
    certificate: ssl.SSLContext | None
    #: The names it answers to, beside those of loopback and the address it is asked at.
    hosts: frozenset[str]

    @property
    def scheme(self) -> str:
        """Of its addresses."""
        return "http" if self.certificate is None else "https"


def access(settings: Settings, process: Process, listener: socket.socket) -> Access:
    """Read who may ask a process that listens.

    Raises
    ------
    SettingError
        If a file cannot be used; or if the process can be reached from beyond this machine and has no token or no
        certificate, unless `insecure_listen` says that this is meant.
    """
    found = Access(bearer(settings, process), _certificate(settings, process), frozenset(names(settings.allowed_hosts)))
    address = listener.getsockname()[0]
    if settings.insecure_listen or ip_address(address.partition("%")[0]).is_loopback:
        return found
    lacking = {
        f"{process}_token_file": found.token is None,
        f"{process}_cert_file and _key_file": found.certificate is None,
    }
    missing = [f"{PREFIX}{name.upper()}" for name, is_missing in lacking.items() if is_missing]
    if missing:
        raise SettingError(
            f"{PREFIX}{process.upper()}_HOST: at {address} anybody in the network may ask, and {missing[0]} is not set",
            f"set {' and '.join(missing)}; or listen on 127.0.0.1; or, where something else keeps others out, "
            f"set {PREFIX}INSECURE_LISTEN=true",
        )
    return found


def bearer(settings: Settings, process: Process) -> bytes | None:
    """Read the token that a process is asked with; None without one.

    Raises
    ------
    SettingError
        If its file cannot be read, is empty, or holds what no header can carry.
    """
    name = f"{process}_token_file"
    token = secret(getattr(settings, name), name)
    if token is not None and not _TOKEN.match(token):
        raise SettingError(
            f"{PREFIX}{name.upper()}: a token is of visible ASCII characters",
            "write e.g. `openssl rand -hex 32` into it",
        )
    return token


def _certificate(settings: Settings, process: Process) -> ssl.SSLContext | None:
    cert, key = (getattr(settings, f"{process}_{kind}_file") for kind in ("cert", "key"))
    if cert is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        remedy = f"check {PREFIX}{process.upper()}_CERT_FILE and _KEY_FILE"
        raise SettingError(f"TLS: {error}", remedy) from error
    return context
