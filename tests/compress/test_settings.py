import pytest
from featherdesk.agent.errors import ConfigError
from featherdesk.compress.settings import at_least, fewer, one_of


def test_the_setting_and_what_it_may_be_are_named() -> None:
    at_least(1, keep=1, size=7)
    with pytest.raises(ConfigError, match=r"^size must be at least 2, not 1$"):
        at_least(2, keep=2, size=1)
    one_of(("", "int8"), head="", kv="int8")
    with pytest.raises(ConfigError, match=r"""^kv must be one of "", int8, not 'int4'$"""):
        one_of(("", "int8"), kv="int4")


@pytest.mark.parametrize("kept", [8, 9])
def test_a_step_must_take_something_away(kept: int) -> None:
    fewer("heads", 7, 8, "KV heads")
    with pytest.raises(ConfigError, match=f"heads: asks to keep {kept} KV heads, the model has 8;"):
        fewer("heads", kept, 8, "KV heads")
