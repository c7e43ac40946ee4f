"""The page of a comparison in Chromium: it loads, sorts, and can be read on a telephone."""

import json
import shutil

import pytest
from made_up import comparison

from resnet_jax.comparing.page import write_page

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (BROWSER and DRIVER):
    pytest.skip("needs chromium and chromedriver, the packages chromium and chromium-driver", allow_module_level=True)

webdriver = pytest.importorskip("selenium.webdriver")
CASES = {
    "untrained": comparison(targets=("v5e:1",)),
    "trained": comparison(seeds=3, max_parameters=5_000_000),
}
MISSING = "\N{EN DASH}"
WIDTHS = (1280, 400)  # pixels, of a desktop's window and of a telephone
FLAGS = (  # no sandbox, as containers run it as root; nothing but the page may use the network
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Return a browser that records messages and requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the address of each page."""
    paths = {case: tmp_path_factory.mktemp(case) / "compare.html" for case in CASES}
    for case, path in paths.items():
        write_page(CASES[case], path)
    return {case: path.as_uri() for case, path in paths.items()}


def resize(browser, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


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
    chromium.get_log("performance")
    chromium.get(pages[case])
    events = [json.loads(line["message"])["message"] for line in chromium.get_log("performance")]
    requests = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [pages[case]]
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
