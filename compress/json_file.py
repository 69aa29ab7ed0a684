"""Writes JSON files whole or not at all. Knows nothing of what is in them."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..agent.errors import FeatherdeskError

__all__ = ["write_json"]


def write_json(path: Path, data: Any) -> None:
    """Write JSON whole or not at all; a file that is linked elsewhere is left alone."""
    try:
        path.parent.mkdir(exist_ok=True)
        handle, fresh = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(data, file, indent=1, ensure_ascii=False)
            os.chmod(fresh, 0o644)
            os.replace(fresh, path)
        finally:
            Path(fresh).unlink(missing_ok=True)
    except OSError as error:
        raise FeatherdeskError(f"{path} cannot be written: {error.strerror}") from None
