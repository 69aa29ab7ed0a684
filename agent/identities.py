"""Identity numbers of many countries, recognized by shape and check digit.

A number whose check is weak (one digit in ten or eleven) counts only where the words before it
name it, so that order numbers stay readable. The checks are those of the issuing offices.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from .phones import is_reference

__all__ = ["identities", "luhn"]

_NEAR = 40


def luhn(digits: str) -> bool:
    """The check of ISO/IEC 7812, as on cards."""
    numbers = [int(c) for c in digits][::-1]
    doubled = sum(sum(divmod(2 * d, 10)) for d in numbers[1::2])
    return (sum(numbers[::2]) + doubled) % 10 == 0


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


_VERHOEFF_D = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_P = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def _verhoeff(digits: str) -> bool:
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_D[check][int(_VERHOEFF_P[place % 8][int(digit)])])
    return check == 0


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        return date(year, month, day).year >= 1900
    except ValueError:
        return False


def _short_day(text: str, order: str = "ymd") -> bool:
    """Whether six digits are a day, in either century."""
    part = {name: int(text[2 * place : 2 * place + 2]) for place, name in enumerate(order)}
    return any(_is_day(c + part["y"], part["m"], part["d"]) for c in (1900, 2000))


def _always(_: str) -> bool:
    return True


def _uk_nino(text: str) -> bool:
    return text[:2] not in {"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"}


def _uk_nhs(text: str) -> bool:
    check = 11 - _weighted(text, range(10, 1, -1)) % 11
    return check != 10 and check % 11 == int(text[9])


def _cn_resident(text: str) -> bool:
    """GB 11643: a day of birth and ISO 7064 mod 11-2."""
    weights = [2**power % 11 for power in range(17, 0, -1)]
    return (
        _is_day(int(text[6:10]), int(text[10:12]), int(text[12:14]))
        and "10X98765432"[_weighted(text[:17], weights) % 11] == text[17]
    )


def _hk_id(text: str) -> bool:
    letters = text[: len(text) - 7]
    values = [36] * (2 - len(letters)) + [ord(c) - 55 for c in letters]
    values += [int(c) for c in text[len(letters) : -1]]
    check = 10 if text[-1] == "A" else int(text[-1])
    return (sum(v * w for v, w in zip(values, range(9, 1, -1), strict=True)) + check) % 11 == 0


def _tw_id(text: str) -> bool:
    code = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(text[0]) + 10
    total = code // 10 + _weighted(str(code % 10) + text[1:], (9, 8, 7, 6, 5, 4, 3, 2, 1, 1))
    return total % 10 == 0


def _sg_nric(text: str) -> bool:
    total = _weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if text[0] in "TG" else 0)
    letters = "JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK"
    return letters[total % 11] == text[8]


def _jp_my_number(text: str) -> bool:
    total = _weighted(text[:11], (6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return (0 if total <= 1 else 11 - total) == int(text[11])


def _de_tax(text: str) -> bool:
    """ISO 7064 mod 11,10; of the first ten digits one stands two or three times."""
    counts = sorted(text[:10].count(d) for d in set(text[:10]))
    if counts[-1] not in {2, 3} or (len(counts) > 1 and counts[-2] > 1):
        return False
    rest = 10
    for digit in text[:10]:
        rest = ((int(digit) + rest) % 10 or 10) * 2 % 11
    return (11 - rest) % 10 == int(text[10])


def _es_dni(text: str) -> bool:
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


_IT_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24)


def _it_fiscal(text: str) -> bool:
    odd = [*_IT_ODD, 23]
    values = [int(c) if c.isdigit() else ord(c) - 65 for c in text[:15]]
    total = sum(v if place % 2 else odd[v] for place, v in enumerate(values))
    return chr(65 + total % 26) == text[15]


def _fr_insee(text: str) -> bool:
    number = text[:13].replace("2A", "19", 1) if text[5:7] == "2A" else text[:13]
    number = number.replace("2B", "18", 1) if text[5:7] == "2B" else number
    return number.isdigit() and 97 - int(number) % 97 == int(text[13:])


def _pl_pesel(text: str) -> bool:
    century, month = divmod(int(text[2:4]), 20)
    year = {0: 1900, 1: 2000, 2: 2100, 3: 2200, 4: 1800}[century] + int(text[:2])
    check = -_weighted(text[:10], (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10
    return _is_day(year, month, int(text[4:6])) and check == int(text[10])


def _nl_bsn(text: str) -> bool:
    total = _weighted(text[:8], range(9, 1, -1)) - int(text[8])
    return total > 0 and total % 11 == 0


def _be_national(text: str) -> bool:
    keys = {97 - int(prefix + text[:9]) % 97 for prefix in ("", "2")}
    return _short_day(text[:6]) and int(text[9:]) in keys


def _se_personal(text: str) -> bool:
    return _short_day(text[-10:-4]) and luhn(text[-10:])


def _fi_hetu(text: str) -> bool:
    number = int(text[:6] + text[-4:-1])
    return (
        _short_day(text[:6], "dmy") and "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == text[-1]
    )


def _dk_cpr(text: str) -> bool:
    return _short_day(text[:6], "dmy")


def _no_birth(text: str) -> bool:
    first = -_weighted(text[:9], (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = -_weighted(text[:10], (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return _short_day(text[:6], "dmy") and (first, second) == (int(text[9]), int(text[10]))


def _pt_nif(text: str) -> bool:
    rest = _weighted(text[:8], range(9, 1, -1)) % 11
    return (0 if rest < 2 else 11 - rest) == int(text[8])


def _br_cpf(text: str) -> bool:
    first = _weighted(text[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(text[:10], range(11, 1, -1)) * 10 % 11 % 10
    return len(set(text)) > 1 and (first, second) == (int(text[9]), int(text[10]))


def _za_id(text: str) -> bool:
    return _short_day(text[:6]) and text[10] in "01" and luhn(text)


def _tr_id(text: str) -> bool:
    numbers = [int(c) for c in text]
    tenth = (7 * sum(numbers[0:9:2]) - sum(numbers[1:8:2])) % 10
    return (tenth, sum(numbers[:10]) % 10) == (numbers[9], numbers[10])


def _ch_ahv(text: str) -> bool:
    return _weighted(text, (1, 3) * 6 + (1,)) % 10 == 0


def _cz_birth(text: str) -> bool:
    month = int(text[2:4]) % 50 % 20
    return 1 <= month <= 12 and int(text[:-1]) % 11 % 10 == int(text[-1])


def _ie_pps(text: str) -> bool:
    second = ord(text[8]) - 64 if len(text) == 9 and text[8] != "W" else 0
    total = _weighted(text[:7], range(8, 1, -1)) + 9 * second
    return "WABCDEFGHIJKLMNOPQRSTUV"[total % 23] == text[7]


def _au_tfn(text: str) -> bool:
    return _weighted(text, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def _au_medicare(text: str) -> bool:
    return _weighted(text[:8], (1, 3, 7, 9, 1, 3, 7, 9)) % 10 == int(text[8])


@dataclass(frozen=True, slots=True)
class _Identity:
    """`valid` is given letters and digits only, upper case; `named` must stand before it."""

    kind: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool] = _always
    named: re.Pattern[str] | None = None


def _identity(
    kind: str, pattern: str, valid: Callable[[str], bool] = _always, named: str = ""
) -> _Identity:
    return _Identity(
        kind,
        re.compile(rf"(?<![\w£$€#])(?:{pattern})(?!\w)", re.IGNORECASE | re.ASCII),
        valid,
        re.compile(named, re.IGNORECASE | re.ASCII) if named else None,
    )


_TOKEN = r"(?=(?:[A-Z-]{0,18}\d){3})[A-Z0-9][A-Z0-9-]{4,18}"
_PAPERS = (
    r"(?:passport|driv(?:er|ing)(?:['’]?s)? licen[cs]e|identity card|national id|id card|"
    r"personalausweis\w*|reisepass\w*|护照|身份证|驾驶证|驾照)"
    r"(?:\W{0,3}(?:numbers?|num|no|nr|id|is|was|号码?|是|为))*\W{0,3}$"
)
_TIN = r"(?:tax|tin|itin|ssn|social security)"
_IDENTITIES = (
    _identity(
        "us_ssn",
        r"(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}",
    ),
    _identity("us_ssn", r"(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}", _always, _TIN),
    _identity("us_itin", r"9\d{2}-[4-9]\d-\d{4}"),
    _identity(
        "us_medicare",
        r"[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]"
        r"[AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2}",
    ),
    _identity(
        "uk_nino", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z][ -]?(?:\d{2}[ -]?){3}[A-D]", _uk_nino
    ),
    _identity("uk_nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", _uk_nhs, r"\bnhs\b"),
    _identity(
        "uk_driving",
        r"[A-Z]{2,5}9{0,3}\d[0156]\d(?:0[1-9]|[12]\d|3[01])\d[A-Z9]{2}"
        r"[A-Z0-9][A-Z]{2}(?:\d{2})?",
    ),
    _identity("cn_resident", r"[1-9]\d{5}(?:19|20)\d{9}[\dX]", _cn_resident),
    _identity("hk_id", r"[A-Z]{1,2}\d{6} ?\([0-9A]\)", _hk_id),
    _identity("tw_id", r"[A-Z][1289]\d{8}", _tw_id),
    _identity("sg_nric", r"[STFG]\d{7}[A-Z]", _sg_nric),
    _identity("kr_rrn", r"\d{6}-[1-8]\d{6}", lambda text: _short_day(text[:6])),
    _identity(
        "jp_my_number",
        r"\d{4}[ -]?\d{4}[ -]?\d{4}",
        _jp_my_number,
        r"マイナンバー|個人番号|my number",
    ),
    _identity("in_aadhaar", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", _verhoeff),
    _identity("in_aadhaar", r"[2-9]\d{11}", _verhoeff, r"aa?dh?aa?r|uidai"),
    _identity("in_pan", r"(?-i:[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z])"),
    _identity("de_tax", r"[1-9]\d ?\d{3} ?\d{3} ?\d{3}", _de_tax),
    _identity("es_dni", r"\d{8}[ -]?[A-HJ-NP-TV-Z]", _es_dni),
    _identity("es_nie", r"[XYZ][ -]?\d{7}[ -]?[A-HJ-NP-TV-Z]", _es_dni),
    _identity("it_fiscal", r"[A-Z]{6}\d{2}[ABCDEHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", _it_fiscal),
    _identity(
        "fr_insee",
        r"[1278] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?"
        r"\d{3} ?\d{2}",
        _fr_insee,
    ),
    _identity("pl_pesel", r"\d{11}", _pl_pesel),
    _identity("nl_bsn", r"\d{9}", _nl_bsn, r"\bbsn\b|burgerservice|sofi"),
    _identity("be_national", r"\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}", _be_national),
    _identity("se_personal", r"(?:19|20)?\d{6}[-+]\d{4}", _se_personal),
    _identity("fi_hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", _fi_hetu),
    _identity("dk_cpr", r"\d{6}-\d{4}", _dk_cpr),
    _identity("no_birth", r"\d{6} ?\d{5}", _no_birth),
    _identity("pt_nif", r"\d{9}", _pt_nif, r"\bnif\b|contribuinte"),
    _identity("br_cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}|\d{11}", _br_cpf),
    _identity("mx_curp", r"[A-Z][AEIOUX][A-Z]{2}\d{6}[HMX][A-Z]{5}[A-Z0-9]\d"),
    _identity("za_id", r"\d{6} ?\d{4} ?[01]\d\d", _za_id),
    _identity("tr_id", r"[1-9]\d{10}", _tr_id),
    _identity("ch_ahv", r"756\.?\d{4}\.?\d{4}\.?\d{2}", _ch_ahv),
    _identity("cz_birth", r"\d{6}/\d{4}", _cz_birth),
    _identity("ie_pps", r"\d{7}[A-W][A-IW]?", _ie_pps),
    _identity("au_tfn", r"\d{3} ?\d{3} ?\d{3}", _au_tfn, r"\btfn\b|tax file"),
    _identity("au_medicare", r"[2-6]\d{3} ?\d{5} ?\d(?: ?\d)?", _au_medicare, r"medicare"),
    _identity("ca_sin", r"\d{3}[ -]?\d{3}[ -]?\d{3}", luhn, r"\bsin\b|social insurance"),
    _identity("papers", _TOKEN, _always, _PAPERS),
    _identity("bank_account", r"\d{2}-\d{2}-\d{2}", _always, r"sort code"),
    _identity(
        "bank_account",
        r"\d[\d -]{4,15}\d",
        _always,
        r"(?:bank account|routing|account number|银行卡号|银行账号)"
        r"(?:\W{0,3}(?:numbers?|no|nr|is|was|是|为))*\W{0,3}$",
    ),
)


def identities(text: str) -> Iterator[tuple[str, int, int]]:
    """Kind, start and end of every identity number; the first kind that holds comes first."""
    for known in _IDENTITIES:
        for match in known.pattern.finditer(text):
            before = text[max(0, match.start() - _NEAR) : match.start()]
            if known.named is not None and not known.named.search(before):
                continue
            if known.named is None and match.group().isdigit() and is_reference(before):
                continue
            if known.valid(re.sub(r"[^0-9A-Z]", "", match.group().upper())):
                yield known.kind, match.start(), match.end()
