"""Opening hours, with a clock that stands where a test sets it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from featherdesk.agent.artifacts import Manifest
from featherdesk.agent.calibration import calibrate
from featherdesk.agent.dialogue import Dialogue
from featherdesk.agent.encoder import MultilingualUse
from featherdesk.agent.engine import Agent
from featherdesk.agent.errors import ConfigError
from featherdesk.agent.index import Index
from featherdesk.agent.opening_hours import OpeningHours
from featherdesk.agent.router import Router
from featherdesk.agent.runner import Runner
from featherdesk.agent.skillset import skill_entries
from featherdesk.agent.stages import BotConfig
from featherdesk.agent.types import Entry

SHOP: dict[str, Any] = {
    "timezone": "Europe/London",
    "days": {"mon-fri": "9:00-17:30", "sat": ["10:00-13:00", "14:00-16:00"]},
    "holidays": {"2025-12-24": "9:00-12:00", "12-25": "closed", "2025-12-28": "11:00-15:00"},
}


def _at(moment: str, settings: dict[str, Any] | None = None) -> OpeningHours:
    """The skill at a moment of UTC."""
    now = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return OpeningHours(settings or SHOP, lambda: now)


@pytest.mark.parametrize(
    ("moment", "said", "chinese"),
    [
        ("2025-11-24T12:00", "Yes, we are open now, until 17:30.", "我们现在营业，营业到17:30。"),
        ("2025-11-24T08:59", "We open again today at 9:00.", "今天9:00开门"),
        ("2025-11-24T09:00", "Yes, we are open now", "我们现在营业"),
        ("2025-11-24T17:30", "We open again on Tuesday, 25 November 2025 at 9:00.", "周二"),
        ("2025-11-29T13:30", "We open again today at 14:00.", "今天14:00开门"),
        (
            "2025-11-29T18:00",
            "on Monday, 1 December 2025 at 9:00.",
            "2025年12月1日（周一）9:00开门",
        ),
        ("2025-12-24T11:00", "until 12:00.", "营业到12:00"),
        ("2025-12-24T13:00", "on Friday, 26 December 2025 at 9:00.", "周五"),
    ],
)
def test_open_now_or_when_again(moment: str, said: str, chinese: str) -> None:
    result = _at(moment).run({})
    assert said in result.text
    assert chinese in result.texts["zh"]


def test_the_week_is_told_and_the_exceptions_of_the_coming_weeks() -> None:
    text = _at("2025-12-10T12:00").run({}).text
    assert (
        "Monday to Friday 9:00–17:30; Saturday 10:00–13:00 and 14:00–16:00; Sunday closed" in text
    )
    assert "Wednesday, 24 December 2025 9:00–12:00; Thursday, 25 December 2025 closed" in text
    assert "Other hours" not in _at("2025-10-01T12:00").run({}).text
    assert "周一至周五 9:00–17:30" in _at("2025-12-10T12:00").run({}).texts["zh"]


@pytest.mark.parametrize(
    ("day", "said", "chinese"),
    [
        ("2025-11-30", "On Sunday, 30 November 2025 we are closed.", "休息，不营业"),
        ("2025-11-29", "open 10:00–13:00 and 14:00–16:00.", "10:00–13:00、14:00–16:00"),
        ("2025-12-24", "On Wednesday, 24 December 2025 we are open 9:00–12:00.", "2025年12月24日"),
        ("2026-12-25", "On Friday, 25 December 2026 we are closed.", "2026年12月25日（周五）"),
        ("2025-12-28", "On Sunday, 28 December 2025 we are open 11:00–15:00.", "11:00–15:00"),
    ],
)
def test_a_day_is_told_with_its_holidays(day: str, said: str, chinese: str) -> None:
    result = _at("2025-11-24T12:00").run({"day": day})
    assert said in result.text
    assert chinese in result.texts["zh"]


def test_today_is_told_as_now() -> None:
    skill = _at("2025-11-24T12:00")
    assert skill.run({"day": "2025-11-24"}).text == skill.run({}).text


def test_the_shops_zone_counts_not_the_servers() -> None:
    tokyo = {**SHOP, "timezone": "Asia/Tokyo"}
    assert _at("2025-11-24T01:00", tokyo).run({}).data["open"] is True
    assert _at("2025-11-24T12:00", tokyo).run({}).data["open"] is False


def test_summer_time_moves_the_hours() -> None:
    assert _at("2025-07-07T08:15").run({}).data["open"] is True
    assert _at("2025-12-08T08:15").run({}).data["open"] is False


def test_a_bar_closes_after_midnight() -> None:
    bar = {"timezone": "UTC", "days": {"fri": "18:00-02:00", "sat": "18:00-24:00"}}
    assert "until 2:00" in _at("2025-11-29T01:30", bar).run({}).text
    assert _at("2025-11-29T02:00", bar).run({}).data["open"] is False
    assert "18:00–24:00" in _at("2025-11-24T12:00", bar).run({"day": "2025-11-29"}).text


def test_a_week_may_wrap_and_hours_may_lack_minutes() -> None:
    wrap = {"timezone": "UTC", "days": {"Saturday-Monday": "9-17"}}
    text = _at("2025-11-24T12:00", wrap).run({}).text
    assert "Monday 9:00–17:00; Tuesday to Friday closed; Saturday to Sunday 9:00–17:00" in text


def test_a_shop_that_never_opens_says_closed() -> None:
    never = {"timezone": "UTC", "days": {"mon": "closed"}}
    assert _at("2025-11-24T12:00", never).run({}).text.startswith("We are closed now.\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"timezone": "Mars/Olympus"}, "a name such as \"Europe/London\", not 'Mars/Olympus'"),
        ({"timezone": None}, "timezone must be a name"),
        ({"days": {}}, "days must be a table"),
        ({"days": {"someday": "9-17"}}, "days.someday names no weekday"),
        ({"days": {"mon": "nine to five"}}, 'days.mon must be "closed" or like "9:00-17:30"'),
        ({"days": {"mon": "9:00-25:00"}}, "days.mon must be"),
        ({"days": {"mon": 9}}, "days.mon must be"),
        ({"holidays": {"Christmas": "closed"}}, "holidays: 'Christmas' is no day"),
        ({"holidays": {"13-40": "closed"}}, "holidays: '13-40' is no day"),
        ({"holiday": {}}, "unknown key 'holiday'; did you mean 'holidays'"),
    ],
)
def test_a_wrong_setting_says_what_to_write(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpeningHours({**SHOP, **change, "folder": Path()})
    assert said in str(caught.value)


def test_it_can_be_used_as_a_skill() -> None:
    runner = Runner.of(_at("2025-11-24T12:00"))
    assert "closed" in runner.run({"day": "2025-11-30"}).text
    assert not runner.confirms


@pytest.fixture(scope="module")
def router() -> Router:
    """A router of a shop that answers in two languages."""
    entries = [
        Entry("delivery", "How long does delivery take?", "3 to 5 days.", ("delivery time",)),
        Entry("pay", "How can I pay?", "By card.", ("payment methods", "which cards")),
        Entry("fukuan", "怎么付款？", "可以刷卡。", ("支付方式",), language="zh"),
    ]
    runners = {"opening_hours": Runner.of(_at("2025-11-24T12:00"))}
    index = Index.build([*entries, *skill_entries(runners, entries)], MultilingualUse(2))
    return Router(index, calibrate(index))


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Are you open right now?", "Yes, we are open now, until 17:30."),
        ("are you open on sunday", "On Sunday, 30 November 2025 we are closed."),
        ("Are you open on 24 December?", "On Wednesday, 24 December 2025 we are open 9:00–12:00."),
        ("do you open tomorrow?", "On Tuesday, 25 November 2025 we are open 9:00–17:30."),
        ("What are your opening hours?", "Opening hours: Monday to Friday"),
        ("你们现在营业吗？", "我们现在营业，营业到17:30。"),
        ("周日开门吗", "2025年11月30日（周日）休息，不营业。"),
        ("12月24日营业吗？", "2025年12月24日（周三）营业时间：9:00–12:00。"),
    ],
)
def test_a_question_is_answered_in_its_language(
    router: Router, tmp_path: Path, question: str, said: str
) -> None:
    now = datetime(2025, 11, 24, 12, tzinfo=UTC)
    manifest = Manifest("b", "b", "h", "none", "p", ("en",), "e", 3, ("en", "zh"))
    runners = {"opening_hours": Runner.of(OpeningHours(SHOP, lambda: now))}
    agent = Agent(
        router, None, BotConfig(), manifest, tmp_path, dialogue=Dialogue(runners, now=lambda: now)
    )
    assert said in agent.reply(question).text
