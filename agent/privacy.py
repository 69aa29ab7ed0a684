"""Masks personal data by pattern before anything is stored: cards, IBANs, e-mails, phones.

Card numbers must pass the Luhn check and IBANs their mod-97 check (ISO 13616), so that order
numbers stay readable. Names and addresses are not recognized here.
"""

import re

__all__ = ["masked"]

_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?:\s?[A-Z0-9]){11,30}\b", re.IGNORECASE)
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")
_PHONE = re.compile(r"(?<![\w.,/£$€-])(?:\+|00)?\(?\d(?:[\s().-]{0,2}\d){8,14}(?!\w)")
_CN_MOBILE = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)")


def masked(text: str) -> str:
    """The text with personal data replaced by `[card]`, `[iban]`, `[e-mail]` and `[phone]`."""
    text = _EMAIL.sub("[e-mail]", text)
    text = _IBAN.sub(lambda m: _iban(m.group()), text)
    text = _CARD.sub(lambda m: "[card]" if _luhn(m.group()) else m.group(), text)
    text = _CN_MOBILE.sub("[phone]", text)
    return _PHONE.sub(lambda m: _phone(m.group()), text)


def _iban(found: str) -> str:
    """The longest prefix that passes the check is the IBAN; what follows is text again."""
    for end in range(len(found), 14, -1):
        head = found[:end]
        plain = re.sub(r"\s", "", head).upper()
        if 15 <= len(plain) <= 34 and not head[-1].isspace():
            digits = "".join(str(int(c, 36)) for c in plain[4:] + plain[:4])
            if int(digits) % 97 == 1:
                return "[iban]" + found[end:]
    return found


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()][::-1]
    doubled = sum(sum(divmod(2 * d, 10)) for d in digits[1::2])
    return (sum(digits[::2]) + doubled) % 10 == 0


def _phone(found: str) -> str:
    """Nine to fifteen digits written like a phone number: with +, a leading 0 or separators."""
    text = found.strip()
    if re.fullmatch(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}.*", text):
        return found
    looks = text.startswith(("+", "0", "(")) or len(re.findall(r"[\s().-]+", text)) >= 2
    return "[phone]" if looks else found
