"""An agent is there to stay beside the load: it loads what it needs and none of the rest of the command line."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"floodmark.cli", "floodmark.drivers", "floodmark.report", "floodmark.systems.hub", "graphql", "numpy", "picows", "polars", "rich"}
TRY = """
import sys
from floodmark.__main__ import main
sys.argv = ["floodmark", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print(ended.code)
from floodmark.runner import remote
print(*sys.modules)
"""


def loaded_by(*words: str) -> tuple[int, set[str]]:
    """The exit code of a command, and the modules that it and what an agent is made of have loaded."""
    done = subprocess.run([sys.executable, "-c", TRY, *words], capture_output=True, text=True, check=True)
    code, modules = done.stdout.splitlines()
    return int(code), set(modules.split())


def test_agent_loads_none_of_the_rest_of_the_command_line() -> None:
    code, modules = loaded_by("agent", "--nats", "nats://127.0.0.1:1", "--capacity", "0")

    assert code == 2
    assert not modules & HEAVY


def test_other_commands_load_all_of_it() -> None:
    code, modules = loaded_by("serve", "hub", "--port", "none")

    assert code == 2
    assert modules > HEAVY
