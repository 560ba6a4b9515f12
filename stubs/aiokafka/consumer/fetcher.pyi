"""The part of aiokafka 0.14 that is used here."""

from typing import Any

from aiokafka import TopicPartition

READ_COMMITTED: int

class PartitionRecords:
    next_fetch_offset: int
    _tp: TopicPartition
    _records: Any
    _check_crcs: bool
    _isolation_level: int
    _aborted_producers: set[int]
    def _consumer_record(self, tp: Any, record: Any) -> Any: ...
    def _consume_aborted_up_to(self, batch_offset: int) -> None: ...
    def _contains_abort_marker(self, next_batch: Any) -> bool: ...
