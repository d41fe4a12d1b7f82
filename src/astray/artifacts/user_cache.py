"""Cache for what belongs to the user and not to a study: fetched models, distilled judges."""

import os
from pathlib import Path

CACHE_VARIABLE = "ASTRAY_CACHE"


def user_cache() -> Path:
    """Return the folder that $ASTRAY_CACHE names, else the user's cache folder."""
    from platformdirs import user_cache_path

    return Path(os.environ.get(CACHE_VARIABLE) or user_cache_path("astray"))
