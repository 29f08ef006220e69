"""The place of a message in its stream, from every form of reply subject that servers have."""

from __future__ import annotations

import pytest

from floodmark.drivers.nats_place import place_of_reply, sequence_of_reply


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.ACK.FM_OUT.fm1.1.42.7.1500000000.0",
        b"$JS.ACK._.hash.FM_OUT.fm1.1.42.7.1500000000.0",
        b"$JS.ACK.hub.hash.FM_OUT.fm1.1.42.7.1500000000.0.token",
    ],
)
def test_place_of_reply_is_read_from_every_form(reply: bytes) -> None:
    assert place_of_reply(reply) == (42, 1.5)
    assert sequence_of_reply(reply) == 42


@pytest.mark.parametrize("reply", [b"", b"_INBOX.a.b", b"$JS.ACK.s.c.1.42.7.17", b"$JS.ACK.s.c.1.42.7.8.17.0", b"$JS.ACK.s.c.1.x.7.17.0"])
def test_place_of_reply_of_no_delivery_is_an_error(reply: bytes) -> None:
    with pytest.raises(ValueError, match=r"no delivery|invalid literal"):
        place_of_reply(reply)
    with pytest.raises(ValueError, match=r"no delivery|invalid literal"):
        sequence_of_reply(reply)
