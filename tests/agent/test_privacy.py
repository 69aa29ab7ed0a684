import pytest
from featherdesk.agent.privacy import masked


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("my card is 4111 1111 1111 1111 thanks", "my card is [card] thanks"),
        ("mail me at jo.doe+x@mail.example.co.uk please", "mail me at [e-mail] please"),
        ("IBAN GB82 WEST 1234 5698 7654 32 please", "IBAN [iban] please"),
        ("DE89370400440532013000", "[iban]"),
        ("call +44 1632 960 118 now", "call [phone] now"),
        ("call (020) 7946-0018", "call [phone]"),
        ("我的手机是13812345678", "我的手机是[phone]"),
    ],
)
def test_personal_data_is_masked(text: str, wanted: str) -> None:
    assert masked(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "order 1234567890123",
        "it cost £1,299.00",
        "on 2025-05-12 at 15:00",
        "size 42, width 100-120",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert masked(text) == text


def test_a_card_with_a_wrong_checksum_is_not_called_a_card() -> None:
    assert "[card]" not in masked("4111 1111 1111 1112")
