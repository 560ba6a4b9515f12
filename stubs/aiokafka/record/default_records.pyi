"""The part of aiokafka.record that is used here."""

import struct

class DefaultRecordBase:
    HEADER_STRUCT: struct.Struct
    CODEC_MASK: int
    CODEC_GZIP: int
    CODEC_SNAPPY: int
    CODEC_LZ4: int
    CODEC_ZSTD: int
    TIMESTAMP_TYPE_MASK: int
