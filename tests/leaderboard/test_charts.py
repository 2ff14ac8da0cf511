from __future__ import annotations

import itertools
import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from kdzoo.board.display import tables
from kdzoo.board.overall import overall
from kdzoo.board.table import make_board
from kdzoo.drawing import chart_digest, drawer, origin_of, png, svg
from kdzoo.leaderboard.charts.comparison import forest_chart, rank_chart
from kdzoo.leaderboard.charts.scores import accuracy_chart, curves_chart, headline
from kdzoo.measures import TOP1
from kdzoo.record import Record

Rows = list[dict[str, Any]]
HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "=1+1", "a\u202eb\x1b")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def board_rows() -> Callable[[list[Record]], Rows]:
    def rows(records: list[Record]) -> Rows:
        (table,) = tables(make_board(records, by="dataset"), "rank")
        return table.rows

    return rows


def drawn(chart: dict[str, Any], mark: str) -> list[str]:
    """The labels of the items of one mark in the chart's SVG."""
    root = ElementTree.fromstring(svg(chart))
    groups = [one for one in root.iter(f"{SVG}g") if mark in one.get("class", "").split()]
    return [item.get("aria-label", "") for group in groups for item in group if item.get("aria-label")]


def test_accuracy_shows_each_row_as_the_board_has_it(sweep, board_rows):
    rows = board_rows(sweep)
    points = accuracy_chart(rows)["data"]["values"]
    assert len(points) == len(rows) == 6
    for point, row in zip(points, rows, strict=True):
        assert point["strategy"] == row["strategy"]
        assert point["top1"] == row["top1"]
        assert (point["low"], point["high"]) == (row["top1_low"], row["top1_high"])
        assert point["parameters"] == row["student_parameters"]
        assert point["n"] == row["done"]
    soft = next(point for point in points if point["strategy"] == "soft" and point["student"] == "test_resnet")
    # 93.0, 93.6, 92.4: sd 0.6, and t(2) = 4.302653 gives a reach of 1.4905.
    assert soft["interval"] == "91.51 to 94.49"
    cut = next(point for point in points if point["strategy"] == "fitnets" and point["student"] == "test_resnet")
    assert (cut["n"], cut["interval"]) == (2, "none (n<3)")


def test_strategies_stand_beside_their_students_size_and_never_beyond_the_next(record, cell, board_rows):
    sizes = ["resnet18", "resnet10t", "test_resnet", "test_vit"]
    names = [f"s{number:02}" for number in range(30)]
    records = [record(cell(name, 0, student=size)) for name in names for size in sizes]
    points = accuracy_chart(board_rows(records))["data"]["values"]
    by_size: dict[int, list[float]] = {}
    for point in points:
        by_size.setdefault(point["parameters"], []).append(point["x"])
    spans = [(min(places), size, max(places)) for size, places in sorted(by_size.items())]
    assert all(low < size < high for low, size, high in spans)
    assert all(before[2] < after[0] for before, after in itertools.pairwise(spans))


def test_pareto_front_is_that_of_a_naive_search(record, cell, board_rows):
    drawing = random.Random(5)
    sizes = ["resnet18", "resnet10t", "test_resnet", "test_vit", "unheard"]
    records = [
        record(cell(strategy, 0, student=student), drawing.choice((700, 720, 740, 760, 780)) - 15 * place)
        for place, student in enumerate(sizes)
        for strategy in ("ce", "soft", "fitnets")
    ]
    rows = board_rows(records)
    found = {(row["student_parameters"], row["top1"]) for row in rows}
    front = {
        (size, top1)
        for size, top1 in found
        if not any(
            smaller <= size and better >= top1 and (smaller, better) != (size, top1) for smaller, better in found
        )
    }
    rings = drawn(accuracy_chart(rows), "front_layer_1_marks")
    assert sorted(float(re.search(r"top1: ([\d.]+)", label)[1]) for label in rings) == sorted(top1 for _, top1 in front)
    assert 1 < len(front) < len(found)


def test_teachers_are_drawn_once_each(sweep, rows, board_rows):
    both = sweep + rows({"ce": [900, 910]}, teacher="resnet18")
    chart = accuracy_chart(board_rows(both))
    assert len(drawn(chart, "layer_3_layer_0_marks")) == 2
    told = " ".join(chart["title"]["subtitle"])
    assert re.search(r"dotted lines: teachers resnet10t, [\d.]+M parameters, [\d.]+ %; resnet18, ", told)
    # Their names are in the words above, where they hide no mark.
    assert '"type": "text"' not in json.dumps(chart)


def test_modules_that_a_strategy_leaves_do_not_count_in_the_students_own_size(sweep, board_rows):
    rows = board_rows(sweep)
    before = accuracy_chart(rows)["title"]["subtitle"]
    assert "Students: " in " ".join(before)
    next(row for row in rows if row["strategy"] == "soft")["student_parameters"] *= 3
    assert accuracy_chart(rows)["title"]["subtitle"][-1] == before[-1]


