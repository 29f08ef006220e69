"""How each peer is started: its command line and environment, or the reason why it cannot be here."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.processes import BenchError, Child

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent
ARTILLERY = ROOT / "bench" / "npm" / "node_modules" / ".bin" / "artillery"
CONNECT_PER_S = 400  # users a second for the tools that ramp


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a peer shall do: `expected` messages to check on one connection, or `connections` to hold with 0 messages."""

    url: str
    run: int
    expected: int
    folder: Path  # for its report and its configuration
    connections: int = 1
    statistics: bool = False

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "BENCH_URL": self.url,
            "BENCH_RUN": str(self.run),
            "BENCH_EXPECTED": str(self.expected),
            "BENCH_REPORT": str(self.report),
            "BENCH_STATISTICS": "1" if self.statistics else "0",
            "PYTHONPATH": str(ROOT),
        }


def counter(task: Task) -> Child:
    """Give the client that only counts."""
    command = [sys.executable, "-m", "bench.peers.counter", task.url, str(task.expected)]
    return Child(command, env=task.environment, cwd=ROOT, what="counter")


def locust(task: Task) -> Child:
    """Give Locust without its web interface. Raises BenchError when it is not installed."""
    if importlib.util.find_spec("locust") is None:
        raise BenchError("locust is not installed; `make bench` installs it")
    rate = str(min(task.connections, CONNECT_PER_S))
    command = [sys.executable, "-m", "locust", "-f", str(PEERS / "locustfile.py"), "--headless", "--only-summary", "--skip-log-setup"]
    return Child([*command, "-u", str(task.connections), "-r", rate], env=task.environment, cwd=task.folder, what="Locust")


def k6(task: Task) -> Child:
    """Give k6, where it is on the path. Raises BenchError when it is not."""
    program = shutil.which("k6")
    if program is None:
        raise BenchError("k6 is not on the path")
    command = [sys.executable, "-m", "bench.peers.k6_listener", program, str(PEERS / "k6_check.js")]
    return Child(command, env=task.environment, cwd=task.folder, what="k6")


def artillery(task: Task) -> Child:
    """Give Artillery on its ws engine. Raises BenchError when it, or a Node with crc32, is not installed."""
    node = shutil.which("node")
    if node is None or not ARTILLERY.exists():
        raise BenchError("Artillery is not installed; `make bench` installs it when npm is there")
    if subprocess.run([node, "-e", "process.exit(require('zlib').crc32 ? 0 : 1)"], check=False).returncode:
        raise BenchError("this Node has no zlib.crc32; it came with 20.15")
    rate = min(task.connections, CONNECT_PER_S)
    script = {
        "config": {
            "target": task.url,
            "processor": str(PEERS / "artillery.js"),
            "ws": {"perMessageDeflate": False},
            "phases": [{"duration": -(-task.connections // rate), "arrivalCount": task.connections, "maxVusers": task.connections}],
        },
        "scenarios": [{"engine": "ws", "flow": [{"function": "listen"}, {"think": 3600}]}],
    }
    place = task.folder / "artillery.json"
    place.write_text(json.dumps(script))
    environment = task.environment | {"ARTILLERY_DISABLE_TELEMETRY": "true"}
    return Child([node, str(ARTILLERY), "run", "--quiet", str(place)], env=environment, cwd=task.folder, what="Artillery")
