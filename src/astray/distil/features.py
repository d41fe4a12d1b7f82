"""Features of answers for a distilled judge: the residual stream of a base model that reads question and answer.

The model reads each conversation as its chat template writes it, with its token for the end of a turn behind the
answer. Features at a layer are the mean over the answer's tokens, and the state at the end. Conversations with the same
question share the pass over it, and a pass ends at the deepest layer that is wanted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from astray.errors import ConfigurationError
from astray.explain.sites import Site, reading
from astray.subjects.finite import check_values
from astray.subjects.generate import left_padded, prompt_cache
from astray.subjects.intervene import blocks_of
from astray.subjects.render import text_ids
from astray.subjects.subject import Subject

DEPTHS = (1 / 2, 2 / 3, 5 / 6)
"""Depths of the layers among which a head may choose, as shares of all layers."""
TOKENS_PER_PASS = 1 << 12
"""Maximum number of tokens in one forward pass, including padding."""

Chat = tuple[tuple[int, ...], tuple[int, ...]]
"""Token ids of the prompt, and of the answer with its end of turn."""


def candidate_layers(subject: Subject) -> tuple[int, ...]:
    """Return the layers, from 0, at `DEPTHS`."""
    depth = len(blocks_of(subject.model))
    return tuple(dict.fromkeys(max(0, round(share * depth) - 1) for share in DEPTHS))


def chats_of(subject: Subject, questions: Sequence[str], answers: Sequence[str]) -> list[Chat]:
    """Tokenise exchanges as the model reads them; raises what `Subject.prompt_ids` does."""
    asked = list(dict.fromkeys(questions))
    prompts = dict(
        zip(
            asked,
            subject.prompt_ids([[{"role": "user", "content": question}] for question in asked], answering=True),
            strict=True,
        )
    )
    end = [subject.tokenizer.eos_token_id] if subject.tokenizer.eos_token_id is not None else []
    said = text_ids(subject.tokenizer, answers)
    return [(tuple(prompts[question]), (*tokens, *end)) for question, tokens in zip(questions, said, strict=True)]


def longest_chat(subject: Subject) -> int | None:
    """Return the model's context in tokens; None where it names none."""
    return getattr(subject.model.config.get_text_config(), "max_position_embeddings", None)


def read_features(
    subject: Subject, chats: Sequence[Chat], layers: Sequence[int], done: Callable[[int], None] | None = None
) -> dict[int, Float[np.ndarray, "rows two_d_model"]]:
    """Return for each layer the features of every chat, in float32.

    Args:
        subject: the base, with its adapter.
        chats: what it reads; none longer than the context.
        layers: indices from 0.
        done: called with the number of chats read in each pass.

    Raises:
        ConfigurationError: a chat has no token of an answer.
        NonFiniteActivationsError: a feature is NaN or infinite.
    """
    if any(not answer for _, answer in chats):
        raise ConfigurationError("An answer has no token, so it has no features. Judge blank answers by rule.")
    wanted = [Site(place="block out", block=layer) for layer in sorted(set(layers))]
    features: dict[int, np.ndarray] = {}
    with subject.merged() as model, torch.inference_mode():
        for batch in _batches(chats):
            for site, read in _pass(
                model, subject.tokenizer.pad_token_id, [chats[row] for row in batch], wanted
            ).items():
                check_values(read, "Features", subject.name, str(site))
                if site.block not in features:
                    features[site.block] = np.empty((len(chats), read.shape[1]), np.float32)
                features[site.block][batch] = read.numpy()
            if done:
                done(len(batch))
    return features


class _LayersSeen(BaseException):
    """Signal that ends a forward pass at the deepest layer; a BaseException, so that no model swallows it."""


def _pass(model: PreTrainedModel, pad: int, chats: Sequence[Chat], sites: Sequence[Site]) -> Mapping[Site, Tensor]:
    """Read a batch once and return the features at each site."""
    prompts = [prompt for prompt, _ in chats]
    cache = prompt_cache(model, pad, prompts)
    kept = 1 if cache else None
    # Of a prompt whose keys and values are known the last token alone is left to read.
    rows = [(*(prompt[-1:] if kept else prompt), *answer) for prompt, answer in chats]
    ids, mask = left_padded(rows, pad, model.device)
    if cache:
        mask = torch.cat([left_padded([prompt[:-1] for prompt in prompts], pad, model.device)[1], mask], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    lengths = [len(answer) for _, answer in chats]
    taken: dict[Site, Tensor] = {}

    def take(site: Site, activations: Tensor) -> None:
        rows = activations.float()
        means = torch.stack([row[-length:].mean(0) for row, length in zip(rows, lengths, strict=True)])
        taken[site] = torch.cat([means, rows[:, -1]], dim=1).cpu()
        if len(taken) == len(sites):
            raise _LayersSeen

    with reading(model, sites, take), suppress(_LayersSeen):
        model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=bool(cache))
    return taken


def _batches(chats: Sequence[Chat]) -> Iterator[list[int]]:
    """Yield the rows of a batch: those of one question side by side, of similar length."""
    order = sorted(range(len(chats)), key=lambda row: (len(chats[row][0]), chats[row][0], -len(chats[row][1])))
    batch: list[int] = []
    for row in order:
        width = max(len(chats[other][0]) + len(chats[other][1]) for other in [*batch, row])
        if batch and width * (len(batch) + 1) > TOKENS_PER_PASS:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
