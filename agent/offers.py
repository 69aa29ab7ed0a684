"""How a person is offered within a conversation: once in full, then briefly, never twice alike.

What was said before is read from the turns themselves: it holds over a restart, and for API
clients that send their own history. Knows nothing of storage or of routing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .smalltalk import SmallTalk
from .texts import Spoken, numbered, say, spoken
from .types import Handoff, HandoffReason, Reply, RouteKind, Turn

__all__ = ["OFFERED", "Past", "answer_to_offer", "offered", "past_of"]

OFFERED = 3
"""How many entries a customer may choose from."""

_OFFERS = frozenset(
    {"no_answer", "closest", "unsure", "failed_twice", "angry", "policy", "skill_failed", "calm"}
)
_GUARDS = frozenset({"calm", "still_here", "help_line"})
"""What guards say stays as it is: a help line is given as often as it is needed."""

_CHOICES = frozenset({"clarify", "closest", "unsure", "choice", "choice_2"})
_UNANSWERED = _CHOICES | frozenset(
    {"no_answer", "failed_twice", "again", "again_2", "unanswered", "unanswered_2"}
)
_FAILURES = frozenset(
    {HandoffReason.OUT_OF_SCOPE, HandoffReason.LOW_CONFIDENCE, HandoffReason.NOT_IN_ENTRIES}
)
_YES = re.compile(
    r"yes|yes please|yes i would|yes i do|yeah|yep|sure|ok|okay|please|please do|go ahead"
    r"|好|好的|好啊|是|是的|想|要|要的|需要|可以|行|嗯|嗯嗯|麻烦了"
)
_NO = re.compile(r"no|nope|no thanks|no thank you|not now|不|不用|不用了|不要|不需要|不必")


@dataclass(frozen=True, slots=True)
class Past:
    """What the bot said before in a conversation.

    `last` names its last sentence of those in `texts`, `failed` tells that the last question went
    without an answer, `offered` that a person was offered at any time, `number` is the open
    request's.
    """

    last: str = ""
    failed: bool = False
    offered: bool = False
    number: str = ""

    @property
    def open(self) -> bool:
        """Whether the last thing said was the offer of a person, which a yes or no answers."""
        return self.last in _OFFERS - _CHOICES


def past_of(history: Sequence[Turn]) -> Past:
    """What the turns of a conversation tell."""
    told = [spoken(turn.content) for turn in history if turn.role == "assistant"]
    known = [sentence for sentence in told if sentence is not None]
    return Past(
        last=told[-1].name if told and told[-1] is not None else "",
        failed=any(sentence.name in _UNANSWERED for sentence in _since_asked(history)),
        offered=any(sentence.name in _OFFERS for sentence in known),
        number=next((s.number for s in reversed(known) if s.number), ""),
    )


def _since_asked(history: Sequence[Turn]) -> list[Spoken]:
    """What was said since the customer's last turn."""
    found: list[Spoken] = []
    for turn in reversed(history):
        if turn.role == "user":
            break
        sentence = spoken(turn.content)
        if sentence is not None:
            found.append(sentence)
    return found


def answer_to_offer(message: str, history: Sequence[Turn]) -> SmallTalk | None:
    """A yes or no to the offer of a person; None where none was made or the answer is another."""
    bare = re.sub(r"[^\w\s]", "", message.lower()).strip()
    accepted = _YES.fullmatch(bare) is not None
    if not (accepted or _NO.fullmatch(bare)) or not past_of(history).open:
        return None
    language = "en" if bare.isascii() else "zh"
    if accepted:
        return SmallTalk("accept_offer", language, None)
    return SmallTalk("decline_offer", language, say("declined", language))


def offered(reply: Reply, history: Sequence[Turn], language: str) -> Reply:
    """The reply as it fits its conversation: a person is offered in full at most once.

    The second turn in a row without an answer is `FAILED_TWICE`; after the offer, and while a
    request is open, a short sentence takes its place, another one than the last. The words of
    guards and skills are left as they are, unless they were the last said too.
    """
    asked_for = reply.handoff.reason if reply.handoff else None
    if asked_for is None and reply.route.kind is not RouteKind.CLARIFY:
        return reply
    past = past_of(history)
    reason = _reason(reply, past)
    handoff = None if reason is None else Handoff(reason, past.number or None)
    said = spoken(reply.text)
    if said is not None and said.name in _GUARDS:
        return reply
    if said is None and not _repeats(reply.text, history):
        return replace(reply, handoff=handoff)
    names = _wordings(reply.route.kind, reason, past)
    name = next((name for name in names if name != past.last), names[-1])
    text = say(name, language, past.number)
    if reply.route.kind is RouteKind.CLARIFY:
        text = numbered(text, [cited.question for cited in reply.citations])
    return replace(reply, text=text, handoff=handoff)


def _reason(reply: Reply, past: Past) -> HandoffReason | None:
    own = reply.handoff.reason if reply.handoff else None
    unanswered = own is None or own in _FAILURES
    return HandoffReason.FAILED_TWICE if unanswered and past.failed else own


def _wordings(kind: RouteKind, reason: HandoffReason | None, past: Past) -> tuple[str, ...]:
    """The sentences that fit, best first."""
    if reason is HandoffReason.REQUESTED:
        known = ("asked_before", "asked_before_2")
        return known if past.number else ("requested", "requested_2")
    if kind is RouteKind.CLARIFY:
        if past.offered or past.number:
            return ("choice", "choice_2")
        if reason is None:
            return ("clarify", "choice_2")
        return ("closest" if reason is HandoffReason.NOT_IN_ENTRIES else "unsure",)
    if past.number:
        return ("unanswered", "unanswered_2")
    if past.offered:
        return ("again", "again_2")
    own = "" if reason is None else reason.value
    return (own if own in _OFFERS else "no_answer",)


def _repeats(text: str, history: Sequence[Turn]) -> bool:
    last = next((turn.content for turn in reversed(history) if turn.role == "assistant"), "")
    return text.strip() == last.strip()