def test_a_teacher_far_larger_than_the_students_does_not_squeeze_them(sweep, board_rows):
    rows = board_rows(sweep)
    largest = max(row["student_parameters"] for row in rows)
    for row in rows:
        row["teacher_parameters"] = 2 * largest
    assert len(drawn(accuracy_chart(rows), "layer_3_layer_1_marks")) == 1
    for row in rows:
        row["teacher_parameters"] = 2 * largest + 1
    assert drawn(accuracy_chart(rows), "layer_3_layer_1_marks") == []
    assert len(drawn(accuracy_chart(rows), "layer_3_layer_0_marks")) == 1


def test_one_student_gets_a_line_for_each_row_and_no_made_up_size(rows, board_rows):
    chart = accuracy_chart(board_rows(rows({"ce": [990, 1000, 995], "soft": [930, 936, 924]})))
    assert [layer["encoding"]["y"]["field"] for layer in chart["layer"][1:]] == ["line", "line"]
    assert "x" not in {one["encoding"].get("x", {}).get("field") for one in chart["layer"]}
    assert headline(chart) == "Test accuracy of each row"
    marks = drawn(chart, "layer_2_marks")
    assert [re.search(r"line: (\w+)", label)[1] for label in marks] == ["ce", "soft"]


def test_no_axis_and_no_interval_goes_beyond_100(rows, board_rows):
    for records in (
        rows({"ce": [990, 1000, 995], "soft": [960, 966, 954]}),
        rows({"ce": [990, 1000, 995]}) + rows({"ce": [900, 910, 905]}, student="test_vit"),
    ):
        found = board_rows(records)
        assert max(row["top1_high"] for row in found) > 100
        drawing = svg(accuracy_chart(found)).decode()
        assert not [text for text in re.findall(r">(\d+(?:\.\d+)?)</text>", drawing) if float(text) > 100]
        assert "top: 100;" in drawing or "top: 100" in drawing


def test_ties_on_the_front_are_ringed_alike(rows, board_rows):
    # The student of 0.37M parameters has 91 % at best, that of 0.47M twice 95 %.
    records = rows({"ce": [950], "soft": [950], "at": [940]}) + rows({"ce": [900], "soft": [910]}, student="test_vit")
    rings = drawn(accuracy_chart(board_rows(records)), "front_layer_1_marks")
    assert sorted(float(re.search(r"top1: ([\d.]+)", label)[1]) for label in rings) == [91.0, 95.0, 95.0]


def test_tuned_rows_are_full_and_default_rows_hollow(sweep, board_rows):
    rows = board_rows(sweep)
    for row in rows:
        row["variant"] = "tuned" if row["strategy"] == "soft" else "default"
    chart = accuracy_chart(rows)
    assert {point["searched"] for point in chart["data"]["values"]} == {"tuned", "default"}
    items = ElementTree.fromstring(svg(chart)).iter(f"{SVG}path")
    marks = [item for item in items if "strategy: " in item.get("aria-label", "")]
    opacity = {item.get("aria-label").split("strategy: ")[1].split(";")[0]: item.get("fill-opacity") for item in marks}
    assert opacity["soft"] in (None, "1")
    assert float(opacity["ce"]) < 0.5


def test_forest_has_a_line_for_each_difference_the_highest_mean_first(sweep, board_rows):
    rows = board_rows(sweep)
    chart = forest_chart(rows)
    points = chart["data"]["values"]
    assert {(point["line"], point["pair"]) for point in points} == {
        (strategy, f"resnet10t → {student}")
        for strategy in ("soft", "fitnets")
        for student in ("test_resnet", "test_vit:patch_size=4")
    }
    soft = next(point for point in points if point["line"] == "soft" and point["student"] == "test_resnet")
    assert soft["diff"] == pytest.approx(3.0)
    assert chart["layer"][1]["encoding"]["y"]["sort"] == ["soft", "fitnets"]
    assert len(drawn(chart, "layer_2_marks")) == 4
    # fitnets on test_resnet shares two seeds with ce, and so has no interval.
    assert len(drawn(chart, "layer_1_marks")) == 3


def test_rows_of_one_name_and_pair_are_told_apart_by_their_parameters(rows, board_rows):
    records = rows({"ce": [900, 910, 890], "soft": [930, 936, 924]})
    records += rows({"soft": [931, 930, 925]}, params={"alpha": 0.5, "temperature": 4.0})
    lines = {point["line"] for point in forest_chart(board_rows(records))["data"]["values"]}
    assert lines == {"soft alpha=0.9 temperature=4", "soft alpha=0.5 temperature=4"}


def test_rank_diagram_shows_mean_ranks_and_what_is_not_told_apart(rows):
    records = [
        one
        for student, base in zip(
            ("test_resnet", "test_vit", "resnet18", "resnet34", "resnet50"), (900, 800, 950, 700, 600), strict=True
        )
        for one in rows({"ce": [base], "soft": [base + 20], "fitnets": [base + 10]}, student=student)
    ]
    (summary,) = overall(make_board(records, by="dataset"))
    chart = rank_chart(summary)
    assert [(dot["name"], dot["rank"]) for dot in chart["data"]["values"]] == [("soft", 1), ("fitnets", 2), ("ce", 3)]
    # Nemenyi: q(0.05, 3) = 2.344 times sqrt(3 * 4 / (6 * 5)) is 1.48, so only neighbours are not told apart.
    bars = chart["layer"][0]["data"]["values"]
    assert [(bar["low"], bar["high"], bar["members"]) for bar in bars] == [
        (1, 2, "soft, fitnets"),
        (2, 3, "fitnets, ce"),
    ]
    assert "critical difference 1.48" in " ".join(chart["title"]["subtitle"])
    assert len(drawn(chart, "layer_0_marks")) == 2


