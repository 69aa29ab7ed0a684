"""Opens the parts of a bot folder, all at once: most of that is done outside of Python.

Knows nothing of what is asked of them.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .artifacts import Manifest
from .calibration import Calibration
from .classifier import TextClassifier
from .cores import one_blas_thread
from .encoder import Remembering, open_encoder
from .guards import Guard, load_guards
from .index import Index
from .prefill import open_store
from .prompt import MAX_ENTRIES, MOST_APART
from .reranker import CrossEncoder
from .resources import mapped_apart
from .router import Router
from .runtime import Generator, OnnxGenerator
from .stages import BotConfig

__all__ = ["Parts", "open_parts"]

_SMALL = 1
"""Threads that read a question: two take longer for so few tokens (1.7 ms and 2.0; with two
entries 5.0 and 5.4), and other customers need the core."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a bot answers with."""

    router: Router
    generator: Generator | None
    guards: tuple[Guard, ...]


def open_parts(
    folder: Path,
    manifest: Manifest,
    config: BotConfig,
    threads: int,
    device: str = "cpu",
    *,
    generate: bool = True,
) -> Parts:
    """Open everything in a bot folder; without `generate` its generator stays closed.

    Raises:
        ArtifactError: a part is missing or damaged.
        PluginError: a guard does not load.
    """

    def index() -> Index:
        encoder = Remembering(open_encoder(manifest.encoder, folder / "encoder", _SMALL, blas=1))
        opened = Index.load(folder / "knowledge", encoder)
        if (folder / "classifier").is_dir():
            opened.classifier = TextClassifier(folder / "classifier", _SMALL)
        return opened

    def reranker() -> CrossEncoder | None:
        if not manifest.reranker:
            return None
        return CrossEncoder(folder / "reranker", _SMALL, manifest.reranker)

    def generator() -> Generator | None:
        if not (generate and manifest.writes):
            return None
        told = config.generation
        store = open_store(folder, told.stored_mb) if manifest.blocks else None
        return OnnxGenerator(
            folder / "generator",
            threads,
            device,
            store,
            seats=told.batch,
            bound=told.queue,
            graphs=told.cuda_graph,
            shared=told.share_passes,
        )

    one_blas_thread()
    with mapped_apart(), ThreadPoolExecutor(3, "opening") as pool:
        written, found, read = pool.submit(generator), pool.submit(index), pool.submit(reranker)
        guards = load_guards(config)
        calibration = Calibration.load(folder / "knowledge" / "calibration.json")
        languages = frozenset(manifest.writes)
        shown = MOST_APART if manifest.blocks else MAX_ENTRIES
        router = Router(found.result(), calibration, languages, read.result(), shown)
        return Parts(router, written.result(), guards)
