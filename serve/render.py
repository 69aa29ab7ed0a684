"""Text to show: safe Markdown; nothing but text and http(s) or mailto links can come out."""

import html
import re

__all__ = ["safe_markdown"]

_LINK = re.compile(r"https?://[^\s<>\"'`|\\^{}\[\]]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-.!|~:$=^])")


def safe_markdown(text: str) -> str:
    """Escape every Markdown and HTML mark and turn web and mail addresses into links."""
    out: list[str] = []
    end = 0
    for found in _LINK.finditer(text):
        address = found.group().rstrip(".,;:!?)")
        out.append(_escaped(text[end : found.start()]))
        target = address if address.startswith("http") else f"mailto:{address}"
        out.append(f"[{_escaped(address)}]({_url(target)})")
        end = found.start() + len(address)
    out.append(_escaped(text[end:]))
    return "".join(out)


def _escaped(text: str) -> str:
    """Marks first: the entities that escaping HTML makes hold none."""
    marked = _MARKS.sub(r"\\\1", text)
    return html.escape(marked, quote=False).replace("\n", "  \n")


def _url(address: str) -> str:
    return html.escape(address, quote=True).replace("(", "%28").replace(")", "%29")
