"""Runs a module for as long as stdin is open: a child that ends with whoever started it.

    python -m featherdesk.compress.tether MODULE ARGUMENT...

The parent holds the other end of stdin; when the parent is gone, killed or not, the system closes
it. Knows nothing of what runs.
"""

import os
import runpy
import signal
import sys
import threading

__all__ = ["tethered"]


def tethered(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module so; start it with `stdin=subprocess.PIPE`."""
    return [sys.executable, "-m", __name__, module, *arguments]


def _end_with_stdin() -> None:
    while os.read(0, 4096):  # not sys.stdin: its lock is held while the interpreter shuts down
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Watch stdin, and be the module."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
