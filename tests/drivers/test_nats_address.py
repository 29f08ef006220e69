"""URL, credentials and TLS of a NATS server: what is read from where, and that a mistake is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Options, RefusedError
from floodmark.drivers.nats_address import ADDRESS_DEFAULTS, Address, address_of
from floodmark.drivers.nats_nkey import write_seed

SEED = write_seed(bytes(range(32)))
CREDS = f"""-----BEGIN NATS USER JWT-----
eyJ0eXAi.eyJqdGki.c2ln
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------
"""


def address(url: str, **options: str | bool) -> Address:
    return address_of("nats", url, {**ADDRESS_DEFAULTS, **options})


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("nats://127.0.0.1", {}),
        ("nats://me:p%40ss@host:4222", {"user": "me", "pass": "p@ss"}),
        ("nats://t0ken@host", {"auth_token": "t0ken"}),
    ],
)
def test_address_of_a_url_has_its_login_and_shows_no_secret(url: str, login: dict[str, str]) -> None:
    read = address(url)

    assert read.login == login
    assert read.port == 4222
    assert not any(secret in read.shown for secret in login.values())


def test_address_takes_secrets_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FM_SECRET", "s3cret")

    assert address("nats://h", user="me", password_env="FM_SECRET").login == {"user": "me", "pass": "s3cret"}
    assert address("nats://me@h", password_env="FM_SECRET").login == {"user": "me", "pass": "s3cret"}
    assert address("nats://h", token_env="FM_SECRET").login == {"auth_token": "s3cret"}


def test_credentials_file_gives_the_jwt_and_signs_the_nonce(tmp_path: Path) -> None:
    (tmp_path / "me.creds").write_text(CREDS)

    words = address("nats://h", credentials=str(tmp_path / "me.creds")).connect_words({"nonce": "abc"}, "floodmark")

    assert words["jwt"] == "eyJ0eXAi.eyJqdGki.c2ln"
    assert len(words["sig"]) == 86
    assert "nkey" not in words


def test_credentials_with_a_server_that_asks_for_no_signature_are_refused(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text(SEED)

    with pytest.raises(RefusedError, match="asks for no signature"):
        address("nats://h", credentials=str(tmp_path / "seed")).connect_words({}, "floodmark")


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("http://h", {}, "needs a URL like nats://"),
        ("nats://", {}, "needs a URL like nats://"),
        ("nats://h:port", {}, "cannot read the port"),
        ("nats://h", {"credentials": "/nowhere/me.creds"}, "cannot read"),
        ("nats://h", {"token_env": "FM_IS_NOT_SET"}, "is empty; set it"),
        ("tls://h", {"tls_ca": "/nowhere/ca.pem"}, "tls_ca"),
    ],
)
def test_address_that_makes_no_sense_is_one_sentence(url: str, options: Options, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        address_of("nats", url, {**ADDRESS_DEFAULTS, **options})

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", SEED[:-1] + "A", f"{SEED}\n{SEED}\n"])
def test_credentials_without_one_whole_seed_are_a_usage_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.creds").write_text(text)

    with pytest.raises(UsageError, match="seed"):
        address("nats://h", credentials=str(tmp_path / "bad.creds"))
