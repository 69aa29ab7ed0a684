"""What the bot is compared with: whether each peer runs its model, and in which settings it is
fastest.

Knows nothing of what is served.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..agent.artifacts import Manifest
from ..agent.errors import ArtifactError, InputError
from .child import Child
from .likeness import check_answers, check_tokens, export_line
from .outcome import LLAMA
from .peers import not_native
from .prompts import Gathered, Prompt
from .race import ChildSide, Side
from .sweep import MEASURES, Setting, Swept, fastest, grid, refined, sweep
from .wanted import Wanted

__all__ = ["Opponents"]


@dataclass(slots=True)
class Opponents:
    """The peers that are wanted; `groups` names the sides of each, `swept` and `chosen` are
    llama.cpp's settings that were tried and its fastest by measure."""

    wanted: Wanted
    manifest: Manifest
    units: tuple[str, ...]
    swept: list[Swept] = field(default_factory=list)
    chosen: dict[str, str] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def check(self) -> None:
        """What can be said before anything is loaded.

        Raises:
            FeatherdeskError: a file or a folder is not there.
        """
        peer = self.wanted.peer
        if peer is not None and not peer.is_file():
            raise InputError(peer, f"no such file; make it with `{self._line('gguf')}`")
        if self.wanted.torch:
            self.torch_folder()

    def fit(self, prompts: Sequence[Prompt]) -> None:
        """Whether each peer opens and runs the bot's model.

        Raises:
            FeatherdeskError: one does not; a package is missing.
        """
        wanted = self.wanted
        if wanted.peer is not None:
            first = self._settings(Setting(threads=wanted.threads), prompts)
            with wanted.enter(LLAMA, "llama", first) as peer:
                self._llama_fits(peer, wanted.peer, prompts)
        if wanted.torch:
            folder = self.torch_folder()
            settings = wanted.folder(folder, wanted.threads)
            with wanted.enter("transformers", "torch", settings) as peer:
                advice = f"make it with `{self._line('huggingface')}`"
                check_tokens(peer, folder, prompts, advice)
                self._answers_fit(peer, folder, prompts, advice)
        if wanted.genai:
            settings = wanted.folder(wanted.generator, 0)
            with wanted.enter("onnxruntime-genai", "genai", settings):
                pass

    def sides(self, stack: ExitStack, gathered: Gathered) -> list[Side]:
        """Everyone who takes part, opened; llama.cpp in its fastest settings, one side each."""
        rows = self._llama_rows(gathered) if self.wanted.peer is not None else []
        sides: list[Side] = []
        for group, told, kind, settings in (*rows, *self._other_rows()):
            name = f"{group}, {told}"
            child = stack.enter_context(self.wanted.enter(name, kind, settings))
            sides.append(ChildSide(name, "peer", child))
            self.groups.setdefault(group, []).append(name)
        return sides

    def _line(self, form: str) -> str:
        return export_line(self.manifest, form)

    def _llama_fits(self, peer: Child, file: Path, prompts: Sequence[Prompt]) -> None:
        missing = not_native(peer.told.info, self.units)
        if missing:
            self.notes.append(
                f"llama.cpp was not built for this processor (no {', '.join(missing)}): build it "
                "with CMAKE_ARGS=-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python "
                "llama-cpp-python"
            )
        if self.wanted.other_weights:
            self.notes.append(f"{file.name} holds other weights: two models are compared")
            return
        advice = f"export the same model with `{self._line('gguf')}`, or say --other-weights"
        check_tokens(peer, file, prompts, advice)
        self._answers_fit(peer, file, prompts, advice)

    def _answers_fit(
        self, peer: Child, place: Path, prompts: Sequence[Prompt], advice: str
    ) -> None:
        plain = self.wanted.ours(store=False, lookup=False)
        with self.wanted.enter("runtime", "ours", plain) as ours:
            share = check_answers(peer, ours, place, prompts, advice)
        self.notes.append(f"{place.name}: a few answers are alike for {share:.0%} from their start")

    def _settings(self, setting: Setting, prompts: Sequence[Prompt]) -> dict[str, Any]:
        own = self.wanted.other_weights
        most = max(len(one.ids) * (2 if own else 1) + one.limit for one in prompts) + 32
        return {
            **asdict(setting),
            "model": str(self.wanted.peer),
            "device": self.wanted.device,
            "n_ctx": -(-most // 256) * 256,
            "own_ids": own,
            "ends": self.wanted.ends,
        }

    def _llama_rows(self, gathered: Gathered) -> list[tuple[str, str, str, dict[str, Any]]]:
        prompts = gathered.prompts if gathered.warm is None else (*gathered.prompts, gathered.warm)
        chosen = self._fastest(gathered, prompts)
        self.chosen = {measure: setting.name for measure, setting in chosen.items()}
        return [
            (LLAMA, setting.name, "llama", self._settings(setting, prompts))
            for setting in dict.fromkeys(chosen.values())
        ]

    def _fastest(self, gathered: Gathered, prompts: Sequence[Prompt]) -> dict[str, Setting]:
        """Its fastest settings by measure, from a part of the questions; a grid, then finer."""
        threads = self.wanted.threads
        asked = _spread_over(gathered.prompts, self.wanted.swept)
        if not asked:
            return dict.fromkeys(MEASURES, Setting(threads=threads))

        def enter(setting: Setting) -> AbstractContextManager[Child]:
            return self.wanted.enter(LLAMA, "llama", self._settings(setting, prompts))

        self.swept += sweep(grid(threads), asked, enter, warm=gathered.warm)
        finer = refined(list(fastest(self.swept).values()))
        self.swept += sweep(finer, asked, enter, warm=gathered.warm, what="finer settings")
        return fastest(self.swept)

    def _other_rows(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        """onnxruntime-genai as it comes and with threads set; transformers."""
        wanted, threads = self.wanted, f"{self.wanted.threads} threads"
        rows = []
        if wanted.genai:
            rows += [
                ("onnxruntime-genai", told, "genai", wanted.folder(wanted.generator, count))
                for told, count in (("as it comes", 0), (threads, wanted.threads))
            ]
        if wanted.torch:
            settings = wanted.folder(self.torch_folder(), wanted.threads)
            rows.append(("transformers", threads, "torch", settings))
        return rows

    def torch_folder(self) -> Path:
        """A Hugging Face folder of the bot's model: as given, else beside the bot."""
        folder = self.wanted.torch_model or self.wanted.bot.resolve().parent / "huggingface"
        if (folder / "config.json").exists() and list(folder.glob("*.safetensors")):
            return folder
        raise ArtifactError(
            f"{folder}: no merged model for --peer-torch; make it with "
            f"`{self._line('huggingface')}` and give its folder with --torch-model"
        )


def _spread_over(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many of them, from all over."""
    count = min(count, len(prompts))
    return [prompts[place * len(prompts) // count] for place in range(count)]
