"""The Faust application: one agent for each topic, each doing nothing but handing batches to the shell."""

from pathlib import Path
from typing import Any

import faust
from faust.transport import drivers

from app.stream.shell import Shell
from app.stream.transport import SCHEME

#: Batches that may wait for an agent; a batch is up to `max_poll_records` records.
_WAITING_BATCHES = 4


class BatchSchema(faust.Schema[Any, Any]):
    """Hands batches on as they are: decoding is not the shell's work."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        """A decoder that decodes nothing."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, {}, message)

        return decode


class ShellApp(faust.App):
    """A Faust application around a shell."""

    shell: Shell

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        # Faust would acknowledge the batch, restart the agent and go on with the next one.
        self.shell.fail(exc)


def build(*, group: str, bootstrap: str, directory: Path, shell: Shell, conf: dict[str, Any]) -> ShellApp:
    """The application of one worker.

    Parameters
    ----------
    group
        Consumer group.
    bootstrap
        host:port, comma separated.
    directory
        Where Faust may write.
    shell
        Gets the batches, and the partitions that come and go.
    conf
        Further Faust settings.
    """
    drivers.TRANSPORTS.aliases[SCHEME] = "app.stream.transport:BatchTransport"
    app = ShellApp(
        group,
        broker=[f"{SCHEME}://{host}" for host in bootstrap.split(",")],
        datadir=str(directory),
        store="memory://",
        web_enabled=False,
        web_tables_enabled=False,
        web_router_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        table_standby_replicas=0,
        stream_wait_empty=True,
        stream_buffer_maxsize=_WAITING_BATCHES,
        producer_acks=-1,
        consumer_auto_offset_reset="earliest",
        **conf,
    )
    app.shell = shell
    for name in shell.topics:
        _agent(app, name)

    async def revoked(sender: Any, /, *args: Any, signal: Any, **kwargs: Any) -> None:
        await shell.leave()

    async def stopping(sender: Any, /, *args: Any, signal: Any, **kwargs: Any) -> None:
        if app._crash_reason is None:
            await shell.leave()

    app.on_partitions_revoked.connect(revoked, weak=False)
    app.on_before_shutdown.connect(stopping, weak=False)
    return app


def _agent(app: ShellApp, name: str) -> None:
    topic = app.topic(name, schema=BatchSchema(), maxsize=_WAITING_BATCHES)

    async def deliver(stream: Any) -> None:
        async for batch in stream:
            await app.shell.process(batch)

    app.agent(topic, name=f"deliver-{name}", concurrency=1)(deliver)
