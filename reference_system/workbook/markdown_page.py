"""A Markdown page as the checks see it.

In: the text of one page. Out: headings with their lines, prose with its links, code spans and fences.
Invariant: prose is what a reader sees; code, comments and the words of links are told apart from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.token import Token

# Stands where a link or a code span was, so that the words around it do not run together.
OBJECT = "\N{OBJECT REPLACEMENT CHARACTER}"
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading and its place."""

    text: str
    level: int
    line: int
    has_body: bool  # something stands between it and the next heading, deeper headings included


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link and its words."""

    text: str
    target: str
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One block of prose: `text` has OBJECT where links and code spans stood."""

    text: str
    line: int
    kind: str  # heading | prose | html | mermaid
    quoted: bool  # inside a block quotation
    links: tuple[Link, ...] = ()
    code: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A parsed page."""

    text: str
    tokens: list[Token] = field(repr=False)

    @cached_property
    def passages(self) -> list[Passage]:
        """Every block of prose, in order."""
        return list(_passages(self.tokens))

    @cached_property
    def links(self) -> list[Link]:
        """Every link and image, in order."""
        return [link for passage in self.passages for link in passage.links]

    @cached_property
    def headings(self) -> list[Heading]:
        """Every heading, in order."""
        return list(_headings(self.tokens))

    @cached_property
    def anchors(self) -> frozenset[str]:
        """The fragments that code hosts give to the headings."""
        seen: dict[str, int] = {}
        slugs: list[str] = []
        for heading in self.headings:
            slug = _NOT_IN_SLUG.sub("", heading.text.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            slugs.append(f"{slug}-{count}" if count else slug)
        return frozenset(slugs)


def parse_page(text: str) -> Page:
    """Parse CommonMark with tables, as code hosts do."""
    from markdown_it import MarkdownIt

    return Page(text, MarkdownIt("commonmark").enable("table").parse(text))


def _headings(tokens: list[Token]) -> Iterator[Heading]:
    places = [index for index, token in enumerate(tokens) if token.type == "heading_open"]
    for position, index in enumerate(places):
        following = places[position + 1] if position + 1 < len(places) else len(tokens)
        level = _level(tokens[index])
        deeper = following < len(tokens) and _level(tokens[following]) > level
        body = [token for token in tokens[index + 3 : following] if _COMMENT.sub("", token.content).strip()]
        yield Heading(
            text=_plain(tokens[index + 1]), level=level, line=_line(tokens[index]), has_body=bool(body) or deeper
        )


def _passages(tokens: list[Token]) -> Iterator[Passage]:
    quotes = 0
    opened = ""
    for token in tokens:
        quotes += {"blockquote_open": 1, "blockquote_close": -1}.get(token.type, 0)
        if token.type == "inline":
            kind = "heading" if opened == "heading_open" else "prose"
            yield _inline_passage(token, kind=kind, quoted=quotes > 0)
        elif token.type == "html_block":
            text = _TAG.sub(" ", _COMMENT.sub(" ", token.content))
            yield Passage(text=text, line=_line(token), kind="html", quoted=quotes > 0)
        elif token.type == "fence" and token.info.strip() == "mermaid":
            yield Passage(text=token.content, line=_line(token), kind="mermaid", quoted=quotes > 0)
        opened = token.type


def _inline_passage(block: Token, *, kind: str, quoted: bool) -> Passage:
    line = _line(block)
    prose: list[str] = []
    links: list[Link] = []
    code: list[str] = []
    words: list[str] | None = None  # the words of the link that is open
    target = ""
    for token in block.children or []:
        here = prose if words is None else words
        if token.type == "link_open":
            target, words = str(token.attrs.get("href", "")), []
        elif token.type == "link_close" and words is not None:
            links.append(Link(text="".join(words), target=target, line=line))
            prose.append(OBJECT)
            words = None
        elif token.type == "image":
            links.append(Link(text=token.content, target=str(token.attrs.get("src", "")), line=line))
        elif token.type == "code_inline":
            code.append(token.content)
            here.append(OBJECT if words is None else token.content)
        elif token.type in {"softbreak", "hardbreak"}:
            here.append(" ")
            line += 1
        elif token.type == "text":
            here.append(token.content)
    return Passage(
        text="".join(prose), line=_line(block), kind=kind, quoted=quoted, links=tuple(links), code=tuple(code)
    )


def _plain(inline: Token) -> str:
    kinds = {"text", "code_inline"}
    return "".join(token.content for token in inline.children or [] if token.type in kinds).strip()


def _level(token: Token) -> int:
    return int(token.tag.removeprefix("h"))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 1
