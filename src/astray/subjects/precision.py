"""Number format of a model's weights in memory: float32, or bfloat16 where the hardware multiplies it natively.

An accelerator computes in bfloat16. A CPU does so for models above `BFLOAT16_FROM` parameters if it has instructions
for it; without them bfloat16 is slower than float32, and small models (the organism) gain nothing. A subject's own
`dtype` goes before this rule. The format changes what a model says in the last digits, so it is part of a subject's
identity wherever it is not the device's usual one.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from astray.subjects.identity import parameter_count
from astray.subjects.spec import Precision

if TYPE_CHECKING:
    import torch

BFLOAT16_FROM = 100_000_000
"""Number of parameters from which a CPU with native bfloat16 uses it."""
SHARED_FROM = 10_000_000
"""Number of parameters from which prompts are read once for all their answers (`shared_prompts`): smaller models gain
nothing, and the organism's numbers stay as they are."""
NATIVE = {"amx_bf16", "avx512_bf16", "bf16"}
"""Flags of CPUs that multiply bfloat16: Intel's and AMD's, and ARM's."""
_FLAGS = Path("/proc/cpuinfo")


@cache
def native_bfloat16() -> tuple[str, ...]:
    """Return the CPU's instructions that multiply bfloat16, as Linux names them; none on other systems."""
    try:
        lines = _FLAGS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    words = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return tuple(sorted(NATIVE & words))


def usual_precision(device: str) -> Precision:
    """Return the format of models on a device of this type that needs no mention in their identity."""
    return "float32" if device == "cpu" else "bfloat16"


def precision_on(device: str, folder: Path, chosen: Precision | None) -> Precision:
    """Return the format in which a model is held in memory.

    Args:
        device: type of the device, as PyTorch calls it.
        folder: of the model's files.
        chosen: format that the user asks for; None leaves it to the rule.
    """
    if chosen is not None:
        return chosen
    if device == "cpu" and native_bfloat16() and _is_large(folder):
        return "bfloat16"
    return usual_precision(device)


def _is_large(folder: Path) -> bool:
    from safetensors import SafetensorError

    try:
        return parameter_count(folder) >= BFLOAT16_FROM
    except SafetensorError:  # damaged weights are refused when they are loaded, with what to do
        return False


def torch_dtype(precision: Precision) -> "torch.dtype":
    """Return PyTorch's name of a format."""
    import torch

    return torch.float32 if precision == "float32" else torch.bfloat16
