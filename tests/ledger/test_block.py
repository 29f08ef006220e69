from __future__ import annotations

import dataclasses
import random
from typing import Literal
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from floodmark.ledger import block as block_module
from floodmark.ledger.block import Block, decode_block
from floodmark.ledger.decode import decode
from floodmark.ledger.inbox import Deliveries
from floodmark.ledger.stamp import Stamper

Encoding = Literal["binary", "text"]


def _block(encoding: Encoding, count: int, *, payload_bytes: int = 160, before: bytes = b"", behind: bytes = b"", seed: int = 0) -> Block:
    stamper = Stamper(7, encoding, payload_bytes, seed)
    rng = random.Random(seed)
    header = b"\x81\x7e\x00\x00"
    frames = []
    for number in range(count):
        intended_ns = 10**12 + rng.randrange(10**9)
        frames.append(header + before + stamper.payload(rng.randrange(3), number, intended_ns, intended_ns + rng.randrange(10**6)) + behind)
    stride = len(frames[0]) if frames else 1
    return Block(5, b"".join(frames), stride, len(header), 123_456)


def _same(left: Deliveries, right: Deliveries) -> bool:
    return all(np.array_equal(getattr(left, field.name), getattr(right, field.name)) for field in dataclasses.fields(left))


@pytest.mark.parametrize("encoding", ["binary", "text"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 300])
def test_decode_block_honest_frames_agrees_with_decode(encoding: Encoding, count: int) -> None:
    block = _block(encoding, count, before=b'{"id":"s0000000","data":"', behind=b'"}')

    got = decode_block(block, encoding)

    assert len(got) == count
    assert _same(got, decode(block.frames(), encoding))
    assert got.intact.all()


@pytest.mark.parametrize("encoding", ["binary", "text"])
def test_decode_block_honest_frames_takes_the_fast_path(encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Deliveries:
        raise AssertionError("left to decode")

    block = _block(encoding, 50, before=b'{"data":"', behind=b'"}')
    monkeypatch.setattr(block_module, "decode", refuse)

    assert decode_block(block, encoding).seq.tolist() == list(range(50))


@given(
    encoding=st.sampled_from(["binary", "text"]),
    count=st.integers(2, 40),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=4),
    seed=st.integers(0, 50),
)
def test_decode_block_any_flipped_bits_agree_with_decode(encoding: Encoding, count: int, flips: list[tuple[int, int]], seed: int) -> None:
    block = _block(encoding, count, before=b'{"id":"s0000000","data":"', behind=b'"}', seed=seed)
    data = bytearray(block.data)
    for place, bit in flips:
        row, column = place % count, block.payload_at + place // count % (block.stride - block.payload_at)
        data[row * block.stride + column] ^= 1 << bit
    damaged = block._replace(data=bytes(data))

    assert _same(decode_block(damaged, encoding), decode(damaged.frames(), encoding))


@pytest.mark.parametrize("encoding", ["binary", "text"])
def test_decode_block_every_single_flipped_bit_is_seen(encoding: Encoding) -> None:
    block = _block(encoding, 3, payload_bytes=100)
    data = bytearray(block.data)
    start = block.stride + block.payload_at
    for place in range(start, start + 100):
        for bit in range(8):
            data[place] ^= 1 << bit
            seen = decode_block(block._replace(data=bytes(data)), encoding)
            data[place] ^= 1 << bit
            assert seen.intact.tolist() == [True, False, True]


@pytest.mark.parametrize("encoding", ["binary", "text"])
def test_decode_block_rows_with_other_prefixes_agree_with_decode(encoding: Encoding) -> None:
    marker = b"fm1:" if encoding == "text" else b"\xf1\x00dM"
    blocks = [_block(encoding, 2, before=before, seed=3) for before in (b"xxxx7", b"xxxx8", marker + b"9")]
    mixed = Block(5, b"".join(block.data for block in blocks), blocks[0].stride, blocks[0].payload_at, 1)

    assert _same(decode_block(mixed, encoding), decode(mixed.frames(), encoding))


def test_decode_block_frames_without_stamp_are_not_readable() -> None:
    block = Block(1, b"\x81\x05hello" * 4, 7, 2, 9)

    got = decode_block(block, "text")

    assert not got.readable.any()
    assert len(got) == 4


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 512, 700, 4096])
def test_table_difference_gives_the_checksum_of_the_other_text(length: int) -> None:
    rng = random.Random(length)
    one, other = rng.randbytes(length), bytearray(rng.randbytes(length))
    place = rng.randrange(length)
    other[:] = one
    other[place] ^= 0x5A

    difference = block_module._table(length - 1 - place)[0x5A]

    assert crc32(one) ^ int(difference) == crc32(bytes(other))
