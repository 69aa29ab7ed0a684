import pytest
from featherdesk.agent.grounding import StreamGuard, claims, unsupported
from hypothesis import given
from hypothesis import strategies as st

SOURCES = [
    "Standard UK delivery costs £4.95 and takes 3 to 5 working days. It is free over £50.",
    "No, pets are not allowed at the property, except guide dogs.",
    "Check-in is from 3:30pm to 9:00pm. Write to help@larkfell.example or visit Mill Lane, York.",
    "请在30天内退货，运费不退。",
]


@pytest.mark.parametrize(
    "reply",
    [
        "Standard UK delivery costs £4.95 and takes 3 to 5 working days.",
        "Standard UK delivery costs £4.95 and takes 3 to 5 working days. It is free over £50.",
        "Check-in is from 3:30 pm to 9:00pm.",
        "Write to help@larkfell.example or visit Mill Lane, York.",
        "Pets are not allowed at the property, except guide dogs.",
        "请在30天内退货，运费不退。",
    ],
)
def test_a_supported_reply_passes(reply: str) -> None:
    assert unsupported(reply, SOURCES) == ()


@pytest.mark.parametrize(
    ("reply", "culprit"),
    [
        ("Standard UK delivery costs £4.90.", "£4.90"),
        ("Standard UK delivery costs £4.9.", "£4.9"),
        ("It is free over £500.", "£500"),
        ("Delivery takes three working days.", "three"),
        ("Check-in is from 3:30am to 9:00pm.", "3:30am"),
        ("Write to help@larkfell.test instead.", "help@larkfell.test"),
        ("Visit Mill Lane in York or Leeds.", "leeds"),
        ("See https://evil.example/pay for details.", "https://evil.example/pay"),
        ("Delivery on Monday is possible.", "monday"),
    ],
)
def test_an_invented_fact_is_named(reply: str, culprit: str) -> None:
    assert culprit in unsupported(reply, SOURCES)


@pytest.mark.parametrize(
    "reply",
    [
        "Pets are allowed at the property, except guide dogs.",
        "Pets are allowed at the property.",
        "Standard UK delivery costs £4.95 and does not take 3 to 5 working days.",
    ],
)
def test_a_turned_negation_is_caught(reply: str) -> None:
    assert unsupported(reply, SOURCES)


def test_claims_lists_prices_links_and_names() -> None:
    found = claims("Pay £4.95 at Mill Lane or see www.larkfell.example")
    assert {"£4.95", "mill lane", "www.larkfell.example"} <= set(found)


def _stream(reply: str, step: int = 1) -> tuple[str, StreamGuard]:
    guard = StreamGuard(SOURCES)
    out = "".join(guard.feed(reply[:end]) for end in range(step, len(reply), step))
    out += guard.feed(reply)
    return out + guard.finish(), guard


def test_a_supported_reply_streams_whole() -> None:
    told, guard = _stream(SOURCES[0])
    assert told == SOURCES[0]
    assert not guard.failed


@pytest.mark.parametrize(
    ("reply", "never"),
    [
        ("Standard UK delivery costs £4.90 only.", "4.9"),
        ("It is free over £500 now.", "500"),
        ("Write to evil@bad.example today.", "evil"),
        ("Pets are allowed at the property.", "allowed at"),
    ],
)
def test_an_ungrounded_word_is_never_released(reply: str, never: str) -> None:
    told, guard = _stream(reply)
    assert never not in told
    assert guard.failed


@given(st.text(max_size=60), st.integers(1, 7))
def test_what_is_released_is_a_prefix_of_the_reply(text: str, step: int) -> None:
    told, _ = _stream(text, step)
    assert text.startswith(told)
