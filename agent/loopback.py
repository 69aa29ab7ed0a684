"""Asks a server of ours on this machine: no proxy of the environment has a part in it."""

import urllib.request
from typing import Any

__all__ = ["open_local"]

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_local(request: str | urllib.request.Request, timeout: float) -> Any:
    """As `urllib.request.urlopen`, straight to the address."""
    return _DIRECT.open(request, timeout=timeout)
