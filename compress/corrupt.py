"""Makes right answers wrong in one stated way: what a grounding check must catch.

Everything is drawn from a given random source. Knows nothing of the check itself.
"""

import random
import re
from collections.abc import Callable, Sequence
from enum import StrEnum

from ..agent.claims import Claim, Kind, find_claims, plain
from ..agent.clauses import sentences
from ..agent.quantities import number_of

__all__ = ["INVENTED", "Corruption", "corrupted"]


class Corruption(StrEnum):
    """In which way an answer is made wrong."""

    NUMBER = "number changed"
    UNIT = "unit changed"
    PRICE = "price changed"
    DATE = "date or weekday changed"
    NAME = "name changed"
    LINK = "link or address changed"
    NEGATION = "negation added or removed"
    CONDITION = "condition dropped or turned"
    SPLICE = "sentence of another entry"
    EXCHANGE = "two facts exchanged"
    PROMISE = "invented promise"


INVENTED = (
    "You also get a free gift with it.",
    "We will pay the difference if you are not happy.",
    "Delivery is free as well.",
    "You can change your mind at any time at no cost.",
    "We guarantee that this never fails.",
    "A refund is paid out immediately.",
    "Members get twice as much.",
    "We answer around the clock, every day of the year.",
    "You will receive a voucher by e-mail tomorrow.",
    "There is also a lifetime guarantee on it.",
    "This applies to all products without exception.",
    "Our staff will come to your home and help you.",
    "We also cover all costs you had.",
    "Children under 12 pay nothing.",
    "Students get a discount on this.",
    "You do not need a receipt for it.",
    "You may use it as often as you like.",
    "It can be extended for another year free of charge.",
    "We keep your place for as long as you need.",
    "An upgrade is included.",
    "Your money is back in your account the same day.",
    "Breakfast is included in the price.",
    "You can also do that by text message.",
    "We will call you back within the hour.",
)
_UNITS = (
    ("working days", "weeks"),
    ("working day", "week"),
    ("days", "weeks"),
    ("day", "week"),
    ("hours", "days"),
    ("hour", "day"),
    ("minutes", "hours"),
    ("minute", "hour"),
    ("weeks", "months"),
    ("week", "month"),
    ("months", "weeks"),
    ("month", "week"),
    ("years", "months"),
    ("year", "month"),
    ("nights", "weeks"),
    ("kg", "g"),
    ("km", "m"),
    ("cm", "mm"),
    ("mm", "cm"),
    ("litres", "gallons"),
    ("miles", "km"),
    ("metres", "miles"),
    ("°C", "°F"),
    ("percent", "euros"),
    ("%", " euros"),
    ("lumens", "watts"),
    ("points", "pounds"),
)
_PRICES = (("£", "€"), ("€", "$"), ("$", "£"), ("euros", "pounds"), ("dollars", "euros"))
_PLACES = (
    *("Dunford", "Helmsley", "Brighton", "Portugal", "Norway", "Ashcombe", "Kendal", "Sweden"),
    *("Tilbury Street", "Hermes", "Meridian", "Castleton", "Oakfield Road", "Visa", "Canada"),
    *("Evri", "Klarna", "Denmark", "Skye", "Gold Plus", "Wales", "Parcelforce", "Windermere"),
)
_MONTHS = ("January", "March", "April", "June", "July", "October", "November", "December")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TURNED = (
    (r"\bat least\b", "at most"),
    (r"\bat most\b", "at least"),
    (r"\bup to\b", "at least"),
    (r"\bwithin\b", "after"),
    (r"\bbefore\b", "after"),
    (r"\bafter\b", "before"),
    (r"\bunder\b(?= [\d£€$])", "over"),
    (r"\bover\b(?= [\d£€$])", "under"),
    (r"\babove\b", "below"),
    (r"\bbelow\b", "above"),
    (r"\bor more\b", "or less"),
    (r"\bmore than\b", "less than"),
    (r"\bless than\b", "more than"),
    (r"\bno later than\b", "no earlier than"),
    (r"\buntil\b", "from"),
    (r"\bunless\b", "if"),
    (r"\bonly\b", "also"),
)
_DROPPED = (
    r",? (?:but )?only(?= )",
    r",? unless [^.,;]+",
    r",? except [^.,;]+",
    r"(?<=\w),? (?:only )?if [^.,;]+",
    r"\bIf [^.,;]+, (?=\w)",
    r",? provided [^.,;]+",
    r",? as long as [^.,;]+",
    r",? until [^.,;]+",
    r"\bat least ",
    r"\b(?:un(?:used|opened|worn)) (?!and|or)(?=\w)",
)
_FLIPPED = (
    (r"\bcannot\b", "can"),
    (r"\bcan't\b", "can"),
    (r"\bcan\b(?!'t| not| only)", "cannot"),
    (r"\b(do|does|did) not (\w+)", r"\2"),
    (r"\b(?:do|does)n't (\w+)", r"\1"),
    (r"\b(is|are|was|were|will|must|may|has|have) not\b", r"\1"),
    (r"\b(is|are|was|were)n't\b", r"\1"),
    (r"\bnever\b", "always"),
    (r"\balways\b", "never"),
    (r"\bwithout\b", "with"),
    (r"\bThere is no\b", "There is a"),
    (r"\bno (?=\w{4,})", ""),
    (r"\bnothing\b", "something"),
    (r"\b(is|are|will|must|may)\b(?! not| no\b)", r"\1 not"),
    (r"\b(take|cost|need|cover|accept|include|last)s\b", r"does not \1"),
    (r"\b(?<=s )(take|cost|need|cover|accept|include|last)\b", r"do not \1"),
    (r"\bfree\b(?! from| of PFAS|-)", "charged"),
    (r"\bincluded\b", "excluded"),
    (r"\bopen\b", "closed"),
    (r"\bclosed\b", "open"),
    (
        r"\b(We|You|They) (?=(?:get|send|ship|take|accept|refund|need|pay|have|offer)\b)",
        r"\1 do not ",
    ),
)


