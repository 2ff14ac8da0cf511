from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from folders import make_tuned

from kdzoo.board.table import make_board
from kdzoo.drawing import chart_digest
from kdzoo.leaderboard.layout import path_of_record
from kdzoo.leaderboard.page.chartcode import library_of, own_library, without_library
from kdzoo.leaderboard.page.html import dataset_page, index_page
from kdzoo.needed import teacher_cell
from kdzoo.record import Record

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "=1+1",
    "<!--",
    "{{ 7*7 }}",
    "a\u202eb",
)
_EMPTY = {"meta", "link", "input"}


class Reader(HTMLParser):
    """Reads a page strictly: every element is closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: dict[str, str] = {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            name = self.tags[-1][1]["id"]
            self.scripts[name] = self.scripts.get(name, "") + data
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def having(self, tag: str, name: str) -> list[str]:
        return [attributes[name] or "" for one, attributes in self.tags if one == tag and name in attributes]


@pytest.fixture
def page() -> Callable[..., str]:
    def make(records: list[Record], **changes: Any) -> str:
        board = make_board(records, by="dataset")
        options = {"record_url": lambda record: f"../records/{record.id}.json", "with_library": False}
        return dataset_page("digits", board, records, **(options | changes))

    return make


def data_of(html: str) -> dict[str, Any]:
    return json.loads(Reader(html).scripts["data"])


def test_the_table_is_complete_without_a_script(sweep, page):
    text = Reader(page(sweep)).text
    for words in ("soft", "fitnets", "test_vit:patch_size=4", "93.00", "[91.51, 94.49]", "+3.00", "3/3"):
        assert words in text
    assert "2/3 (1 failed)" in text
    assert "the loss became NaN in epoch 3" in text
    assert "recipe quick (5 epochs, sgd, lr 0.05, batch 32, fp32)" in text
    assert "n<3: no interval" in text


def test_equal_records_give_equal_bytes_in_any_order(sweep, page):
    assert page(sweep) == page(sweep[::-1])


def test_of_two_results_of_one_cell_the_page_tells_the_board_s(sweep, page, record):
    older = record(sweep[0].cell, 500, ended="2025-01-01T00:00:00Z")
    for records in ([older, *sweep], [*sweep, older]):
        details = data_of(page(records))["sections"][0]["details"]
        assert not [seed for one in details for seed in one["seeds"] if seed[3] == 50.0]


def test_hostile_names_are_words(rows, page):
    results: dict[str, list[int]] = {name: [900, 910, 890] for name in ("ce", *HOSTILE)}
    html = page(
        rows(results),
        cards={HOSTILE[0]: HOSTILE[1], "soft": "javascript:alert(1)"},
        links={HOSTILE[1]: "javascript:alert(1)", "tab": "java\tscript:alert(1)", "space": " javascript:alert(1)"},
        record_url=lambda record: "data:text/html,<script>alert(1)</script>",
    )
    read = Reader(html)
    assert {tag for tag, _ in read.tags}.isdisjoint({"img", "iframe", "object", "b"})
    assert set(read.scripts) == {"data", "page"}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert not [url for url in (*read.having("a", "href"), *read.having("link", "href")) if "script" in url.lower()]
    for name in HOSTILE[:5]:
        assert name in read.text
    assert r"a\u202eb" in read.text
    assert "\u202e" not in html
    details = json.loads(read.scripts["data"])["sections"][0]["details"]
    assert {seed[2] for one in details for seed in one["seeds"]} == {""}


def test_a_page_asks_for_nothing_and_allows_only_its_own_scripts(sweep, page):
    html = page(sweep, with_library=True)
    read = Reader(html)
    assert read.having("script", "src") == []
    assert read.having("link", "href") == ["data:,"]
    policy = read.having("meta", "content")[0]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    hashes = {
        base64.b64encode(hashlib.sha256(read.scripts[name].encode()).digest()).decode() for name in ("page", "library")
    }
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == hashes


def test_the_library_can_be_told_from_the_rest(sweep, page):
    html = page(sweep, with_library=True)
    assert library_of(html) == own_library()
    assert library_of(html)[1] == hashlib.sha256(Reader(html).scripts["library"].encode()).hexdigest()
    assert without_library(html) == page(sweep)
    assert library_of(page(sweep)) is None
    assert len(html) < 1_100_000


def test_another_version_of_the_library_leaves_the_rest_as_it_is(sweep, page, monkeypatch):
    from kdzoo.leaderboard.page import html as module
    from kdzoo.leaderboard.page.chartcode import Library

    monkeypatch.setattr(module, "load_library", lambda: Library("vega 9.9", "window.x = 1;"))
    html = page(sweep, with_library=True)
    assert library_of(html) == ("vega 9.9", hashlib.sha256(b"window.x = 1;").hexdigest())
    assert without_library(html) == page(sweep)


def test_what_is_hidden_about_the_library_shows(sweep, page, monkeypatch):
    from kdzoo.leaderboard.page import html as module
    from kdzoo.leaderboard.page.chartcode import END, Library

    monkeypatch.setattr(module, "load_library", lambda: Library("vega 9.9", "window.x = 1;"))
    html = page(sweep, with_library=True)
    within = html.replace("window.x = 1;", "window.x = 1;</script><script>alert(1)")
    assert library_of(within)[1] != library_of(html)[1]
    after = html.replace(END, f"<script>alert(1)</script>{END}")
    assert library_of(after) is None
    assert without_library(after) != page(sweep)
    twice = html + html[html.index("<!-- library: start") :]
    assert library_of(twice) is None


def test_details_tell_of_seeds_curves_records_and_the_command(sweep, page):
    section = data_of(page(sweep))["sections"][0]
    points = [dict(zip(section["fields"], values, strict=True)) for values in section["points"]]
    place = next(n for n, one in enumerate(points) if one["strategy"] == "soft" and one["student"] == "test_resnet")
    told = section["details"][place]
    records = [one for one in sweep if one.cell.strategy.name == "soft" and str(one.cell.student) == "test_resnet"]
    assert [seed[:4] for seed in told["seeds"]] == [
        [one.cell.seed, one.id, f"../records/{one.id}.json", one.test["top1"]] for one in records
    ]
    assert told["seeds"][0][4] == [round(line.score, 2) for line in records[0].curve]
    assert told["command"].split() == ["kdzoo", "run-cell", *(str(path_of_record(one)) for one in records)]
    assert told["ran"] == "kdzoo bench"
    assert told["versions"] == "kdzoo 0.1.0, torch 2.14.1; cpu, 2 threads"


def test_details_tell_why_a_seed_has_no_result(sweep, page):
    details = data_of(page(sweep))["sections"][0]["details"]
    failed = [seed for one in details for seed in one["seeds"] if isinstance(seed[3], str)]
    assert [(seed[0], seed[3], seed[4]) for seed in failed] == [(2, "failed: the loss became NaN in epoch 3", [])]


def test_tuned_rows_are_filtered_by_variant_and_have_the_command_of_every_row():
    records, studies = make_tuned()
    url = {"record_url": lambda record: record.id, "with_library": False}
    read = Reader(dataset_page("digits", make_board(records, (), studies, by="dataset"), records, studies, **url))
    assert "variant all default tuned" in read.text
    assert read.having("select", "name")[-1] == "searched"
    assert read.text.count("million parameters") == 1
    assert "hollow: default values; full: tuned ones" in read.text
    details = json.loads(read.scripts["data"])["sections"][0]["details"]
    tuned = [one for one in details if one["studies"]]
    assert tuned
    assert all(one["command"].startswith("kdzoo run-cell records/digits/") for one in details)


def test_what_rows_of_a_pair_share_is_a_heading_and_no_column(sweep, page):
    read = Reader(page(sweep))
    columns = read.having("th", "data-column")
    assert columns[:6] == ["rank", "strategy", "top1", "top1_sd", "diff_ce", "diff_ce_low"]
    assert not {"teacher", "student", "student_parameters", "compression", "dataset"} & set(columns)
    for words in ("resnet10t → test_resnet: 0.47M parameters", "resnet10t → test_vit:patch_size=4: 0.37M parameters"):
        assert words in read.text
    one = Reader(page([record for record in sweep if str(record.cell.student) == "test_resnet"]))
    assert "resnet10t → test_resnet: " not in one.text
    assert "digits 16x16: resnet10t -> test_resnet" in one.text


def test_bold_and_the_corrected_p_are_explained(sweep, page):
    read = Reader(page(sweep))
    assert " p (Holm) " in read.text
    assert "bold : the 95% interval of vs ce excludes 0; it is not corrected for the number of rows" in read.text
    assert "Bold and p (Holm) can disagree" in read.text


def test_the_table_over_pairs_is_there_too(sweep, page):
    read = Reader(page(sweep))
    assert "mean top-1 %" in read.text
    assert "mean vs ce" in read.text


def test_the_record_of_the_teacher_is_linked(sweep, page, record):
    training = record(teacher_cell(sweep[0].cell.teacher, sweep[0].cell.data))
    details = data_of(page([*sweep, training]))["sections"][0]["details"]
    assert {tuple(one["teacher"]) for one in details} == {(training.id, f"../records/{training.id}.json")}
    assert all(one["teacher"] == [] for one in data_of(page(sweep))["sections"][0]["details"])


def test_a_card_is_text_or_an_address(sweep, page):
    read = Reader(page(sweep, cards={"soft": "Soft targets.\nHinton 2015", "fitnets": "../docs/strategies.md#fitnets"}))
    assert "Soft targets. Hinton 2015" in read.text
    assert read.having("details", "data-card") == ["soft"]
    assert [attributes["href"] for _, attributes in read.tags if attributes.get("data-card") == "fitnets"] == [
        "../docs/strategies.md#fitnets"
    ]


def test_filters_offer_what_occurs(sweep, page):
    read = Reader(page(sweep))
    names = read.having("select", "name")
    assert names == ["pair", "family"]
    for words in ("resnet10t → test_resnet", "baseline", "response", "feature"):
        assert words in read.text


def test_datasets_of_one_page_are_told_apart(rows, digits, page):
    subset = digits.model_copy(update={"name": "digits[:500]"})
    read = Reader(page(rows({"ce": [900], "soft": [910]}) + rows({"ce": [800], "soft": [820]}, data=subset)))
    assert read.having("select", "name")[0] == "dataset"
    assert len(read.having("section", "data-section")) == 2
    assert "digits[:500] 16x16" in read.text


def test_rows_without_a_result_are_there(failure, cell, page):
    html = page([failure(cell("soft", 0)), failure(cell("ce", 0))])
    assert "0/1 (1 failed)" in Reader(html).text
    assert data_of(html)["sections"][0]["charts"] == []


def test_a_page_without_records_says_so(page):
    assert "No results yet." in Reader(page([])).text


def test_the_page_draws_the_charts_that_the_files_hold(sweep, page):

    from kdzoo.board.display import tables
    from kdzoo.leaderboard.charts.scores import accuracy_chart

    board = make_board(sweep, by="dataset")
    section = data_of(page(sweep))["sections"][0]
    (found,) = [one["spec"] for one in section["charts"] if one["name"] == "accuracy"]
    whole = accuracy_chart(tables(board, "rank")[0].rows)
    values = [dict(zip(section["fields"], one, strict=True)) for one in section["points"]]
    assert chart_digest(found | {"title": whole["title"], "data": {"name": "rows", "values": values}}) == chart_digest(
        whole
    )


def test_the_index_leads_to_the_pages(rows, digits):
    other = digits.model_copy(update={"name": "fashion_mnist", "fingerprint": "beef"})
    records = rows({"ce": [900], "soft": [910]}) + rows({"ce": [800], "soft": [820]}, data=other)
    html = index_page(
        "Leaderboards",
        make_board(records, by="dataset"),
        pages={"digits": "digits/board.html", "fashion_mnist": "fashion_mnist/board.html"},
        with_library=False,
    )
    read = Reader(html)
    assert read.having("a", "href").count("digits/board.html") == 3
    assert read.having("a", "href").count("fashion_mnist/board.html") == 3
    assert read.having("button", "aria-expanded") == []
    assert "Mean ranks" in read.text
    assert [one["details"] for one in json.loads(read.scripts["data"])["sections"]] == [None, None]


def test_a_page_has_the_intervals_with_their_n_and_the_p_values(rows: Callable[..., list[Record]]) -> None:
    records = rows(
        {"ce": [900, 910, 890, 904, 889], "soft": [930, 936, 924, 920, 931], "fitnets": [905, 915, 896, 911, 893]}
    )
    board = make_board(records, by="dataset")
    reader = Reader(dataset_page("digits", board, records, record_url=lambda record: "x.json", with_library=False))
    words = {" ".join(one.split()) for one in reader.words}
    assert {"gap 95% interval (bootstrap-t)", "vs soft 95% interval", "vs soft p (Holm)", "top-1 95% interval"} <= words
    assert {"p (Holm)", "agreement", "ECE %", "time, range"} <= words
    row = board.frame.set_index("strategy").loc["fitnets"]
    assert f"[{100 * row['gap_recovered_low']:.0f}%, {100 * row['gap_recovered_high']:.0f}%] (n=5)" in words
    assert f"[{row['diff_soft_low']:+.2f}, {row['diff_soft_high']:+.2f}] (n=5)" in words
    assert "1.00x [1.00, 1.00] (n=5)" in words
