"""What stands in a reader's way on the pages of a built site, as a browser sees them; and what the pages weigh.

    python -m tools.audit build/site                  # every page; the exit code is 1 if anything was found
    python -m tools.audit build/site --each-kind 3    # no more than three pages of one folder

On every page axe-core looks for barriers (contrast, words for pictures, headings, names of controls), in light and in
dark, at 1280 and at 400 pixels; no page may be wider than the screen or scroll by itself; and the browser's console
must stay empty. Links, titles and descriptions are `tools/links.py`'s, which `make site` asks by itself.
"""

import argparse
import shutil
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby, product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright

from nbhelpers import edge
from tools import links

SCHEMES = ("light", "dark")
WIDTHS = (1280, 400)
AXE = {"resultTypes": ["violations"], "preload": False}  # styles are not asked for again: a page on a disk may not
LOADED = 150  # milliseconds in which pages within a page have begun
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pages_of(site: Path, each_kind: int | None = None) -> list[Path]:
    """The pages of a site, or the first few of each folder."""
    found = sorted(site.rglob("*.html"), key=lambda page: (page.parent, page.name))
    return [page for _, group in groupby(found, lambda page: page.parent) for page in list(group)[:each_kind]]


def barriers(window: Any, page: Path) -> Iterator[tuple[str, str]]:
    """What is wrong with one page: the rule that it breaks, and where."""
    context = window.new_context(reduced_motion="reduce", viewport={"width": WIDTHS[0], "height": 900})
    opened, said = context.new_page(), []
    opened.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    try:
        opened.goto(page.as_uri())
        opened.wait_for_timeout(LOADED)
        if down := opened.evaluate("scrollY"):
            yield "does not begin at its top", f"{down} pixels down"
        for scheme, width in product(SCHEMES, WIDTHS):
            opened.emulate_media(color_scheme=scheme)
            opened.set_viewport_size({"width": width, "height": 900})
            for broken in Axe().run(opened, options=AXE).response["violations"]:
                for node in broken["nodes"]:
                    rule = f"{broken['id']} ({scheme}, {width} pixels): {broken['help']}"
                    yield rule, " ".join(node["html"].split())[:160]
            if (wide := opened.evaluate("document.documentElement.scrollWidth")) > width:
                yield f"wider than the screen ({scheme}, {width} pixels)", f"{wide} pixels"
        yield from (("the console complains", line[:160]) for line in said)
    finally:
        context.close()


def weight(page: Path) -> int:
    """Bytes that a reader loads with a page: itself, its pictures, styles and scripts, each once."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    asked = {tag.get("src") or tag.get("href") or "" for tag in soup.select("img, script, link[rel=stylesheet]")}
    files = {(page.parent / unquote(each.partition("?")[0])).resolve() for each in asked if not links.outside(each)}
    return page.stat().st_size + sum(file.stat().st_size for file in files if file.is_file())


def sizes(site: Path, pages: Iterable[Path]) -> list[str]:
    """A table of what pages weigh, a row for each folder at the top of the site."""
    kinds: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for page in pages:
        place = page.relative_to(site)
        kinds[f"{place.parts[0]}/" if len(place.parts) > 1 else "at the top"].append((weight(page), str(place)))
    rows = ["| pages | how many | median, MB | largest, MB | which |", "|---|---|---|---|---|"]
    for kind, found in sorted(kinds.items()):
        median, (most, which) = statistics.median(size for size, _ in found), max(found)
        rows.append(f"| {kind} | {len(found)} | {median / 1e6:.2f} | {most / 1e6:.2f} | {which} |")
    return rows


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--each-kind", type=int, metavar="N", help="look at no more than N pages of one folder")
    given = parser.parse_args(arguments)
    site = edge.existing_folder(given.site).resolve()
    chosen, found = pages_of(site, given.each_kind), defaultdict(lambda: defaultdict(list))
    with sync_playwright() as driver:
        executable = next(filter(None, map(shutil.which, BROWSERS)), None)
        window = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for page in edge.Bar(chosen, unit="page", disable=None):
            for rule, where in barriers(window, page):
                found[rule][str(page.relative_to(site))].append(where)
        window.close()
    print("\n".join(sizes(site, pages_of(site))))
    for rule, places in sorted(found.items()):
        first = next(iter(places.values()))[0]
        print(f"\n{rule}\n    {sum(map(len, places.values()))} times on {edge.few(list(places))}\n    {first}")
    print(f"\n{len(chosen)} pages, {len(found)} kinds of barriers")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
