"""The page as a person uses it, in a real browser, from a file and without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from browser import wait
from made_records import make_rows, make_sweep

from kdzoo.board.table import make_board
from kdzoo.leaderboard.page.html import dataset_page, index_page

HOSTILE = ("<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "=1+1")

Click = Callable[[str], Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two pairs, one of hostile names, and an index."""
    folder = tmp_path_factory.mktemp("pages")
    sweep = make_sweep()
    hostile = make_rows({name: [900 + 9 * place, 910, 890] for place, name in enumerate(("ce", *HOSTILE))})
    hostile += make_rows(
        {name: [800, 810 + 9 * place, 790] for place, name in enumerate(("ce", *HOSTILE))}, student="test_vit"
    )
    sparse = [
        one.model_copy(
            update={
                "curve": tuple(line.model_copy(update={"tune": None}) if line.epoch % 2 else line for line in one.curve)
            }
        )
        for one in make_rows({"ce": [900, 910, 890]})
    ]
    for name, records in (("sweep", sweep), ("hostile", hostile), ("sparse", sparse)):
        html = dataset_page(
            HOSTILE[1] if name == "hostile" else "digits",
            make_board(records, by="dataset"),
            records,
            record_url=lambda record: f"records/{record.id}.json",
            cards={"soft": "Soft targets", HOSTILE[0]: HOSTILE[1]},
        )
        (folder / f"{name}.html").write_text(html, encoding="utf-8")
    index = index_page("All", make_board(sweep, by="dataset"), pages={"digits": "sweep.html"})
    (folder / "index.html").write_text(index, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with browser.chromium(tmp_path_factory.mktemp("profile"), "--window-size=1300,1000") as driver:
        yield driver


@pytest.fixture
def page(driver: Any, files: Path) -> Iterator[Any]:
    """The page of two pairs, freshly opened; in the end no error and no request but for the file itself."""
    path = files / "sweep.html"
    browser.open_page(driver, path)
    yield driver
    assert browser.errors(driver) == []
    assert browser.requests(driver) == {path.as_uri()}


def all_of(driver: Any, selector: str) -> list[Any]:
    return driver.find_elements("css selector", selector)


def one_of(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def column(driver: Any, name: str) -> list[str]:
    """The texts of a column, in the rows that are shown."""
    return driver.execute_script(
        """const head = document.querySelector(`th[data-column="${arguments[0]}"]`);
        return [...document.querySelectorAll("tr[data-row]")].filter((row) => !row.hidden)
            .map((row) => row.cells[head.cellIndex].innerText.trim());""",
        name,
    )


def headings(driver: Any) -> list[str]:
    """The headings of the pairs that are shown."""
    return [one.text for one in all_of(driver, "tr.pair") if one.is_displayed()]


def marks(driver: Any, chart: str, mark: str = "layer_2_marks") -> int:
    return len(all_of(driver, f"[data-chart={chart}] .{mark} > *"))


def press(driver: Any, name: str, *, key: str = "") -> str:
    """Press a header; the order that its column then has."""
    button = one_of(driver, f'th[data-column="{name}"] button')
    if key:
        button.send_keys(key)
    else:
        button.click()
    return one_of(driver, f'th[data-column="{name}"]').get_attribute("aria-sort")


def fill(driver: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    field = one_of(driver, f"#filters [name={name}]")
    if field.tag_name == "select":
        Select(field).select_by_visible_text(text)
    else:
        field.clear()
        field.send_keys(text)


def hover(driver: Any, element: Any) -> Any:
    """A movement onto an element, to be performed."""
    from selenium.webdriver.common.action_chains import ActionChains

    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return ActionChains(driver).move_to_element(element)


def test_a_click_on_a_header_sorts_by_numbers_and_by_names(page):
    # Each pair is ranked, and sorted, by itself.
    assert column(page, "rank") == ["1", "2", "3"] * 2
    assert press(page, "top1_sd") == "ascending"
    up = [float(text) for text in column(page, "top1_sd")]
    assert [up[:3], up[3:]] == [sorted(up[:3]), sorted(up[3:])]
    assert press(page, "top1_sd") == "descending"
    assert [float(text) for text in column(page, "top1_sd")] == up[2::-1] + up[:2:-1]
    assert press(page, "family") == "ascending"
    assert column(page, "family") == ["baseline", "feature", "response"] * 2
    assert [head.get_attribute("aria-sort") for head in all_of(page, "th[aria-sort]")].count("none") == (
        len(all_of(page, "th[aria-sort]")) - 1
    )


def test_missing_values_stand_last_in_both_orders(page):
    assert press(page, "diff_ce") == "descending"
    down = column(page, "diff_ce")
    assert press(page, "diff_ce") == "ascending"
    up = column(page, "diff_ce")
    for pair in (slice(0, 3), slice(3, 6)):
        assert down[pair][-1] == up[pair][-1] == "-"
        falling = [float(text) for text in down[pair][:-1]]
        assert falling == sorted((float(text) for text in up[pair][:-1]), reverse=True)


def test_the_keyboard_sorts_and_opens(page):
    assert press(page, "top1", key="\n") == "descending"
    opener = all_of(page, "button.open")[0]
    opener.send_keys(" ")
    assert opener.get_attribute("aria-expanded") == "true"
    opener.send_keys(" ")
    assert opener.get_attribute("aria-expanded") == "false"
    assert all_of(page, ".detail") == []


def test_filters_change_table_and_charts_alike(page):
    assert (len(column(page, "strategy")), marks(page, "accuracy"), marks(page, "forest")) == (6, 6, 4)
    fill(page, "pair", "resnet10t → test_resnet")
    wait(page, lambda page: marks(page, "accuracy") == 3)
    assert headings(page) == ["resnet10t → test_resnet: 0.47M parameters, 11.5x smaller than the teacher"]
    wait(page, lambda page: marks(page, "forest") == 2)
    # The front is found anew: of one student, the best row alone.
    assert marks(page, "accuracy", "front_layer_1_marks") == 1
    assert one_of(page, "#count").text == "3 of 6 rows"
    fill(page, "words", "soft temp")
    wait(page, lambda page: marks(page, "accuracy") == 1)
    assert [text.split()[0] for text in column(page, "strategy")] == ["soft"]
    assert [len(all_of(page, f".ranking .{mark} > *")) for mark in ("layer_1_marks", "layer_2_marks")].count(1) >= 1
    one_of(page, "#filters [type=reset]").click()
    wait(page, lambda page: marks(page, "accuracy") == 6)
    assert len(column(page, "strategy")) == 6


def test_rows_are_filtered_by_parameters_and_family(page):
    fill(page, "most", "0.4")
    wait(page, lambda page: marks(page, "accuracy") == 3)
    assert [text.split(": ")[1].split()[0] for text in headings(page)] == ["0.37M"]
    fill(page, "least", "0.38")
    wait(page, lambda page: one_of(page, ".none").is_displayed())
    assert column(page, "strategy") == []
    one_of(page, "#filters [type=reset]").click()
    wait(page, lambda page: len(column(page, "strategy")) == 6)
    fill(page, "family", "feature")
    wait(page, lambda page: marks(page, "accuracy") == 2)
    assert set(column(page, "family")) == {"feature"}
    fill(page, "family", "baseline")
    wait(page, lambda page: not one_of(page, "[data-chart=forest]").is_displayed())
    assert one_of(page, "[data-chart=accuracy]").is_displayed()


def test_hover_tells_name_size_accuracy_interval_and_seeds(page):
    points = all_of(page, "[data-chart=accuracy] .layer_2_marks > *")
    best = next(one for one in points if "top1: 93;" in one.get_attribute("aria-label"))
    hover(page, best).perform()
    tooltip = wait(page, lambda page: [one for one in all_of(page, "#vg-tooltip-element") if one.is_displayed()])[0]
    for words in ("soft", "test_resnet", "0.47M", "93.00", "91.51 to 94.49"):
        assert words in tooltip.text
    assert ["seeds", "3"] in [line.split() for line in tooltip.text.splitlines()]


def test_a_chosen_row_shows_its_curves_records_card_and_command(page):
    row = one_of(page, 'tr[data-row="0"]')
    one_of(row, "td").click()
    wait(page, lambda page: all_of(page, ".detail .mark-line path"))
    detail = one_of(page, ".detail")
    assert len(all_of(detail, ".mark-line path")) == 3
    for words in ("soft, resnet10t → test_resnet", "seed 2: 92.40 %", "kdzoo run-cell records/digits/"):
        assert words in detail.text
    links = [link.get_attribute("href") for link in all_of(detail, "li a")]
    assert len(links) == 3
    assert all(link.endswith(".json") and "/records/" in link for link in links)
    card = one_of(page, "details[data-card=soft]")
    assert card.get_attribute("open") is None
    one_of(detail, "p a").click()
    assert card.get_attribute("open") is not None
    # Sorted, the details stay with their row.
    page.execute_script("scrollTo(0, 0)")
    press(page, "top1")
    press(page, "top1")
    assert one_of(page, "tr[data-row='0'] + tr").get_attribute("class") == "detail"


def test_a_curve_of_few_measured_epochs_is_a_line(driver, files):
    """Of five epochs the first, third and fifth were measured: a path from one to the next, and a dot for each."""
    path = files / "sparse.html"
    browser.open_page(driver, path)
    all_of(driver, "button.open")[0].click()
    lines = wait(driver, lambda driver: all_of(driver, ".detail .mark-line path"))
    assert [line.get_attribute("d").count("L") for line in lines] == [2, 2, 2]
    assert len(all_of(driver, ".detail .mark-symbol.role-mark path")) == 9
    assert browser.errors(driver) == []
    assert browser.requests(driver) == {path.as_uri()}


def test_a_click_on_a_point_chooses_its_row(page):
    points = all_of(page, "[data-chart=accuracy] .layer_2_marks > *")
    point = next(one for one in points if "strategy: fitnets" in one.get_attribute("aria-label"))
    hover(page, point).click().perform()
    assert "fitnets" in wait(page, lambda page: all_of(page, ".detail"))[0].text


def test_no_request_leaves_the_page_whatever_asks_for_it(page):
    answer = page.execute_async_script(
        """const done = arguments[arguments.length - 1];
        fetch("http://127.0.0.1:9/").then(() => done("sent"), () => done("refused"));"""
    )
    assert answer == "refused"
    assert [text for text in browser.errors(page) if "Content Security Policy" in text]


def test_hostile_names_do_nothing(driver, files):
    path = files / "hostile.html"
    browser.open_page(driver, path)
    assert driver.title == HOSTILE[1]
    assert all_of(driver, "img") == []
    assert len(all_of(driver, "script")) == 3
    names = column(driver, "strategy")
    assert all(any(name in text for text in names) for name in HOSTILE)
    for place, name in enumerate(HOSTILE):
        fill(driver, "words", name)
        wait(driver, lambda driver: len(column(driver, "strategy")) == 2)
        wait(driver, lambda driver: marks(driver, "accuracy") == 2)
        opener = next(one for one in all_of(driver, "button.open") if one.is_displayed())
        opener.click()
        wait(driver, lambda driver: all_of(driver, ".detail .mark-line path"))
        assert name in one_of(driver, ".detail").text
        if place == 0:
            point = all_of(driver, "[data-chart=accuracy] .layer_2_marks > *")[0]
            hover(driver, point).perform()
            tooltip = wait(driver, lambda driver: all_of(driver, "#vg-tooltip-element.visible"))[0]
            assert name in tooltip.text
    assert all_of(driver, "img") == []
    assert browser.errors(driver) == []
    assert browser.requests(driver) == {path.as_uri()}


def test_a_narrow_page_scrolls_the_table_and_not_itself(driver, files):
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.open_page(driver, files / "sweep.html")
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 390
        assert driver.execute_script(
            "const scroll = document.querySelector('.scroll'); return scroll.scrollWidth > scroll.clientWidth"
        )
        drawings = all_of(driver, ".drawing svg.marks")
        assert len(drawings) == 3
        assert all(drawing.size["width"] <= 390 for drawing in drawings)
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert browser.errors(driver) == []


def test_the_index_leads_to_the_page_of_a_dataset(driver, files):
    browser.open_page(driver, files / "index.html")
    assert all_of(driver, "button.open") == []
    one_of(driver, "tr[data-row] a").click()
    wait(driver, lambda driver: driver.title == "digits")
    assert browser.errors(driver) == []
