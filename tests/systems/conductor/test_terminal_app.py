"""The terminal surface on a screen that does not exist: every key, every size, and the end in mid-stream."""

from __future__ import annotations

import asyncio
import time

import pytest
from textual.binding import Binding

from floodmark.systems.conductor import vocabulary as say
from floodmark.systems.conductor.terminal.app import DARK, INTERRUPTED, LIGHT, ChatApp
from floodmark.systems.conductor.terminal.help import COMMANDS, KEYS, Help
from floodmark.systems.conductor.terminal.panels import Rooms
from tests.soonest import soonest
from tests.systems.conductor.terminal_link import GREETING, Stage, played, stage

SIZES = [pytest.param((80, 24), id="80x24"), pytest.param((140, 40), id="140x40"), pytest.param((40, 12), id="40x12")]
LONG = "".join(f"Line {number} of the answer.\n\n" for number in range(200))


def text_on(shown: Stage) -> list[str]:
    """The lines of the text, without the scroll bar."""
    return [line[:76] for line in shown.screen.split("\n")[1:18]]


def heard(shown: Stage, kind: type[say.Input]) -> list[say.Input]:
    return [event for event in shown.script.heard if isinstance(event, kind)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("light", [False, True], ids=["dark", "light"])
def test_app_question_and_answer_are_on_the_screen(size: tuple[int, int], light: bool) -> None:
    async def play() -> None:
        async with stage(size=size, light=light) as shown:
            await shown.ask("Why is the sea salt?")
            await shown.script.tokens("Because of **rivers**.")
            await shown.until(lambda: "Because of rivers." in shown.screen)
            await shown.script.end("Because of **rivers**.")
            await shown.until(lambda: "34.5 tokens/s" in shown.screen)

            assert "Why is the sea salt?" in shown.screen
            assert "ready" in shown.screen
            assert all(len(line) <= size[0] for line in shown.screen.split("\n"))

    played(play)


def test_app_while_an_answer_comes_tells_its_pace() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.ask()
            await shown.until(lambda: "thinking" in shown.screen)
            await shown.script.tokens("one two three four")
            await shown.until(lambda: "answering" in shown.screen and "tokens/s" in shown.screen)

            assert "first " in shown.screen
            assert "3 tokens" in shown.screen
            assert "scripted" in shown.screen

    played(play)


def test_app_escape_stops_the_answer_of_this_conversation() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.pilot.press("escape")  # nothing is being answered: nothing is stopped
            await shown.ask()
            await shown.script.tokens("It is ")
            await shown.pilot.press("escape")
            await shown.until(lambda: heard(shown, say.CancelStream))
            await shown.script.put(say.StreamError(message_id="answer_1", reason="cancelled: the user stopped it"))
            await shown.until(lambda: "■ stopped" in shown.screen)

            assert len(heard(shown, say.CancelStream)) == 1
            assert "It is" in shown.screen

    played(play)


def test_app_scrolled_back_stays_where_it_is_read_and_follows_again_at_the_end() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.ask()
            await shown.script.tokens(LONG, size=50)
            await shown.until(lambda: shown.app.board.shown.page.height > 400 and "Line 199 " in shown.screen)
            for _ in range(3):
                await shown.pilot.press("pageup")
            await shown.until(lambda: not shown.app.transcript.following)
            before = text_on(shown)
            frames = shown.app.transcript.frames_count

            await shown.script.tokens("More.\n\nAnd more.\n\n" * 20, size=50)
            await shown.until(lambda: shown.app.transcript.frames_count > frames and shown.app.board.shown.page.height > 420)
            assert text_on(shown) == before
            assert "follow" in shown.screen

            await shown.pilot.press("ctrl+end")
            await shown.until(lambda: "And more." in shown.screen)
            assert shown.app.transcript.following

    played(play)


def test_app_scrolled_down_to_the_end_follows_again() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.ask()
            await shown.script.tokens(LONG, size=50)
            await shown.until(lambda: shown.app.board.shown.page.height > 400 and "Line 199 " in shown.screen)
            await shown.pilot.press("pageup")
            await shown.until(lambda: not shown.app.transcript.following)
            await shown.pilot.press("pagedown", "pagedown")
            await shown.until(lambda: shown.app.transcript.following)

            await shown.script.tokens("The very last line.")
            await shown.until(lambda: "The very last line." in shown.screen)

    played(play)


def test_app_resized_while_scrolled_back_keeps_the_place() -> None:
    async def play() -> None:
        async with stage(size=(80, 24)) as shown:
            await shown.ask()
            await shown.script.tokens(LONG, size=50)
            await shown.until(lambda: shown.app.board.shown.page.height > 400 and "Line 199 " in shown.screen)
            for _ in range(5):
                await shown.pilot.press("pageup")
            await shown.until(lambda: not shown.app.transcript.following)
            top = next(line for line in shown.screen.split("\n")[1:] if "Line " in line).split()[1]

            await shown.pilot.resize_terminal(50, 20)
            await shown.until(lambda: len(shown.screen.split("\n")) == 20 and f"Line {top} " in shown.screen)

            assert not shown.app.transcript.following
            await shown.until(lambda: heard(shown, say.Resized))
            assert [(event.columns, event.rows) for event in shown.script.heard if isinstance(event, say.Resized)] == [(50, 20)]

    played(play)


def test_app_history_is_called_back_with_the_arrows() -> None:
    async def play() -> None:
        async with stage() as shown:
            for text in ("first question", "second question"):
                await shown.ask(text)
                number = len(heard(shown, say.UserMessage))
                await shown.script.put(say.StreamError(message_id=f"answer_{number}", reason="cancelled"))
                await shown.until(lambda: shown.app.board.shown.pace is None)
            await shown.pilot.press("d", "r", "up")
            assert shown.app.prompt.text == "second question"
            await shown.pilot.press("up", "up")
            assert shown.app.prompt.text == "first question"
            await shown.pilot.press("down", "down")
            assert shown.app.prompt.text == "dr"

    played(play)


def test_app_ctrl_j_breaks_the_line_and_enter_sends_both() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.pilot.press("a", "ctrl+j", "b", "enter")
            await shown.until(lambda: heard(shown, say.UserMessage))

            sent = heard(shown, say.UserMessage)[0]
            assert isinstance(sent, say.UserMessage)
            assert sent.text == "a\nb"
            assert shown.app.prompt.text == ""

    played(play)


def test_app_empty_input_sends_nothing() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.pilot.press("enter", "space", "enter")
            await shown.pilot.pause()

            assert not heard(shown, say.UserMessage)

    played(play)


def test_app_conversations_are_opened_switched_and_closed() -> None:
    async def play() -> None:
        async with stage() as shown:
            assert not shown.app.query_one(Rooms).display  # one conversation on a narrow screen needs no list
            await shown.pilot.press("ctrl+t")
            await shown.until(lambda: shown.app.board.focus_id == "room_2")
            await shown.ask("What is a *tide*?")
            await shown.until(lambda: "What is a *tide" in shown.screen.split("\n")[3])  # its first question is its title

            await shown.script.tokens("Water that", conversation_id="room_2")
            await shown.until(lambda: "Water that" in shown.screen)
            await shown.pilot.press("ctrl+p")
            await shown.until(lambda: shown.app.board.focus_id == say.MAIN_ID)
            assert "Water that" not in shown.screen
            await shown.script.tokens(" comes and goes", conversation_id="room_2")
            await shown.pilot.press("ctrl+n")
            await shown.until(lambda: "Water that comes and goes" in shown.screen)

            await shown.type_in("/close")
            await shown.until(lambda: list(shown.app.board.rooms) == [say.MAIN_ID])
            focused = heard(shown, say.FocusConversation)
            assert [event.conversation_id for event in focused if isinstance(event, say.FocusConversation)][-2:] == [None, "room_2"]

    played(play)


def test_app_conversation_is_chosen_with_a_click() -> None:
    async def play() -> None:
        async with stage(size=(140, 40)) as shown:
            await shown.pilot.press("ctrl+t")
            await shown.until(lambda: shown.app.board.focus_id == "room_2")
            await shown.until(lambda: "Conversation 2" in shown.screen)
            await shown.pilot.click(Rooms, offset=(5, 1))
            await shown.until(lambda: shown.app.board.focus_id == say.MAIN_ID)

    played(play)


def test_app_refused_message_is_shown_as_a_notice() -> None:
    async def play() -> None:
        async with stage() as shown:
            shown.script.refusal = "30 messages in one minute are enough"
            await shown.type_in("one more")
            await shown.until(lambda: "30 messages in one minute" in shown.screen)

            assert shown.app.board.shown.pace is None

    played(play)


def test_app_broken_answer_keeps_its_text_and_says_why() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.ask()
            await shown.script.tokens("Half an ans")
            await shown.script.put(
                say.StreamError(message_id="answer_1", reason="cut off: the server went away"),
                say.ConversationStateChanged(conversation_id=say.MAIN_ID, state=say.ConversationState.ERROR),
            )
            await shown.until(lambda: "✗ cut off: the server went away" in shown.screen)

            assert "Half an ans" in shown.screen
            assert "the last answer failed" in shown.screen

    played(play)


@pytest.mark.parametrize("text", ["/nonsense", "/", "/close"])
def test_app_command_that_cannot_be_says_so_and_sends_nothing(text: str) -> None:
    async def play() -> None:
        async with stage() as shown:
            before = len(shown.script.heard)
            await shown.type_in(text)
            await shown.until(lambda: "There is no command" in shown.screen or "main conversation stays" in shown.screen)

            assert len(shown.script.heard) == before

    played(play)


def test_app_commands_reach_the_conductor() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.type_in("/model other-model")
            await shown.type_in("/clear")
            await shown.type_in("/new A title")
            await shown.type_in("//not a command")
            await shown.until(lambda: heard(shown, say.UserMessage))

            commands = [(event.command, event.args) for event in shown.script.heard if isinstance(event, say.UserCommand)]
            assert commands == [("model", ("other-model",)), ("clear", ())]
            assert [event.title for event in shown.script.heard if isinstance(event, say.NewConversation)] == ["A title"]
            assert [event.text for event in shown.script.heard if isinstance(event, say.UserMessage)] == ["/not a command"]

    played(play)


def test_app_clear_empties_the_page() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.ask("Something to forget")
            await shown.script.tokens("An answer to forget.")
            await shown.script.end("An answer to forget.")
            await shown.until(lambda: "An answer to forget." in shown.screen)
            await shown.type_in("/clear")
            await shown.until(lambda: "to forget" not in shown.screen)

    played(play)


@pytest.mark.parametrize("opened_by", ["f1", "/help"])
def test_app_help_names_every_key_and_command_and_any_way_closes_it(opened_by: str) -> None:
    async def play() -> None:
        async with stage() as shown:
            if opened_by == "f1":
                await shown.pilot.press("f1")
            else:
                await shown.type_in("/help")
            await shown.until(lambda: isinstance(shown.app.screen, Help))
            await shown.until(lambda: "/quit" in shown.screen)
            for name in COMMANDS:
                assert f"/{name}" in shown.screen
            for _, what in KEYS:
                assert what in shown.screen
            await shown.pilot.press("escape")
            await shown.until(lambda: not isinstance(shown.app.screen, Help))

    played(play)


def test_app_help_leaves_out_no_key_that_is_bound() -> None:
    told = " ".join(keys for keys, _ in KEYS).lower().replace("ctrl-", "ctrl+").replace(",", " ")
    named = {"escape": "esc", "pageup": "pgup", "pagedown": "pgdn"}

    bound = [binding.key for binding in ChatApp.BINDINGS if isinstance(binding, Binding) and binding.key not in ("q", "ctrl+end")]

    assert len(bound) > 8
    assert [key for key in bound if named.get(key, key) not in told.split()] == []


def test_app_f2_changes_between_dark_and_light() -> None:
    async def play() -> None:
        async with stage() as shown:
            assert shown.app.theme == DARK
            await shown.pilot.press("f2")
            await shown.until(lambda: shown.app.theme == LIGHT)
            await shown.until(lambda: "Hello from the script." in shown.screen)

    played(play)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param(["ctrl+q"], 0, id="ctrl-q"),
        pytest.param(["ctrl+c"], INTERRUPTED, id="ctrl-c"),
        pytest.param(["tab", "q"], 0, id="q-in-the-text"),
        pytest.param(["slash", "q", "u", "i", "t", "enter"], 0, id="slash-quit"),
    ],
)
def test_app_quit_in_mid_stream_is_quick_and_has_its_exit_code(keys: list[str], code: int) -> None:
    tries_s: list[float] = []

    async def play() -> None:
        async with stage() as shown:
            await shown.ask()
            await shown.script.tokens(LONG, size=50)
            await shown.until(lambda: shown.app.board.shown.page.height > 400 and "Line 199 " in shown.screen)
            for key in keys[:-1]:
                await shown.pilot.press(key)
            before_s = time.monotonic()
            await shown.pilot.press(keys[-1])
            await shown.until(lambda: shown.app.return_value is not None)
            tries_s.append(time.monotonic() - before_s)

            assert shown.app.return_value == code

    def took_s() -> float:
        played(play)
        return tries_s[-1]

    assert soonest(took_s, 1.0) < 1.0


