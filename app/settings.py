"""Settings: frozen, from the environment and an optional TOML file, checked once. Only this file reads the environment.

Every setting is `QETHICS_` and its name in capitals; the file named by `QETHICS_CONFIG` holds the same names in lower
case. The environment wins. A secret is named by file (`..._FILE`), so it is never in the environment of a process.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from app.catalog import DEFAULT_DIRECTORY
from app.conventions import TOPIC_PREFIX
from app.errors import SettingError

PREFIX: Final = "QETHICS_"

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[float, Meta(gt=0)]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a process may be told. Times in seconds."""

    #: Kafka brokers: host:port, comma separated.
    bootstrap: str = "127.0.0.1:9092"
    #: Consumer group of the workers.
    group: Annotated[str, Meta(min_length=1, max_length=200)] = "qethics"
    topic_prefix: Annotated[str, Meta(max_length=100, pattern=r"^[a-zA-Z0-9._-]*$")] = TOPIC_PREFIX
    #: Partitions of every topic this project creates.
    partitions: Annotated[int, Meta(ge=1, le=1024)] = 4
    replication: Annotated[int, Meta(ge=1, le=16)] = 1
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_ca_file: Path | None = None
    ssl_cert_file: Path | None = None
    ssl_key_file: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    sasl_username: str | None = None
    sasl_password_file: Path | None = None
    #: The keys that control records are sealed with (`app.core.seal`), a line each: the first one seals, all verify.
    control_key_file: Path | None = None
    session_timeout_seconds: Annotated[float, Meta(ge=1, le=300)] = 10.0
    rebalance_timeout_seconds: Annotated[float, Meta(ge=1, le=600)] = 30.0
    request_timeout_seconds: Annotated[float, Meta(ge=1, le=600)] = 40.0
    #: Records of one poll, over all partitions.
    max_poll_records: Annotated[int, Meta(ge=1, le=10_000)] = 8000
    #: The least time between two checkpoints of one partition.
    checkpoint_seconds: Positive = 2.0
    #: Time between two heartbeats of one partition: the resolution of the clock.
    heartbeat_seconds: Annotated[float, Meta(gt=0, le=1.5)] = 1.0
    #: With records waiting and none taken in for this long, the worker ends itself to be restarted.
    stall_seconds: Positive = 120.0
    web_host: str = "127.0.0.1"
    web_port: Port = 6066
    #: What a request to a worker must carry as a bearer token (the pager sends it too); the certificate of a worker.
    web_token_file: Path | None = None
    web_cert_file: Path | None = None
    web_key_file: Path | None = None
    #: Names that worker, gate and pager are asked by, comma separated, beside those of loopback and their addresses.
    allowed_hosts: str = ""
    #: Beyond loopback a process begins with a token and a certificate alone, unless this says that it need not.
    insecure_listen: bool = False
    #: Where a worker keeps what it must keep on disk.
    data_directory: Path = Path("var")
    #: The directory of catalog, rules and the rest of what people decide.
    policies: Path = DEFAULT_DIRECTORY
    #: The signed bundle of rules that is to be in force, and the public keys it must be signed by. Without them the
    #: rules are those of `policies`, as they were at the start.
    policy_bundle: Path | None = None
    policy_keys: Path | None = None
    #: Keys, revisions and versions that are trusted no more.
    policy_revocations: Path | None = None
    #: Time between two looks at the bundle.
    policy_seconds: Annotated[float, Meta(gt=0, le=30)] = 2.0
    #: Where the gate answers.
    admission_host: str = "127.0.0.1"
    admission_port: Port = 6067
    #: By when it answers, and how many requests at once.
    admission_deadline_seconds: Annotated[float, Meta(gt=0, le=2)] = 1.0
    admission_concurrency: Annotated[int, Meta(ge=1, le=10_000)] = 64
    #: What a request must carry as a bearer token; the certificate of the gate.
    admission_token_file: Path | None = None
    admission_cert_file: Path | None = None
    admission_key_file: Path | None = None
    #: Where the pager answers: Alertmanager's webhook, incidents, runbooks.
    pager_host: str = "127.0.0.1"
    pager_port: Port = 6068
    #: What a request to it must carry as a bearer token; the certificate of the pager.
    pager_token_file: Path | None = None
    pager_cert_file: Path | None = None
    pager_key_file: Path | None = None
    #: Every Alertmanager of the cluster, comma separated: all are told.
    alertmanagers: str = "http://127.0.0.1:9093"
    #: How long an Alertmanager must have had a page or a ticket before it is told that it is over: more than the
    #: `group_wait` and `group_interval` of its routes, or what was short is told to nobody.
    pager_page_hold_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 75.0
    pager_ticket_hold_seconds: Annotated[float, Meta(ge=0, le=3_600)] = 330.0
    #: So long without Prometheus' watchdog, and the pager pages that Prometheus is silent. Of a lease (240 s) that was
    #: last renewed 55 s ago 185 are left: a pager that is started again must say it before what it said ends.
    watchdog_seconds: Annotated[float, Meta(ge=1, le=150)] = 150.0
    #: Where the pager finds what it puts beside an incident: Prometheus, and the workers, comma separated.
    prometheus_url: str = "http://127.0.0.1:9090"
    worker_urls: str = "http://127.0.0.1:6066"
    #: Where runbooks are read; an alert's name is appended.
    runbooks_url: str = "http://127.0.0.1:6068/runbooks"
    #: Where the dashboards are; pages of runs link to them.
    grafana_url: str = "http://127.0.0.1:3000"
    #: Where spans are sent (OTLP over HTTP), e.g. http://127.0.0.1:4318/v1/traces; nowhere if empty.
    otlp_endpoint: str = ""
    #: The share of runs that is traced, beside those that broke a rule, failed, or whose producers recorded them; and
    #: how many a second at most, of those that are ordinary and of the others.
    trace_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.01
    trace_runs_per_second: Annotated[float, Meta(gt=0, le=10_000)] = 20.0
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def topic(self, name: str) -> str:
        """The full name of a topic."""
        return self.topic_prefix + name

    def environment(self) -> dict[str, str]:
        """The settings as environment variables, for a process that is to run with the same."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {PREFIX + name.upper(): str(value) for name, value in values.items() if value is not None}

    def connection(self) -> dict[str, Any]:
        """What says how Kafka is reached, and nothing of what runs on it."""
        return {name: getattr(self, name) for name in _CONNECTION}


_CONNECTION: Final = (
    "bootstrap",
    "replication",
    "security_protocol",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password_file",
    "control_key_file",
    "session_timeout_seconds",
    "rebalance_timeout_seconds",
    "request_timeout_seconds",
)


def load(environment: Mapping[str, str] = os.environ, **overrides: Any) -> Settings:
    """Read the settings.

    Parameters
    ----------
    environment
        Where `QETHICS_...` variables are looked up.
    overrides
        Settings given on the command line; they win. None means not given.

    Raises
    ------
    SettingError
        If a setting is unknown, of the wrong type or out of range; it names the setting.
    """
    values: dict[str, Any] = {}
    config = environment.get(PREFIX + "CONFIG")
    if config is not None:
        values.update(_file(Path(config)))
    for name, text in environment.items():
        if name.startswith(PREFIX) and name not in {PREFIX + "CONFIG"} and not name.startswith(PREFIX + "TEST_"):
            values[name.removeprefix(PREFIX).lower()] = text
    values.update({name: value for name, value in overrides.items() if value is not None})
    try:
        settings = msgspec.convert(values, Settings, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise _refused(str(error)) from error
    _check(settings)
    return settings


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"{PREFIX}CONFIG={path}: {error.strerror}", "name a readable TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{path}: {error}", "correct the TOML") from error


def _refused(message: str) -> SettingError:
    what, _, path = message.partition(" - at `$.")
    if not path and "unknown field" in what:
        path = what.split("`")[1]
    name = path.strip("`")
    return SettingError(f"{PREFIX}{name.upper()}: {what}", "correct the setting; docs/settings.md lists them all")


_ADDRESS: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+):([0-9]{1,5})\Z")


_URL: Final = re.compile(r"https?://[^\s/,]+(/[^\s,]*)?\Z")


def urls(text: str) -> list[str]:
    """The addresses of a setting that has several, without a slash at the end."""
    return [url.strip().rstrip("/") for url in text.split(",") if url.strip()]


_HOST: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,63}(?:\.|\Z)){1,127}\Z|(?=.*:.*:)[0-9a-fA-F:.]{2,45}\Z")


def names(text: str) -> list[str]:
    """The names of a setting that has several."""
    return [name.strip() for name in text.split(",") if name.strip()]


#: Settings that name a file which must be there.
_FILES: Final = (
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_key_file",
    "sasl_password_file",
    "policy_keys",
    *(f"{process}_{kind}_file" for process in ("web", "admission", "pager") for kind in ("token", "cert", "key")),
    "policy_revocations",
)
#: Settings that mean something together alone.
_PAIRS: Final = (
    ("policy_bundle", "policy_keys", "go by the rules in QETHICS_POLICIES"),
    *((f"{process}_cert_file", f"{process}_key_file", "serve plain HTTP") for process in ("web", "admission", "pager")),
)


def _check(settings: Settings) -> None:
    for address in settings.bootstrap.split(","):
        found = _ADDRESS.match(address)
        if found is None or not 0 < int(found[1]) <= 65535:
            raise SettingError(f"{PREFIX}BOOTSTRAP: {address!r} is no host:port", "write e.g. 127.0.0.1:9092")
    if settings.security_protocol.startswith("SASL"):
        for name in ("sasl_username", "sasl_password_file"):
            if getattr(settings, name) is None:
                raise SettingError(
                    f"{PREFIX}{name.upper()} is not set, but the protocol is {settings.security_protocol}",
                    "set it, or choose another QETHICS_SECURITY_PROTOCOL",
                )
    _check_addresses(settings)
    _check_files(settings)
    if settings.session_timeout_seconds > settings.request_timeout_seconds:
        raise SettingError(
            f"{PREFIX}SESSION_TIMEOUT_SECONDS is above {PREFIX}REQUEST_TIMEOUT_SECONDS",
            "requests must outlast the session",
        )


def _check_addresses(settings: Settings) -> None:
    for name in ("alertmanagers", "prometheus_url", "worker_urls", "runbooks_url", "grafana_url", "otlp_endpoint"):
        for url in urls(getattr(settings, name)):
            if not _URL.match(url):
                raise SettingError(f"{PREFIX}{name.upper()}: {url!r} is no URL", "write e.g. http://127.0.0.1:9093")
    for name in names(settings.allowed_hosts):
        if not _HOST.match(name):
            what = f"{PREFIX}ALLOWED_HOSTS: {name!r} is no name of a host"
            raise SettingError(what, "write names without port, e.g. worker-1,qethics.example.org")


def _check_files(settings: Settings) -> None:
    for name in _FILES:
        path = getattr(settings, name)
        if path is not None and not path.is_file():
            raise SettingError(f"{PREFIX}{name.upper()}: there is no file {path}", "name an existing file")
    for one, other, remedy in _PAIRS:
        if (getattr(settings, one) is None) != (getattr(settings, other) is None):
            what = f"of {PREFIX}{one.upper()} and {PREFIX}{other.upper()} only one is set"
            raise SettingError(what, f"set both, or neither to {remedy}")
