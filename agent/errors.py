"""The exception tree: everything a user can cause, each with what to do about it.

FeatherdeskError            exit code 1
├── InputError              a file of the user's: path, line, what, what to do
├── ConfigError             bot.toml, an environment variable or a flag
├── CatalogError            a base model or encoder that is unknown, unreachable or another
├── ArtifactError           a bot folder that is missing, changed or made for another version
├── MissingExtraError       a package that an extra would have installed
├── PluginError             two plugins with one name, or one that does not load
├── SkillError              a skill raised, hung, or gave back what is no result
├── GenerationError         the generator failed or ran out of time
│   └── DeviceError         exit code 2: the device that was asked for is not there
├── BusyError               too many questions are waiting already
└── GateError               exit code 3: refused or undecided
"""

from pathlib import Path

__all__ = [
    "ArtifactError",
    "BusyError",
    "CatalogError",
    "ConfigError",
    "DeviceError",
    "FeatherdeskError",
    "GateError",
    "GenerationError",
    "InputError",
    "MissingExtraError",
    "PluginError",
    "SkillError",
]


class FeatherdeskError(Exception):
    """Base of every error a user can cause; the command line prints it and exits with its code."""

    exit_code = 1


class InputError(FeatherdeskError):
    """A file given by the user is wrong: `faq.csv:17: the answer is empty; fill it in`."""

    def __init__(self, path: Path | str, what: str, line: int | None = None) -> None:
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {what}")
        self.path = Path(path)
        self.line = line


class ConfigError(FeatherdeskError):
    """bot.toml, an environment variable or a flag holds something that cannot be used."""


class CatalogError(FeatherdeskError):
    """A model is unknown, cannot be fetched, or is not the one that its hash names."""


class ArtifactError(FeatherdeskError):
    """A bot folder is missing, changed, or made for another version."""


class MissingExtraError(FeatherdeskError):
    """A package is not installed; the message names the extra that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; install it with: pip install 'featherdesk[{extra}]'"
        )


class PluginError(FeatherdeskError):
    """Two plugins claim one name, or a plugin does not load."""


class SkillError(FeatherdeskError):
    """A skill raised, hung, gave back what is no result, or is paused because it did so before."""


class GenerationError(FeatherdeskError):
    """The generator failed or ran out of time."""


class DeviceError(GenerationError):
    """The device that was asked for is not there, or a library was built without it."""

    exit_code = 2


class BusyError(FeatherdeskError):
    """Too many questions are waiting; `retry_after` is when to ask again, in seconds."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} questions are waiting already; ask again in {retry_after} s")
        self.retry_after = retry_after


class GateError(FeatherdeskError):
    """A compressed artefact was refused, or there was too little to decide on."""

    exit_code = 3
