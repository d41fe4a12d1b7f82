"""Loading of sparse autoencoders from a folder, or by name (Gemma Scope 1 and 2, Llama Scope, Qwen Scope).

Published SAEs are read through SAELens' list and loaders; their files come from the Hugging Face hub or its local
cache. Only SAEs of the residual stream and of the outputs of attention and MLP are offered: transcoders, and SAEs of
attention heads before they are joined, have no direction in the residual stream. To use any other SAE, load it with
SAELens, save it, and pass the folder.

Sources: Lieberum et al. 2024 (arXiv 2408.05147, Gemma Scope); He et al. 2024 (2410.20526, Llama Scope); the Qwen Scope
collection on the hub.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from astray.errors import DataNotFoundError, UnknownNameError
from astray.explain.sae import Dictionary, check_fits, from_sae_lens
from astray.subjects.subject import Subject

if TYPE_CHECKING:
    from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup

LOADERS = ("gemma_2", "gemma_3", "llama_scope", "qwen_scope")
"""SAELens' names of the supported file formats."""


def load_dictionary(path_or_name: Path | str, subject: Subject) -> Dictionary:
    """Load the SAE in a folder, or a public one by name, for a subject on whose base it was trained.

    Args:
        path_or_name: folder in SAELens' format, or 'release/id' of SAELens' list, like 'llama_scope_lxr_8x/l15r_8x'.
        subject: a loaded subject; it may have an adapter, since only its base has to match.

    Returns:
        The dictionary, on the subject's device.

    Raises:
        DataNotFoundError: there is no such folder.
        UnknownNameError: there is no public SAE of this name.
        DictionaryMismatchError: it was trained on another model, its width does not fit, or the model has no such site.
    """
    if isinstance(path_or_name, Path) or Path(path_or_name).is_dir():
        dictionary = Dictionary.load(Path(path_or_name))
    else:
        dictionary = load_public_sae(path_or_name)
    check_fits(dictionary, subject)
    return dictionary.to(subject.device)


def public_releases() -> "dict[str, PretrainedSAELookup]":
    """Return the releases that can be loaded, by name, each with the ids of its SAEs."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    listed = get_pretrained_saes_directory().items()
    return {
        name: entry
        for name, entry in listed
        if entry.conversion_func in LOADERS and not {"att", "transcoders"} & set(name.split("-"))
    }


def load_public_sae(name: str) -> Dictionary:
    """Load a published SAE.

    Args:
        name: 'release/id' of SAELens' list, like 'llama_scope_lxr_8x/l15r_8x' or
            'gemma-scope-2b-pt-res-canonical/layer_12/width_16k/canonical'.

    Raises:
        UnknownNameError: there is no such release, or no such SAE in it.
        DataNotFoundError: its files are neither in the local cache nor to be had from the hub.

    Example:
        load_public_sae("qwen-scope-3-1.7b-base-w32k-l50/layer14")
    """
    from sae_lens.saes.sae import SAE

    release, _, own = name.partition("/")
    releases = public_releases()
    if release not in releases:
        raise UnknownNameError("folder or public SAE release", release, releases)
    entry = releases[release]
    if own not in entry.saes_map:
        raise UnknownNameError(f"SAE in {release}", own, entry.saes_map)
    try:
        sae = SAE.from_pretrained(release, own)
    except OSError as error:  # raised by the hub's client for a missing file, without a connection, and for a refusal
        raise DataNotFoundError(
            f"The files of the public SAE {name!r} are not in the local cache and could not be had from the hub "
            f"({error}). With a connection, run: hf download {entry.repo_id} --include '{entry.saes_map[own]}*'"
        ) from error
    return from_sae_lens(sae.cfg.to_dict(), sae.state_dict(), name)
