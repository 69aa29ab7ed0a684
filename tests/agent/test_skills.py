"""Skills in a whole turn: asked for, confirmed, run, and harmless when they fail."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.conversations import Store
from featherdesk.agent.dialogue import Dialogue
from featherdesk.agent.encoder import MiniLM, MultilingualUse, Paired
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import ArtifactError, ConfigError, PluginError, SkillError
from featherdesk.agent.index import Index
from featherdesk.agent.prompt import contract_hash
from featherdesk.agent.router import Router
from featherdesk.agent.runner import FAILURES, PAUSE, RUNNING, Runner
from featherdesk.agent.skills import Risk, SkillResult
from featherdesk.agent.skillset import agreeing, open_skills, skill_entries
from featherdesk.agent.stages import BotConfig, Skills
from featherdesk.agent.types import (
    Author,
    Entry,
    HandoffReason,
    Reply,
    RouteKind,
    SkillState,
    Turn,
)

TABLE = {
    "type": "object",
    "properties": {
        "day": {
            "type": "string",
            "format": "date",
            "x-ask": {"en": "For which day?", "zh": "订哪一天？"},
        },
        "seats": {
            "type": "integer",
            "minimum": 1,
            "maximum": 8,
            "x-ask": {"en": "For how many people?", "zh": "几位？"},
        },
        "mail": {
            "type": "string",
            "format": "email",
            "x-ask": {"en": "What is your e-mail, e.g. jo@mail.example?", "zh": "您的邮箱是？"},
        },
    },
    "required": ["day", "seats", "mail"],
    "x-confirm": {
        "en": "Shall I book a table for {seats} on {day}?",
        "zh": "要为您预订{day}的{seats}人桌吗？",
    },
}
POINTS = {
    "type": "object",
    "properties": {
        "card": {
            "type": "string",
            "pattern": r"^K\d{4}$",
            "x-ask": {"en": "What is your card number?", "zh": "您的卡号是多少？"},
        },
        "year": {
            "type": "string",
            "pattern": r"^20\d\d$",
            "x-ask": {"en": "Which year?", "zh": "哪一年？"},
        },
    },
    "required": ["card", "year"],
}


@dataclass
class Fake:
    """A skill whose `run` is written beforehand; it remembers what it was called with."""

    name: str = "points"
    parameters: Mapping[str, Any] = field(default_factory=lambda: POINTS)
    risk: Risk = Risk.READ
    confirm: bool = False
    timeout: float = 5.0
    description: str = "Tells how many points are on a card."
    examples: tuple[str, ...] = (
        "How many points do I have?",
        "check the points on my card",
        "points balance",
        "我有多少积分？",
    )
    result: Callable[[Mapping[str, Any]], Any] = lambda arguments: SkillResult(
        "You have 70 points.", {"points": 70}, {"zh": "您有70积分。"}
    )
    seen: list[dict[str, Any]] = field(default_factory=list)

    def run(self, arguments: Mapping[str, Any]) -> SkillResult:
        self.seen.append(dict(arguments))
        return self.result(arguments)  # type: ignore[no-any-return]


def booking() -> Fake:
    """A skill that changes something."""
    return Fake(
        "booking",
        TABLE,
        Risk.WRITE,
        description="Books a table in the café.",
        examples=(
            "Can I book a table?",
            "reserve a table in the café",
            "table booking",
            "我要订位",
        ),
        result=lambda arguments: SkillResult("Booked."),
    )


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> Paired:
    return Paired(MiniLM(encoder_folder, 2), MultilingualUse(2))


@pytest.fixture(scope="module")
def base(encoder: Paired) -> Router:
    """A router over a few entries and both skills' examples."""
    entries = [
        Entry(
            "delivery",
            "How long does delivery take?",
            "It takes 3 to 5 days.",
            ("when will my parcel arrive", "delivery time"),
        ),
        Entry("pay", "How can I pay?", "By card or PayPal.", ("payment methods",)),
        Entry("zh", "怎么付款？", "可以刷卡。", ("支付方式",), language="zh"),
    ]
    fakes = {fake.name: Runner.of(fake) for fake in (Fake(), booking())}
    index = Index.build([*entries, *skill_entries(fakes, entries)], encoder)
    return Router(index, calibrate(index))


