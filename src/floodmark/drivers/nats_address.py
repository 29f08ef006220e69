"""Where a NATS server is and who we are to it: the URL, the options about credentials and TLS, and the words of CONNECT.

A user and password, or a token, may stand in the URL (`nats://user:password@host`, `nats://token@host`) or, so that no secret stands in a
scenario or a run folder, in environment variables that options name. `credentials` is the file that `nsc` writes: a JWT and a seed.
Not here: sockets. Limits: one server per URL; what a cluster gossips about its other servers is not followed, since that would lead around
a fault proxy.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from floodmark.core.errors import UsageError
from floodmark.drivers.base import Options, RefusedError
from floodmark.drivers.nats_nkey import Seed, parse_seed

PORT = 4222
ADDRESS_DEFAULTS: Options = {
    "user": "",
    "password_env": "",
    "token_env": "",
    "credentials": "",
    "tls_ca": "",
    "tls_certificate": "",
    "verify_tls": True,
}
ADDRESS_MEANINGS = {
    "user": "The user to log in as, where the URL names none; its password is in `password_env`.",
    "password_env": "Name of the environment variable with the password, so that it stands in no scenario and in no run folder.",
    "token_env": "Name of the environment variable with a token to log in with.",
    "credentials": "A credentials file (`.creds`: JWT and seed), or a file with the seed of an NKey alone.",
    "tls_ca": "A file with the certificates to trust, for `tls://`; empty: the system's.",
    "tls_certificate": "A file with our own certificate and its key, for servers that want one.",
    "verify_tls": "Whether the certificate of a `tls://` server must be in order.",
}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One server. `shown` is the URL without secrets; `login` what CONNECT says besides a signature; `seed` signs the server's nonce."""

    host: str
    port: int
    shown: str
    login: dict[str, str]
    seed: Seed | None
    tls: ssl.SSLContext | None

    def connect_words(self, info: dict[str, Any], name: str) -> dict[str, Any]:
        """What CONNECT says to a server that has introduced itself. Raises: RefusedError when it wants a signature that nobody can give."""
        words: dict[str, Any] = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "headers": True,
            "no_responders": True,
            "name": name,
            "tls_required": self.tls is not None,
            **self.login,
        }
        if self.seed is not None:
            nonce = info.get("nonce")
            if not isinstance(nonce, str):
                raise RefusedError(self.shown, "asks for no signature, so the seed of `credentials` is of no use; it is set up otherwise")
            words["sig"] = self.seed.signature(nonce)
            if "jwt" not in words:
                words["nkey"] = self.seed.public
        return words


def address_of(driver: str, url: str, options: Options) -> Address:
    """Read a URL and the options of `ADDRESS_DEFAULTS`. Raises: UsageError for what makes no sense."""
    parts = urlsplit(url)
    try:
        port = parts.port or PORT
    except ValueError as exc:
        raise UsageError(f"driver {driver!r} cannot read the port of {url!r}: {exc}") from exc
    if parts.scheme not in ("nats", "tls") or not parts.hostname:
        raise UsageError(f"driver {driver!r} needs a URL like nats://127.0.0.1:4222 or tls://host:4222, got {url!r}")
    login, seed = _login(driver, parts.username, parts.password, options)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return Address(
        host=parts.hostname, port=port, shown=shown, login=login, seed=seed, tls=_tls(driver, options) if parts.scheme == "tls" else None
    )


def _login(driver: str, user: str | None, password: str | None, options: Options) -> tuple[dict[str, str], Seed | None]:
    given = str(options["credentials"])
    if given:
        return _credentials(driver, Path(given))
    if token_env := str(options["token_env"]):
        return {"auth_token": _from_environment(driver, "token_env", token_env)}, None
    if user and password is None and not options["password_env"]:
        return {"auth_token": unquote(user)}, None
    user = unquote(user) if user else str(options["user"])
    if not user:
        return {}, None
    secret = unquote(password or "")
    if not secret and options["password_env"]:
        secret = _from_environment(driver, "password_env", str(options["password_env"]))
    return {"user": user, "pass": secret}, None


def _credentials(driver: str, path: Path) -> tuple[dict[str, str], Seed | None]:
    """Read a credentials file: the words between its dashed lines, the first of which is the JWT; or a seed alone."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="ascii").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"option 'credentials' of driver {driver!r}: cannot read {path} ({exc})") from exc
    words = [line for line in lines if line and not line.startswith(("-", "*", "#")) and " " not in line]
    seeds = [word for word in words if word.startswith("S") and len(word) == 58]
    tokens = [word for word in words if word.count(".") == 2]
    if len(seeds) != 1:
        raise UsageError(f"option 'credentials' of driver {driver!r}: {path} holds {len(seeds)} seeds, but one is needed")
    try:
        seed = parse_seed(seeds[0])
    except ValueError as exc:
        raise UsageError(f"option 'credentials' of driver {driver!r}: the seed in {path} is damaged: {exc}") from exc
    return ({"jwt": tokens[0]} if tokens else {}), seed


def _from_environment(driver: str, option: str, name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise UsageError(f"option {option!r} of driver {driver!r}: the environment variable {name!r} is empty; set it")
    return value


def _tls(driver: str, options: Options) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(options["tls_ca"]) or None)
        if options["tls_certificate"]:
            context.load_cert_chain(str(options["tls_certificate"]))
    except (OSError, ssl.SSLError) as exc:
        raise UsageError(f"options 'tls_ca', 'tls_certificate' of driver {driver!r}: {exc}") from exc
    if not options["verify_tls"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
