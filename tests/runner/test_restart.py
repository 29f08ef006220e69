"""The target is killed, asked to end, or started again under load: the verdict, the account, the words, and that no run hangs.

Each is a whole run with real processes.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import msgspec
import pytest

from floodmark.core.errors import UsageError
from floodmark.core.nats_server import EmbeddedNats
from floodmark.model.finding import Guarantee
from floodmark.model.result import ScenarioResult
from floodmark.model.scenario import Fault, Reconnect, Target
from floodmark.model.verdict import Verdict
from floodmark.runner import start
from floodmark.runner import target as target_module
from tests.runner.lost import CONNECTIONS, HUB, PLAIN, PUBLISHERS, RESUMING, broken, durable, log, play, scenario, session
from tests.runner.played import holders, playing, wait_for

RESTART = Fault(kind="process.restart", at_s=0.3, for_s=0.2)
KILL = Fault(kind="process.kill", at_s=0.3)


def test_restart_of_a_durable_target_with_resume_loses_nothing_acknowledged(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(RESTART, target=durable(tmp_path / "kept")))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert result.delivery.lost == result.delivery.dropped_by_us == 0
    assert result.delivery.delivered + result.delivery.indeterminate == result.delivery.attempted
    (fault,) = result.faults
    assert (fault.hits, fault.reconnects) == (1, CONNECTIONS + PUBLISHERS)
    assert result.metrics["target_exits"] == 0


def test_restart_of_a_target_that_acknowledges_without_writing_fails_by_what_is_lost(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(RESTART, target=durable(tmp_path / "kept", "forgets"), drain_limit_s=1.0))

    assert result.verdict is Verdict.FAIL
    assert broken(result)["lost == 0"] == "FAIL"


def test_restart_of_the_hub_in_memory_loses_its_history_and_at_most_once_allows_that(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(RESTART, guarantee=Guarantee.AT_MOST_ONCE, drain_limit_s=1.0))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    # Whoever was back before the publishers could not resume; whoever came later has missed what they sent.
    assert result.delivery.lost > 0 or "would not resume" in result.note
    assert result.faults[0].lost == result.delivery.lost


def test_restart_of_the_hub_over_jetstream_with_resume_loses_nothing_acknowledged(tmp_path: Path) -> None:
    async def play_over(bus: str) -> ScenarioResult:
        wanted = scenario(RESTART, target=msgspec.structs.replace(HUB, args=(*HUB.args, "--bus", bus)))
        return await session(tmp_path, wanted).play()

    async def run() -> ScenarioResult:
        async with EmbeddedNats() as server:
            return await play_over(server.url)

    result = asyncio.run(run())

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert result.delivery.lost == result.delivery.dropped_by_us == 0
    assert result.delivery.acknowledged > 0
    assert "would not resume" not in result.note
    assert log(tmp_path).count("hub ready") == 2


def test_restart_without_resume_leaves_the_gap_indeterminate(tmp_path: Path) -> None:
    result = play(tmp_path, scenario(RESTART, reconnect=PLAIN))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert result.delivery.lost == 0
    assert result.delivery.indeterminate > 0


def test_restart_comes_back_where_it_was_with_one_log_and_all_its_figures(tmp_path: Path) -> None:
    twice = Fault(kind="process.restart", at_s=0.2, for_s=0.1, repeat=2, every_s=1.5, options={"how": "terminate", "grace_s": 5.0})

    result = play(tmp_path, scenario(twice, reconnect=PLAIN, load_s=1.8))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    urls = re.findall(r"hub ready (\S+)", log(tmp_path))
    assert len(urls) == 3
    assert len(set(urls)) == 1
    assert log(tmp_path).count("[floodmark: started again]") == 2
    assert [fault.occasion for fault in result.faults] == [0, 1]
    assert [fault.hits for fault in result.faults] == [1, 1]
    assert sum(fault.reconnects or 0 for fault in result.faults) >= CONNECTIONS + PUBLISHERS
    assert result.target.cpu_s > 0.3  # three starts of a Python program; one alone takes less
    assert result.metrics["target_exits"] == 0


def test_restart_leaves_unknown_what_compares_the_memory_of_two_processes(tmp_path: Path) -> None:
    texts = ("rss_growth < 100x", "rss_kept < 1GB", "leak_bytes_per_message < 1KB", "rss_peak < 1GB")

    result = play(tmp_path, scenario(RESTART, reconnect=PLAIN, criteria=texts))

    assert broken(result) == dict.fromkeys(texts[:3], "UNKNOWN")
    assert "two processes" in next(criterion.note for criterion in result.criteria if criterion.text == texts[0])


@pytest.mark.parametrize("reconnect", [None, RESUMING])
def test_kill_without_restart_fails_with_a_plain_note_and_does_not_hang(reconnect: Reconnect | None, tmp_path: Path) -> None:
    started_s = time.monotonic()

    result = play(tmp_path, scenario(KILL, reconnect=reconnect, criteria=("lost >= 0",), drain_limit_s=1.0))

    assert time.monotonic() - started_s < 60
    assert result.verdict is Verdict.FAIL
    assert broken(result)["the target is there at the end"] == "FAIL"
    note = next(criterion.note for criterion in result.criteria if criterion.text == "the target is there at the end")
    assert re.fullmatch(r"process\.kill ended it 0\.\d s into the load, and nothing started it again", note)
    assert result.metrics["target_exits"] == 0


def test_terminate_of_the_root_is_no_exit_of_its_own_but_fails_the_run(tmp_path: Path) -> None:
    fault = Fault(kind="process.terminate", at_s=0.3)

    result = play(tmp_path, scenario(fault, criteria=("lost >= 0",), reconnect=None, drain_limit_s=1.0))

    assert result.verdict is Verdict.FAIL
    assert result.metrics["target_exits"] == 0
    assert broken(result)["the target is there at the end"] == "FAIL"


def test_terminate_of_a_target_that_is_not_gone_yet_when_the_drain_is_over_fails_the_run_too(tmp_path: Path) -> None:
    fault = Fault(kind="process.terminate", at_s=0.48)

    result = play(tmp_path, scenario(fault, criteria=("lost >= 0",), reconnect=None, load_s=0.5, drain_limit_s=0.01))

    assert broken(result)["the target is there at the end"] == "FAIL"


def test_terminate_that_the_target_does_not_heed_leaves_it_there_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (start, target_module):
        monkeypatch.setattr(module, "TERMINATE_LIMIT_S", 0.1)
    target = durable(tmp_path / "kept")
    deaf = msgspec.structs.replace(target, command=f"env --ignore-signal=TERM {target.command}")

    result = play(tmp_path, scenario(Fault(kind="process.terminate", at_s=0.3), target=deaf, criteria=("lost == 0",), load_s=0.5))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})


def test_death_after_a_restart_is_the_targets_own(tmp_path: Path) -> None:
    mark = tmp_path / "seen"
    second = f"if [ -e {mark} ]; then echo ready ws://127.0.0.1:$(cat {mark}); sleep 0.3; exit 3; fi; "
    first = f"echo 1 > {mark}; exec {durable(tmp_path / 'kept').command} | tee {tmp_path / 'out'}"
    script = tmp_path / "target.sh"
    script.write_text(f"#!/bin/sh\n{second}{first}\n")
    script.chmod(0o755)
    target = Target(command=str(script), ready_pattern=r"\bready (\S+)", start_limit_s=5.0)

    result = play(tmp_path, scenario(RESTART, target=target, reconnect=PLAIN, drain_limit_s=1.0))

    assert result.verdict is Verdict.FAIL
    assert broken(result)["target_exits == 0"] == "FAIL"
    assert "came back at ws://127.0.0.1:1, where no client looks" in result.note


def test_restart_at_ratio_0_touches_nothing_and_the_run_says_so(tmp_path: Path) -> None:
    fault = Fault(kind="process.restart", at_s=0.2, for_s=0.1, ratio=0.0)

    result = play(tmp_path, scenario(fault, load_s=0.5))

    assert broken(result) == {"fault_hits > 0": "UNKNOWN", "recovered_ratio == 100%": "UNKNOWN"}
    assert result.delivery.delivered == result.delivery.attempted > 0
    assert "started again" not in log(tmp_path)


def test_kill_by_name_takes_the_hubs_own_nats_server_and_leaves_the_hub(tmp_path: Path) -> None:
    fault = Fault(kind="process.kill", at_s=0.3, options={"name": "nats-server"})
    target = msgspec.structs.replace(HUB, args=(*HUB.args, "--bus", "nats"))

    result = play(tmp_path, scenario(fault, target=target, criteria=("fault_hits == 1",), guarantee=Guarantee.AT_MOST_ONCE))

    assert (result.verdict, broken(result)) == (Verdict.PASS, {})
    assert (result.metrics["target_exits"], result.faults[0].reconnects) == (0, 0)
    assert log(tmp_path).count("hub ready") == 1


def test_kill_by_a_name_that_nobody_has_touches_nothing(tmp_path: Path) -> None:
    fault = Fault(kind="process.kill", at_s=0.2, options={"name": "nobody-is-called-so"})

    result = play(tmp_path, scenario(fault, load_s=0.5, criteria=("lost == 0",)))

    assert broken(result) == {"fault_hits > 0": "UNKNOWN"}
    assert result.delivery.delivered == result.delivery.attempted > 0


@pytest.mark.parametrize(
    ("target", "fault", "words"),
    [
        (Target(url="ws://127.0.0.1:9"), RESTART, "needs a target that floodmark starts itself"),
        (Target(url="ws://127.0.0.1:9"), KILL, "needs a target that floodmark starts itself"),
        (HUB, Fault(kind="process.restart", for_s=2.0, repeat=2, every_s=1.0), "lasts 2 s and strikes every 1 s"),
        (HUB, Fault(kind="process.kill", for_s=2.0, repeat=2, every_s=1.0), "lasts 2 s and strikes every 1 s"),
        (HUB, Fault(kind="process.restart", at_s=0.3), "for_s, which is 0, so it would touch nothing"),
        (HUB, Fault(kind="process.pause", at_s=0.3), "for_s, which is 0, so it would touch nothing"),
    ],
)
def test_fault_that_cannot_be_carried_out_is_a_usage_error(target: Target, fault: Fault, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        session(tmp_path, scenario(fault, target=target)).check_feasible()


def test_restart_without_clients_that_come_back_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"add a \[reconnect\] table"):
        session(tmp_path, scenario(RESTART, reconnect=None)).check_feasible()


@pytest.mark.parametrize("group", [True, False])
def test_interrupt_while_the_target_is_down_ends_everything(group: bool, tmp_path: Path) -> None:
    path = tmp_path / "down.toml"
    path.write_text(
        'id = "down"\ntarget = { system = "hub", args = ["--no-rate-limits"] }\npopulation = { connections = 4 }\n'
        'phases = [{ duration_s = 30, arrival = { kind = "constant", rate_hz = 100 } }]\ncriteria = ["lost == 0"]\n'
        'reconnect = { resume = true }\nfaults = [{ kind = "process.restart", at_s = 0.2, for_s = 20 }]\n'
    )

    with playing(tmp_path, "run", str(path)) as played:
        wait_for(lambda: "ready" in played.log("down"), "the target")
        wait_for(lambda: any("systems.hub" in line for line in holders(played.mark)), "hub")
        wait_for(lambda: not any("systems.hub" in line for line in holders(played.mark)), "strike")
        played.signal(signal.SIGINT, group=group)
        played.wait()

    assert played.code == 130, played.stderr
    assert played.document["interrupted"] is True
    assert played.result["verdict"] == "UNKNOWN"