def test_few_pairs_are_ranked_and_nothing_is_concluded(rows):
    records = [
        one
        for student, base in (("test_resnet", 900), ("test_vit", 800), ("resnet18", 950))
        for one in rows({"ce": [base], "soft": [base + 20], "fitnets": [base + 10]}, student=student)
    ]
    (summary,) = overall(make_board(records, by="dataset"))
    chart = rank_chart(summary)
    assert chart["title"]["subtitle"] == ["Over 3 pairs; too few to conclude from"]
    assert len(drawn(chart, "layer_1_marks")) == 3


def test_curves_have_a_point_an_epoch():
    points = [{"curve": f"seed {seed}", "epoch": epoch, "score": 90 + epoch} for seed in (0, 1) for epoch in (1, 2, 3)]
    chart = curves_chart(TOP1)
    assert chart["encoding"]["y"]["axis"]["title"] == "top-1 on tune, %"
    assert len(drawn(chart | {"data": chart["data"] | {"values": points}}, "layer_1_marks")) == len(points)


def test_nothing_to_draw_is_no_chart(failure, cell, board_rows):
    rows = board_rows([failure(cell("soft", 0))])
    assert accuracy_chart(rows) is None
    assert forest_chart(rows) is None


def test_hostile_names_are_words_in_a_drawing(rows, board_rows):
    results: dict[str, list[int]] = {"ce": [900, 910, 890]}
    results |= {name: [930 + place, 931, 940] for place, name in enumerate(HOSTILE)}
    records = rows(results) + rows(results, student="test_vit")
    (summary,) = overall(make_board(records, by="dataset"))
    found = board_rows(records)
    for chart in (accuracy_chart(found, HOSTILE[0]), forest_chart(found, HOSTILE[1]), rank_chart(summary, HOSTILE[0])):
        content = svg(chart)
        root = ElementTree.fromstring(content)
        assert {one.tag.removeprefix(SVG) for one in root.iter()} <= {
            "svg", "g", "path", "rect", "line", "text", "tspan", "metadata", "defs", "clipPath", "title"
        }  # fmt: skip
        assert not [key for one in root.iter() for key in one.attrib if key.startswith("on") or key.endswith("href")]
        words = " ".join(one.text or "" for one in root.iter() if one.tag in (f"{SVG}text", f"{SVG}tspan"))
        assert "=1+1" in words
        assert "<img src=x onerror=alert(1)>" in words
        assert r"a\u202eb\x1b" in words


def test_a_drawing_tells_what_it_was_drawn_from(sweep, board_rows):
    chart = accuracy_chart(board_rows(sweep))
    other = accuracy_chart(board_rows(sweep[:-1]))
    assert chart_digest(chart) != chart_digest(other)
    assert chart_digest(dict(reversed(chart.items()))) == chart_digest(chart)
    for content in (svg(chart), png(chart, scale=1)):
        assert origin_of(content) == (chart_digest(chart), drawer())
        assert origin_of(content[:60]) is None
        assert origin_of(b" " + content) is None


def test_png_has_its_digest_in_a_chunk_of_its_own(sweep, board_rows):
    chart = forest_chart(board_rows(sweep))
    content = png(chart, scale=1)
    place, kinds = 8, []
    while place < len(content):
        (size,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        (check,) = struct.unpack_from(">I", content, place + 8 + size)
        assert zlib.crc32(content[place + 4 : place + 8 + size]) == check
        kinds.append(kind)
        place += 12 + size
    assert kinds[:2] == [b"IHDR", b"tEXt"]
    assert kinds[-1] == b"IEND"
    # One bit of the digest wrong: the chunk's check no longer holds.
    damaged = bytearray(content)
    damaged[8 + 25 + 8 + 30] ^= 1
    assert origin_of(bytes(damaged)) is None


def test_a_name_cannot_pretend_to_be_the_digest(rows, board_rows):
    fake = f"<metadata>kdzoo spec sha256 {'0' * 64}, drawn by x</metadata>"
    chart = accuracy_chart(board_rows(rows({"ce": [900], fake: [910]})))
    assert origin_of(svg(chart)) == (chart_digest(chart), drawer())


@pytest.mark.parametrize(
    "content", [b"", b"<svg></svg>", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n\xff\xff\xff\xfftEXt"]
)
def test_other_content_has_no_digest(content):
    assert origin_of(content) is None


def test_a_chart_is_drawn_alike_whatever_the_order_of_its_keys(sweep, board_rows):
    chart = accuracy_chart(board_rows(sweep))
    turned = json.loads(json.dumps(chart), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
    assert (svg(turned), png(turned, scale=1)) == (svg(chart), png(chart, scale=1))
