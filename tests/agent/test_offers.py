"""A person is offered once, the second failure is told apart, and nothing is said twice in a row."""

import itertools
from dataclasses import dataclass, field

import pytest
from featherdesk.agent.offers import Past, answer_to_offer, offered, past_of
from featherdesk.agent.texts import say, spoken
from featherdesk.agent.types import (
    Author,
    Handoff,
    HandoffReason,
    Match,
    Reply,
    Route,
    RouteKind,
    Turn,
)

Reason = HandoffReason


def _reply(kind: RouteKind, reason: Reason | None = None, text: str = "") -> Reply:
    default = {RouteKind.CLARIFY: "clarify", RouteKind.HANDOFF: "no_answer"}.get(kind, "")
    route = Route(kind, 0.1, 0.5, (Match("a", 0.1),), reason=reason)
    handoff = None if reason is None else Handoff(reason)
    return Reply(
        text or (say(default, "en") if default else "3 days"),
        route,
        Author.CURATED,
        handoff=handoff,
    )


@dataclass
class Talk:
    """A conversation that grows as a client's would."""

    language: str = "en"
    turns: list[Turn] = field(default_factory=list)

    def ask(self, reply: Reply) -> Reply:
        told = offered(reply, self.turns, self.language)
        self.turns += [Turn("user", "?"), Turn("assistant", told.text)]
        return told

    def say(self, name: str) -> None:
        self.turns.append(Turn("assistant", say(name, self.language, "H-00012")))


def _lost() -> Reply:
    return _reply(RouteKind.HANDOFF, Reason.OUT_OF_SCOPE)


def _unclear() -> Reply:
    return _reply(RouteKind.CLARIFY)


def _answered() -> Reply:
    return _reply(RouteKind.ANSWER)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_offer_is_made_once_and_nothing_is_said_twice_in_a_row(language: str) -> None:
    talk = Talk(language)
    told = [talk.ask(_lost()).text for _ in range(6)]
    assert told[0] == say("no_answer", language)
    assert told.count(told[0]) == 1
    assert all(first != second for first, second in itertools.pairwise(told))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_any_mix_of_failures_offers_once(language: str) -> None:
    for first in (_lost, _unclear):
        for second in (_lost, _unclear):
            talk = Talk(language)
            told = [talk.ask(make()).text for make in (first, second, first, second, second)]
            names = [known.name for text in told if (known := spoken(text))]
            offers = [n for n in names if n in {"no_answer", "unsure", "failed_twice", "closest"}]
            assert len(offers) == 1
            assert all(a != b for a, b in itertools.pairwise(told))


def test_two_turns_in_a_row_without_an_answer_are_failed_twice() -> None:
    talk = Talk()
    first, second = talk.ask(_lost()), talk.ask(_lost())
    assert first.handoff == Handoff(Reason.OUT_OF_SCOPE)
    assert second.handoff == Handoff(Reason.FAILED_TWICE)
    assert second.route.reason is Reason.OUT_OF_SCOPE


def test_a_second_question_back_offers_a_person() -> None:
    talk = Talk()
    first, second = talk.ask(_unclear()), talk.ask(_unclear())
    assert first.handoff is None
    assert second.handoff == Handoff(Reason.FAILED_TWICE)
    assert second.text == say("unsure", "en")


def test_an_answer_in_between_starts_anew_but_the_offer_stays_made() -> None:
    talk = Talk()
    talk.ask(_lost())
    assert talk.ask(_answered()).text == "3 days"
    again = talk.ask(_lost())
    assert again.handoff == Handoff(Reason.OUT_OF_SCOPE)
    assert again.text == say("again", "en")


@pytest.mark.parametrize("reason", [Reason.ANGRY, Reason.POLICY, Reason.SKILL_FAILED])
def test_other_reasons_are_kept_and_have_their_own_words(reason: Reason) -> None:
    talk = Talk()
    talk.ask(_unclear())
    told = talk.ask(_reply(RouteKind.HANDOFF, reason))
    assert told.handoff == Handoff(reason)
    assert told.text == say(reason.value, "en")


def test_words_of_guards_and_skills_stay_unless_they_repeat() -> None:
    talk = Talk()
    blocked = _reply(RouteKind.HANDOFF, Reason.POLICY, "I cannot share passwords.")
    assert talk.ask(blocked).text == "I cannot share passwords."
    assert talk.ask(blocked).text == say("policy", "en")


def test_an_open_request_is_named_instead_of_an_offer() -> None:
    talk = Talk()
    talk.say("asked")
    told = [talk.ask(_lost()) for _ in range(3)]
    assert [reply.handoff.number for reply in told if reply.handoff] == ["H-00012"] * 3
    assert told[0].text == say("unanswered", "en", "H-00012")
    assert told[1].text != told[0].text
    wanted = talk.ask(_reply(RouteKind.HANDOFF, Reason.REQUESTED, say("requested", "en")))
    assert wanted.text == say("asked_before", "en", "H-00012")
    assert wanted.handoff == Handoff(Reason.REQUESTED, "H-00012")


def test_a_wish_for_a_person_is_not_a_failure() -> None:
    talk = Talk()
    wish = _reply(RouteKind.HANDOFF, Reason.REQUESTED, say("requested", "en"))
    assert talk.ask(wish).text == say("requested", "en")
    assert talk.ask(wish).text == say("requested_2", "en")
    assert talk.ask(_lost()).handoff == Handoff(Reason.OUT_OF_SCOPE)


@pytest.mark.parametrize("kind", [RouteKind.ANSWER, RouteKind.VERBATIM, RouteKind.SMALLTALK])
def test_an_answer_is_left_alone(kind: RouteKind) -> None:
    reply = _reply(kind)
    assert offered(reply, [Turn("assistant", say("no_answer", "en"))], "en") is reply


@pytest.mark.parametrize(
    ("message", "intent"),
    [
        ("yes", "accept_offer"),
        ("Yes, please!", "accept_offer"),
        ("好的", "accept_offer"),
        ("no", "decline_offer"),
        ("不用了。", "decline_offer"),
    ],
)
def test_yes_and_no_answer_the_offer(message: str, intent: str) -> None:
    history = [Turn("user", "Mars?"), Turn("assistant", say("no_answer", "en"))]
    talk = answer_to_offer(message, history)
    assert talk is not None
    assert talk.intent == intent
    assert (talk.reply is None) == (intent == "accept_offer")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("yes", "3 days"),
        ("yes", say("closest", "en")),
        ("yes", say("asked", "en", "H-00012")),
        ("yes but how long does delivery take", say("no_answer", "en")),
        ("", say("no_answer", "en")),
    ],
)
def test_other_messages_do_not_answer_an_offer(message: str, said: str) -> None:
    assert answer_to_offer(message, [Turn("user", "?"), Turn("assistant", said)]) is None
    assert answer_to_offer(message, []) is None


def test_the_past_is_read_from_the_turns_of_either_language() -> None:
    assert past_of([]) == Past()
    turns = [Turn("user", "?"), Turn("assistant", say("no_answer", "zh"))]
    assert past_of(turns) == Past("no_answer", failed=True, offered=True)
    turns.append(Turn("assistant", say("asked", "zh", "H-00042")))
    assert past_of(turns).number == "H-00042"
    turns += [Turn("user", "?"), Turn("assistant", "3 days")]
    told = past_of(turns)
    assert (told.failed, told.offered, told.number) == (False, True, "H-00042")


def test_customers_do_not_speak_for_the_bot() -> None:
    assert past_of([Turn("user", say("no_answer", "en"))]) == Past()
