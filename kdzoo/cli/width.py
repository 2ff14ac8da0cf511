"""How wide a table may be that goes to standard output."""

from __future__ import annotations

import os
import shutil
import sys

_WIDTH = 120
"""Columns where no terminal says another number: in a file, a pipe, a page of documentation."""


def output_width() -> int:
    """Columns of the terminal, or what the variable ``COLUMNS`` says, or 120."""
    told = os.environ.get("COLUMNS", "")
    if not sys.stdout.isatty() and not (told.isdecimal() and int(told) > 0):
        return _WIDTH
    return shutil.get_terminal_size((_WIDTH, 24)).columns
