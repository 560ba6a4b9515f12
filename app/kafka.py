"""How every Kafka client of this project connects, and the topics it needs."""

import asyncio
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError

from app import conventions, kafka_batches
from app.conventions import READ_BY_WORKERS, TOPICS
from app.errors import EnvironmentFault, SettingError
from app.settings import Settings

#: A record may be 1 MiB by contract; what is larger must still get in, to be dead-lettered with its bytes.
MAX_RECORD_BYTES: Final = 4 * 1024 * 1024
CONNECT_SECONDS: Final = 10.0
#: How long to wait before a broker is asked again for what it does not know yet.
METADATA_SECONDS: Final = 0.1

#: Settings of single topics, beyond the broker's defaults.
TOPIC_CONFIGS: Final[dict[str, dict[str, str]]] = {
    conventions.JOBS: {"max.message.bytes": str(MAX_RECORD_BYTES)},
    conventions.RESULTS: {"max.message.bytes": str(MAX_RECORD_BYTES)},
    conventions.DEAD_LETTER: {"max.message.bytes": str(MAX_RECORD_BYTES + 262_144)},
    conventions.EVIDENCE: {"max.message.bytes": str(MAX_RECORD_BYTES)},
    conventions.SAMPLES: {"max.message.bytes": str(MAX_RECORD_BYTES)},
    conventions.DIRECTIVES: {"cleanup.policy": "compact"},
    conventions.INCIDENTS: {"cleanup.policy": "compact"},
    # What every alert said last stays, so that the pager knows what fires; what it said before stays for a week.
    conventions.ALERTS: {"cleanup.policy": "compact", "min.compaction.lag.ms": "604800000"},
    conventions.CHECKPOINTS: {
        # What compaction cannot know to be void (pieces of a checkpoint that was cut short) goes with its age; what
        # holds is rewritten every few seconds for as long as a worker runs.
        "cleanup.policy": "compact,delete",
        "retention.ms": "2592000000",
        "segment.ms": "600000",
        "min.cleanable.dirty.ratio": "0.1",
        "delete.retention.ms": "60000",
    },
}


#: What a topic that exists must offer. The inputs are the producers' own; a smaller limit there does no harm.
_NEEDED: Final = {
    name: {key: value for key, value in configs.items() if key in {"max.message.bytes", "cleanup.policy"}}
    for name, configs in TOPIC_CONFIGS.items()
    if name not in {conventions.JOBS, conventions.RESULTS}
}


