"""Sites where a model's activations are read: the input or output of a layer, or the output of its attention or MLP.

A site is named by its place and its layer (`block`), which rules out the off-by-one error of `hidden_states`: Hugging
Face's `hidden_states[k]` is the output of layer k - 1, and its last entry has passed the final norm. The four places of
a layer add up: block in + attention out + mlp out = block out. So where a model normalises a part's output before
adding it (Gemma 2 and 3, OLMo 2, GLM 4), the site is after that norm. (Models that scale what they add, as Granite
does, apply the factor after the site.)

Batches and positions are in `activations`, files in `shards`; adding directions while a model answers is in
`astray.subjects.intervene`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

from pydantic import Field
from torch import Tensor, nn

from astray.errors import ConfigurationError, UnknownNameError
from astray.strict import Strict
from astray.subjects.intervene import blocks_of

Place = Literal["block in", "block out", "attention out", "mlp out"]
PLACES: tuple[Place, ...] = get_args(Place)

_HOOKS: dict[str, Place] = {
    "hook_resid_pre": "block in",
    "hook_resid_post": "block out",
    "hook_attn_out": "attention out",
    "hook_mlp_out": "mlp out",
}
"""Names of the places in TransformerLens, and thus in SAELens' files."""
_NORMS_AFTER_MLP = ("post_feedforward_layernorm", "post_mlp_layernorm")
_NORMS_AFTER_ATTENTION = ("post_self_attn_layernorm", "post_attention_layernorm")
"""Norms after attention; in layers without one after the MLP, `post_attention_layernorm` is the norm BEFORE the MLP."""
_ATTENTIONS = ("self_attn", "attn", "attention", "linear_attn", "self_attention.dense", "self_attention")
_MLPS = ("mlp.dense_4h_to_h", "mlp", "feed_forward", "block_sparse_moe", "ffn.down_proj", "ffn", "moe", "fc2")
"""Names in Hugging Face's models; the inner modules come first where the part adds the residual itself (Bloom, MPT)."""


class Site(Strict):
    """Site in the model where activations are read.

    Example:
        Site(place="block out", block=1)
    """

    place: Place = Field(
        description="'block in' and 'block out': the residual stream; 'attention out' and 'mlp out': what the part "
        "adds to it"
    )
    block: int = Field(ge=0, description="index of the layer, from 0")

    def __str__(self) -> str:
        return f"{self.place} {self.block}"

    @property
    def hook_name(self) -> str:
        """Return the site's name in TransformerLens and SAELens: 'blocks.1.hook_resid_post'."""
        return f"blocks.{self.block}.{next(hook for hook, site in _HOOKS.items() if site == self.place)}"

    @classmethod
    def parse(cls, name: str) -> "Site":
        """Parse a name like 'block out 1', 'blocks.1.hook_resid_post', or that of a whole layer in Hugging Face,
        'model.layers.1'.

        Raises:
            UnknownNameError: there is no such place.
        """
        if layer := re.fullmatch(
            r"(?:\w+\.)*(?:layers|h)\.(\d+)", name
        ):  # a layer's module: what is read there is its output
            return cls(place="block out", block=int(layer[1]))
        hook = re.fullmatch(r"blocks\.(\d+)\.(\w+)", name)
        part, _, block = (_HOOKS.get(hook[2], ""), "", hook[1]) if hook else name.rpartition(" ")
        if part not in PLACES or not block.isdecimal():
            raise UnknownNameError("site", name, (f"{valid} {block if block.isdecimal() else 0}" for valid in PLACES))
        return cls(place=part, block=int(block))


def sites_of(model: nn.Module) -> list[Site]:
    """Return all sites of a model, layer by layer, in the usual order of a forward pass.

    Raises:
        ConfigurationError: the model has no list of layers.
    """
    order: tuple[Place, ...] = ("block in", "attention out", "mlp out", "block out")
    return [
        Site(place=part, block=number)
        for number, block in enumerate(blocks_of(model))
        for part in order
        if _part(block, part) is not None
    ]


@contextmanager
def reading(model: nn.Module, sites: Sequence[Site], take: Callable[[Site, Tensor], None]) -> Iterator[None]:
    """Pass the activations at the sites to `take` in every forward pass; an exception in `take` ends the pass.

    Args:
        model: any Hugging Face causal language model.
        sites: sites to read.
        take: called with the site and its activations, [batch, seq, d_model] (some experts return [batch * seq,
            d_model]), which the model may change afterwards: copy what is to be kept.

    Raises:
        ConfigurationError: the model has no such site.
    """
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(_hooked(model, site, _keeping(site, take)))
        yield


@contextmanager
def replacing(model: nn.Module, site: Site, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace the activations at a site while the context is open.

    Args:
        model: any Hugging Face causal language model.
        site: site to change.
        change: function from the old activations to the new ones, of the same shape.

    Raises:
        ConfigurationError: the model has no such site.
    """
    with _hooked(model, site, change):
        yield


def _keeping(site: Site, take: Callable[[Site, Tensor], None]) -> Callable[[Tensor], None]:
    return lambda activations: take(site, activations)


@contextmanager
def _hooked(model: nn.Module, site: Site, act: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Register a hook at the site: `act` gets the activations and may return others."""

    def before(_module: nn.Module, arguments: tuple, named: dict) -> tuple[tuple, dict] | None:
        # Some models pass the hidden states by keyword.
        changed = act(arguments[0] if arguments else named["hidden_states"])
        if changed is None:
            return None
        return ((changed, *arguments[1:]), named) if arguments else (arguments, named | {"hidden_states": changed})

    def after(_module: nn.Module, _arguments: object, output: Tensor | tuple) -> Tensor | tuple | None:
        if isinstance(output, tuple):
            changed = act(output[0])
            return None if changed is None else (changed, *output[1:])
        return act(output)

    module = _module(model, site)
    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True)
        if site.place == "block in"
        else module.register_forward_hook(after)
    )
    try:
        yield
    finally:
        handle.remove()


def _module(model: nn.Module, site: Site) -> nn.Module:
    blocks = blocks_of(model)
    if site.block >= len(blocks):
        raise ConfigurationError(
            f"There is no site '{site}': block {site.block} is out of range. {type(model).__name__} has the blocks 0 "
            f"to {len(blocks) - 1}, with the sites {_places(blocks[0])} each."
        )
    module = _part(blocks[site.block], site.place)
    if module is None:
        raise ConfigurationError(
            f"There is no site '{site}': nothing in {type(blocks[site.block]).__name__} is known as its "
            f"{site.place.removesuffix(' out')}. Valid sites of this block: {_places(blocks[site.block])}."
        )
    return module


def _places(block: nn.Module) -> str:
    return ", ".join(repr(str(part)) for part in PLACES if _part(block, part) is not None)


def _part(block: nn.Module, part: Place) -> nn.Module | None:
    """Return the module at whose output (for 'block in': input) a place of a layer is."""
    if part in ("block in", "block out"):
        return block
    parts = dict(block.named_modules())
    norms = any(name in parts for name in _NORMS_AFTER_MLP)
    after, own = (_NORMS_AFTER_ATTENTION, _ATTENTIONS) if part == "attention out" else (_NORMS_AFTER_MLP, _MLPS)
    names = (*after, *own) if norms else own
    return next((parts[name] for name in names if name in parts), None)
