"""Makes questions look typed by customers: typos, dropped words, politeness, a name, small
rewordings.

Everything is drawn from a given random source, so that a seed gives the same text again.
"""

import random
import re

__all__ = ["dropped_words", "introduced", "noisy", "polite", "reworded", "typos"]

_NEIGHBOURS = {
    "a": "qsz",
    "b": "vgn",
    "c": "xdv",
    "d": "sfe",
    "e": "wrd",
    "f": "dgr",
    "g": "fht",
    "h": "gjy",
    "i": "uok",
    "j": "hku",
    "k": "jli",
    "l": "kop",
    "m": "nj",
    "n": "bmh",
    "o": "ipl",
    "p": "ol",
    "q": "wa",
    "r": "etf",
    "s": "adw",
    "t": "ryg",
    "u": "yij",
    "v": "cbf",
    "w": "qes",
    "x": "zcs",
    "y": "tuh",
    "z": "xas",
}
_BEFORE = (
    "hi, ",
    "hello, ",
    "hey ",
    "good morning, ",
    "quick question: ",
    "excuse me, ",
    "sorry to bother you but ",
    "just wondering, ",
    "hi there! ",
    "one thing: ",
)
_AFTER = (" thanks", " thank you", " please", " cheers", " thx", " pls", ", many thanks")
_NAMES = tuple(
    "Abena Ahmed Aiko Akua Amara Ananya Andrzej Anh Ayodele Bao Björn Carlos Catherine Chidi "
    "Daniela Darnell Deepak Elif Eszter Farid Fernanda Gareth Giulia Hana Hiroshi Huda Ingrid "
    "Ivan Javier Kahurangi Kofi Latoya Leila Luca Mahmoud Marek Minh Miriam Nadia Nkechi Noah "
    "Olga Pavel  Pooja Quan Rachel Rashida Rohan Ruth Sanna Siobhan Sofia Svetlana Tariq "
    "Tevita Uma Viktor Wanjiru  Xavier Yan Yosef Zanele Zeynep".split()
)
_INTRODUCED = (
    "{name} here. {text}",
    "it's {name}, {low}",
    "I'm {name} and have a question: {low}",
    "{low} - {name}",
    "{text} Best wishes, {name}",
    "{name} again. {text}",
)
"""Other names and words than those of the gate's pairs (`fairness`), which must not be learned."""
_SYNONYMS = {
    "can i": ("could i", "am i able to", "is it possible to", "may i"),
    "do you": ("does your place", "do you guys", "do u"),
    "how much": ("what price", "how expensive", "what amount"),
    "is there": ("do you have", "have you got", "would there be"),
    "are there": ("do you have", "have you got"),
    "what time": ("when", "at what hour", "from what time"),
    "how long": ("how much time", "how many days"),
    "where can i": ("where do i", "in which place can i"),
    "i want to": ("i'd like to", "i need to", "i'm trying to"),
    "available": ("offered", "on offer", "there"),
    "allowed": ("ok", "permitted", "welcome"),
    "cost": ("price", "charge"),
    "free": ("complimentary", "without charge"),
    "buy": ("purchase", "get"),
    "children": ("kids", "little ones"),
    "pet": ("animal", "dog"),
    "reservation": ("booking",),
    "reserve": ("book",),
}
_FILLER = {
    "the",
    "a",
    "an",
    "please",
    "is",
    "are",
    "do",
    "does",
    "at",
    "this",
    "any",
    "your",
    "you",
    "there",
    "have",
    "for",
    "of",
    "to",
    "it",
    "in",
    "on",
    "be",
    "i",
}


def typos(text: str, rng: random.Random, rate: float = 0.04) -> str:
    """Swap, drop, double or mistype letters; digits are left alone."""
    out: list[str] = []
    for character in text:
        low = character.lower()
        if low in _NEIGHBOURS and rng.random() < rate:
            kind = rng.randrange(4)
            if kind == 0:
                continue
            if kind == 1:
                out.append(character * 2)
                continue
            if kind == 2:
                out.append(rng.choice(_NEIGHBOURS[low]))
                continue
            if out:
                out.insert(len(out) - 1, character)
                continue
        out.append(character)
    return "".join(out)


def dropped_words(text: str, rng: random.Random, share: float = 0.6) -> str:
    """Terse: leave out filler words, as in a search box."""
    words = re.sub(r"[?!.]+$", "", text).split()
    kept = [w for w in words if w.lower().strip(",") not in _FILLER or rng.random() > share]
    return " ".join(kept) if len(kept) >= 2 else text


def polite(text: str, rng: random.Random) -> str:
    """With a greeting before it or thanks behind it."""
    if rng.random() < 0.6:
        first = text[:1].lower() if text[1:2].islower() else text[:1]
        return rng.choice(_BEFORE) + first + text[1:]
    return text + rng.choice(_AFTER)


def introduced(text: str, rng: random.Random) -> str:
    """With a name, which changes nothing of what is asked."""
    low = text[:1].lower() + text[1:] if text[1:2].islower() else text
    return rng.choice(_INTRODUCED).format(name=rng.choice(_NAMES), text=text, low=low)


def reworded(text: str, rng: random.Random) -> str:
    """With common phrases replaced by others that mean the same."""
    for phrase, others in _SYNONYMS.items():
        found = re.search(rf"\b{phrase}\b", text, re.IGNORECASE)
        if found and rng.random() < 0.7:
            text = text[: found.start()] + rng.choice(others) + text[found.end() :]
    return text


def noisy(text: str, rng: random.Random) -> str:
    """One draw of how a customer would type it; often unchanged but for its case."""
    if rng.random() < 0.3:
        text = reworded(text, rng)
    if rng.random() < 0.15:
        text = dropped_words(text, rng)
    if rng.random() < 0.12:
        text = polite(text, rng)
    if rng.random() < 0.1:
        text = introduced(text, rng)
    if rng.random() < 0.2:
        text = typos(text, rng)
    if rng.random() < 0.25:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip("?.! ")
    return text
