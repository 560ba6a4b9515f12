"""The gate over Kafka, for schedulers without HTTP: a request on one topic, the reply on another.

The reply goes to the partition that the request came from, with its key, and carries its `correlation-id` header, so a
scheduler reads one partition and knows its own. A request that cannot be read goes to the dead-letter topic, with its
bytes and the reason, and is answered with the error.
"""

import asyncio
import logging
import time
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from app.admission.gatekeeper import Busy, Gatekeeper, NotReady
from app.conventions import ADMISSION_REPLIES, ADMISSION_REQUESTS, DEAD_LETTER
from app.core.admission import AdmissionRefusal, AdmissionRequest, AdmissionResponse
from app.core.decode import MAX_BYTES, Reason, too_deep
from app.core.outcomes import DeadLetter, Outcomes
from app.core.trace import context
from app.settings import Settings
from app.sinks import dead_letter
from app.unreadable import UNREADABLE, said_of

log = logging.getLogger("qethics.admission")

CORRELATION_HEADER: Final = "correlation-id"
_POLL_MS: Final = 50
_AGAIN_SECONDS: Final = 1.0
#: Of a request's key and correlation id, so much comes back.
_MOST_ECHOED: Final = 1_024
_REQUEST: Final = msgspec.json.Decoder(AdmissionRequest)


class Relay:
    """Answers the requests of the topic.

    Parameters
    ----------
    consumer, producer
        Started; the consumer in the group of the gates.
    gatekeeper
        Answers.
    settings
        The topics' names, and how old a request may be to be answered.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, gatekeeper: Gatekeeper, settings: Settings
    ) -> None:
        self._consumer = consumer
        self._producer = producer
        self._gatekeeper = gatekeeper
        self._settings = settings

    async def run(self) -> None:
        """Answer without end. What was answered is committed afterwards: a request may be answered twice, never not."""
        self._consumer.subscribe([self._settings.topic(ADMISSION_REQUESTS)])
        while True:
            try:
                found: dict[Any, Any] = await self._consumer.getmany(
                    timeout_ms=_POLL_MS, max_records=self._settings.admission_concurrency
                )
            except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
                await self._begin(error)
                continue
            records = [record for of_partition in found.values() for record in of_partition]
            if not records:
                continue
            try:
                await asyncio.gather(*map(self._reply, records))
                await self._consumer.commit()
            except KafkaError as error:
                # Another gate has the partitions now, or the broker is gone. What is not committed is answered again.
                log.warning("requests could not be answered: %s", error)
                await asyncio.sleep(_AGAIN_SECONDS)
                await self._seek_back()

    async def _begin(self, error: Exception) -> None:
        """Go to the beginning of what is there: nothing was answered yet, or what was answered is not there any more.

        From the earliest: what waited too long is told so, and nothing falls between two owners of a partition.
        """
        found = error.args[0]
        tps = list(found) if isinstance(error, OffsetOutOfRangeError) else [found]
        if isinstance(error, OffsetOutOfRangeError):
            log.error("requests that were not answered are not there any more: %s is out of range", found)
        try:
            await self._consumer.seek_to_beginning(*tps)
        except (KafkaError, AssertionError) as unsaid:
            log.warning("where to go on could not be asked: %s", unsaid)

    async def _seek_back(self) -> None:
        try:
            await self._consumer.seek_to_committed()
        except (KafkaError, AssertionError) as error:
            log.warning("where to go on could not be asked: %s", error)

    async def _reply(self, record: Any) -> None:
        reply = await self._answer(record)
        named = [(name, value) for name, value in record.headers if name == CORRELATION_HEADER and value is not None]
        headers = [(name, value[:_MOST_ECHOED]) for name, value in named[:1]]
        key = record.key[:_MOST_ECHOED] if record.key is not None else None
        topic = self._settings.topic(ADMISSION_REPLIES)
        await self._producer.send_and_wait(
            topic, msgspec.json.encode(reply), key=key, partition=record.partition, headers=headers
        )

    async def _answer(self, record: Any) -> AdmissionResponse | AdmissionRefusal:
        try:
            question = self._read(record.value)
        except UNREADABLE as error:
            # A reply that no broker takes would be tried again without end, and no later request be answered.
            await self._bury(record, said_of(error))
            return AdmissionRefusal(error=f"no admission request: {said_of(error)}")
        while True:
            age = time.time() - record.timestamp / 1000
            if age > self._settings.admission_deadline_seconds:
                # Whoever asked waits no more; what held then may not hold now.
                return _refusal(question, f"the request is {age:.1f} s old; ask again")
            try:
                return await self._gatekeeper.answer(question, context(record.headers))
            except Busy:
                await asyncio.sleep(0.01)  # those over HTTP are told at once; here the topic is the queue
            except NotReady as error:
                return _refusal(question, str(error))

    @staticmethod
    def _read(value: bytes | None) -> AdmissionRequest:
        if value is None or len(value) > MAX_BYTES or too_deep(value):
            raise msgspec.ValidationError("no value, a larger one than 1 MiB, or one nested too deeply")
        return _REQUEST.decode(value)

    async def _bury(self, record: Any, detail: str) -> None:
        letter = DeadLetter(record, ADMISSION_REQUESTS, record.partition, Reason.MALFORMED_JSON, detail)
        for line in dead_letter.SINK.lines(Outcomes(dead_letters=[letter])):
            topic = self._settings.topic(DEAD_LETTER)
            await self._producer.send_and_wait(
                topic, line.value, key=line.key, partition=record.partition, headers=[*line.headers]
            )


def _refusal(question: AdmissionRequest, why: str) -> AdmissionRefusal:
    return AdmissionRefusal(request_id=question.request_id, run_id=question.run_id, error=why)
