"""Finds personal data by pattern, and masks it before anything is stored.

Cards must pass the Luhn check and begin like a card, IBANs their mod-97 check (ISO 13616),
identity numbers their country's own, so that order numbers stay readable. Names of people are not
recognized here: see `names`.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from .addresses import addresses
from .guards import Asked, Finding
from .identities import identities, luhn
from .phones import phones
from .stages import BotConfig

__all__ = ["PersonalData", "Span", "found", "masked"]

_WORD = r"[^\W\u3040-\u9fff]"
_EMAIL = re.compile(
    rf"(?<![a-z0-9_.+-])(?:{_WORD}|[.+%'-]){{1,64}}@{_WORD}(?:{_WORD}|-){{0,62}}(?:\.[a-z0-9-]{{1,63}}){{1,8}}"
    r"|(?<![\w.+-])[\w.+-]{1,64} ?(?:\(at\)|\[at\]|\bat\b) ?[\w-]{1,63} ?"
    r"(?:(?:\(dot\)|\[dot\]|\bdot\b) ?[\w-]{2,63} ?){1,4}(?<! )",
    re.IGNORECASE,
)
_IBAN = re.compile(
    r"\b[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?:[ -][A-Z0-9]{4}){2,7}(?:[ -][A-Z0-9]{1,4})?)",
    re.IGNORECASE | re.ASCII,
)
_IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH CR HR LI LV",
        22: "BG BH DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
_CARD = re.compile(r"(?<![\w+])(?<!\d[.,])\d(?:[ -]?\d){11,18}(?!\w)(?![.,]\d)", re.ASCII)
_CARD_START = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})$|(?:5[1-5]|2[2-7])\d{14}$|3[47]\d{13}$|3(?:0[0-5]|[689]\d)\d{11}$|"
    r"(?:6011|64[4-9]|65)\d{12,15}$|35\d{14,17}$|(?:1800|2131)\d{11}$|62\d{14,17}$|"
    r"(?:50|5[6-8]|6)\d{10,17}$|(?:60|8[12]|9[01])\d{14}$"
)
_CARD_NAMED = re.compile(
    r"(?:\b(?:card|visa|mastercard|amex|cc)|卡号?)[\s:：#.]{0,3}"
    r"(?:(?:numbers?|no|num|is|是|为)[\s:：#.]{0,3}){0,3}$",
    re.IGNORECASE | re.ASCII,
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[0-9a-f:]{2,39}(?![\w:])", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(r"\b(?:v|version|firmware|release|build)\W{0,3}$", re.IGNORECASE)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_BORN = re.compile(
    r"(?:date of birth|birth ?date|birthday|\bborn\b|\bd\.?o\.?b\b\.?|出生日期|出生于|生日)"
    r"(?:\W{1,3}(?:is|was|on|its|it's))*[\s:：,?.是为]{0,4}(?:it['’]s |on )?"
    rf"(?P<day>\d{{1,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}"
    rf",? \d{{2,4}}|{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{2,4}}"
    r"|\d{2,4} ?年 ?\d{1,2} ?月 ?\d{1,2} ?日?)",
    re.IGNORECASE,
)
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_PLAIN = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | dict.fromkeys("\u00a0\u2007\u202f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
)
_LABELS = frozenset({"card", "iban", "e-mail", "phone", "ip address", "date of birth", "address"})


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of personal data in a text: what it is, and where."""

    kind: str
    start: int
    end: int

    @property
    def label(self) -> str:
        """What it is replaced by: its kind, or `id` for every number that names a person."""
        return self.kind if self.kind in _LABELS else "id"


class PersonalData:
    """The guard that takes note of personal data; the store masks it, skills may need it."""

    name = "personal_data"
    rank = 90

    def __init__(self, config: BotConfig) -> None:
        del config

    def inspect(self, asked: Asked) -> Finding | None:
        """Which kinds of personal data a message holds."""
        kinds = sorted({span.kind for span in found(asked.question)})
        return Finding(self.name, ", ".join(kinds)) if kinds else None


def found(text: str) -> list[Span]:
    """The personal data in a text, in order, none overlapping another."""
    plain = _UUID.sub(lambda match: "_" * len(match.group()), text.translate(_PLAIN))
    kept: list[Span] = []
    taken = bytearray(len(text))
    for span in _candidates(plain):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\x01" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)


def masked(text: str, public: Collection[str] = ()) -> str:
    """The text with personal data replaced by `[card]`, `[phone]`, `[id]` and so on.

    What stands in one of the `public` texts (the entries that were cited) is kept.
    """
    out, end = [], 0
    for span in found(text):
        piece = text[span.start : span.end]
        if not any(piece in known for known in public):
            out += [text[end : span.start], f"[{span.label}]"]
            end = span.end
    return "".join([*out, text[end:]])


def _candidates(text: str) -> Iterator[Span]:
    """Everything that looks like personal data, the surest kinds first."""
    for match in _EMAIL.finditer(text):
        yield Span("e-mail", *match.span())
    for match in _IBAN.finditer(text):
        end = _iban_end(match.group())
        if end:
            yield Span("iban", match.start(), match.start() + end)
    for match in _BORN.finditer(text):
        yield Span("date of birth", *match.span("day"))
    cards = [Span("card", *match.span()) for match in _CARD.finditer(text) if _is_card(match)]
    ids = [Span(*told) for told in identities(text)]
    sure = [span for span in ids if span.kind in {"za_id", "fr_insee", "papers", "bank_account"}]
    calls = [Span("phone", *told) for told in phones(text)]
    abroad = [span for span in calls if text[span.start] == "+"]
    yield from (*abroad, *sure, *cards, *ids, *_machines(text), *calls)
    for start, end in addresses(text):
        yield Span("address", start, end)


def _iban_end(text: str) -> int:
    """Where the IBAN ends that a text begins with; what follows is text again."""
    length = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    places = [place for place, c in enumerate(text) if c.isalnum()][:length]
    if len(places) < max(length, 1):
        return 0
    plain = "".join(text[place] for place in places).upper()
    digits = "".join(str(int(c, 36)) for c in plain[4:] + plain[:4])
    return places[-1] + 1 if int(digits) % 97 == 1 else 0


def _is_card(match: re.Match[str]) -> bool:
    """By its check and its first digits, or because the words before it call it a card."""
    digits = re.sub(r"\D", "", match.group())
    named = _CARD_NAMED.search(match.string[max(0, match.start() - 30) : match.start()])
    if luhn(digits):
        return bool(named or _CARD_START.match(digits))
    return named is not None and len(digits) > 12


def _machines(text: str) -> Iterator[Span]:
    """Internet addresses of machines."""
    for pattern in (_IPV4, _IPV6):
        for match in pattern.finditer(text):
            told = match.group()
            if _VERSION.search(text[max(0, match.start() - 12) : match.start()]) or not re.search(
                r"\d", told
            ):
                continue
            try:
                ipaddress.ip_address(told)
            except ValueError:
                continue
            yield Span("ip address", *match.span())
