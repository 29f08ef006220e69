"""The official Python client reads one streamed answer and compares its text, once, with what it should be.

Arguments: URL, number of tokens, bytes of each. Says `{"ready": true}`, waits for a line, reads the answer, says what came of it.
"""

from __future__ import annotations

import json
import sys

from openai import OpenAI

from floodmark.ledger import numbered


def main(url: str, count: int, size_bytes: int) -> None:
    """Read one answer."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    expected = numbered.tokens(0, 0, count, size_bytes).decode()
    prompt = f"numbered: stream=0 first=0 count={count} size={size_bytes}"
    client.models.list()  # what it sets up at its first request is not counted
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    pieces: list[str] = []
    for chunk in client.chat.completions.create(model="floodmark-numbered", messages=[{"role": "user", "content": prompt}], stream=True):
        content = chunk.choices[0].delta.content if chunk.choices else None
        if content:
            pieces.append(content)
    print(json.dumps({"chunks": len(pieces), "equal": "".join(pieces) == expected}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
