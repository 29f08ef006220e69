"""`python -m floodmark.systems.conductor.tokens`: the token server on its own."""

from __future__ import annotations

import typer

from floodmark.systems.conductor.tokens.command import tokens

if __name__ == "__main__":
    typer.run(tokens)
