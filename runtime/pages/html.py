"""Pages that need nothing beside them: one style, no script, no network. What is given is escaped already."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
_STYLE = """
body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse }
td, th { padding: .25em .8em .25em 0; text-align: left; vertical-align: top }
code, pre { font: 13px monospace } pre { background: #f5f5f5; padding: 1em; overflow: auto }
.high { color: #176b2c } .medium { color: #8a6100 } .low { color: #a11 }
figure { display: inline-block; margin: 0 1em 1em 0 }
figure img { max-width: 320px; max-height: 240px } svg { background: #fafafa; border: 1px solid #ddd }
"""


def document(title: str, body: str) -> str:
    """A page as HTML 5. `title` is plain text."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>\n{body}\n</body></html>\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells."""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"
