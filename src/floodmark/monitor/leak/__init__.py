"""The leak verdict: does the process under test keep memory, descriptors or threads for every message it handles?

`judge_leak(trace)` gives PASS, FAIL or UNKNOWN with a slope, its interval and a reason. Pure: no I/O, no clock, every draw seeded.
Method, sources and measured rates: docs/leaks.md. Traces with a known truth, to try it on: `floodmark.monitor.leak.synthetic`.
"""

from floodmark.monitor.leak.result import Growth, LeakResult, Retained
from floodmark.monitor.leak.trace import Trace, Window, trace_of
from floodmark.monitor.leak.verdict import judge_leak

__all__ = ["Growth", "LeakResult", "Retained", "Trace", "Window", "judge_leak", "trace_of"]
