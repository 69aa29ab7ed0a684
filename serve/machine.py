"""What a measurement ran on: processor, cores, memory, versions; and what its memory can do.

Reads what the system tells and leaves out what it does not. Knows nothing of models.
"""

import ctypes
import os
import platform
import threading
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..agent.cores import available_cores
from ..agent.encoder import onnxruntime_or_error
from ..agent.errors import DeviceError

__all__ = [
    "Machine",
    "copy_gb_a_second",
    "gpu_name",
    "machine",
    "needs_cuda",
    "peak_mb",
    "resident_mb",
]

_PACKAGES = (
    "featherdesk", "onnxruntime", "onnxruntime-gpu", "onnxruntime-genai", "onnxruntime-genai-cuda",
    "llama-cpp-python", "transformers", "torch", "numpy", "tokenizers",
)  # fmt: skip
_FLAGS = ("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "sve")


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor with the vector units it has, cores this process may use, memory in MB, load of
    the last minute when the measurement began, versions of what takes part, the first GPU."""

    processor: str
    units: tuple[str, ...]
    cores: int
    memory_mb: float
    load: float
    system: str
    python: str
    versions: dict[str, str]
    gpu: str = ""

    def told(self) -> str:
        """In one line."""
        units = f" ({', '.join(self.units)})" if self.units else ""
        gpu = f", {self.gpu}" if self.gpu else ""
        return f"{self.processor}{units}, {self.cores} cores, {self.memory_mb:.0f} MB{gpu}"


def machine() -> Machine:
    """This machine."""
    about = _cpuinfo()
    flags = set(about.get("flags", about.get("Features", "")).split())
    return Machine(
        processor=about.get("model name") or platform.processor() or platform.machine(),
        units=tuple(flag for flag in _FLAGS if flag in flags),
        cores=available_cores(),
        memory_mb=_memory_mb(),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
        system=platform.platform(),
        python=platform.python_version(),
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        gpu=gpu_name(),
    )


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB of 10^6 bytes; 0 where the system does not tell."""
    return _status(pid, "VmRSS:")


def peak_mb(pid: int) -> float:
    """The most resident memory it had, as `resident_mb`."""
    return _status(pid, "VmHWM:")


def copy_gb_a_second(threads: int, megabytes: int = 256) -> float:
    """Bytes that the host's memory moves a second, in GB: those that a copy on so many threads
    reads and those that it writes; the best of three."""
    size = max(1, megabytes * 125_000 // max(1, threads))
    pairs = [(np.ones(size), np.empty(size)) for _ in range(max(1, threads))]
    best = 0.0
    for _ in range(3):
        workers = [threading.Thread(target=np.copyto, args=(b, a)) for a, b in pairs]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, 16 * size * len(pairs) / max(time.perf_counter() - began, 1e-9))
    return round(best / 1e9, 2)


def gpu_name() -> str:
    """The first NVIDIA GPU, as its driver names it; nothing where there is none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return ""
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return ""
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode("utf-8", "replace") or "an NVIDIA GPU"


def needs_cuda() -> None:
    """See that there is a GPU, and an onnxruntime that can use it.

    Raises:
        DeviceError: one of them is missing; says which, and what to do.
    """
    missing = []
    if not gpu_name():
        missing.append("no NVIDIA GPU, or no driver that tells of one (`nvidia-smi` lists them)")
    if "CUDAExecutionProvider" not in onnxruntime_or_error().get_available_providers():
        missing.append(
            "no onnxruntime with CUDA: install featherdesk[gpu] in place of featherdesk[cpu]"
        )
    if missing:
        raise DeviceError(
            f"--device cuda: this machine has {'; and '.join(missing)}; nothing was measured"
        )


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _memory_mb() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)
    except (ValueError, OSError, AttributeError):
        return 0.0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _status(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return 0.0
    return round(int(line.split()[1]) * 1024 / 1e6, 1)
