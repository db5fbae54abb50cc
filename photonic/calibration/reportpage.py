"""The parts of a page that needs nothing but itself: style, tables and the frame. All text given here is escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

# No request leaves the page, whatever a record says: browsers enforce it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5a5a62; --line: #d4d4da; --back: #fff; --head: #f4f4f6;
  --pass: #17663a; --fail: #a3231f; --open: #7a5200; --blue: #3b82c4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6ea; --soft: #a3a3ad; --line: #3c3c44; --back: #17171a;
  --head: #222227; --pass: #6fce97; --fail: #ff9088; --open: #e9b95a; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --head: #f4f4f6;
  --pass: #17663a; --fail: #a3231f; --open: #7a5200; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 76rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; padding-top: .9rem; border-top: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 46rem; }
.soft, figcaption { color: var(--soft); font-size: .87rem; }
.verdict { margin: 1.2rem 0; padding: .8rem 1rem; border: 1px solid var(--line); border-left: 6px solid currentColor; }
.verdict strong { font-size: 1.2rem; }
.verdict p { color: var(--ink); }
.pass { color: var(--pass); } .fail { color: var(--fail); } .open { color: var(--open); }
.scroll { overflow-x: auto; margin: .6rem 0; }
.scroll:focus-visible { outline: 2px solid var(--blue); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .87rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: normal; }
thead th { font-weight: 600; border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.words { min-width: 13rem; max-width: 26rem; overflow-wrap: anywhere; }
.short { white-space: nowrap; }
.figures { display: grid; gap: 1.2rem 1.6rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
figure { margin: 0; break-inside: avoid; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
dl { display: grid; grid-template-columns: minmax(7rem, 14rem) 1fr; gap: .25rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  tbody th, thead th:first-child { position: sticky; left: 0; background: var(--back); white-space: normal;
    min-width: 6.5rem; } }
@media print { body { font-size: 10pt; padding: 0; max-width: none; } h2 { break-after: avoid; }
  tr { break-inside: avoid; } .scroll { overflow: visible; } table { font-size: 7.5pt; }
  .short, .number { white-space: normal; }
  .words { min-width: 0; } th, td { padding-right: .5rem; }
  .figures { grid-template-columns: repeat(2, 1fr); } }
"""


class Column(NamedTuple):
    """A column of a table; ``kind`` is a class of the style: "number", "words", "short"."""

    title: str
    kind: str = ""


class Marked(str):
    """Text that is HTML already, made by this package from escaped parts."""

    __slots__ = ()


def html(text: str) -> Marked:
    """Any text as HTML; no line breaks between a number and its %."""
    return text if isinstance(text, Marked) else Marked(re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", escape(text)))


def paragraph(text: str, kind: str = "") -> Marked:
    """A paragraph."""
    return Marked(f"<p{_class(kind)}>{html(text)}</p>")


def table(name: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Marked:
    """A table in a box of its own, which scrolls where the page is too narrow; the first cell names the row.

    A column that says nothing in any row is left out.
    """
    said = [place for place in range(len(columns)) if not rows or any(row[place] for row in rows)]
    columns, rows = [columns[place] for place in said], [[row[place] for place in said] for row in rows]
    head = "".join(f'<th scope="col"{_class(column.kind)}>{html(column.title)}</th>' for column in columns)
    body = "".join(_row(columns, row) for row in rows)
    label = f'aria-label="{escape(name)}"'
    return Marked(
        f'<div class="scroll" role="region" tabindex="0" {label}><table {label}>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Mapping[str, str]) -> Marked:
    """Names and what they are."""
    return Marked(
        "<dl>" + "".join(f"<dt>{html(name)}</dt><dd>{html(text)}</dd>" for name, text in pairs.items()) + "</dl>"
    )


def figures(panels: Sequence[tuple[str, str]]) -> Marked:
    """Pictures (SVG, made by this package) with captions, as many beside each other as there is room for."""
    items = (f"<figure>{svg}<figcaption>{html(text)}</figcaption></figure>" for svg, text in panels)
    return Marked(f'<div class="figures">{"".join(items)}</div>')


def box(kind: str, title: str, lines: Sequence[str]) -> Marked:
    """A framed statement; ``kind``: "pass", "fail" or "open"."""
    return Marked(
        f'<div class="verdict {kind}"><strong>{html(title)}</strong>{"".join(paragraph(line) for line in lines)}</div>'
    )


def section(title: str, parts: Sequence[Marked]) -> Marked:
    """A part of the page under a heading."""
    return Marked(f"<section><h2>{html(title)}</h2>{''.join(parts)}</section>")


def page(title: str, below: str, parts: Sequence[Marked]) -> str:
    """The whole page.

    Args:
        title: heading, and name of the page.
        below: a line under it.
        parts: HTML.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1>{paragraph(below, 'soft')}</header>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _row(columns: Sequence[Column], cells: Sequence[str]) -> str:
    first, *others = ((_class(column.kind), html(cell)) for column, cell in zip(columns, cells, strict=True))
    rest = "".join(f"<td{kind}>{cell}</td>" for kind, cell in others)
    return f'<tr><th scope="row"{first[0]}>{first[1]}</th>{rest}</tr>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
