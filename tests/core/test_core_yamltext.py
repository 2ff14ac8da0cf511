from __future__ import annotations

from typing import Any

import pytest

from kdzoo import UsageError
from kdzoo.yamltext import read_mapping, read_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 0.0005), ("1e3", 1000.0), ("-1.5E+2", -150.0), (".5", 0.5), ("5.", 5.0), ("0.1", 0.1),
        ("3", 3), ("-3", -3), ("+4", 4), ("010", 10), ("0x1f", "0x1f"), ("0", 0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), (" 7 ", 7),
        ("-.inf", float("-inf")), ("hot", "hot"), ("'5'", "5"), ('""', ""),
        # YAML 1.1 would make these 750, 60, false, true, false, a date, a thousand.
        ("12:30", "12:30"), ("1:00", "1:00"), ("no", "no"), ("on", "on"), ("off", "off"),
        ("2026-01-31", "2026-01-31"), ("1_000", "1_000"),
        ("[1, 2]", "[1, 2]"), ("a: b", "a: b"), ("a: [", "a: ["), ("nan", "nan"), ("1.2.3", "1.2.3"), ("e5", "e5"),
        ("&a [*a]", "&a [*a]"), ("0.5,0.75", "0.5,0.75"), ("!!python/name:os.system x", "!!python/name:os.system x"),
        # A tag says what a value is; one that does not fit, or is not read, leaves a text.
        ("!!float 3", 3.0), ("!!int '3'", 3), ("!!bool 'true'", True), ("!!bool x", "!!bool x"), ("!!int x", "!!int x"),
        ("!!float x", "!!float x"), ("!!set {a}", "!!set {a}"), ("!!timestamp x", "!!timestamp x"),
        ("9" * 18, 10**18 - 1), ("9" * 19, "9" * 19), ("9" * 9999, "9" * 9999),
    ],
)  # fmt: skip
def test_reads_a_plain_value(text: str, value: Any) -> None:
    read = read_scalar(text)
    assert read == value
    assert type(read) is type(value)


def test_reads_not_a_number() -> None:
    assert str(read_scalar(".nan")) == "nan"
    assert isinstance(read_scalar(".nan"), float)


def test_reads_a_mapping() -> None:
    text = (
        "strategies: [ce, soft]\nset:\n  recipe.lr: 5e-4\nbase: &b {crop: 2}\naugment:\n  <<: *b\n  flip: true\nnote:\n"
    )
    assert read_mapping(text, "f.yaml") == {
        "strategies": ["ce", "soft"],
        "set": {"recipe.lr": 0.0005},
        "base": {"crop": 2},
        "augment": {"crop": 2, "flip": True},
        "note": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2\nb: 3\n", r"f\.yaml:2: malformed YAML: expected ',' or '\]', but got ':'"),
        ("a: 1\nb: 2\n\na: 3\n", r"f\.yaml:4: malformed YAML: key 'a' appears twice"),
        ("a:\n  b: 1\n  b: 1\n", r"f\.yaml:3: malformed YAML: key 'b' appears twice"),
        ("a: b\n  c: d\n", r"f\.yaml:2: malformed YAML: mapping values are not allowed here"),
        ("a: b\n\tc: d\n", r"f\.yaml:2: malformed YAML: "),
        ("a: 'b\n", r"f\.yaml:2: malformed YAML: found unexpected end of stream"),
        ("a: *b\n", r"f\.yaml:1: malformed YAML: found undefined alias"),
        (
            "a: b\n---\nc: d\n",
            r"f\.yaml:2: malformed YAML: expected a single document in the stream, but found another",
        ),
        ("a: b\nc: \x07\n", r"f\.yaml:2: malformed YAML: unacceptable character '\\x07'"),
        ("a: b\n? [c]\n: d\n", r"f\.yaml:2: malformed YAML: found unhashable key"),
        ("a: !!python/object/apply:os.getcwd []\n", r"f\.yaml:1: malformed YAML: the tag '!!python/obj"),
        ("a: !!bool x\n", r"f\.yaml:1: malformed YAML: 'x' is not true or false"),
        ("a: !!int 1.5\n", r"f\.yaml:1: malformed YAML: '1\.5' is not a whole number"),
        ("a: !!float x\n", r"f\.yaml:1: malformed YAML: 'x' is not a number"),
        ("a: !!null x\n", r"f\.yaml:1: malformed YAML: 'x' is not null"),
        ("a: !!timestamp 2026-01-31\n", r"f\.yaml:1: malformed YAML: the tag '!!timestamp' is not read: values are "),
        ("a: !!set {b}\n", r"f\.yaml:1: malformed YAML: the tag '!!set' is not read"),
        ("a: !!binary aGk=\n", r"f\.yaml:1: malformed YAML: the tag '!!binary' is not read"),
        ("a: !mine 3\n", r"f\.yaml:1: malformed YAML: the tag '!mine' is not read"),
        ("\na: " + "9" * 19 + "\n", r"f\.yaml:2: malformed YAML: '9{19}' is too large: whole numbers have at most 18 "),
        ("a: -" + "9" * 9999 + "\n", r"f\.yaml:1: malformed YAML: '-9{39}\.\.\.' is too large"),
        ("a: " + "[" * 5000, r"f\.yaml: malformed YAML: .*recursion"),
        ("", r"f\.yaml: expected a mapping of keys to values"),
        ("- a\n", r"f\.yaml: expected a mapping of keys to values"),
        ("soft\n", r"f\.yaml: expected a mapping of keys to values"),
        ("1: a\n", r"f\.yaml: expected a mapping of keys to values"),
    ],
)
def test_tells_file_and_line_of_what_is_malformed(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        read_mapping(text, "f.yaml")
    assert "\n" not in str(caught.value)
