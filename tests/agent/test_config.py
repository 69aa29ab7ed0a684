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
        ("[bot]\nfaq = 3\n", "must be a list of texts"),
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
