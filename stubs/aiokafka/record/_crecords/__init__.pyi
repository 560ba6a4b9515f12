from aiokafka.record._crecords import default_records as default_records
from aiokafka.record._crecords import legacy_records as legacy_records