def test_app_q_in_the_input_is_a_letter() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.pilot.press("q")

            assert shown.app.prompt.text == "q"
            assert shown.app.return_value is None

    played(play)


def test_app_conductor_that_quits_ends_the_screen() -> None:
    async def play() -> None:
        async with stage() as shown:
            shown.script.said.close([say.Quit(message="Goodbye.")])
            await shown.until(lambda: shown.app.return_value is not None)

            assert shown.app.return_value == 0

    played(play)


def test_app_ping_and_query_are_answered() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.script.put(say.Ping(seq=7), say.QueryCapabilities())
            await shown.until(lambda: heard(shown, say.CapabilitiesReport))

            assert [event.seq for event in shown.script.heard if isinstance(event, say.Pong)] == [7]
            report = heard(shown, say.CapabilitiesReport)[0]
            assert isinstance(report, say.CapabilitiesReport)
            assert (report.capabilities.columns, report.capabilities.rows) == (80, 24)

    played(play)


def test_app_long_run_of_tokens_leaves_keys_alive_and_the_text_whole() -> None:
    async def play() -> None:
        async with stage() as shown:
            await shown.ask()
            text = "".join(f"word{number} " for number in range(60_000))
            shown.app.prompt.focus()
            for at in range(0, len(text), 50_000):
                await shown.script.tokens(text[at : at + 50_000], size=20)
                await shown.pilot.press("x")
            assert shown.app.prompt.text == "x" * len(range(0, len(text), 50_000))
            await shown.script.end(text)
            await shown.until(lambda: shown.app.board.shown.pace is None)

            assert shown.app.board.shown.page.text == GREETING + text
            assert shown.app.board.shown.page.dropped_chars == 0

    played(play)


