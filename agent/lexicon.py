"""Word lists of the support trade: synonyms, opposites, words that promise, words that limit.

Short on purpose: what is not here is judged by its letters. Knows nothing of texts.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from .lexical import stem

__all__ = ["LIMITS", "PROMISES", "STOP", "VERBS", "meaning", "opposites", "rarity"]

_SYNONYMS = """
cost price charge fee rate fare
pay charged billed bill
buy purchase purchased bought order ordered
get receive obtain gain earn collect
send ship post mail dispatch deliver delivery shipping shipment dispatched
parcel package packet order box shipment delivery
shop store branch outlet
phone call telephone ring dial
return returned bring
refund reimburse money
email e-mail mail
allowed permitted welcome accepted ok fine accept take
big large larger bigger
small little smaller
reply answer respond response answered
start begin beginning starts commence
last valid good run
need require must required necessary have
keep hold kept held
show present
choose select pick
press click tap
write contact message
tell report inform notify let
item product article thing goods
customer client buyer shopper
remaining left rest
usually normally generally typically often
around about approximately roughly
broken faulty defective damaged
fault defect
guarantee warranty guaranteed covered cover
repair fix repaired mend
replace swap exchange change
wash clean
courier carrier driver
signup register sign
site website web online
abroad overseas foreign
child children kid kids
discount reduction off
deposit
take last need
immediately instantly straight
during while
worn used
free complimentary
home house
postage delivery
purchase order
expire expiry
end finish
closed shut
arrive reach come get
leave go
amount sum value balance
voucher
include contain included
proof receipt evidence
twice two
"""
_OPPOSITES = """
open closed
opens closes
open shut
included excluded
include exclude
allowed banned
accept refuse
accept reject
accepted declined
free charged
free paid
free chargeable
free fee
free cost
free pay
free charge
available unavailable
valid invalid
valid expired
required optional
before after
earlier later
more less
more fewer
minimum maximum
least most
above below
over under
inside outside
indoors outdoors
online offline
same different
start end
first last
new old
new used
cheaper dearer
cheap expensive
increase decrease
faster slower
larger smaller
large small
high low
higher lower
left right
buyer seller
senders recipients
import export
opened unopened
used unused
worn unworn
sealed unsealed
limited unlimited
necessary unnecessary
covered uncovered
refundable non-refundable
safe unsafe
legal illegal
positive negative
wet dry
hot cold
warm cold
summer winter
spring autumn
early late
arrival departure
arrives leaves
together separately
private public
public personal
lost found
add remove
buy sell
keep lose
clean dirty
full empty
full partial
temporary permanent
manual automatic
manually automatically
guest member
debit credit
domestic international
inland abroad
with without
within after
until from
up least
most least
unless if
only also
"""
PROMISES = frozenset(
    stem(word)
    for word in (
        "free guarantee guaranteed promise discount voucher refund compensation gift bonus "
        "immediately instantly today tomorrow tonight always anytime 24/7 every daily unlimited "
        "lifetime automatically all any never complimentary credit upgrade priority exclusive "
        "special offer waive cashback reward points entitled eligible personally anywhere "
        "everyone everything extra double additional full worldwide forever express"
    ).split()
)
LIMITS = frozenset(
    "only unless except if until provided excluding without once when "
    "unused unopened unworn original maximum minimum".split()
)
STOP = frozenset(
    "a an and are as at be been being but by can cannot could d did do does for from had has "
    "have he her his how i if in into is it its just ll may me might my of on or our ours s "
    "shall she so such t than that the their them then there these they this those to too us ve "
    "was we were what when where which who whom why will with would you your yours yes no not "
    "also please re m am any some each both either own very here while upon via about".split()
)
VERBS = frozenset(
    "is are was were be been am do does did has have had can cannot could may might must shall "
    "should will would won't can't don't doesn't isn't aren't didn't wasn't haven't hasn't "
    "couldn't wouldn't shouldn't needn't mustn't never not no you we they it he she i this that "
    "there take takes cost costs need needs get gets cover covers pay pays cancel cancels send "
    "sends arrive arrives keep keeps bring brings open opens close closes give gives receive "
    "receives ask asks call calls write writes choose show shows print prints press use uses "
    "return returns refund refunds charge charges deliver delivers contact tell tells start "
    "starts last lasts come comes go goes check checks enter fill wait waits leave leaves make "
    "makes carry carries include includes accept accepts apply applies remain remains offer "
    "offers hold holds let lets see want wants confirm register collect collects add adds "
    "replace repair exclude excludes allow allows require requires stay stays run runs work "
    "works provide provides sell sells buy buys ship ships reply replies answer answers".split()
)


@lru_cache(maxsize=1)
def _meanings() -> dict[str, frozenset[str]]:
    """Stem to the numbers of its synonym rows."""
    table: dict[str, set[str]] = {}
    for number, line in enumerate(_SYNONYMS.strip().splitlines()):
        for word in line.split():
            table.setdefault(stem(word), set()).add(f"={number}")
    return {word: frozenset(rows) for word, rows in table.items()}


@lru_cache(maxsize=1)
def _opposites() -> dict[str, frozenset[str]]:
    table: dict[str, set[str]] = {}
    for line in _OPPOSITES.strip().splitlines():
        one, other = (stem(word) for word in line.split())
        table.setdefault(one, set()).add(other)
        table.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in table.items()}


@lru_cache(maxsize=1)
def rarity() -> Mapping[str, float]:
    """How much the stems of our topics tell (0..1); what is not among them is rare."""
    told = json.loads((files(__package__) / "rarity.json").read_text(encoding="utf-8"))
    return {str(word): float(value) for word, value in told.items()}


def meaning(word: str) -> frozenset[str]:
    """The synonym rows a stem stands in."""
    return _meanings().get(word, frozenset())


def opposites(word: str) -> frozenset[str]:
    """The stems that say the contrary of a stem."""
    found = _opposites().get(word, frozenset())
    for prefix in ("un", "in", "im", "non", "dis"):
        if word.startswith(prefix) and len(word) - len(prefix) >= 4:
            found |= {word.removeprefix(prefix)}
    return found | {f"un{word}"} if len(word) >= 4 else found
