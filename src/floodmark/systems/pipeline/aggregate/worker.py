"""One process that aggregates its share of a stream: `python -m floodmark.systems.pipeline.aggregate`.

Reads messages from stdin and answers on stdout, each a length of 8 bytes and a pickle; ends when stdin does. Its parent is the only
one to talk to it (partitioned.py), over pipes that nobody else has. Messages, by their first word:

    settings, functions, groupings     before anything else; no answer
    rows, frame, aliases               a frame as Arrow IPC, columns `accepted:N` tell whom grouping N accepts; no answer
    states                             answer: (record count, a Totals per view)
"""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any, BinaryIO

import polars as pl

from floodmark.systems.pipeline.aggregate.aggregates import Aggregates

HEAD = struct.Struct(">Q")
ACCEPTED = "accepted:"


def packed(*message: Any) -> bytes:
    """Make the bytes of a message."""
    body = pickle.dumps(message, protocol=5)
    return HEAD.pack(len(body)) + body


def packed_frame(frame: pl.DataFrame) -> bytes:
    """Make the bytes of a frame; types that Arrow does not know travel as what they are made of."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="uncompressed")
    return buffer.getvalue()


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Work off messages until there are no more."""
    aggregates = Aggregates()
    while head := source.read(HEAD.size):
        message = pickle.loads(source.read(HEAD.unpack(head)[0]))
        if message[0] == "settings":
            aggregates = Aggregates(message[1], message[2], limited=False)
        elif message[0] == "rows":
            frame = pl.read_ipc(io.BytesIO(message[1]))
            masks = [name for name in frame.columns if name.startswith(ACCEPTED)]
            accepted = {int(name.removeprefix(ACCEPTED)): frame.get_column(name) for name in masks}
            aggregates.update_accepted(frame.drop(masks), message[2], accepted)
        else:
            sink.write(packed(aggregates.record_count, aggregates.states()))
            sink.flush()
