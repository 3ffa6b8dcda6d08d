"""Links between documents: do they lead anywhere?

    python -m tools.links             # README, docs, notebooks, the site's sources
    python -m tools.links FOLDER      # every page of a built site, and what each page must have

`tests/tools/test_links.py` asks the first, `make site` the second.
"""

import re
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from bs4 import BeautifulSoup

from nbhelpers import edge, notebooks

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^(```+|~~~+)[\s\S]*?^\1\s*$|^(?: {4}|\t).*$", re.MULTILINE)
_CODE = re.compile(r"`+[^`]*`+")
_LINK = re.compile(
    r"(?P<before>!?\[(?:[^\[\]]|!?\[[^\]]*\]\([^)]*\)|\[[^\]]*\])*\]\()(?P<target>[^)\s]+)(?P<after>[^)]*\))"
)
_HTML = re.compile(
    r"""(?P<before><(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=["'])(?P<target>[^"']+)(?P<after>["'])"""
)
_HEADING = re.compile(r"^#+\s+(.+?)\s*#*$", re.MULTILINE)


def outside(target: str) -> bool:
    """Whether a link leaves the repository."""
    return bool(re.match(r"[a-z][a-z0-9+.-]*:|//", target, re.IGNORECASE))


def targets(text: str) -> list[str]:
    """Where a Markdown document's links and pictures lead, without those in code."""
    bare = _CODE.sub(lambda found: "`" * len(found[0]), _FENCE.sub("", text))
    inner = [m["target"] for found in _LINK.finditer(bare) for m in _LINK.finditer(found["before"][1:-2])]
    return [found["target"] for pattern in (_LINK, _HTML) for found in pattern.finditer(bare)] + inner


def replaced(text: str, change: Callable[[str], str]) -> str:
    """A Markdown document with every link's target changed."""

    def changed(found: re.Match[str]) -> str:
        before = found["before"]  # a picture may be what is clicked
        inner = before if before.startswith(("!", "<")) else before[0] + replaced(before[1:-2], change) + before[-2:]
        return inner + change(found["target"]) + found["after"]

    for pattern in (_LINK, _HTML):
        text = pattern.sub(changed, text)
    return text


def anchors(text: str) -> set[str]:
    """The anchors that a page of this Markdown has: its headings, as repositories' web views spell them."""
    bare = re.sub(r"^(```+|~~~+).*?^\1\s*$", "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in _HEADING.findall(bare):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-{sum(each.startswith(slug) for each in found)}")
    return found


@lru_cache
def markdown(path: Path) -> str:
    """The prose of a document: a Markdown file, or the Markdown cells of a notebook."""
    if path.suffix == ".ipynb":
        cells = notebooks.read(path).cells
        return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return path.read_text(encoding="utf-8")


def problems(paths: Iterable[Path], root: Path = ROOT) -> list[str]:
    """Every link of these documents that leads nowhere, one line each."""
    found = []
    for path in paths:
        for target in targets(markdown(path)):
            if outside(target) or target.startswith(("{", "%7B")):
                continue
            place, _, anchor = unquote(target).partition("#")
            leads = (path.parent / place).resolve() if place else path
            if not leads.exists() or root not in [leads, *leads.parents]:
                found.append(f"{path.relative_to(root)}: {target} leads nowhere")
            elif anchor and leads.suffix in (".md", ".ipynb") and anchor.lower() not in anchors(markdown(leads)):
                found.append(f"{path.relative_to(root)}: {target}: there is no such heading in {leads.name}")
    return found


def documents(root: Path = ROOT) -> list[Path]:
    """Everything that is read: Markdown and notebooks, also those of the folders below."""
    folders = ["", "docs", "notebooks", "sample_images", "nbhelpers/models/weights"]
    return [p for folder in folders for ending in ("*.md", "*.ipynb") for p in sorted((root / folder).glob(ending))]


def of_site(site: Path) -> list[str]:
    """What is wrong with a built site: links and pictures that lead nowhere; pages without title, description, preview
    picture or language; pictures without words; anything fetched from another server."""
    pages = {
        path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in sorted(site.rglob("*.html"))
    }
    ids = {path: {tag.get("id") for tag in page.find_all(id=True)} for path, page in pages.items()}
    found, titles = [], {}
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name}: {said}" for said in _lacks(page)]
        for tag in page.find_all(["a", "img", "link", "script", "source"]):
            target = tag.get("href") or tag.get("src") or ""
            loads = tag.name != "a" and "canonical" not in tag.get("rel", [])
            if outside(target):
                if loads and not target.startswith("data:"):
                    found.append(f"{name}: asks another server for {target[:80]}")
                continue
            place, _, anchor = unquote(target).partition("#")
            leads = (path.parent / place.partition("?")[0]).resolve() if place else path
            leads = leads / "index.html" if leads.is_dir() else leads
            if not leads.exists():
                found.append(f"{name}: {target} leads nowhere")
            elif anchor and leads in ids and anchor not in ids[leads] and "viewer" not in anchor:
                found.append(f"{name}: {target}: no such place on that page")
        if page.title:
            titles.setdefault(page.title.get_text(strip=True), []).append(str(name))
    shared = {title: names for title, names in titles.items() if len(names) > 1}
    return found + [f"{edge.few(names)} have one title, {title!r}" for title, names in shared.items()]


def _lacks(page: BeautifulSoup) -> list[str]:
    said = [] if page.title and page.title.get_text(strip=True) else ["has no title"]
    for kind, key in (("name", "description"), ("property", "og:image")):
        tag = page.find("meta", attrs={kind: key})
        said += [] if tag and tag.get("content") else [f"has no {key}"]
    said += [] if page.html and page.html.get("lang") else ["does not say its language"]
    return said + [
        f"a picture without words: {i.get('src', '')[:60]}" for i in page.find_all("img") if i.get("alt") is None
    ]


if __name__ == "__main__":
    wrong = of_site(Path(sys.argv[1])) if sys.argv[1:] else problems(documents())
    print("\n".join(wrong) or "every link leads somewhere")
    sys.exit(bool(wrong))
