"""HTML: its text in reading order, headings as "# " lines, tables as "a | b". Takes time in proportion to its size."""

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from documents.extraction.formats.plain import decode
from documents.extraction.formats.tables import row
from documents.reasons import Reason, Unreadable

_SKIPPED = frozenset({"script", "style", "noscript", "template", "head", "iframe", "object", "svg", "math", "select", "button"})
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_PARAGRAPHS = frozenset(
    {"p", "div", "section", "article", "header", "footer", "main", "nav", "aside", "table", "ul", "ol", "dl", "blockquote"}
    | {"pre", "form", "fieldset", "figure", "figcaption", "address", "details", "summary", "hr", "body", *_HEADINGS}
)
_LINES = frozenset({"li", "tr", "dt", "dd", "caption", "option", "legend"})
# Elements that only their end tag closes. The parser's time grows with the square of their depth (measured: 0.4 s at 20,000,
# 2.8 s at 40,000), so deeper pages are refused. Browsers stop at 512.
_NESTING = re.compile(
    rb"<(/?)(?:div|span|section|article|main|nav|aside|header|footer|table|ul|ol|dl|blockquote|form|fieldset|figure|details"
    rb"|center|font|b|i|u|em|strong|small|big|a|code|ins|del|sub|sup|object|template|svg|math|g|select|button|tbody|thead)\b",
    re.I,
)
_MAX_DEPTH = 20_000
_DECLARED = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?\s*([a-z0-9_:.-]{2,40})""", re.I)
_SPACE = re.compile(r"[ \t\n\r\f\xa0]+")


def read_html(document: bytes | str) -> str:
    if isinstance(document, bytes):
        declared = _DECLARED.search(document[:4096])
        document = decode(document, declared[1].decode("ascii") if declared else "")
    if _depth(document.encode("utf-8", "replace")) > _MAX_DEPTH:
        raise Unreadable(Reason.TOO_COMPLEX, "depth")
    tree = LexborHTMLParser(document)
    text = _Text()
    if tree.root is not None:
        _walk(tree.root, text)
    body = text.written()
    title = tree.css_first("head > title")
    name = _SPACE.sub(" ", title.text()).strip() if title is not None else ""
    return body if not name or "\n# " in f"\n{body}" else f"# {name}\n\n{body}"


def _depth(document: bytes) -> int:
    depth = deepest = 0
    for tag in _NESTING.finditer(document):
        depth += -1 if tag[1] else 1
        deepest = max(deepest, depth)
    return deepest


def _walk(root: LexborNode, text: "_Text") -> None:
    """Depth first without recursion and without asking for the same node twice: a page may be nested 300,000 deep."""
    node: LexborNode | None = root
    open_elements: list[tuple[LexborNode, str]] = []
    while node is not None:
        tag = node.tag or ""
        descend = None
        if node.is_text_node:
            text.add(node.text_content or "")
        elif tag not in _SKIPPED:
            descend = node.child
            if descend is None:
                text.empty(tag, node)
            else:
                text.enter(tag)
        if descend is not None:
            open_elements.append((node, tag))
            node = descend
            continue
        following = node.next
        while following is None and open_elements:
            parent, parent_tag = open_elements.pop()
            text.leave(parent_tag)
            following = parent.next if open_elements else None
        node = following


class _Text:
    """Collects words, line and paragraph borders, and rows of tables (those of a nested table flow into the outer cell)."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.rows: list[list[list[str]]] = []  # open rows; each a list of cells, each a list of pieces
        self.preformatted = 0

    def add(self, words: str) -> None:
        self._target().append(words if self.preformatted else _SPACE.sub(" ", words))

    def enter(self, tag: str) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append([])
        elif tag == "pre":
            self.preformatted += 1
        self._border(tag)
        if tag in _HEADINGS and not self.rows:
            self.pieces.append(_HEADINGS[tag])
        elif tag == "li" and not self.rows:
            self.pieces.append("- ")

    def leave(self, tag: str) -> None:
        if tag == "tr" and self.rows:
            line = row("".join(cell) for cell in self.rows.pop())
            self._target().append(line)
        elif tag == "pre" and self.preformatted:
            self.preformatted -= 1
        self._border(tag)

    def empty(self, tag: str, node: LexborNode) -> None:
        if tag == "br":
            self._target().append("\n")
        elif tag == "img" and (words := (node.attributes.get("alt") or "").strip()):
            self._target().append(f" {words} ")
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append([])
        else:
            self._border(tag)

    def written(self) -> str:
        while self.rows:
            self.leave("tr")
        lines = (line.rstrip() if line.startswith("  ") else line.strip() for line in "".join(self.pieces).split("\n"))
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
        return re.sub(r"(?m)^(#{1,6}|-)\n+", r"\1 ", text)

    def _target(self) -> list[str]:
        if not self.rows:
            return self.pieces
        if not self.rows[-1]:
            self.rows[-1].append([])
        return self.rows[-1][-1]

    def _border(self, tag: str) -> None:
        if self.rows and not self.rows[-1]:
            return  # between a row and its first cell nothing is written
        if tag in _PARAGRAPHS:
            self._target().append("\n\n")
        elif tag in _LINES:
            self._target().append("\n")
