"""The part of the documentation that lists the checks."""

from __future__ import annotations

from collections.abc import Iterator

from kdzoo.testing.catalogue import GROUPS


def checks_page() -> str:
    """Every check by group, in Markdown: what it verifies, why that matters, how to mend a failure."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    for number, (heading, checks) in enumerate(GROUPS.items()):
        yield from ([""] if number else [])
        yield f"## {heading}"
        for check in checks:
            yield from ("", f"### {check.name}", "")
            yield f"{_sentence(check.verifies)}  "
            yield f"*Why it matters:* {_sentence(check.matters)}  "
            yield f"*How to mend it:* {_sentence(check.mend)}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
