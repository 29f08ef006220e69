"""floodmark stress-tests streaming systems and reports the mark that was reached."""

__version__ = "0.1.0"
