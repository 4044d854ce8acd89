"""What the pages point to is there: relative links, and paths of files in backticks; and the README stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "demo/README.md"]
NOTEBOOKS = sorted(ROOT.glob("docs/lab/*.md"))  # append-only: their links hold, what they name may be gone
MOST_LINES = 150  # of the README
LINK = re.compile(r"\]\(([^)\s]+)\)")
ROOMS = "zaya_cli|zaya_core|quant|tests|benchmarks|demo|docs|examples|\\.ci"
NAMED = re.compile(rf"`((?:{ROOMS})/[\w./-]*)`")
PLACEHOLDER = re.compile(r"\bNEW\b")  # a file that a reader is to make
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors_of(text: str) -> set[str]:
    """Of the headings, as they are made where pages are shown: lower case, no punctuation, `-` for a blank."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def is_dead(target: str, page: Path, text: str) -> bool:
    """Whether a link of a page leads to no file, or to no heading."""
    path, _, anchor = target.partition("#")
    to = page.parent / path
    if path and not to.exists():
        return True
    return bool(anchor) and anchor not in anchors_of(text_of(to) if path else text)


def dead_links(page: Path, text: str) -> list[str]:
    """Of the relative links."""
    targets = [target for target in LINK.findall(FENCE.sub("", text)) if not re.match(r"\w+:", target)]
    return [target for target in targets if is_dead(target, page, text)]


def missing_paths(text: str) -> list[str]:
    """Paths from the root in backticks that are neither a file nor a folder."""
    return [path for path in NAMED.findall(text) if not PLACEHOLDER.search(path) and not (ROOT / path).exists()]


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_to_a_file_or_a_heading(page):
    assert not dead_links(page, text_of(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_file_that_a_page_names_is_there(page):
    assert not missing_paths(text_of(page))


def test_the_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= MOST_LINES


def test_what_is_gone_is_seen():
    page = ROOT / "docs/page.md"
    text = "# A `b`, C\n[a](gone.md) [b](../README.md#gone) [c](#gone) [d](#a-b-c) [e](https://x.org/y) [f](cli.md)\n"
    assert dead_links(page, text) == ["gone.md", "../README.md#gone", "#gone"]
    assert missing_paths("`quant/gone.py` `quant/` `quant/NEW.py` `quant/tiles.py` `.ci/gone`") == [
        "quant/gone.py",
        ".ci/gone",
    ]