def corrupted(
    kind: Corruption,
    answer: str,
    others: Sequence[str],
    rng: random.Random,
    invented: Sequence[str] = INVENTED,
) -> str | None:
    """The answer made wrong in one way, or None where it offers nothing to change.

    `others` are answers of other entries, for what is taken from elsewhere.
    """
    answer = plain(answer)
    made = _MAKERS[kind](answer, others, rng) if kind in _MAKERS else _grown(answer, invented, rng)
    return made if made is not None and made != answer else None


def _replaced(text: str, claim: Claim, said: str) -> str:
    return text[: claim.start] + said + text[claim.end :]


def _claims(text: str, *kinds: Kind, money: bool | None = None) -> list[Claim]:
    found = [c for c in find_claims(text) if c.kind in kinds and not c.implied]
    if money is None:
        return found
    return [c for c in found if _is_money(c) == money]


def _is_money(claim: Claim) -> bool:
    unit = min(claim.keys).partition(":")[0]
    return unit in {"GBP", "EUR", "USD", "CHF"}


def _other_number(text: str, rng: random.Random) -> str | None:
    """Another number written in the same way."""
    match = re.search(r"\d+(?:[.,]\d+)*", text)
    if match is None:
        words = ("two", "three", "four", "five", "six", "eight", "ten", "twelve")
        word = next((w for w in words if re.search(rf"\b{w}\b", text.lower())), None)
        if word is None:
            return None
        chosen = rng.choice([w for w in words if w != word])
        return re.sub(rf"\b{word}\b", chosen, text, count=1, flags=re.IGNORECASE)
    value = number_of(match.group()) or 0.0
    other = rng.choice(
        [value * 2, value + 1, value + 5, value * 3, abs(value - 1) or 4, value + 10]
    )
    if "." in match.group():
        said = f"{rng.choice([other, value + 0.5, value + 0.05]):.2f}"
    else:
        said = f"{round(other):,}" if "," in match.group() else str(round(other))
    return text[: match.start()] + said + text[match.end() :] if said != match.group() else None


