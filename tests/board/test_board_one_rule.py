"""What a record is, the reader of boards and the one of benches say alike, whatever was done to the file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdzoo.board.cache import read_batch
from kdzoo.board.parsing import RecordParser
from kdzoo.errors import KdzooError
from kdzoo.jsontext import sealed, unsealed
from kdzoo.record import SCHEMA, Record, parse_record
from kdzoo.record_parts import Epoch
from kdzoo.store import Store

SWEEP = Path(__file__).parent / "sweep" / "store"


def a_record(schema: int) -> Record:
    """With a short curve, so that a damage often hits what boards use."""
    base = next(one for one in Store.open(SWEEP).records() if one.status == "done" and one.cell.teacher)
    curve = tuple(
        Epoch(epoch=number, phase="main", terms={"ce": 1.5, 'a]"': 0.5}, lr=0.1, tune={"top1": 50.0})
        for number in range(2)
    )
    return base.model_copy(update={"curve": curve, "record_schema": schema})


def cuts(text: bytes) -> Iterator[bytes]:
    yield from (text[:end] for end in range(0, len(text), 7))
    yield from (text[start:] for start in range(1, len(text), 41))


def flips(text: bytes) -> Iterator[bytes]:
    """A bit is another one, in most bytes of the text."""
    for place in range(0, len(text), 3):
        yield text[:place] + bytes([text[place] ^ 1 << place % 8]) + text[place + 1 :]


def swaps(text: bytes) -> Iterator[bytes]:
    """Pieces of the text change places, are there twice, or are gone."""
    draw = random.Random(0)
    for _ in range(300):
        pieces = text.split(b",")
        one, other = draw.sample(range(len(pieces)), 2)
        match draw.randrange(3):
            case 0:
                pieces[one], pieces[other] = pieces[other], pieces[one]
            case 1:
                pieces.insert(other, pieces[one])
            case _:
                del pieces[one]
        yield b",".join(pieces)


def others(text: bytes) -> Iterator[bytes]:
    yield from (b"", b"\n", b"{}", b"[]", b"null", b"\0" * len(text), text + text, b"\xef\xbb\xbf" + text, b"[" * 10**5)
    yield text.replace(b"\n", b"\r\n")
    yield text.strip()
    yield b'{"record_schema":99}'


def verdict(read: Callable[[], object]) -> str:
    try:
        read()
    except KdzooError as error:
        return f"{type(error).__name__}: {error}"
    return "a record"


@pytest.mark.parametrize("schema", [SCHEMA, SCHEMA - 1])
@pytest.mark.parametrize("damage", [cuts, flips, swaps, others])
def test_both_readers_say_the_same(damage: Callable[[bytes], Iterator[bytes]], schema: int) -> None:
    record = a_record(schema)
    text = record.to_json().encode()
    parser = RecordParser()
    parser.line(record.id, text, "here", "stamp")  # now it knows the values
    verdicts = {"a record": 0, "": 0}
    for broken in damage(text):
        strict = verdict(lambda broken=broken: parse_record(broken, "here", cell_id=record.id))
        assert verdict(lambda broken=broken: parser.line(record.id, broken, "here", "stamp")) == strict
        verdicts[strict if strict == "a record" else ""] += 1
        if schema == SCHEMA and strict == "a record":
            # Nothing is believed but what was written; at its end a line may have lost or won blank space, and the
            # seal itself, which an older kdzoo's record has none of either.
            assert broken.split() == text.split() or unsealed(broken)[1] is None
    assert verdicts[""] >= 10


def test_a_flip_in_any_byte_of_a_new_record_is_found() -> None:
    text = a_record(SCHEMA).to_json().encode()
    for place in range(len(text) - 1):
        broken = text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :]
        with pytest.raises(KdzooError):
            parse_record(broken, "here")


def test_a_seal_that_was_made_anew_vouches_for_no_bad_cell() -> None:
    """It says that nothing was changed by accident; what boards use they look at all the same."""
    record = a_record(SCHEMA)
    for change in ({"id": "0" * 16}, {"test": None}, {"agreement": 101.0}, {"record_schema": SCHEMA + 1}):
        text = sealed(record.model_dump(mode="json") | change).encode()
        strict = verdict(lambda text=text: parse_record(text, "here", cell_id=record.id))
        assert strict != "a record"
        assert verdict(lambda text=text: RecordParser().line(record.id, text, "here", "stamp")) == strict


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "runs")
    record = a_record(SCHEMA)
    store.plan(record.cell)
    store.write_record(record)
    return store


@pytest.mark.parametrize("what", ["folder", "pipe", "device", "loop", "link to nothing", "link to it", "huge", "gone"])
def test_both_readers_say_the_same_of_what_stands_in_a_records_place(what: str, store: Store) -> None:
    (cell_id,) = store.cell_ids()
    path = store.folder(cell_id) / "record.json"
    moved = path.rename(path.with_name("moved"))
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "link to nothing":
            path.symlink_to("nothing")
        case "link to it":
            path.symlink_to(moved)
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**40)
    found = read_batch(RecordParser(), store.cells, [cell_id])
    try:
        strict = "a record" if store.record(cell_id) else ""
    except FileNotFoundError:
        strict = "none"
    except KdzooError as error:
        strict = str(error)
    assert found.problems.get(cell_id, "a record" if found.lines else "none") == strict
    expected = {"link to it": "a record", "gone": "none", "link to nothing": "none"}
    assert strict == expected.get(what, strict)
    assert (what in expected) == (not found.problems)