@dataclass
class Talk:
    """A conversation with a bot, kept as the client keeps it or masked, as the store does."""

    agent: Agent
    store: Store | None = None
    history: list[Turn] = field(default_factory=list)

    def __call__(self, said: str) -> Reply:
        told = self.store.turns("k") if self.store else self.history
        reply = self.agent.reply(said, told)
        if self.store:
            self.store.add("k", said, reply)
        self.history += [Turn("user", said), Turn("assistant", reply.text)]
        return reply


@pytest.fixture
def talk_to(base: Router, tmp_path: Path) -> Callable[..., Talk]:
    def make(*fakes: Fake, clock: Clock | None = None) -> Talk:
        told = {f.name: f for f in (Fake(), booking())} | {f.name: f for f in fakes}
        runners = {n: Runner.of(f, clock=clock or Clock()) for n, f in told.items()}
        manifest = Manifest("b", "b", "h", "none", contract_hash(), ("en",), "e", 3, ("en",))
        return Talk(Agent(base, None, BotConfig(), manifest, tmp_path, dialogue=Dialogue(runners)))

    return make


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'c.db'}")
    yield made
    made.close()


def test_a_missing_slot_is_asked_for_and_then_the_skill_answers(
    talk_to: Callable[..., Talk],
) -> None:
    fake = Fake()
    talk = talk_to(fake)
    first = talk("how many points do I have?")
    assert (first.text, first.route.kind) == ("What is your card number?", RouteKind.SKILL)
    assert first.skill is not None
    assert (first.skill.name, first.skill.state) == ("points", SkillState.ASKED)
    assert talk("K1234").text == "Which year?"
    last = talk("2024")
    assert (last.text, last.author, last.tokens) == ("You have 70 points.", Author.SKILL, 0)
    assert last.skill is not None
    assert (last.skill.state, last.skill.data) == (SkillState.RAN, {"points": 70})
    assert set(last.skill.arguments) == {"card", "year"}
    assert last.citations == ()
    assert fake.seen == [{"card": "K1234", "year": "2024"}]


def test_two_slots_in_one_message_are_both_taken(talk_to: Callable[..., Talk]) -> None:
    fake = Fake()
    talk_to(fake)("How many points do I have on card k1234 for 2023?")
    assert fake.seen == [{"card": "K1234", "year": "2023"}]


def test_a_wrong_value_is_asked_for_again_and_the_second_time_a_person_is_offered(
    talk_to: Callable[..., Talk],
) -> None:
    talk = talk_to()
    talk("points balance")
    again = talk("hm, the blue one")
    assert again.text == "Sorry, I could not read that. What is your card number?"
    last = talk("no idea really")
    assert last.route.kind is RouteKind.HANDOFF
    assert last.handoff is not None
    assert last.handoff.reason is HandoffReason.SKILL_FAILED
    assert "person" in last.text