def test_app_many_notices_at_once_show_the_newest_and_how_many_more() -> None:
    async def play() -> None:
        async with stage(size=(140, 40)) as shown:
            await shown.script.put(*(say.Notify(level=say.Level.WARNING, text=f"notice number {number}.") for number in range(10)))
            await shown.until(lambda: "notice number 9." in shown.screen)

            assert "more notices came with these" in shown.screen
            assert "notice number 0." not in shown.screen

    played(play)


def test_app_server_that_is_slow_to_name_its_models_holds_nothing_up() -> None:
    async def play() -> None:
        async with stage() as shown:
            send, slow = shown.script.send, asyncio.Event()

            async def held_up(event: say.Input) -> None:
                if isinstance(event, say.UserCommand):
                    await slow.wait()
                await send(event)

            shown.app.link.send = held_up  # type: ignore[method-assign]
            await shown.type_in("/model")
            await shown.ask("and a question")

            assert not heard(shown, say.UserCommand)
            slow.set()
            await shown.until(lambda: heard(shown, say.UserCommand))

    played(play)


def test_app_page_that_is_left_lets_go_of_its_lines() -> None:
    async def play() -> None:
        async with stage() as shown:
            left = shown.app.board.shown.page
            assert left.height > 0
            await shown.pilot.press("ctrl+t")
            await shown.until(lambda: shown.app.board.focus_id == "room_2")

            assert left.height == 0
            await shown.pilot.press("ctrl+n")
            await shown.until(lambda: GREETING in shown.screen)

    played(play)


@pytest.mark.parametrize(("columns", "listed"), [(59, False), (60, True)])
def test_app_list_gives_way_where_the_text_needs_the_room(columns: int, listed: bool) -> None:
    async def play() -> None:
        async with stage(size=(columns, 24)) as shown:
            await shown.pilot.press("ctrl+t")
            await shown.until(lambda: shown.app.board.focus_id == "room_2")
            await shown.pilot.pause(0.1)

            assert shown.app.query_one(Rooms).display == listed

    played(play)
