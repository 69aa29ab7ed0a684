"""The skills of a bot: found by entry point, opened with their settings, made searchable.

Knows nothing of how they are called or of conversations.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .encoder import is_latin
from .errors import ArtifactError, ConfigError, FeatherdeskError, PluginError
from .plugins import load
from .runner import Runner
from .skills import Risk
from .stages import Skills as Settings
from .types import SKILL_ID, Entry

__all__ = ["GROUP", "agreeing", "open_skills", "permissions", "skill_entries"]

GROUP = "featherdesk.skills"


def open_skills(settings: Settings, folder: Path) -> dict[str, Runner]:
    """The skills a bot uses, by name; `folder` is what relative paths in settings start from.

    Raises:
        PluginError: a skill is unknown, does not load, or declares what cannot be used.
        ConfigError: its settings are wrong.
    """
    return {name: _opened(name, settings.settings.get(name, {}), folder) for name in settings.use}


def _opened(name: str, told: Mapping[str, Any], folder: Path) -> Runner:
    factory: Any = load(GROUP, name)
    own = {key: value for key, value in told.items() if key != "examples"}
    try:
        skill = factory({**own, "folder": folder})
        runner = Runner.of(skill, told.get("examples", ()))
        if runner.name != name or runner.risk != factory.risk:
            raise ValueError("its name and risk must be those its entry point declares")
    except ConfigError as error:
        raise ConfigError(f"[skills.{name}]: {error}") from None
    except FeatherdeskError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code runs here
        told_by = str(error) or type(error).__name__
        raise PluginError(f"skill {name!r} cannot be used: {told_by}") from error
    return runner


def agreeing(runners: Mapping[str, Runner], entries: Sequence[Entry]) -> Mapping[str, Runner]:
    """The skills, if they are those that a bot's index was built with.

    Raises:
        ArtifactError: they are not.
    """
    known = {entry.skill for entry in entries if entry.skill}
    if known != set(runners):
        raise ArtifactError(
            f"the bot was built with the skills {sorted(known)}, skills.use names "
            f"{sorted(runners)}; run featherdesk build --from index"
        )
    return runners


def permissions(name: str) -> str:
    """What a skill may do, as its entry point declares it; `broken: ...` where it cannot be used.

    Needs no settings and opens nothing.
    """
    try:
        declared: Any = load(GROUP, name)
        risk, confirm = Risk(declared.risk), bool(declared.confirm)
        timeout = float(declared.timeout)
    except PluginError as error:
        return f"broken: {' '.join(str(error).split())}"
    except (AttributeError, TypeError, ValueError) as error:
        return f"broken: it must declare risk, confirm and timeout ({error})"
    asks = confirm or risk is not Risk.READ
    return f"{risk.value}, {'confirms' if asks else 'no confirmation'}, {timeout:g} s"


def skill_entries(runners: Mapping[str, Runner], entries: Sequence[Entry]) -> list[Entry]:
    """An entry for each skill, so that its examples are searched and calibrated like any wording.

    Only examples in a script that the FAQ is written in are taken, and the entry has the
    commonest language of that script: a skill adds no language to a bot.

    Raises:
        PluginError: none is, or an entry of the FAQ has an id that is kept for skills.
    """
    taken = [entry for entry in entries if entry.skill]
    if taken:
        raise PluginError(
            f"{taken[0].source}: ids that start with {SKILL_ID!r} are kept for skills; rename it"
        )
    languages = {
        latin: Counter(e.language for e in entries if is_latin(e.question) is latin)
        for latin in (True, False)
    }
    return [_entry(name, runner, languages) for name, runner in runners.items()]


def _entry(name: str, runner: Runner, languages: Mapping[bool, Counter[str]]) -> Entry:
    asked = [text for text in runner.examples if languages[is_latin(text)]]
    if not asked:
        raise PluginError(
            f"skill {name!r} has no example in the script of this FAQ; "
            f"write some as `examples` of [skills.{name}]"
        )
    return Entry(
        f"{SKILL_ID}{name}",
        asked[0],
        runner.description,
        tuple(asked[1:]),
        language=languages[is_latin(asked[0])].most_common(1)[0][0],
        verbatim=True,
        source=f"skill {name}",
    )
