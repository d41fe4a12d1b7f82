"""JSON as a page carries it: gzipped, in base64; `templates/unpack.js` unpacks it."""

import base64
import gzip
import json
from typing import Any


def packed(content: Any) -> str:
    """Return JSON, gzipped, in base64.

    Raises:
        ValueError: it holds NaN or an infinite number, which are no JSON and which browsers refuse.
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # No time stamp (mtime), so that the same content gives the same page.
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode("ascii")
