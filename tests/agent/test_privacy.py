"""Personal data is found by pattern, with checksums where there are any; order numbers stay."""

import sys
from pathlib import Path

import pytest
from featherdesk.agent.privacy import Span, found, masked

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure_guards

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


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
        ("邮箱jo@a.example，谢谢", "邮箱[e-mail]，谢谢"),
        ("write to jo at mail dot example dot com", "write to [e-mail]"),
        ("from 203.0.113.7 or 2001:db8::8a2e:370:7334", "from [ip address] or [ip address]"),
        ("I was born on 3 May 1985", "I was born on [date of birth]"),
        ("date of birth: 03/05/1985", "date of birth: [date of birth]"),
        ("出生日期1985年3月5日", "出生日期[date of birth]"),
        ("电话是010-88369280、010-88369210", "电话是[phone]、[phone]"),
        ("my card number is 1234 5678 9012 3456", "my card number is [card]"),
        ("card ４１１１１１１１１１１１１１１１", "card [card]"),
        ("ship to 12 Main Street, Leeds LS1 4AB", "ship to [address]"),
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
        "order number 450 0840",
        "订单号 202405128888 到哪了",
        "open 0900-1700 on weekdays",
        "between 2019-2020",
        "the tracking number is 3456 7890 12",
        "sizes 38 39 40 41",
        "version 1.2.3.4 of the firmware",
        "72 128 827 € in total",
        "order 123e4567-e89b-12d3-a456-426614174000",
        "ISBN 978-3-16-148410-0",
        "invoice 85032510111",
        "2 Trail Runner 3",
        "I was on flight ab123 out of new york",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert masked(text) == text


def test_a_card_with_a_wrong_checksum_is_not_called_a_card() -> None:
    assert "[card]" not in masked("4111 1111 1111 1112")


IDENTITIES = {
    "us_ssn": "my ssn is 536-90-4399",
    "us_itin": "my number is 912-73-4567",
    "uk_nino": "NI number AB 12 34 56 C",
    "uk_nhs": "my NHS number is 943 476 5919",
    "uk_driving": "licence MORGA657054SM9IJ",
    "cn_resident": "号码是11010519491231002X",
    "hk_id": "HKID A123456(3)",
    "tw_id": "A123456789",
    "sg_nric": "S1234567D",
    "kr_rrn": "900101-1234567",
    "jp_my_number": "マイナンバー 123456789018",
    "in_aadhaar": "2345 6789 0124",
    "in_pan": "PAN ABCPK1234L",
    "de_tax": "Steuer-ID 86095742719",
    "es_dni": "DNI 12345678Z",
    "es_nie": "NIE X1234567L",
    "it_fiscal": "RSSMRA85T10A562S",
    "fr_insee": "2 55 08 14 168 025 38",
    "pl_pesel": "PESEL 44051401359",
    "nl_bsn": "BSN 111222333",
    "be_national": "85.07.30-033.28",
    "se_personal": "811218-9876",
    "fi_hetu": "131052-308T",
    "dk_cpr": "211062-5629",
    "no_birth": "15108695088",
    "pt_nif": "NIF 501964843",
    "br_cpf": "390.533.447-05",
    "mx_curp": "BOXW310820HNERXN09",
    "za_id": "7503305044089",
    "tr_id": "17291716060",
    "ch_ahv": "756.9217.0769.85",
    "cz_birth": "710319/2745",
    "ie_pps": "PPS 6433435F",
    "au_tfn": "TFN 123 456 782",
    "au_medicare": "medicare 2123456701",
    "ca_sin": "SIN 046 454 286",
    "papers": "my passport number is X1234567",
    "bank_account": "sort code 12-34-56",
}
"""One valid number a kind, from the issuers' or the encyclopedias' examples."""


@pytest.mark.parametrize(("kind", "text"), IDENTITIES.items())
def test_identity_numbers_are_recognized(kind: str, text: str) -> None:
    assert [span.kind for span in found(text)] == [kind]
    assert "[id]" in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "11010519491231002Y",
        "11010519491331002X",
        "12345678A",
        "X1234567A",
        "RSSMRA85T10A562T",
        "2 55 08 14 168 025 39",
        "44051401358",
        "390.533.447-06",
        "86095742718",
        "131052-308U",
        "S1234567E",
        "A123456788",
        "000-12-3456",
        "GB 12 34 56 C",
        "NHS 943 476 5918",
    ],
)
def test_a_wrong_check_is_no_identity(text: str) -> None:
    assert "[id]" not in masked(text)


def test_spans_say_where() -> None:
    text = "a@b.example, 4111111111111111"
    assert found(text) == [Span("e-mail", 0, 11), Span("card", 13, 29)]


def test_what_is_public_stays() -> None:
    text = "call 01904 555 010 or +44 7700 900 123"
    assert masked(text, ["Our number is 01904 555 010."]) == "call 01904 555 010 or [phone]"


def test_phones_of_all_countries_are_found_as_they_are_written() -> None:
    """Against the numbering plans in `phonenumbers`, which Presidio brings."""
    import phonenumbers as plans

    told = missed = 0
    for region in sorted(plans.SUPPORTED_REGIONS):
        for kind in (plans.PhoneNumberType.MOBILE, plans.PhoneNumberType.FIXED_LINE):
            number = plans.example_number_for_type(region, kind)
            if number is None:
                continue
            for form, text in (
                (plans.PhoneNumberFormat.INTERNATIONAL, "{}"),
                (plans.PhoneNumberFormat.E164, "I wrote {} there"),
                (plans.PhoneNumberFormat.NATIONAL, "please call me on {} tomorrow"),
            ):
                told += 1
                written = plans.format_number(number, form)
                missed += written in masked(text.format(written))
    assert told > 1000
    assert missed <= 0.05 * told


@pytest.mark.parametrize("text", ["", "\x00", "١٢٣٤", "@" * 5000, "1-" * 5000, "+" * 5000])
def test_odd_text_is_borne(text: str) -> None:
    assert isinstance(masked(text), str)


@pytest.mark.needs_shared
def test_recall_and_precision_on_the_synthetic_set() -> None:
    every = measure_guards.total(measure_guards.measure_patterns(measure_guards.sentences(DATA)))
    assert every.there > 300
    assert every.recall >= 0.95
    assert every.precision >= 0.9


@pytest.mark.needs_shared
def test_every_covered_type_is_recalled() -> None:
    counts = measure_guards.measure_patterns(measure_guards.sentences(DATA))
    for kind in measure_guards.KINDS.values():
        assert counts[kind].recall >= 0.95, kind
