"""Opens the graphs of a generator folder.

Knows nothing of keys and values, nor of what is asked of a graph.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .encoder import onnxruntime_or_error
from .errors import ArtifactError, DeviceError
from .resources import give_memory_back, out_of_memory
from .wide import DATA, RAGGED, SLOTS, TABLE, WIDE, sums_bytes, widened

__all__ = ["Opener"]


@dataclass(slots=True)
class Opener:
    """A generator folder, and how its graphs are opened; with `captured` a GPU captures passes as
    CUDA graphs."""

    folder: Path
    threads: int = 0
    device: str = "cpu"
    captured: bool = False
    _files: list[tuple[int, ...]] = field(default_factory=list)

    def open(self) -> Any:
        """The session that one customer is served by: of `wide.onnx`, where it pays.

        Raises:
            ArtifactError: the folder has no graph, or a damaged one.
            DeviceError: the device is not there.
            MemoryError: it does not fit.
        """
        providers = self._providers()
        path = self.folder / "model.onnx"
        if not path.exists():
            raise ArtifactError(f"{path} is missing")
        self._files = self._seen()
        if self._pays(WIDE):
            return self._opened(self.folder / WIDE, self._weights(), providers)
        return self._opened(path, {}, providers)

    def open_ragged(self) -> Any:
        """The session that several customers are served by in one pass; None where there is none.

        Raises:
            ArtifactError: the graph is damaged, or the folder holds another model since `open`.
            MemoryError: it does not fit.
        """
        if not self._pays(RAGGED):
            return None
        session = self._opened(self.folder / RAGGED, self._weights(), self._providers())
        if self._seen() != self._files:
            raise ArtifactError(f"{self.folder} holds another model by now")
        if sum(item.name.startswith("places.") for item in session.get_inputs()) != SLOTS:
            raise ArtifactError(f"{self.folder / RAGGED} is not for {SLOTS}; export it anew")
        return session

    def _seen(self) -> list[tuple[int, ...]]:
        """Which files the weights are made of: a bot may be replaced while it serves."""
        paths = [self.folder / name for name in (DATA, TABLE)]
        told = [path.stat() for path in paths if path.exists()]
        return [(one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) for one in told]

    def _pays(self, name: str) -> bool:
        return self.device == "cpu" and (self.folder / name).exists() and sums_bytes()

    def _weights(self) -> dict[str, Any]:
        """What graphs with products of bytes are handed."""
        make = onnxruntime_or_error().OrtValue.ortvalue_from_numpy
        return {name: make(value) for name, value in widened(self.folder)}

    def _opened(self, path: Path, given: dict[str, Any], providers: list[Any]) -> Any:
        ort = onnxruntime_or_error()
        options = self._settings()
        options.add_external_initializers(list(given), list(given.values()))
        try:
            session = ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # noqa: BLE001 onnxruntime's have no base of their own
            said = str(error).partition("\n")[0]
            if isinstance(error, MemoryError) or out_of_memory(RuntimeError(said)):
                raise MemoryError(said) from None  # which tells nothing of the file
            raise ArtifactError(f"{path} cannot be opened ({said}); make it anew") from None
        if given:
            del options  # it holds what was given too
            given.clear()
            give_memory_back()
        if self.device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise DeviceError(  # onnxruntime says nothing and takes the CPU
                "onnxruntime could not open the GPU: see that `nvidia-smi` lists one, and that its "
                "driver takes the CUDA that featherdesk[gpu] brings; or leave --device at cpu"
            )
        return session

    def _settings(self) -> Any:
        options = onnxruntime_or_error().SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        # its threads wait busily within a pass, and not behind it: others need the cores then
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def _providers(self) -> list[Any]:
        if self.device != "cuda":
            return ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" not in onnxruntime_or_error().get_available_providers():
            raise DeviceError(
                "no CUDA here: install featherdesk[gpu] in place of featherdesk[cpu] on a "
                "machine with an NVIDIA GPU, or leave --device at cpu"
            )
        told = {"enable_cuda_graph": "1"} if self.captured else {}
        return [("CUDAExecutionProvider", told), "CPUExecutionProvider"]
