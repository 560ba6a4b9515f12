"""The part of aiokafka 0.14 that is used here."""

from typing import Any

class PartitionRecords:
    def _consumer_record(self, tp: Any, record: Any) -> Any: ...