def test_a_right_value_after_a_wrong_one_goes_on(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    talk("points balance")
    talk("the blue one")
    assert talk("K1234").text == "Which year?"


def test_a_value_can_be_corrected_while_another_is_asked_for(talk_to: Callable[..., Talk]) -> None:
    fake = Fake()
    talk = talk_to(fake)
    talk("points balance")
    talk("K1234")
    assert talk("sorry, it is K9999").text == "Which year?"
    talk("2024")
    assert fake.seen == [{"card": "K9999", "year": "2024"}]


@pytest.mark.parametrize("said", ["never mind", "cancel", "算了"])
def test_cancel_leaves_the_skill(talk_to: Callable[..., Talk], said: str) -> None:
    talk = talk_to()
    talk("points balance")
    stopped = talk(said)
    assert stopped.skill is not None
    assert stopped.skill.state is SkillState.STOPPED
    assert talk("K1234").skill is None


def test_a_change_of_subject_leaves_the_skill(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    talk("points balance")
    other = talk("how long does delivery take?")
    assert (other.skill, other.entry_id) == (None, "delivery")
    assert talk("K1234").skill is None


def test_a_message_to_a_waiting_skill_leans_on_nothing(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    talk("how long does delivery take?")
    assert talk.agent.dialogue.before(talk.history) == talk.history
    talk("points balance")
    assert talk.agent.dialogue.before(talk.history) == ()
    talk("never mind")
    assert talk.agent.dialogue.before(talk.history) == talk.history


def test_another_skill_or_a_person_can_be_asked_for_meanwhile(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    talk("points balance")
    other = talk("can I book a table?")
    assert other.skill is not None
    assert (other.skill.name, other.text) == ("booking", "For which day?")
    person = talk("I want to talk to a human")
    assert (person.skill, person.route.reason) == (None, HandoffReason.REQUESTED)


def test_a_question_that_holds_a_value_is_still_an_answer(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    talk("points balance")
    assert talk("is it K1234 that you mean?").text == "Which year?"


def test_writing_is_confirmed_first_and_runs_only_on_a_clear_yes(
    talk_to: Callable[..., Talk],
) -> None:
    fake = booking()
    talk = talk_to(fake)
    assert talk("can I book a table for 2026-05-03?").text == "For how many people?"
    asked = talk("four")
    wanted = "Shall I book a table for 4 on 2026-05-03? Please answer yes or no."
    assert asked.text == wanted
    assert asked.skill is not None
    assert asked.skill.state is SkillState.CONFIRMING
    assert talk("hm, maybe").text == f"Sorry, I could not read that. {wanted}"
    assert talk("yes").text == "What is your e-mail, e.g. jo@mail.example?"
    assert fake.seen == []
    assert talk("jo@b.example").text == "Booked."
    assert fake.seen == [{"day": "2026-05-03", "seats": 4, "mail": "jo@b.example"}]


def test_no_at_the_confirmation_stops_it(talk_to: Callable[..., Talk]) -> None:
    fake = booking()
    talk = talk_to(fake)
    talk("book a table for 3 people on 2026-05-03")
    stopped = talk("no")
    assert stopped.skill is not None
    assert stopped.skill.state is SkillState.STOPPED
    talk("yes")
    assert fake.seen == []


def test_a_correction_at_the_confirmation_is_confirmed_anew(talk_to: Callable[..., Talk]) -> None:
    fake = booking()
    talk = talk_to(fake)
    talk("book a table for 3 people on 2026-05-03")
    changed = talk("no, on 2026-05-04")
    assert "on 2026-05-04" in changed.text
    talk("yes")
    talk("jo@b.example")
    assert [seen["day"] for seen in fake.seen] == ["2026-05-04"]


def test_a_yes_to_something_else_than_what_would_run_does_not_count(
    talk_to: Callable[..., Talk],
) -> None:
    fake = booking()
    talk = talk_to(fake)
    talk("book a table for 3 people on 2026-05-03, jo@b.example")
    talk.history[-1] = Turn(
        "assistant", "Shall I book a table for 8 on 2026-05-03? Please answer yes or no."
    )
    asked = talk("yes")
    assert asked.skill is not None
    assert asked.skill.state is SkillState.CONFIRMING
    assert "for 3 on" in asked.text
    assert fake.seen == []


def test_a_second_yes_does_not_run_it_again(talk_to: Callable[..., Talk]) -> None:
    fake = booking()
    talk = talk_to(fake)
    talk("book a table for 3 people on 2026-05-03, jo@b.example")
    assert talk("yes").text == "Booked."
    assert talk("yes").skill is None
    assert len(fake.seen) == 1


def test_a_masked_value_is_asked_for_last_and_again_after_it_was_stored(
    talk_to: Callable[..., Talk], store: Store
) -> None:
    fake = booking()
    talk = talk_to(fake)
    talk.store = store
    assert "on 2026-05-03?" in talk("book a table for 3 on 2026-05-03, jo@b.example").text
    asked = talk("yes")
    assert asked.text == "What is your e-mail, e.g. jo@mail.example?"
    assert store.turns("k")[-1].content != asked.text
    assert talk("jo@b.example").text == "Booked."
    kept = json.dumps([turn.content for turn in store.turns("k")])
    assert "jo@b.example" not in kept
    assert "[e-mail]" in kept
    assert fake.seen[0]["mail"] == "jo@b.example"


def test_the_stored_receipt_names_the_arguments_and_no_value(
    talk_to: Callable[..., Talk], store: Store, tmp_path: Path
) -> None:
    talk = talk_to()
    talk.store = store
    talk("points on card K1234 in 2024, how many points do I have?")
    raw = (tmp_path / "c.db").read_bytes()
    assert b"points (ran); was told: card, year" in raw
    assert b"70}" not in raw


def test_it_goes_on_after_a_restart(talk_to: Callable[..., Talk], store: Store) -> None:
    talk = talk_to()
    talk.store = store
    talk("points balance")
    later = talk_to()
    later.store = store
    assert later("K1234").text == "Which year?"


def test_chinese_is_asked_and_answered_in_chinese(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    assert talk("我有多少积分？").text == "您的卡号是多少？"
    assert talk("不知道").text == "抱歉，我没有看明白。 您的卡号是多少？"
    assert talk("K1234").text == "哪一年？"
    assert talk("2024").text == "您有70积分。"


def test_a_result_that_found_nothing_asks_anew_and_the_second_time_offers_a_person(
    talk_to: Callable[..., Talk],
) -> None:
    fake = Fake(result=lambda arguments: SkillResult("There is no such card.", again=True))
    talk = talk_to(fake)
    first = talk("points balance of K1234 in 2024")
    assert first.text == "There is no such card.\nWhat is your card number?"
    assert talk("K4321").text == "Which year?"
    last = talk("2023")
    assert last.handoff is not None
    assert last.handoff.reason is HandoffReason.SKILL_FAILED
    assert last.text.startswith("There is no such card.")
    assert fake.seen == [{"card": "K1234", "year": "2024"}, {"card": "K4321", "year": "2023"}]


def _raises(arguments: Mapping[str, Any]) -> SkillResult:
    raise KeyError(f"secret of {arguments['card']}")


def _exits(arguments: Mapping[str, Any]) -> SkillResult:
    raise SystemExit(3)


@pytest.mark.parametrize(
    "result",
    [
        _raises,
        _exits,
        lambda arguments: None,
        lambda arguments: "You have 70 points.",
        lambda arguments: SkillResult(""),
        lambda arguments: SkillResult("x", {"points": object()}),
        lambda arguments: SkillResult("x", {"points": float("nan")}),
        lambda arguments: SkillResult("x", texts={"zh": 3}),  # type: ignore[dict-item]
        lambda arguments: SkillResult(b"x"),  # type: ignore[arg-type]
    ],
)
def test_an_exception_or_a_wrong_result_becomes_the_offer_of_a_person(
    talk_to: Callable[..., Talk],
    result: Callable[[Mapping[str, Any]], Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reply = talk_to(Fake(result=result))("points balance of K1234 in 2024")
    assert reply.route.kind is RouteKind.HANDOFF
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.SKILL_FAILED
    assert reply.skill is not None
    assert reply.skill.state is SkillState.FAILED
    assert "skill points" in caplog.text
    assert "K1234" not in caplog.text
    assert "secret" not in caplog.text


def test_a_hang_becomes_the_offer_of_a_person(talk_to: Callable[..., Talk]) -> None:
    free = threading.Event()
    fake = Fake(timeout=0.02, result=lambda arguments: free.wait(60))
    reply = talk_to(fake)("points balance of K1234 in 2024")
    free.set()
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.SKILL_FAILED


def test_a_skill_that_keeps_failing_is_paused_and_tried_again_later() -> None:
    clock, fake = Clock(), Fake(result=_raises)
    runner = Runner.of(fake, clock=clock)
    told = {"card": "K1234", "year": "2024"}
    for _ in range(FAILURES):
        with pytest.raises(SkillError, match=r"KeyError at test_skills\.py"):
            runner.run(told)
    assert runner.paused
    with pytest.raises(SkillError, match="is paused"):
        runner.run(told)
    assert len(fake.seen) == FAILURES
    clock.now = PAUSE + 1
    fake.result = lambda arguments: SkillResult("x")
    assert runner.run(told).text == "x"
    assert not runner.paused


def test_a_paused_skill_offers_a_person_without_asking_for_anything(
    talk_to: Callable[..., Talk],
) -> None:
    talk = talk_to(Fake(result=_raises))
    for _ in range(FAILURES):
        talk("points balance of K1234 in 2024")
    reply = talk("how many points do I have?")
    assert reply.handoff is not None
    assert reply.handoff.reason is HandoffReason.SKILL_FAILED
    assert "card number" not in reply.text


def test_hung_threads_are_bounded() -> None:
    clock, free = Clock(), threading.Event()
    fake = Fake(timeout=0.01, result=lambda arguments: free.wait(60))
    runner = Runner.of(fake, clock=clock)
    for _ in range(3 * RUNNING):
        clock.now += PAUSE + 1
        with pytest.raises(SkillError):
            runner.run({"card": "K1234", "year": "2024"})
    hung = [thread for thread in threading.enumerate() if thread.name == "skill-points"]
    assert len(hung) == len(fake.seen) == RUNNING
    free.set()
    for thread in hung:
        thread.join(60)
    clock.now += PAUSE + 1
    assert not runner.paused


def test_a_skill_is_never_run_with_arguments_that_do_not_fit() -> None:
    fake = Fake()
    with pytest.raises(SkillError, match="year is missing"):
        Runner.of(fake).run({"card": "K1234"})
    assert fake.seen == []


def test_routing_only_runs_no_skill(talk_to: Callable[..., Talk]) -> None:
    fake = Fake()
    reply = talk_to(fake).agent.route("points balance of K1234 in 2024")
    assert reply.skill is not None
    assert (reply.route.kind, reply.skill.state) == (RouteKind.SKILL, SkillState.READY)
    assert fake.seen == []


def test_a_skill_is_no_source_and_is_never_shown_to_the_model(
    talk_to: Callable[..., Talk],
) -> None:
    router = talk_to().agent.router
    low = replace(router.calibration.latin, answer=0.0, clarify=0.0, accompany=0.0)
    eager = replace(router, calibration=replace(router.calibration, latin=low))
    route = eager.route("How long does delivery take?")
    assert route.kind is RouteKind.ANSWER
    assert any(match.skill for match in route.matches)
    assert not any(name.startswith("skill:") for name in route.passed)
    assert not any(match.skill for match in eager.nearest("points balance"))


def test_a_doubtful_skill_is_offered_as_a_choice_that_calls_it(
    talk_to: Callable[..., Talk],
) -> None:
    talk = talk_to()
    calibration = talk.agent.router.calibration
    shy = replace(calibration.latin, offer=1.1)
    sure = talk.agent.router
    talk.agent.router = replace(sure, calibration=replace(calibration, latin=shy))
    reply = talk("points balance")
    assert reply.route.kind is RouteKind.CLARIFY
    offered = next(c for c in reply.citations if c.entry_id == "skill:points")
    assert offered.quote == ""
    talk.agent.router = sure
    assert talk(offered.question).text == "What is your card number?"


def test_two_skills_that_ask_in_the_same_words_are_told_apart(
    talk_to: Callable[..., Talk],
) -> None:
    twin = booking()
    twin.parameters = POINTS
    points = Fake()
    for opening, called in (("can I book a table?", twin), ("points balance", points)):
        talk = talk_to(points, twin)
        talk(opening)
        talk("K1234")
        talk("2024")
        talk("yes")
        assert called.seen == [{"card": "K1234", "year": "2024"}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timeout": 0}, "timeout must be over 0"),
        ({"timeout": 3600}, "at most 60 s"),
        ({"risk": "harmless"}, "harmless"),
        ({"examples": ()}, "examples must be questions"),
        ({"examples": "one text"}, "examples must be a list"),
        ({"description": " "}, "description must say"),
        ({"confirm": None}, "confirm must be"),
        ({"parameters": {"type": "array"}}, "parameters must be"),
    ],
)
def test_a_declaration_that_cannot_be_used_says_why(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Runner.of(replace(Fake(), **change))


def test_money_and_writing_are_confirmed_whatever_the_skill_says() -> None:
    assert Runner.of(Fake(risk=Risk.MONEY)).confirms
    assert Runner.of(Fake(risk=Risk.WRITE)).confirms
    assert not Runner.of(Fake()).confirms
    assert Runner.of(Fake(confirm=True)).confirms


def test_only_examples_in_a_script_of_the_faq_are_searched() -> None:
    runners = {"points": Runner.of(Fake())}
    english = skill_entries(runners, [Entry("a", "How long?", "3 days.")])[0]
    assert "我有多少积分？" not in english.questions
    german = skill_entries(runners, [Entry("a", "Wie lange?", "3 Tage.", language="de")])[0]
    assert german.language == "de"
    chinese = skill_entries(runners, [Entry("a", "多久？", "三天。", language="zh")])[0]
    assert chinese.questions == ("我有多少积分？",)
    with pytest.raises(PluginError, match="no example in the script of this FAQ"):
        skill_entries(runners, [Entry("a", "Как долго?", "3 дня.", language="ru")][:0])


def test_an_id_kept_for_skills_is_refused_in_a_faq() -> None:
    with pytest.raises(PluginError, match=r"f\.csv:2: ids that start with 'skill:'"):
        skill_entries({}, [Entry("skill:x", "q", "a", source="f.csv:2")])


def test_a_bot_built_with_other_skills_says_so() -> None:
    with pytest.raises(ArtifactError, match=r"skills \[\], skills.use names \['points'\]"):
        agreeing({"points": Runner.of(Fake())}, [Entry("a", "q", "a")])


def test_opening_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="no plugin 'nothing'"):
        open_skills(Skills(("nothing",)), tmp_path)
    wrong = {"opening_hours": {"timezon": "UTC"}}
    with pytest.raises(ConfigError, match=r"\[skills.opening_hours\].*did you mean 'timezone'"):
        open_skills(Skills(("opening_hours",), wrong), tmp_path)


def test_a_bot_may_add_examples_of_its_own(tmp_path: Path) -> None:
    told = {"timezone": "UTC", "days": {"mon": "9-17"}, "examples": ["Habt ihr offen?"]}
    runner = open_skills(Skills(("opening_hours",), {"opening_hours": told}), tmp_path)
    assert "Habt ihr offen?" in runner["opening_hours"].examples


@pytest.mark.parametrize(
    "said", ["'; DELETE FROM x; --", "{card.__class__}", "?\x00\ud800", "9" * 5000, "（" * 3000]
)
def test_hostile_answers_are_asked_again(talk_to: Callable[..., Talk], said: str) -> None:
    talk = talk_to()
    talk("points balance")
    assert "What is your card number?" in talk(said).text


def test_a_made_up_history_is_survived(talk_to: Callable[..., Talk]) -> None:
    talk = talk_to()
    talk.history = [Turn("assistant", "What is your card number?")] * 100 + [
        Turn("assistant", "x" * 100_000),
        Turn("assistant", "What is your card number?"),
    ]
    assert talk("K1234").text == "Which year?"
