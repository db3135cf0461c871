"""No relative link of the documentation is dead: files, folders and headings that it points to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
PAGES = sorted([PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "benchmarks").rglob("*.md")])
#: [text](target) and <img src="target">; code is taken out before
LINK = re.compile(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    slugs: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *$", text, re.M):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        slugs.append(f"{slug}-{slugs.count(slug)}" if slug in slugs else slug)
    return set(slugs)


def dead(page: Path) -> list[str]:
    """Return the relative links of a page that lead nowhere."""
    found = []
    for match in LINK.finditer(CODE.sub("", page.read_text())):
        link = match[1] or match[2]
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links(page: Path) -> None:
    assert not dead(page)


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Title\n## A `code` title, with: marks\n## Twice\n## Twice\n")
    good = (
        "[a](other.md) [b](other.md#a-code-title-with-marks) [c](other.md#twice-1) [d](https://x.org) [e](#here) [f](.)"
    )
    page = tmp_path / "page.md"
    page.write_text(f"# Here\n{good}\n`[x](code.md)`\n```\n[y](block.md)\n```\n")
    assert not dead(page)
    page.write_text(f'# Here\n{good} [g](gone.md) [h](other.md#gone) [i](#gone) <img src="gone.png">\n')
    assert dead(page) == ["gone.md", "other.md#gone", "#gone", "gone.png"]
