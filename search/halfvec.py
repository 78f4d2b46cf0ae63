"""How vectors are handed to PostgreSQL as parameters: as pgvector's halfvec in binary, which neither side turns into text.

Their type is left to the statement, whose cast says it: the number that a database gives pgvector's types need not be known.
"""

import struct

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from search.cloak import HalfVectors

_HEADER = struct.Struct(">HH")  # dimensions, and two bytes that pgvector keeps for itself


class HalfVector(bytes):
    """float16[d] as halfvec_recv reads it."""

    @classmethod
    def of(cls, vector: HalfVectors) -> "HalfVector":
        return cls(_HEADER.pack(len(vector), 0) + vector.astype(">f2").tobytes())


class _HalfVectorDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: HalfVector) -> bytes:
        return bytes(obj)


psycopg.adapters.register_dumper(HalfVector, _HalfVectorDumper)
