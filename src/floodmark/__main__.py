"""`python -m floodmark` is the command line."""

from floodmark.cli import main

main()
