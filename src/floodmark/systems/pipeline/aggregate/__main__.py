"""An aggregation worker on its own stdin and stdout; started by partitioned.py, of no use by hand."""

from __future__ import annotations

import sys

from floodmark.systems.pipeline.aggregate.worker import serve

if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
