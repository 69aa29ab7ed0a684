"""The frame of a report: one page that opens from disk, its boxes and tables, its numbers.

Takes text where it says so and HTML elsewhere. Knows nothing of what is told; see `charts` for
what is drawn.
"""

import html
from collections.abc import Iterable, Sequence
from importlib.resources import files

__all__ = ["card", "command", "figure", "head", "paragraphs", "pill", "safe", "signed", "table"]
__all__ += ["wrapped"]


def safe(text: str) -> str:
    """Text as HTML."""
    return html.escape(text, quote=True)


def signed(value: float, digits: int) -> str:
    """A change with its sign; what rounds to nothing is ±0."""
    told = f"{value:+.{digits}f}"
    return told.replace("-", "−") if float(told) else "±0"


def wrapped(
    title: str,
    head: str,
    sections: Iterable[tuple[str, str, str]],
    created: str,
    data: str,
    style: str = "",
) -> str:
    """A head and sections (name, title, HTML) as a page with the style of all reports and `style`.

    Empty sections are left out, and those without a title have no heading and no link. `data`
    names the file that holds the same. The page names no outside address.
    """
    shown = [(name, safe(heading), body) for name, heading, body in sections if body]
    links = "".join(f"<a href='#{name}'>{heading}</a>" for name, heading, _ in shown if heading)
    nav = f"<nav>{links}</nav>" if links else ""
    body = "".join(
        f"<section id='{name}'>{f'<h2>{heading}</h2>' if heading else ''}{content}</section>"
        for name, heading, content in shown
    )
    common = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    made = ", ".join(filter(None, ("Featherdesk", safe(created))))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)}</title><style>{common}{style}</style></head>"
        f"<body><main>{head}{nav}{body}"
        f"<footer>{made}. The same as data: <a href='{data}'>{data}</a>."
        "</footer></main></body></html>\n"
    )


def head(kind: str, name: str, lead: str, pill: str = "") -> str:
    """What stands above all: texts of what it is and whose, then a pill and a sentence in HTML."""
    return (
        f"<p class='eyebrow'>{safe(kind)}</p><h1>{safe(name)}</h1>{pill}<p class='lead'>{lead}</p>"
    )


def pill(tone: str, text: str) -> str:
    """A verdict; `tone` is `passed`, `undecided` or `refused`."""
    return f"<span class='pill {tone}'>{safe(text)}</span>"


def card(name: str, value: str, unit: str, notes: Sequence[str]) -> str:
    """A figure that matters most, large, over its notes in HTML."""
    return (
        f"<div class='card key'><div class='what'>{safe(name)}</div>"
        f"<div class='now'>{safe(value)} <small>{safe(unit)}</small></div>"
        f"<div class='against'>{'<br>'.join(notes)}</div></div>"
    )


def figure(body: str, made_by: str = "", title: str = "", kind: str = "", unit: str = "") -> str:
    """A chart in its box, with the command that made it."""
    small = f" <small>{safe(unit)}</small>" if unit else ""
    top = f"<h3>{safe(title)}{small}</h3>" if title else ""
    return f"<figure class='{kind}'>{top}{body}{command(made_by)}</figure>"


def command(text: str, before: str = "") -> str:
    """A command as it is typed; nothing where there is none."""
    return f"<figcaption>{before}<code>{safe(text)}</code></figcaption>" if text else ""


def table(heads: str, rows: str, kind: str = "") -> str:
    """Cells of the head and rows, in HTML, in a box that scrolls sideways."""
    return (
        f"<div class='card scroll'><table class='{kind}'><thead><tr>{heads}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def paragraphs(lines: Iterable[str]) -> str:
    """Lines in HTML, a paragraph each."""
    return "".join(f"<p>{line}</p>" for line in lines)
