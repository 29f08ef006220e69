"""NKeys: the signatures are those of RFC 8032, a seed survives being written and read, and a damaged one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from floodmark.drivers.nats_nkey import parse_seed, public_of, sign, write_seed

# RFC 8032, 7.1: secret key, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
SEED = write_seed(bytes(range(32)))


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_sign_gives_what_the_standard_says(secret: str, public: str, message: str, signature: str) -> None:
    assert public_of(bytes.fromhex(secret)).hex() == public
    assert sign(bytes.fromhex(secret), bytes.fromhex(message)).hex() == signature


@settings(max_examples=10)
@given(st.binary(min_size=32, max_size=32))
def test_seed_that_was_written_is_read(secret: bytes) -> None:
    seed = parse_seed(write_seed(secret))

    assert seed.secret == secret
    assert seed.public.startswith("U")
    assert len(seed.public) == 56


@pytest.mark.parametrize("place", [5, 30, 57])
def test_seed_with_a_wrong_letter_is_refused(place: int) -> None:
    letter = "B" if SEED[place] != "B" else "C"

    with pytest.raises(ValueError, match="checksum"):
        parse_seed(SEED[:place] + letter + SEED[place + 1 :])


@pytest.mark.parametrize("text", ["", "SU", "not base 32 at all!", SEED[:-8]])
def test_seed_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"base 32|checksum"):
        parse_seed(text)
