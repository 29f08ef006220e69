"""The blaster: a correct WebSocket server whose frames the ledger's own reader accepts, one by one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from bench.blaster import PAYLOAD_BYTES, PONG, Peer, Sender, accept_key, frame_of, stamped_frames
from bench.peers.check import Check
from floodmark.ledger.stamp import read

RUN = 77


@pytest.fixture
def sender() -> Iterator[Sender]:
    with Sender() as running:
        yield running


def payloads(frames: bytes) -> list[bytes]:
    size = PAYLOAD_BYTES + 2
    return [frames[at + 2 : at + size] for at in range(0, len(frames), size)]


def test_accept_key_is_that_of_the_rfc() -> None:
    assert accept_key(b"GET / HTTP/1.1\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize("size", [0, 125, 126, 65_535])
def test_frame_of_any_size_has_a_right_head(size: int) -> None:
    frame = frame_of(bytes(size))

    declared = frame[1] if frame[1] < 126 else int.from_bytes(frame[2:4], "big")
    assert declared == size
    assert len(frame) == size + (2 if size < 126 else 4)


def test_stamped_frames_are_read_by_the_ledger_in_sequence() -> None:
    stamps = [read(payload, "binary") for payload in payloads(stamped_frames(RUN, 50))]

    assert [(stamp.run, stamp.publisher, stamp.seq, stamp.intact) for stamp in stamps if stamp] == [
        (RUN, 0, seq, True) for seq in range(50)
    ]


def test_peer_ping_split_over_reads_is_answered_with_its_payload() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = Peer(ours)
        peer.upgraded = True
        ping = bytes((0x89, 0x83, 1, 2, 3, 4)) + bytes((ord("a") ^ 1, ord("b") ^ 2, ord("c") ^ 3))

        stays = [peer.take(ping[:1]), peer.take(ping[1:7]), peer.take(ping[7:])]

        assert stays == [True, True, True]
        assert theirs.recv(100) == frame_of(b"abc", PONG)


def test_sender_blast_reaches_an_independent_client_whole(sender: Sender) -> None:
    sender.prepare(RUN, 300)
    check = Check(RUN, 300)
    with connect(sender.url) as client:
        asked = sender.go(300)
        outcomes = [check.message(message) for message in (client.recv(10) for _ in range(300)) if isinstance(message, bytes)]

    assert sender.sent(asked) == 300
    assert outcomes == [False] * 299 + [True]
    assert check.bad == 0


def test_sender_blast_beyond_the_prepared_begins_again(sender: Sender) -> None:
    sender.prepare(RUN, 10)
    with connect(sender.url) as client:
        asked = sender.go(25)
        seqs = [stamp.seq for stamp in (read(bytes(client.recv(10, decode=False)), "binary") for _ in range(25)) if stamp]

    assert sender.sent(asked) == 25
    assert seqs == [*range(10), *range(10), *range(5)]


def test_sender_without_a_client_sends_nothing(sender: Sender) -> None:
    sender.prepare(RUN, 10)

    assert sender.sent(sender.go(10)) == 0


def test_sender_counts_connections_as_they_come_and_go(sender: Sender) -> None:
    with connect(sender.url), connect(sender.url):
        both = sender.connected()
    sender.wait_for(lambda: sender.connected() == 0, limit_s=10.0, what="rid of them")

    assert both == 2


def test_sender_client_that_is_no_websocket_is_dropped(sender: Sender) -> None:
    with socket.create_connection(("127.0.0.1", urlsplit(sender.url).port or 0), timeout=10.0) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")

        assert client.recv(10) == b""


@pytest.mark.parametrize("at", [0, 4, 8, 12, 16, 60])
def test_check_damaged_byte_is_bad(at: int) -> None:
    check = Check(RUN, 2)
    first, second = payloads(stamped_frames(RUN, 2))

    check.message(first)
    check.message(second[:at] + bytes((second[at] ^ 0x40,)) + second[at + 1 :])

    assert check.bad == 1


@pytest.mark.parametrize("order", [(0, 2), (0, 0), (1, 0)])
def test_check_lost_repeated_or_swapped_message_is_bad(order: tuple[int, int]) -> None:
    check = Check(RUN, 2)
    made = payloads(stamped_frames(RUN, 3))

    complete = [check.message(made[seq]) for seq in order]

    assert complete == [False, True]
    assert check.bad >= 1
