"""Links between pages lead somewhere, and every page can be reached from the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import pages
from tests.docs.pages import ROOT, Page

PAGES = {page.path: page for page in pages.all_pages()}


def _target(page: Page, link: str) -> tuple[Path, str]:
    path, _, fragment = link.partition("#")
    return ((page.path.parent / path).resolve() if path else page.path), fragment


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Page) -> None:
    wrong = []
    for line, link in page.links():
        if link.startswith(("https://", "mailto:")):
            continue
        assert not link.startswith(("http://", "/")), f"{page.name}:{line}: {link}: link relatively, or by https"
        path, fragment = _target(page, link)
        if not path.exists() or not path.is_relative_to(ROOT):
            wrong.append(f"{page.name}:{line}: {link}: there is no such file")
        elif fragment and path in PAGES and fragment not in PAGES[path].anchors():
            wrong.append(f"{page.name}:{line}: {link}: no such heading; there are {sorted(PAGES[path].anchors())}")
    assert not wrong, "\n".join(wrong)


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        if path in seen or path not in PAGES:
            continue
        seen.add(path)
        waiting += [_target(PAGES[path], link)[0] for _, link in PAGES[path].links() if "://" not in link]
    lost = {page.name for path, page in PAGES.items() if path not in seen}
    assert not lost


def test_paths_of_this_checkout_that_are_named_in_backticks_exist() -> None:
    """`src/duende/…` in prose goes stale silently otherwise."""
    import re

    wrong = []
    for page in PAGES.values():
        if page.name == "CHANGELOG.md":
            continue  # it also speaks of what was
        for line, text in page.prose:
            for name in re.findall(r"`((?:src|tests|tools|docs|examples|bench)/[\w./-]+)`", text):
                if not (ROOT / name).exists():
                    wrong.append(f"{page.name}:{line}: {name}")
    assert not wrong, "\n".join(wrong)
