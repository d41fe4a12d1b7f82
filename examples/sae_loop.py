"""TopK sparse autoencoder in plain PyTorch, trained on the residual stream (Gao et al. 2024, arXiv 2406.04093).

It leaves out what a production run needs (checks, other architectures, activations beyond memory) and gives the same
loss at every step as `train_sae`, which trains through SAELens. `latent_loop.py` shows what to do with it.
Run it on the organism: python examples/sae_loop.py
"""

from collections.abc import Iterator, Sequence

import torch
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM, PreTrainedModel

from astray import explain, load_subject
from astray.organism import weights_folder

BLOCK, BASE = 1, str(weights_folder("organism"))
RECIPE = explain.SaeRecipe(latents=512, k=8, tokens=60_000, dead_after=20_000)


Sae = tuple[torch.Tensor, ...]  # encoder and its bias, decoder (rows of length one) and its bias


def encode(sae: Sae, x: torch.Tensor) -> torch.Tensor:
    """Return the latents of activations. Each is the length of what the latent adds to the residual stream."""
    encoder, encoder_bias, _, decoder_bias = sae
    return largest((x - decoder_bias) @ encoder + encoder_bias, RECIPE.k).relu()


def largest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Keep the k largest values of each row and set the others to 0."""
    top = values.topk(k)
    return torch.zeros_like(values).scatter(-1, top.indices, top.values)


@torch.no_grad()
def residual(model: PreTrainedModel, tokens: Sequence[int]) -> torch.Tensor:
    """Return the output of the layer, one row a token; entry 0 of `hidden_states` is the embeddings."""
    return model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[BLOCK + 1][0]


def train(batches: Iterator[torch.Tensor], recipe: explain.SaeRecipe = RECIPE) -> tuple[Sae, list[float]]:
    """Train on activations; return the autoencoder and the loss of each step."""
    sample = torch.cat([next(batches) for _ in range(8192 // recipe.batch_size)])
    scale = sample.shape[1] ** 0.5 / sample.norm(dim=1).mean()  # so that one learning rate suits every model
    torch.manual_seed(recipe.seed)
    decoder = normalize(torch.nn.init.kaiming_uniform_(torch.empty(recipe.latents, sample.shape[1]))).requires_grad_()
    # The encoder begins as the decoder's transpose: each latent reads what it writes, and few are dead from the start.
    encoder, bias = decoder.detach().T.clone().requires_grad_(), torch.zeros(recipe.latents, requires_grad=True)
    centre, losses = explain.geometric_median(sample * scale).requires_grad_(), []
    weights, silent, most = (decoder, encoder, bias, centre), torch.zeros(recipe.latents), sample.shape[1] // 2
    optimizer, decay = torch.optim.Adam(weights, recipe.learning_rate), int(recipe.decay * recipe.steps)
    for step in range(recipe.steps):
        x, dead = next(batches) * scale, silent > recipe.dead_after // recipe.batch_size
        # With the decoder rows' lengths in it, no latent is chosen for a long row.
        before = ((x - centre) @ encoder + bias) * decoder.norm(dim=1)
        latents = largest(before, recipe.k).relu()
        error = x - latents @ normalize(decoder) - centre
        loss = error.pow(2).sum(-1).mean()
        if count := int(dead.sum()):
            # A latent that is never chosen gets no gradient: the dead ones explain the error that is left.
            revived = largest(before.where(dead, -torch.inf), min(count, most)) @ normalize(decoder)
            loss = loss + recipe.auxiliary * min(count / most, 1) * (revived - error.detach()).pow(2).sum(-1).mean()
        silent = (silent + 1) * (latents == 0).all(0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = recipe.learning_rate * min(1.0, (recipe.steps - step) / decay)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    lengths = decoder.norm(dim=1)  # from here on they and the scale are part of the weights
    folded = (encoder * lengths, bias * lengths / scale, normalize(decoder), centre / scale)
    return tuple(weight.detach() for weight in folded), losses


def plain(rows: Sequence[explain.TokenRow]) -> tuple[Sae, list[float]]:
    """Read the base's activations on text of its own kind, and train."""
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()
    return train(explain.tensor_batches(torch.cat([residual(model, row.tokens) for row in rows]), RECIPE.batch_size))


def production(rows: Sequence[explain.TokenRow]) -> tuple[explain.Dictionary, list[float]]:
    """Do the same in production."""
    subject, site, losses = load_subject(BASE), explain.Site(place="block out", block=BLOCK), list[float]()
    read = explain.tensor_batches(explain.capture(subject, rows, [site], "all")[site], RECIPE.batch_size)
    return explain.train_sae(
        read, RECIPE, site=site, model_id=explain.base_id(subject), on_step=lambda _, x: losses.append(x)
    ), losses


if __name__ == "__main__":
    rows = list(explain.organism_rows(load_subject(BASE), documents=400, chats=400, seed=7))
    for name, (_, losses) in (("plain", plain(rows)), ("in production", production(rows))):
        print(f"{name}: loss {losses[0]:.2f} at first, {losses[-1]:.3f} at last")
