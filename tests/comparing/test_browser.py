"""The page of a comparison in Chromium: it loads, sorts, and can be read on a telephone."""

import pytest
from browser import WIDTHS, needs_chromium, open_page, requests, resize, started_chromium
from made_up import comparison

from resnet_jax.comparing.page import write_page

CASES = {
    "untrained": comparison(targets=("v5e:1",)),
    "trained": comparison(seeds=3, max_parameters=5_000_000),
}
MISSING = "\N{EN DASH}"
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with started_chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the address of each page."""
    paths = {case: tmp_path_factory.mktemp(case) / "compare.html" for case in CASES}
    for case, path in paths.items():
        write_page(CASES[case], path)
    return {case: path.as_uri() for case, path in paths.items()}


def column(browser, heading: str) -> list[str]:
    """Return the texts of a column from top to bottom."""
    return browser.execute_script(
        """const headings = [...document.querySelectorAll("thead button")].map((button) => button.textContent);
        const place = headings.indexOf(arguments[0]);
        return [...document.querySelectorAll("tbody tr")].map((row) => row.cells[place].textContent);""",
        heading,
    )


def press(browser, heading: str) -> str | None:
    """Press a heading with the keyboard, and return the order that it then tells a screen reader."""
    (button,) = [each for each in browser.find_elements("css selector", "thead button") if each.text == heading]
    button.send_keys("\n")
    return button.find_element("xpath", "..").get_attribute("aria-sort")


@pytest.mark.parametrize("case", CASES)
def test_the_page_loads_without_messages_and_requests(case, chromium, pages):
    open_page(chromium, pages[case])
    assert requests(chromium) == [pages[case]]
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return performance.getEntriesByType('resource').length") == 0


def test_a_request_of_the_page_is_refused(chromium, pages):
    chromium.get(pages["untrained"])
    chromium.execute_script("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/a.png'}))")
    assert any("Content Security Policy" in line["message"] for line in chromium.get_log("browser"))


def test_pressing_a_heading_sorts_by_number_and_pressing_again_reverses(chromium, pages):
    chromium.get(pages["trained"])
    first = press(chromium, "GMAC")
    ascending = [float(text) for text in column(chromium, "GMAC")]
    second = press(chromium, "GMAC")
    assert (first, second) == ("ascending", "descending")
    assert ascending == sorted(ascending)
    assert [float(text) for text in column(chromium, "GMAC")] == ascending[::-1]


def test_names_are_sorted_as_texts(chromium, pages):
    chromium.get(pages["trained"])
    press(chromium, "network")
    assert column(chromium, "network") == sorted(network["arch"] for network in CASES["trained"]["networks"])


def test_missing_values_are_last_in_both_directions(chromium, pages):
    chromium.get(pages["untrained"])
    heading = next(each.text for each in chromium.find_elements("css selector", "thead button") if "V2" in each.text)
    for _ in range(2):
        press(chromium, heading)
        texts = column(chromium, heading)
        assert texts[-5:] == [MISSING] * 5
        assert MISSING not in texts[:-5]


def test_only_the_last_heading_pressed_has_an_order(chromium, pages):
    chromium.get(pages["trained"])
    press(chromium, "network")
    press(chromium, "GMAC")
    assert len(chromium.find_elements("css selector", "[aria-sort]")) == 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_the_table_scrolls_sideways_but_not_the_page(case, width, chromium, pages):
    resize(chromium, width)
    chromium.get(pages[case])
    page, table = chromium.execute_script(
        """const hidden = (element) => element.scrollWidth - element.clientWidth;
        return [hidden(document.documentElement), hidden(document.querySelector(".scroll"))];"""
    )
    assert page == 0
    assert table > 0


@pytest.mark.parametrize("case", CASES)
def test_the_texts_of_plots_can_be_read_at_400_pixels(case, chromium, pages):
    resize(chromium, 400)
    chromium.get(pages[case])
    sizes = chromium.execute_script(
        """return [...document.querySelectorAll("svg text")].map((text) =>
        parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a);"""
    )
    assert len(sizes) > 40
    assert min(sizes) >= 10


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("case", CASES)
def test_no_text_of_a_plot_is_cut_off(case, width, chromium, pages):
    resize(chromium, width)
    chromium.get(pages[case])
    outside = chromium.execute_script(
        """return [...document.querySelectorAll("svg text")].filter((text) => {
          const [inner, outer] = [text, text.ownerSVGElement].map((each) => each.getBoundingClientRect());
          return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1;
        }).map((text) => text.textContent);"""
    )
    assert outside == []
