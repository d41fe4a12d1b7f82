"""What a person sees of an error that Astray raised on purpose while Inspect's command line runs: its sentence, not a
traceback above it."""

import sys
from types import TracebackType

from astray.errors import AstrayError

_COMMAND_LINE = "inspect_ai."


def tell_errors() -> None:
    """Put Astray's errors before the hook that Inspect's command line has set; where it has set none, as in a script,
    nothing is changed."""
    usual = sys.excepthook
    if not getattr(usual, "__module__", "").startswith(_COMMAND_LINE):
        return

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, AstrayError):
            print(f"astray: {error}", file=sys.stderr)
        else:
            usual(kind, error, trace)

    sys.excepthook = tell
