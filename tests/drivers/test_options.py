"""Options, names and classes that are wrong end in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from floodmark.core.errors import UsageError
from floodmark.drivers import DRIVERS, build
from floodmark.drivers.base import Options

BINARY = ("pulled", "nats", "jetstream", "fleet")

WRONG: list[tuple[str, Options, str]] = [
    ("graphql-ws", {"sbscribe": "x"}, "has no option 'sbscribe'; it has: "),
    ("graphql-ws", {"frame_limit_bytes": "1MB"}, "option 'frame_limit_bytes' of driver 'graphql-ws' must be int, got '1MB'"),
    ("graphql-ws", {"frame_limit_bytes": True}, "must be int, got True"),
    ("graphql-ws", {"token": 7}, "must be str, got 7"),
    ("graphql-ws", {"subscribe": "subscription { x }"}, r"the subscribe document does not use \$channel"),
    ("graphql-ws", {"publish": "mutation P($channel: String!) { p }"}, r"the publish document does not use \$data"),
    ("graphql-ws", {"init": "[1]"}, "option 'init' of driver 'graphql-ws' must be a JSON object as text"),
    ("graphql-ws", {"init": "{"}, "must be a JSON object as text"),
    ("graphql-ws", {"init": '{"a": 1}', "token": "t"}, "token and init both fill connection_init"),
    ("graphql-ws", {"headers": '{"A": 1}'}, "the header 'A' must be one line of text"),
    ("graphql-ws", {"headers": '{"A": "b\\r\\nC: d"}'}, "the header 'A' must be one line of text"),
    ("websocket", {"hello": "$token"}, r"the hello template uses \$token; it may use \$channel"),
    ("websocket", {"encoding": "utf8"}, "encoding must be 'text' or 'binary', got 'utf8'"),
    ("websocket", {"publish": "hello"}, r"the publish template must contain \$payload"),
    ("websocket", {"publish": ""}, r"the publish template must contain \$payload"),
    ("websocket", {"publish": "$payload $5"}, r"has a stray \$"),
    ("websocket", {"publish": "$payload $room"}, r"the publish template uses \$room; it may use \$channel, \$payload, \$token"),
    ("websocket", {"subscribe": "$payload"}, r"the subscribe template uses \$payload; it may use \$after, \$channel"),
    ("websocket", {"unsubscribe": "$after"}, r"the unsubscribe template uses \$after; it may use \$channel"),
    ("websocket", {"acknowledged": "ok"}, "needs a group that captures the token"),
    ("websocket", {"acknowledged": "("}, "is not a regular expression"),
    ("websocket", {"acknowledged": r"(\d+)"}, r"the publish template must contain \$token"),
    ("websocket", {"refused": "no"}, "option refused needs a group"),
    ("websocket", {"headers": "A: b"}, "option 'headers' of driver 'websocket' must be a JSON object"),
]


@pytest.mark.parametrize(("name", "options", "sentence"), WRONG)
def test_build_wrong_option_is_one_sentence(name: str, options: Options, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        build(name, options)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(DRIVERS))
def test_build_defaults_are_enough(name: str) -> None:
    assert build(name, {}).encoding == ("binary" if name in BINARY else "text")


def test_build_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown driver 'graphqlws'; did you mean 'graphql-ws'"):
        build("graphqlws", {})
    with pytest.raises(UsageError, match="known drivers: graphql-ws, websocket"):
        build("zzz", {})


OWN = """
import neighbour
from floodmark.drivers.base import BaseDriver
class Mine(BaseDriver):
    DEFAULTS = {"room": "a"}
    async def connect(self, url, channel, sink, *, limit_s, local_host=None):
        raise NotImplementedError
class Less:
    encoding = "text"
    def __init__(self, options): pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    (tmp_path / "neighbour.py").write_text("x = 1\n")
    path = tmp_path / "own_one.py"
    path.write_text(OWN)
    return path


def test_build_class_from_a_file_with_its_neighbours_and_options(own: Path) -> None:
    made = build(f"{own}:Mine", {"room": "b"})

    assert (made.encoding, made.acknowledges, made.resumes) == ("text", False, False)
    assert made.options == {"room": "b"}  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="driver 'Mine' has no option 'rom'; it has: room"):
        build(f"{own}:Mine", {"rom": "b"})


def test_build_own_class_mistakes_are_one_sentence(own: Path) -> None:
    (own.parent / "broken.py").write_text("def f(:\n")

    for name, sentence in [
        (f"{own}:Nobody", "has no class 'Nobody'"),
        (f"{own}:Less", "lacks acknowledges and resumes and connect and statistics; derive it from floodmark.drivers.base.BaseDriver"),
        (f"{own.parent}/none.py:Mine", "there is no file"),
        (f"{own.parent}/broken.py:Mine", "SyntaxError"),
        ("no_such_module:Mine", "is it on PYTHONPATH"),
        ("floodmark.drivers.base:Nobody", "has no class 'Nobody'"),
    ]:
        with pytest.raises(UsageError, match=sentence) as caught:
            build(name, {})
        assert "\n" not in str(caught.value)
