"""Phone numbers as people write them, told apart from order numbers, dates, prices and sizes.

A number counts when its shape says so (a plus, a leading zero, groups as in a country's own
writing) or when the words around it do ("call me on", "fax"). Knows nothing of which numbers are
in use.
"""

import re
from collections.abc import Iterator

__all__ = ["is_reference", "phones"]

_GAP = r"[ \t().\-/]"
_CANDIDATE = re.compile(
    rf"(?<!\d[.,/:-])(?<![\w£$€¥#@+(])(?:\+[ ]?|00)?\(?\d(?:{_GAP}{{0,3}}\d){{6,16}}"
    r"(?:[ ]?(?:x|ext\.?|extension)[ ]?\d{1,6})?(?!\w)(?![.,:]\d)",
    re.IGNORECASE | re.ASCII,
)
_REFERENCE = re.compile(
    r"(?:\b(?:order|ref|reference|invoice|tracking|parcel|shipment|item|article|model|part|product|"
    r"sku|serial|ticket|case|booking|policy|customer|transaction|batch|isbn|ean|upc|asin|gtin|rma|"
    r"return|voucher|coupon|receipt|delivery|consignment|size|sizes|version|firmware)s?"
    r"|订单|单号|快递|运单|编号|型号|货号|发票|序列号|尺码)"
    r"[\s:：#.]{0,3}(?:(?:numbers?|num|no|nr|id|code|is|was|号码?|码|为|是)[\s:：#.]{0,3}){0,3}$",
    re.IGNORECASE | re.ASCII,
)
_ABOUT_PHONES = re.compile(
    r"\b(?:phones?|telephone|tel|mobile|mob|cell|cellphone|fax|desk|office|home|work|landline|"
    r"call(?:ed|ing|s)?|ring|dial|texts?|sms|message[sd]?|whatsapp|wechat|reach|contact|hotline|"
    r"answering|voicemail|registered)\b|电话|手机|致电|联系|拨打|座机|传真|微信",
    re.IGNORECASE | re.ASCII,
)
_AFTER = re.compile(r"^\W{0,3}(?:phone|tel|mobile|cell|fax|desk|office|home|work)\b", re.IGNORECASE)
_UNIT = re.compile(
    r"^\s?(?:[%£$€¥°]|(?:k?g|mg|lbs?|oz|[cmk]?m|mm|inch(?:es)?|ml|l|gb|mb|w|mah|eur|usd|gbp|"
    r"euros?|dollars?|pounds?|pieces|pcs|days?|hours?)\b|元|块|件|天)",
    re.IGNORECASE | re.ASCII,
)
_MONEY_BEFORE = re.compile(r"(?:[£$€¥]|\b(?:eur|usd|gbp|rmb|cny))\s?$", re.IGNORECASE | re.ASCII)
_CN_MOBILE = re.compile(r"(?<![\d.+])(?:\+?86[ -]?)?1[3-9]\d(?:[ -]?\d{4}){2}(?!\d)", re.ASCII)
_NEAR, _CLOSE = 60, 25
_NO_PHONE = {(4, 4, 4), (4, 4, 4, 4), (1, 3, 3, 3), (5, 4)}


def phones(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every phone number."""
    for match in _CN_MOBILE.finditer(text):
        if not is_reference(text[: match.start()]):
            yield match.span()
    for match in _CANDIDATE.finditer(text):
        start = match.start()
        if match.group().startswith("(") and ")" not in match.group():
            start += 1
        if _is_phone(text[start : match.end()], text[:start], text[match.end() :]):
            yield start, match.end()


def is_reference(before: str) -> bool:
    """Whether the words right before a number say that it is an order, an article or the like."""
    return bool(_REFERENCE.search(before[-_NEAR:]))


def _is_phone(number: str, before: str, after: str) -> bool:
    plain = re.split(r"x|ext", number.lower())[0].strip()
    digits = re.sub(r"\D", "", plain)
    groups = re.findall(r"\d+", plain)
    sizes = tuple(len(group) for group in groups)
    if plain.startswith("+"):
        return 7 <= len(digits) <= 15
    if (
        plain.count("(") != plain.count(")")
        or is_reference(before)
        or _MONEY_BEFORE.search(before[-5:])
        or _UNIT.match(after)
        or _is_date(groups)
        or _is_range(plain, groups)
    ):
        return False
    if sizes not in _NO_PHONE and _trunk(plain, digits):
        return True
    if len(groups) == 1:
        return len(digits) <= 15 and _told(before[-_CLOSE:], after)
    return _grouped(plain, sizes, len(digits), before, after)


def _trunk(plain: str, digits: str) -> bool:
    """A trunk zero or an area code in brackets opens the number."""
    if plain.startswith("("):
        return 8 <= len(digits) <= 13
    if digits.startswith("00"):
        return 11 <= len(digits) <= 17 and digits[2] != "0"
    grouped = plain != digits
    return digits[0] == "0" and (8 if grouped else 9) <= len(digits) <= 13


def _grouped(plain: str, sizes: tuple[int, ...], count: int, before: str, after: str) -> bool:
    """Groups of digits as countries write them; fewer than three need words around them."""
    if sizes in _NO_PHONE or not 7 <= count <= 13:
        return False
    local = sizes[1:] if plain.startswith("1") and sizes[0] == 1 else sizes
    if len(local) >= 3 and all(2 <= size <= 4 for size in local) and count >= 8:
        pairs = set(local) == {2} and " " in plain
        return not pairs or _told(before[-_NEAR:], after)
    return _told(before[-_NEAR:], after)


def _told(before: str, after: str) -> bool:
    return bool(_ABOUT_PHONES.search(before) or _AFTER.match(after))


def _is_date(groups: list[str]) -> bool:
    """Year-month-day or day-month-year, also with an hour after it."""
    if len(groups) < 3:
        return False
    sizes = tuple(len(group) for group in groups[:3])
    if sizes[0] == 4:
        return groups[0][:2] in {"19", "20"} and max(sizes[1:]) <= 2
    year = sizes[2] == 4 and groups[2][:2] in {"19", "20"}
    return year and int(groups[0]) <= 31 and int(groups[1]) <= 31


def _is_range(plain: str, groups: list[str]) -> bool:
    """From one year or one hour to another."""
    if tuple(len(group) for group in groups) != (4, 4) or not re.search(r"\d[ ]?[-/][ ]?\d", plain):
        return False
    years = all(group[0] in "12" for group in groups)
    return years or all(int(group[:2]) <= 24 and int(group[2:]) < 60 for group in groups)
