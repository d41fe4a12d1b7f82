"""Trained sparse autoencoders: encoding, decoding, decoder directions, and the model and site they belong to.

Plain torch with SAELens' weights, read from SAELens' folder format without importing SAELens (seconds); SAELens reads
what is written here. Every decoder row has length one, and a latent's activation is the length of what it adds, in the
units of the residual stream: `strength x decoder[i]` means the same for every SAE and for any other direction. Training
is in `sae_training`, quality in `sae_quality`, loading for a subject in `load`.

Source: Gao et al. 2024 (arXiv 2406.04093) for TopK; Rajamanoharan et al. 2024 (2407.14435) for JumpReLU.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from astray.errors import ConfigurationError, DataFormatError, DataNotFoundError, DictionaryMismatchError
from astray.explain.sae_form import read_form
from astray.explain.sites import Site, sites_of
from astray.subjects.finite import check_values
from astray.subjects.locate import settle
from astray.subjects.subject import Subject

CONFIG_FILE, WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"
"""Names of the two files of SAELens' format."""
FORM_VERSION = "6.54.12"
"""Version of SAELens whose format is written; SAELens reads files without a version as those of version 5."""


class Dictionary:
    """Sparse autoencoder at one site of one model.

    Attributes:
        decoder: directions in the residual stream, each of length one.
        decoder_bias: bias added to every reconstruction.
        site: site of its activations.
        model_id: the base model it was trained on: a subject's id, or the model name of a public SAE.
        k: active latents per token of a TopK SAE, else None.
        threshold: threshold of each latent of a JumpReLU SAE, in units of its encoder, else None.
        facts: metadata of its training, as saved beside the weights.
    """

    def __init__(
        self,
        encoder: Float[Tensor, "d_model latents"],
        encoder_bias: Float[Tensor, "latents"],
        decoder: Float[Tensor, "latents d_model"],
        decoder_bias: Float[Tensor, "d_model"],
        *,
        site: Site,
        model_id: str,
        k: int | None = None,
        threshold: Float[Tensor, "latents"] | None = None,
        subtracts_bias: bool = True,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Create a dictionary from weights: a TopK SAE with `k`, a JumpReLU SAE with `threshold`, else a ReLU SAE.

        Args:
            encoder: weights of the encoder.
            encoder_bias: bias of the encoder.
            decoder: decoder rows of any length; they are normalised, and the latents' activations scaled by the length.
            decoder_bias: bias of the decoder.
            site: site of its activations.
            model_id: identity of the base model.
            k: active latents per token.
            threshold: pre-activation up to which a latent is inactive.
            subtracts_bias: whether the decoder's bias is subtracted before encoding.
            facts: metadata to keep beside the weights, as JSON.

        Raises:
            ConfigurationError: a weight is NaN or infinite, k does not fit, or k and threshold are both given.
        """
        if k is not None and threshold is not None:
            raise ConfigurationError("A dictionary has k (TopK) or thresholds (JumpReLU), not both.")
        if k is not None and not 1 <= k <= len(decoder):
            raise ConfigurationError(
                f"k is {k}, but the dictionary has {len(decoder)} latents: take k from 1 to {len(decoder)}."
            )
        weights = {"encoder": encoder, "encoder_bias": encoder_bias, "decoder": decoder, "decoder_bias": decoder_bias}
        for name, weight in {**weights, **({} if threshold is None else {"threshold": threshold})}.items():
            if not weight.isfinite().all():
                raise ConfigurationError(
                    f"The dictionary's {name} has NaN or infinite entries: its training diverged or its file is "
                    "damaged."
                )
        decoder = decoder.detach().float()
        # A zero row stays zero instead of becoming NaN.
        lengths = decoder.norm(dim=1)
        self._lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
        self.decoder = decoder / self._lengths[:, None]
        self._encoder, self._encoder_bias = encoder.detach().float(), encoder_bias.detach().float()
        self.decoder_bias = decoder_bias.detach().float()
        self.threshold = None if threshold is None else threshold.detach().float()
        self.k, self.site, self.model_id, self.facts = k, site, model_id, dict(facts or {})
        self._subtracts_bias = subtracts_bias

    @property
    def d_model(self) -> int:
        """Return the width of the residual stream."""
        return self.decoder.shape[1]

    @property
    def width(self) -> int:
        """Return the number of latents."""
        return self.decoder.shape[0]

    @property
    def architecture(self) -> str:
        """Return SAELens' name of the activation function: 'topk', 'jumprelu' or 'standard'."""
        return "topk" if self.k is not None else "standard" if self.threshold is None else "jumprelu"

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.decoder.device

    def encode(self, activations: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch latents"]:
        """Return the latents of activations, in float32 on the dictionary's device.

        Args:
            activations: residual stream at the dictionary's site, in any dtype and on any device.
        """
        before = self.pre_activations(activations)
        if self.k is not None:
            strongest = before.topk(self.k, dim=-1, sorted=False)
            active = torch.zeros_like(before).scatter_(-1, strongest.indices, strongest.values.relu())
        elif self.threshold is not None:
            active = before.relu() * (before > self.threshold)
        else:
            active = before.relu()
        latents = active * self._lengths
        check_values(latents, "Latents of an SAE", self.model_id, str(self.site))
        return latents

    def decode(self, latents: Float[Tensor, "*batch latents"]) -> Float[Tensor, "*batch d_model"]:
        """Return the activations reconstructed from latents."""
        return latents.to(self.device, torch.float32) @ self.decoder + self.decoder_bias

    def pre_activations(self, activations: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch latents"]:
        """Return the encoder's output before the activation function, in the encoder's own units."""
        centred = activations.to(self.device, torch.float32)
        if self._subtracts_bias:
            centred = centred - self.decoder_bias
        return centred @ self._encoder + self._encoder_bias

    def to(self, device: torch.device) -> "Dictionary":
        """Return the same dictionary on another device."""
        return self._with(**{name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)})

    def with_threshold(self, threshold: Float[Tensor, "latents"]) -> "Dictionary":
        """Return the same weights as a JumpReLU SAE with other thresholds."""
        if self.k is not None:
            raise ConfigurationError("A TopK dictionary has no thresholds; they belong to JumpReLU ones.")
        return self._with(threshold=threshold.detach().to(self.device, torch.float32))

    def _with(self, **changes: Tensor) -> "Dictionary":
        other = copy.copy(self)
        vars(other).update(changes)
        return other

    def save(self, folder: Path) -> Path:
        """Write the dictionary in SAELens' format, which `SAE.load_from_disk` reads, and return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        # The lengths move from the decoder's rows into the encoder; not for TopK, where latents are chosen by size.
        lengths, rows = (
            (torch.ones_like(self._lengths), self.decoder * self._lengths[:, None])
            if self.k
            else (self._lengths, self.decoder)
        )
        weights = {
            "W_enc": self._encoder * lengths,
            "b_enc": self._encoder_bias * lengths,
            "W_dec": rows,
            "b_dec": self.decoder_bias,
        }
        own: dict[str, object] = {} if self.k is None else {"k": self.k, "rescale_acts_by_decoder_norm": False}
        if self.threshold is not None:
            weights["threshold"] = self.threshold * lengths
        config = {
            "architecture": self.architecture,
            "d_in": self.d_model,
            "d_sae": self.width,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": self._subtracts_bias,
            "normalize_activations": "none",
            "reshape_activations": "none",
            **own,
            "metadata": {
                "sae_lens_version": FORM_VERSION,
                "model_name": self.model_id,
                "hook_name": self.site.hook_name,
                "astray": {"model_id": self.model_id, "site": self.site.model_dump(), "facts": self.facts},
            },
        }
        save_file({name: weight.cpu().contiguous() for name, weight in weights.items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: Path) -> "Dictionary":
        """Read a dictionary from a folder in SAELens' format of any version, whichever program wrote it.

        Raises:
            DataNotFoundError: the folder or one of its two files does not exist.
            DataFormatError: a file is damaged, or names no site.
            ConfigurationError: the architecture or the normalisation cannot be read as directions of the residual
                stream.
        """
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            if not (folder / name).is_file():
                raise DataNotFoundError(
                    f"There is no {name} in {folder}. An SAE is a folder in SAELens' form with {CONFIG_FILE} and "
                    f"{WEIGHTS_FILE}."
                )
        try:
            config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS_FILE)
        except (ValueError, RecursionError, SafetensorError) as error:
            raise DataFormatError(f"The SAE in {folder} is damaged ({error}). Copy it again.") from error
        if not isinstance(config, dict):
            raise DataFormatError(
                f"{folder / CONFIG_FILE} holds a {type(config).__name__}, and an SAE's configuration is an object. Copy "
                "it again."
            )
        return from_sae_lens(config, weights, str(folder))


def from_sae_lens(config: Mapping[str, object], weights: Mapping[str, Tensor], source: str) -> Dictionary:
    """Create a dictionary from SAELens' configuration and weights.

    Args:
        config: the content of `cfg.json`, or the result of `sae.cfg.to_dict()`.
        weights: the tensors by SAELens' names.
        source: path or name of the SAE, for error messages.

    Raises:
        DataFormatError: a tensor or the site is missing.
        ConfigurationError: the architecture or the normalisation cannot be read.
    """
    form, metadata = read_form(config, weights, source), config.get("metadata")
    own = metadata.get("astray") or {} if isinstance(metadata, Mapping) else {}
    # Pre-activations that are scaled by the decoder rows' lengths before TopK: folded in, no flag is needed.
    rows = weights["W_dec"].float()
    lengths = rows.norm(dim=1).clamp(min=1e-8) if form.rescaled else torch.ones(len(rows), device=rows.device)
    return Dictionary(
        weights["W_enc"].float() * lengths,
        weights["b_enc"].float() * lengths,
        rows / lengths[:, None] * form.factors[:, None],
        weights["b_dec"],
        site=form.site,
        model_id=form.model_name,
        k=form.k,
        threshold=weights.get("threshold"),
        subtracts_bias=form.subtracts_bias,
        facts=own.get("facts", {}),
    )


def base_id(subject: Subject) -> str:
    """Return the id of a subject's base, without adapter, system prompt and intervention: the id that SAEs record."""
    return settle(subject.spec.model).id


def check_fits(dictionary: Dictionary, subject: Subject) -> None:
    """Raise an error for a dictionary of another model.

    Raises:
        DictionaryMismatchError: its width does not fit, the model has no such site, or it was trained on another model.
    """
    name, width = subject.spec.model, subject.model.config.get_text_config().hidden_size
    if dictionary.d_model != width:
        raise DictionaryMismatchError(
            f"The SAE reads activations of width {dictionary.d_model}, but the residual stream of {name!r} has "
            f"{width}. It belongs to the model {dictionary.model_id!r}."
        )
    sites = sites_of(subject.model)
    if dictionary.site not in sites:
        raise DictionaryMismatchError(
            f"The SAE belongs to the site '{dictionary.site}', but {name!r} has the blocks 0 to {sites[-1].block} "
            f"with the sites {', '.join(sorted({repr(str(site.place)) for site in sites}))}. It was trained on "
            f"{dictionary.model_id!r}."
        )
    own = base_id(subject)
    if dictionary.model_id != own and not _names(dictionary.model_id, name):
        raise DictionaryMismatchError(
            f"The SAE was trained on the model {dictionary.model_id!r}, but {name!r} is {own!r}: other weights, "
            "tokenizer or chat template. Load it for the base it was trained on (its latents can then be read in any "
            "fine-tuned form of it), or train one on this model."
        )


def _names(model_id: str, name: str) -> bool:
    """Return whether a public SAE's model has a subject's name or that of its base (without -it, -Instruct)."""
    theirs, ours = (part.rstrip("/").rsplit("/", 1)[-1].lower() for part in (model_id, name))
    return ours == theirs or ours.startswith((f"{theirs}-", f"{theirs.removesuffix('-base')}-"))
