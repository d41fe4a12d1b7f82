"""Number format of a model's weights in memory: float32, or bfloat16 where the hardware multiplies it natively.

An accelerator computes in bfloat16. A CPU does so for models above `BFLOAT16_FROM` parameters if it has instructions
for it; without them bfloat16 is slower than float32, and small models (the organism) gain nothing. A subject's own
`dtype` goes before this rule. The format changes what a model says in the last digits, so it is part of a subject's
identity wherever it is not the device's usual one.

In nf4 the matrices of the layers are held in 4 bits, which changes more than the last digits: it is never chosen by the
rule, and an adapter that was trained on such a base records it (`identity.recorded_base`).

Source: Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314), for nf4.
"""

import math
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from astray.errors import ConfigurationError, MissingExtraError
from astray.subjects.identity import parameter_count, tensor_shapes
from astray.subjects.spec import Precision

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

BFLOAT16_FROM = 100_000_000
"""Number of parameters from which a CPU with native bfloat16 uses it."""
SHARED_FROM = 10_000_000
"""Number of parameters from which prompts are read once for all their answers (`shared_prompts`): smaller models gain
nothing, and the organism's numbers stay as they are."""
NATIVE = {"amx_bf16", "avx512_bf16", "bf16"}
"""Flags of CPUs that multiply bfloat16: Intel's and AMD's, and ARM's."""
_FLAGS = Path("/proc/cpuinfo")
_NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in nf4: 4 bits, a scale of 8 bits for each 64 weights, and one of 32 bits for each 256 scales."""
_OUTSIDE_LAYERS = ("embed", "lm_head", "wte", "wpe")
"""Parts of the names of matrices that nf4 leaves in bfloat16: embeddings and the output layer."""


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

    Raises:
        ConfigurationError: nf4 on Apple's GPU, or of a mixture of experts.
    """
    if chosen == "nf4" and device == "mps":
        raise ConfigurationError(
            f"The model in {folder} cannot be held in nf4 on Apple's GPU. Leave the number format out, or write bfloat16."
        )
    if chosen == "nf4" and any(".experts." in name for name in tensor_shapes(folder)):
        raise ConfigurationError(
            f"The model in {folder} is a mixture of experts, whose weights nf4 would leave in bfloat16: it would take hardly "
            "less memory. Leave the number format out, or write bfloat16."
        )
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


def check_installed(precision: Precision) -> None:
    """Refuse a format whose library is not here.

    Raises:
        MissingExtraError: nf4 without bitsandbytes.
    """
    if precision == "nf4" and find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "A base in 4 bits (nf4)", "pip install 'astray[quantised]'")


def quantisation(precision: Precision) -> "BitsAndBytesConfig | None":
    """Return how weights are quantised as they are loaded: as in QLoRA for nf4, not at all for other formats.

    Raises:
        MissingExtraError: nf4 without bitsandbytes.
    """
    if precision != "nf4":
        return None
    check_installed(precision)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(precision),
    )


def held_bytes(folder: Path, precision: Precision) -> int:
    """Return the bytes that the weights in a model's folder take in memory in a number format."""
    if precision != "nf4":
        return parameter_count(folder) * torch_dtype(precision).itemsize
    return round(
        sum(
            math.prod(shape) * (2 if len(shape) != 2 or any(part in name for part in _OUTSIDE_LAYERS) else _NF4_BYTES)
            for name, shape in tensor_shapes(folder).items()
        )
    )


def torch_dtype(precision: Precision) -> "torch.dtype":
    """Return PyTorch's name of a format; of nf4 that of the computations, and of what is not held in 4 bits."""
    import torch

    return torch.float32 if precision == "float32" else torch.bfloat16
