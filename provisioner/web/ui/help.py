"""The documentation, as it came with this version: Markdown, shown without the network."""

import itertools
import re
from functools import cache
from typing import Any

from flask import Response
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from provisioner.errors import NotFound
from provisioner.services import manual
from provisioner.web.ui.pages import Pages, Visit

pages = Pages()
_ELSEWHERE = re.compile(r"(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)


@pages.get("/help", None)
def index(visit: Visit) -> Response:
    """All pages by their titles, or those with the words that are searched for."""
    wanted = visit.arg("q")
    return visit.render(
        "help/list.html", found=manual.search(wanted) if wanted else None, all=manual.titles(), q=wanted
    )


@pages.get("/help/<page>", None)
def show(visit: Visit, page: str) -> Response:
    """One page."""
    text = manual.page(page)
    if text is None:
        raise NotFound(f"there is no page {page[:60]!r} in the documentation", hint="see /help for all of them")
    html, sections = _html(text)
    return visit.render("help/show.html", page=page, html=html, sections=sections, all=manual.titles())


@cache
def _html(text: str) -> tuple[Markup, list[tuple[str, str]]]:
    """The page, and its sections by their ids. HTML in the text is shown as text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(text)
    sections = [
        (_slug(inside.content), inside.content)
        for heading, inside in itertools.pairwise(tokens)
        if heading.type == "heading_open" and heading.tag == "h2"
    ]
    for heading, inside in itertools.pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", _slug(inside.content))
        _mend(inside)
    html = reader.renderer.render(tokens, reader.options, {}).replace("<pre>", '<pre tabindex="0">')
    return Markup(html), sections  # noqa: S704 - made of our own files


def _mend(token: Token) -> None:
    """Links between pages lead to pages here; pictures and files of the checkout are not here, and are no links."""
    kept: list[Token] = []
    for child in token.children or []:
        if child.type == "image":
            kept += child.children or []
            continue
        if child.type == "link_open":
            child.attrSet("href", _place(str(child.attrGet("href") or "")))
        kept.append(child)
    if token.children is not None:
        token.children = kept


def _place(href: str) -> str:
    if _ELSEWHERE.match(href) or href.startswith("#"):
        return href
    name, _, section = href.rpartition("/")[2].partition("#")
    found = name.removesuffix(".md").lower()
    place = f"/help/{found}" if found in dict(manual.titles()) else "/help"
    return place + (f"#{section}" if section else "")


def _slug(title: Any) -> str:
    return re.sub(r"[^\w -]", "", str(title).lower()).strip().replace(" ", "-")
