"""The root command: finds its commands by entry point and turns errors into exit codes."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from .errors import FeatherdeskError, PluginError
from .plugins import load, plugins
from .resources import out_of_memory, out_of_space

__all__ = ["main", "run"]

_HELP = {
    "ask": "One reply.",
    "batch": "Answer a file of questions.",
    "bench": "Measure a bot: memory, first token, whole answers.",
    "benchmark": "Measure on public sets.",
    "build": "Build a bot folder.",
    "chat": "Chat in the terminal.",
    "check": "Look for mistakes in a FAQ.",
    "classify": "Train a text classifier.",
    "compress": "Prune, heal, quantize, export.",
    "demo": "Serve the sample bot.",
    "distill": "Heal a pruned model against its parent.",
    "evaluate": "Score a bot on a test file.",
    "explain": "The receipt of a reply, in words.",
    "export": "Make a folder that runs the model: here or elsewhere.",
    "finetune": "Train an adapter.",
    "gate": "Judge a compressed bot against its parent.",
    "inbox": "What needs a person.",
    "init": "Start a bot from a FAQ file.",
    "mcp": "The bot as tools for other agents.",
    "models": "The catalogue of base models.",
    "plan": "Which compression fits this machine.",
    "plugins": "What is registered, and by whom.",
    "prune": "Cut a model smaller.",
    "quantize": "Round a model's weights, with proof.",
    "serve": "The chat page and the API.",
}


class _Root(click.Group):
    """Loads a command's module only when that command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(p.name for p in plugins() if p.group == "featherdesk.commands")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = load("featherdesk.commands", cmd_name)
        if not isinstance(command, click.Command):
            raise PluginError(f"command {cmd_name!r} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, _HELP.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="featherdesk", message="%(prog)s %(version)s")
def root() -> None:
    """Give it your FAQ, get a chat page; compress, and keep the answers."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line of `featherdesk`."""
    run(root, "featherdesk", arguments)


def run(command: click.Command, name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a command line; errors a user can cause end in one line and their exit code."""
    options: dict[str, Any] = {"prog_name": name, "standalone_mode": False}
    try:
        command.main(args=list(arguments) if arguments is not None else None, **options)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        sys.exit(130)
    except FeatherdeskError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except (MemoryError, RuntimeError, OSError) as error:
        if out_of_memory(error):
            _fail(
                "out of memory; close other programs, or take smaller settings or a smaller model"
            )
        if out_of_space(error):
            _fail(f"{error}; free space and run the same command again")
        raise


def _fail(said: str, code: int = 1) -> NoReturn:
    click.echo(f"error: {said}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