def _number(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    return _numbered(text, rng, money=False)


def _price(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    return _numbered(text, rng, money=True)


def _numbered(text: str, rng: random.Random, *, money: bool) -> str | None:
    found = _claims(text, Kind.QUANTITY, Kind.COUNT, money=money)
    if not found:
        return None
    claim = rng.choice(found)
    said = _other_number(text[claim.start : claim.end], rng)
    return None if said is None else _replaced(text, claim, said)


def _unit(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    found = _claims(text, Kind.QUANTITY)
    rng.shuffle(found)
    for claim in found:
        said = text[claim.start : claim.end]
        for unit, other in (*_UNITS, *_PRICES):
            start = "" if unit[0] in "£€$%°" else r"(?<![a-z])"
            end = "" if unit[0] in "£€$" else r"(?![a-z])"
            made = re.sub(start + re.escape(unit) + end, other, said, count=1)
            if made != said:
                return _replaced(text, claim, made)
    return None


def _date(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    found = _claims(text, Kind.DATE, Kind.WEEKDAY, Kind.TIME)
    if not found:
        return None
    claim = rng.choice(found)
    said = text[claim.start : claim.end]
    if claim.kind is Kind.TIME:
        made = re.sub(r"\d+", lambda m: _hour(m.group(), rng), said, count=1)
    elif claim.kind is Kind.WEEKDAY:
        made = rng.choice([d for d in _DAYS if d.lower() not in text.lower()] or ["Sunday"])
        made += "s" if said.endswith("s") else ""
    elif re.search(r"\d", said) and rng.random() < 0.5:
        made = re.sub(r"\d+", lambda m: str(int(m.group()) % 28 + rng.choice((1, 2, 3))), said)
    else:
        made = re.sub(r"[A-Za-z]{3,}", lambda _: _month(text, rng), said, count=1)
    return _replaced(text, claim, made)


def _hour(said: str, rng: random.Random) -> str:
    hour = (int(said) + rng.choice((1, 2, 3, 4))) % 24
    return f"{hour:02d}" if len(said) == 2 else str(max(1, hour % 12))


def _month(text: str, rng: random.Random) -> str:
    return rng.choice([month for month in _MONTHS if month not in text])


def _name(text: str, others: Sequence[str], rng: random.Random) -> str | None:
    found = _claims(text, Kind.NAME)
    found = [c for c in found if len(c.text) > 2 and c.text not in {"pdf", "vat", "my orders"}]
    if not found:
        return None
    claim = rng.choice(found)
    pool = {
        other.text
        for answer in others
        for other in find_claims(plain(answer))
        if other.kind is Kind.NAME
    }
    said = [name.title() for name in pool if len(name) > 3] if rng.random() < 0.5 else []
    said = [n for n in (said or list(_PLACES)) if n.lower() not in text.lower()]
    return _replaced(text, claim, rng.choice(sorted(said))) if said else None


def _link(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    found = _claims(text, Kind.LINK, Kind.PHONE)
    streets = list(re.finditer(r"\b\d+ [A-Z]\w+ (?:Road|Street|Lane|Square|Avenue)", text))
    if not found:
        if not streets:
            return None
        street = rng.choice(streets)
        made = re.sub(
            r"\d+", lambda m: str(int(m.group()) + rng.choice((2, 10, 31))), street.group()
        )
        return text[: street.start()] + made + text[street.end() :]
    claim = rng.choice(found)
    said = text[claim.start : claim.end]
    if claim.kind is Kind.PHONE:
        return _replaced(text, claim, said[:-1] + str((int(said[-1]) + rng.randint(1, 9)) % 10))
    return _replaced(text, claim, _other_link(said, rng))


def _other_link(said: str, rng: random.Random) -> str:
    if "@" in said:
        user, _, domain = said.partition("@")
        other = rng.choice([u for u in ("info", "service", "sales", "team") if u != user])
        return rng.choice((f"{other}@{domain}", f"{user}@{domain.rsplit('.', 1)[0]}.test"))
    if "/" in said.removeprefix("https://"):
        head, _, _ = said.rpartition("/")
        return f"{head}/{rng.choice(('start', 'contact', 'support', 'home', 'form'))}"
    return said.rsplit(".", 1)[0] + ".test"


def _negation(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    return _rewritten(text, _FLIPPED, rng)


def _condition(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    if rng.random() < 0.5:
        made = _rewritten(text, [(pattern, "") for pattern in _DROPPED], rng)
        return made or _rewritten(text, _TURNED, rng)
    return _rewritten(text, _TURNED, rng)


def _rewritten(text: str, changes: Sequence[tuple[str, str]], rng: random.Random) -> str | None:
    """One of the changes that apply, at one of the places where it does."""
    order = list(changes)
    rng.shuffle(order)
    for pattern, other in order:
        found = list(re.finditer(pattern, text, re.IGNORECASE))
        if found:
            match = rng.choice(found)
            made = text[: match.start()] + match.expand(other) + text[match.end() :]
            made = re.sub(r" {2,}", " ", made).strip()
            return re.sub(r"(?:^|(?<=[.!?] ))[a-z]", lambda m: m.group().upper(), made)
    return None


def _splice(text: str, others: Sequence[str], rng: random.Random) -> str | None:
    told = sentences(text)
    foreign = [s for s in sentences(plain(rng.choice(others))) if len(s.split()) > 3]
    if not foreign:
        return None
    place = rng.randrange(len(told) + 1)
    kept = told[place:] if len(told) < 2 or rng.random() < 0.5 else told[place + 1 :]
    return " ".join([*told[:place], rng.choice(foreign), *kept])


def _exchange(text: str, _others: Sequence[str], rng: random.Random) -> str | None:
    """Two claims of one kind in each other's place, where they do not stand in one list."""
    found = _claims(text, Kind.QUANTITY, Kind.COUNT, Kind.TIME, Kind.NAME, Kind.DATE, Kind.WEEKDAY)
    pairs = [
        (one, other)
        for place, one in enumerate(found)
        for other in found[place + 1 :]
        if one.kind is other.kind and not one.keys & other.keys and _apart(text, one, other)
    ]
    if not pairs:
        return None
    one, other = rng.choice(pairs)
    first, second = text[one.start : one.end], text[other.start : other.end]
    return text[: one.start] + second + text[one.end : other.start] + first + text[other.end :]


def _apart(text: str, one: Claim, other: Claim) -> bool:
    between = re.findall(r"[a-z]{2,}", text[one.end : other.start])
    said = [word for word in between if word not in {"and", "or", "to", "the", "from", "of"}]
    same = _is_money(one) == _is_money(other)
    return len(said) >= 2 and same


def _grown(text: str, invented: Sequence[str], rng: random.Random) -> str:
    told = sentences(text)
    told.insert(rng.randint(1, len(told)), rng.choice(invented))
    return " ".join(told)


_MAKERS: dict[Corruption, Callable[[str, Sequence[str], random.Random], str | None]] = {
    Corruption.NUMBER: _number,
    Corruption.UNIT: _unit,
    Corruption.PRICE: _price,
    Corruption.DATE: _date,
    Corruption.NAME: _name,
    Corruption.LINK: _link,
    Corruption.NEGATION: _negation,
    Corruption.CONDITION: _condition,
    Corruption.SPLICE: _splice,
    Corruption.EXCHANGE: _exchange,
}