def client_options(settings: Settings) -> dict[str, Any]:
    """The options that consumer, producer and admin client share: where to, and how to prove who we are.

    Raises
    ------
    SettingError
        If a certificate or the password file cannot be used.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": int(settings.request_timeout_seconds * 1000),
    }
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL") and settings.sasl_password_file is not None:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        try:
            options["sasl_plain_password"] = settings.sasl_password_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingError(f"QETHICS_SASL_PASSWORD_FILE: {error}", "name a readable text file") from error
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
        if settings.ssl_cert_file is not None:
            context.load_cert_chain(settings.ssl_cert_file, settings.ssl_key_file)
    except (ssl.SSLError, OSError) as error:
        raise SettingError(f"TLS: {error}", "check QETHICS_SSL_CA_FILE, _CERT_FILE and _KEY_FILE") from error
    return context


def producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """A producer that reports a record as written only when every in-sync replica has it."""
    defaults = {"acks": "all", "max_request_size": MAX_RECORD_BYTES + 262_144, "linger_ms": 0}
    return AIOKafkaProducer(**{**client_options(settings), **defaults, **options})


def consumer(settings: Settings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    """A consumer outside any group, from the beginning; it reads on after what cannot be read (`app.kafka_batches`)."""
    kafka_batches.install()
    defaults = {"group_id": None, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    return AIOKafkaConsumer(*topics, **{**client_options(settings), **defaults, **options})


async def connected(client: Any, settings: Settings) -> Any:
    """Start a client.

    Raises
    ------
    EnvironmentFault
        If no broker answers, or it refuses us.
    """
    library = logging.getLogger("aiokafka")
    level = library.level
    # The library says on its own, line by line, what the one error below says.
    library.setLevel(logging.CRITICAL)
    try:
        await asyncio.wait_for(client.start(), CONNECT_SECONDS)
    except (KafkaError, OSError, TimeoutError) as error:
        await _close(client)
        why = "no answer" if isinstance(error, TimeoutError | KafkaConnectionError) else str(error)
        raise EnvironmentFault(
            f"no Kafka broker at {settings.bootstrap}: {why}",
            "start the broker, or set QETHICS_BOOTSTRAP; `qethics demo` brings its own",
        ) from error
    finally:
        library.setLevel(level)
    return client


async def opened(stack: AsyncExitStack, client: Any, settings: Settings) -> Any:
    """Start a client, as `connected`, that stops with the stack."""
    await connected(client, settings)
    stack.push_async_callback(client.close if hasattr(client, "close") else client.stop)
    return client


def admin(settings: Settings) -> AIOKafkaAdminClient:
    """An admin client."""
    return AIOKafkaAdminClient(**client_options(settings))


async def _close(client: Any) -> None:
    try:
        await (client.close() if hasattr(client, "close") else client.stop())
    except (KafkaError, OSError, asyncio.CancelledError):
        return


async def ensure_topics(settings: Settings) -> dict[str, str]:
    """Create the topics that are missing, and check that those that exist fit.

    Returns
    -------
    Topic -> ``created`` or ``present``.

    Raises
    ------
    EnvironmentFault
        If no broker answers, or a topic exists with settings that would lose data or with another number of partitions;
        more of a topic that workers read is theirs to complain of.
    """
    admin = await connected(AIOKafkaAdminClient(**client_options(settings)), settings)
    try:
        present = set(await admin.list_topics())
        wanted = {settings.topic(name): name for name in TOPICS}
        outcome = {}
        for topic, name in wanted.items():
            outcome[topic] = "present" if topic in present else await _create(admin, settings, topic, name)
        for topic, found in (await _partitions(admin, list(wanted))).items():
            # What workers read may have been given more since; they go on with those that they serve, and say so.
            if found < settings.partitions or (found > settings.partitions and wanted[topic] not in READ_BY_WORKERS):
                raise EnvironmentFault(
                    f"topic {topic} has {found} partitions, {settings.partitions} are set",
                    f"set QETHICS_PARTITIONS={found}; all topics of a deployment have one count",
                )
        await _check_configs(admin, {name: topic for topic, name in wanted.items() if outcome[topic] == "present"})
        return outcome
    finally:
        await _close(admin)


async def _partitions(admin: AIOKafkaAdminClient, topics: list[str]) -> dict[str, int]:
    """Topic -> number of partitions, once the broker that is asked knows them all.

    A broker answers that a topic was created before every broker, itself included, lists it in its metadata.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        described = await partition_counts(admin, topics)
        if missing := [topic for topic in topics if not described.get(topic)]:
            if time.monotonic() > deadline:
                raise EnvironmentFault(
                    f"the broker does not list topic {missing[0]} {CONNECT_SECONDS:g} s after it took it",
                    "look at the broker's own log: its metadata does not reach it",
                )
            await asyncio.sleep(METADATA_SECONDS)
            continue
        return described


async def _check_configs(admin: AIOKafkaAdminClient, topics: Mapping[str, str]) -> None:
    """Refuse settings of topics that were there before us under which records would be refused or deleted."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics.values()]
    found: dict[str, dict[str, str]] = {}
    for response in await admin.describe_configs(resources) if resources else ():
        for _, _, _, topic, entries in response.resources:
            found[topic] = {entry[0]: entry[1] for entry in entries}
    for name, topic in topics.items():
        for key, needed in _NEEDED.get(name, {}).items():
            value = found.get(topic, {}).get(key)
            if value is not None and not _suffices(key, value, needed):
                raise EnvironmentFault(
                    f"topic {topic} has {key}={value}, {needed} is needed",
                    f"kafka-configs --alter --entity-type topics --entity-name {topic} --add-config {key}=[{needed}]",
                )


def _suffices(key: str, value: str, needed: str) -> bool:
    """Whether a setting is at least what is needed; of a list, whether it has the first of it."""
    if key == "cleanup.policy":
        return needed.split(",", maxsplit=1)[0] in value.split(",")
    return int(value) >= int(needed)


async def partition_counts(admin: AIOKafkaAdminClient, topics: Sequence[str]) -> dict[str, int]:
    """Topic -> how many partitions it has; 0 for a topic that is not there.

    Raises
    ------
    aiokafka.errors.KafkaError
        If no broker says.
    """
    return {entry["topic"]: len(entry["partitions"]) for entry in await admin.describe_topics(topics)}


async def list_topics(settings: Settings) -> set[str]:
    """The topics there are.

    Raises
    ------
    EnvironmentFault
        If no broker answers.
    """
    admin = await connected(AIOKafkaAdminClient(**client_options(settings)), settings)
    try:
        return set(await admin.list_topics())
    finally:
        await _close(admin)


async def _create(admin: AIOKafkaAdminClient, settings: Settings, topic: str, name: str) -> str:
    new = NewTopic(topic, settings.partitions, settings.replication, topic_configs=TOPIC_CONFIGS.get(name, {}))
    try:
        response = await admin.create_topics([new])
    except TopicAlreadyExistsError:
        return "present"
    for _, code, *message in response.topic_errors:
        if code not in {0, TopicAlreadyExistsError.errno}:
            raise EnvironmentFault(
                f"topic {topic} could not be created: error {code} {message}",
                "create it yourself, or give this user the right to",
            )
    return "created"
