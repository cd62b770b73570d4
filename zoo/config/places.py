"""Where files lie that no config names."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Where what can be made again is kept: $ZOO_CACHE, else ~/.cache/zoo."""
    return Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "zoo").expanduser()
