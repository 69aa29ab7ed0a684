from pathlib import Path

import pytest
from featherdesk.agent.config import load_config, write_config
from featherdesk.agent.errors import ConfigError, InputError


def _write(folder: Path, text: str) -> Path:
    path = folder / "bot.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_nothing(tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, ""), environment={})
    assert config.generation.adapter == "grounded"


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    path = _write(tmp_path, "[generation]\nmax_tokens = 50\n")
    name = {"FEATHERDESK_GENERATION_MAX_TOKENS": "60"}
    assert load_config(path, environment={}).generation.max_tokens == 50
    assert load_config(path, environment=name).generation.max_tokens == 60
    flags = {"generation.max_tokens": 70}
    assert load_config(path, environment=name, flags=flags).generation.max_tokens == 70


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[generaton]\n", "did you mean 'generation'"),
        ("[generation]\nmax_token = 3\n", "did you mean 'max_tokens'"),
        ("[generation]\nmax_tokens = 'x'\n", "must be a int"),
        ("[generation]\nmax_tokens = 3\n", "8 to 1024"),
        ("[generation]\nbatch = 0\n", "batch must be 1 to 256, not 0"),
        ("[generation]\nqueue = 0\n", "queue must be 1 or more, not 0"),
        ("[bot]\nfaq = 3\n", "must be a list of texts"),
        ('[page]\nembed_origins = ["shop.example"]\n', "write it like https://shop.example"),
        ('[page]\nembed_origins = ["https://a.example/x"]\n', "without a path"),
        ('[page]\nembed_origins = ["https://a.example; script-src *"]\n', "not an origin"),
    ],
)
def test_a_wrong_setting_says_what_to_do(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        load_config(_write(tmp_path, text), environment={})


def test_broken_toml_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(_write(tmp_path, "[bot\n"), environment={})
    with pytest.raises(InputError, match="featherdesk init"):
        load_config(tmp_path / "none.toml")


def test_a_written_config_reads_back_whatever_the_name(tmp_path: Path) -> None:
    path = tmp_path / "bot.toml"
    write_config(path, 'a "b" \\c', "x/y.csv")
    config = load_config(path, environment={})
    assert config.bot.name == 'a "b" \\c'
    assert config.bot.faq == ("x/y.csv",)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('webhook = "ftp://x/y"', "handoff.webhook must be an address such as https"),
        ('webhook = "desk.example"', "handoff.webhook must be an address"),
        ('webhook = "https://a b/"', "handoff.webhook must be an address"),
        ('webhook = "https://x:99999999/"', "handoff.webhook must be an address"),
        ('webhook = "https://u:s3cret@x/"', "no user or password"),
        ('smtp_host = "h"', "neither handoff.mail_to nor email"),
        ('smtp_host = "h"\nmail_to = ["a@b", "nobody"]', "must be mail addresses, not 'nobody'"),
        ('smtp_host = "h"\nmail_to = "a@b\\nBcc: c@d"', "must be mail addresses"),
        ('smtp_host = "h"\nemail = "a@b"\nsmtp_tls = "tls"', "starttls, ssl, none, not 'tls'"),
        ('smtp_host = "h"\nemail = "a@b"\nsmtp_port = 70000', "0 to 65535, not 70000"),
        (
            'smtp_host = "h"\nemail = "a@b"\nsmtp_tls = "none"\nsmtp_user = "u"',
            "password in the clear",
        ),
    ],
)
def test_a_wrong_hand_off_is_told_without_its_secret(
    tmp_path: Path, text: str, wanted: str
) -> None:
    with pytest.raises(ConfigError, match=wanted) as told:
        load_config(_write(tmp_path, f"[handoff]\n{text}\n"), environment={})
    assert "s3cret" not in str(told.value)


def test_hand_off_settings_have_the_usual_defaults(tmp_path: Path) -> None:
    text = '[handoff]\nemail = "desk@b.example"\nsmtp_host = "mail.b.example"\n'
    handoff = load_config(_write(tmp_path, text), environment={}).handoff
    assert (handoff.port, handoff.sender) == (587, "desk@b.example")
    assert handoff.recipients == ("desk@b.example",)
    assert handoff.channels == ("email",)
    more = {"FEATHERDESK_HANDOFF_WEBHOOK": "http://10.0.0.7:8080/in?x=1"}
    assert load_config(_write(tmp_path, text), more).handoff.channels == ("webhook", "email")
    assert load_config(_write(tmp_path, ""), environment={}).handoff.channels == ()


SKILLS = """
[skills]
use = ["order", "order_status"]
[skills.order_status]
url = "sqlite:///orders.db"
columns = { number = "no" }
"""


def test_a_skills_table_is_free_in_form(tmp_path: Path) -> None:
    told = load_config(_write(tmp_path, SKILLS), environment={}).skills
    assert told.use == ("order", "order_status")
    assert told.settings["order_status"]["columns"] == {"number": "no"}
    assert told.settings["order"] == {}


def test_a_skills_setting_may_come_from_the_environment(tmp_path: Path) -> None:
    environment = {
        "FEATHERDESK_SKILLS_ORDER_STATUS_URL": "postgresql://x",
        "FEATHERDESK_SKILLS_ORDER_KEY": "k",
    }
    told = load_config(_write(tmp_path, SKILLS), environment=environment).skills
    assert told.settings["order_status"]["url"] == "postgresql://x"
    assert told.settings["order"] == {"key": "k"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[skills]\nuse = ['hours']\n[skills.hour]\n", "did you mean 'hours'"),
        ("[skills.hours]\n", "not in skills.use; add it there or drop it"),
        ("[skills]\nused = ['hours']\n", "did you mean 'use'"),
        ("[skills]\nuse = 3\n", "must be a list of texts"),
    ],
)
def test_a_wrong_skills_section_says_what_to_do(tmp_path: Path, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        load_config(_write(tmp_path, text), environment={})


def test_guards_and_redaction_are_configured(tmp_path: Path) -> None:
    path = tmp_path / "bot.toml"
    path.write_text(
        '[guards]\noff = ["abuse"]\nhelp_line = "Call 000"\n[storage]\nredact_names = "off"\n'
    )
    config = load_config(path, {})
    assert config.guards.off == ("abuse",)
    assert (config.guards.help_line, config.storage.redact_names) == ("Call 000", "off")
    path.write_text('[storage]\nredact_names = "maybe"\n')
    with pytest.raises(ConfigError, match="auto, on or off"):
        load_config(path, {})
