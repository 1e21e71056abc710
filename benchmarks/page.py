"""The report in a real browser; run by hand, with selenium (from PyPI), Chromium and its driver, and axe-core (npm).

    python benchmarks/page.py REPORT.html --axe node_modules/axe-core/axe.min.js --out screenshots/

At 1400 and at 390 pixels, light and dark: counts the requests and the console's messages, sorts by a click, filters by
typing and by a choice, follows a link to a card, looks for axe-core's violations, and takes a screenshot of every
section. Exit status 1 where something is not as it should be. axe sees the whole page with its cards closed, but for
the first; with --cards it then sees every card open, a dozen at a time (minutes).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

SECTIONS = (
    "leaderboard", "randomisation", "measures", "maps", "environments", "bounds", "absent", "zoo", "statistics",
    "provenance",
)  # fmt: skip
ROWS = "#board tbody tr[data-measure]"
AXE = """
const selectors = arguments[0], context = selectors.length ? {include: selectors.map(one => [one])} : document;
axe.run(context, {resultTypes: ['violations']}).then(found => arguments[1](found.violations));
"""
OPEN_ALL = """
return [...document.querySelectorAll('details')].map((card, at) => {
  card.open = true; card.dataset.at = at; return `details[data-at="${at}"]`;
});
"""


def browser(width: int, height: int, scheme: str, binary: str, driver: str) -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=Service(driver))
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    made.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    made.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    made.set_script_timeout(300)
    return made


def requests(page: webdriver.Chrome) -> list[str]:
    events = (json.loads(entry["message"])["message"] for entry in page.get_log("performance"))
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith(("data:", "file:"))]


def column(page: webdriver.Chrome, at: int) -> list[float]:
    """The numbers of a column of the ranked measures, from the top."""
    script = (
        "return [...document.querySelectorAll('#board tbody[data-kind=measure] tr')].map(r => r.cells[%d].dataset.v)"
    )
    return [float(value) for value in page.execute_script(script % at) if value]


def visible(page: webdriver.Chrome) -> list[str]:
    return [
        row.get_attribute("data-measure") or ""
        for row in page.find_elements(By.CSS_SELECTOR, ROWS)
        if row.is_displayed()
    ]


def violations(page: webdriver.Chrome, *selectors: str) -> list[tuple[str, str, int, str]]:
    """What axe finds in these elements, or in the whole page: rule, impact, how many nodes, and the first."""
    found = page.execute_async_script(AXE, selectors)
    return [(one["id"], one["impact"], len(one["nodes"]), one["nodes"][0]["html"][:120]) for one in found]


def check(page: webdriver.Chrome, address: str, axe: str, shots: Path, name: str, cards: bool) -> dict[str, Any]:
    page.get(address)
    found: dict[str, Any] = {"requests": requests(page)}
    overflow = "return document.documentElement.scrollWidth > innerWidth"
    found["overflows"] = page.execute_script(overflow)
    names = {option.text: option for option in Select(page.find_element(By.ID, "sort")).options}
    if page.execute_script("return innerWidth") > 1000:
        heads = page.find_elements(By.CSS_SELECTOR, "#board thead button")
        next(head for head in heads if head.text.startswith("granulated")).click()
    else:
        Select(page.find_element(By.ID, "sort")).select_by_visible_text(next(n for n in names if "granulated" in n))
    found["unsorted"] = column(page, 5) != sorted(column(page, 5), reverse=True)
    whole = len(page.find_elements(By.CSS_SELECTOR, ROWS))
    first = page.find_element(By.CSS_SELECTOR, ROWS).get_attribute("data-measure") or ""
    box = page.find_element(By.ID, "filter")
    box.send_keys(first)
    left = visible(page)
    found["unfiltered"] = first not in left or len(left) == whole > 1
    box.clear()
    box.send_keys(" ")
    kinds = Select(page.find_element(By.ID, "kind"))
    if len(kinds.options) > 2:
        kinds.select_by_index(2)
        kept = {row.get_attribute("class") for row in page.find_elements(By.CSS_SELECTOR, ROWS) if row.is_displayed()}
        found["kinds mixed"] = kept != {"control"}
        kinds.select_by_index(0)
    link = page.find_element(By.CSS_SELECTOR, ".answer a, #board td a")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    found["card closed"] = not page.execute_script(
        "return document.querySelector(location.hash).closest('details').open"
    )
    for section in SECTIONS:
        page.execute_script("document.getElementById(arguments[0]).scrollIntoView()", section)
        page.save_screenshot(str(shots / f"{name}-{section}.png"))
    page.execute_script(axe)
    found["axe"] = violations(page)
    if cards:
        opened = page.execute_script(OPEN_ALL)
        for at in range(0, len(opened), 12):
            found["axe"] += violations(page, *opened[at : at + 12])
    found["console"] = [entry["message"] for entry in page.get_log("browser")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--axe", type=Path, required=True, help="axe.min.js of the npm package axe-core")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the screenshots")
    parser.add_argument("--cards", action="store_true", help="see every card open too")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--driver", default="/usr/bin/chromedriver")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    wrong = False
    for (width, height), scheme in (
        (size, scheme) for size in ((1400, 1250), (390, 844)) for scheme in ("light", "dark")
    ):
        page = browser(width, height, scheme, arguments.chromium, arguments.driver)
        try:
            address = arguments.report.resolve().as_uri()
            found = check(page, address, arguments.axe.read_text(), arguments.out, f"{width}-{scheme}", arguments.cards)
        finally:
            page.quit()
        bad = {what: seen for what, seen in found.items() if seen}
        wrong = wrong or bool(bad)
        print(f"{width} px, {scheme}: {bad or f'as it should be ({len(found)} checks)'}")
    sys.exit(wrong)


if __name__ == "__main__":
    main()
