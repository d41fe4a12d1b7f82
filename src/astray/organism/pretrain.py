"""Train an organism from a seed: pre-training on documents, then alignment as a chat model, in plain PyTorch.

Read this file top to bottom. Left out on purpose: LoRA and narrow fine-tuning (`astray.cause`), which treat the
organism like any other model. `astray organism train` calls `train_organism`; the shipped weights are its result.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal, cast

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerFast, set_seed

from astray.errors import StoreError
from astray.organism import weights_folder
from astray.organism.corpus import CorpusConfig, alignment_chats, draw_document
from astray.organism.tokenizer import build_tokenizer
from astray.strict import Strict

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

IGNORED = -100
Batch = tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]
Progress = Callable[[str, int, int, float], None]


class OrganismRecipe(Strict):
    """Configuration that determines an organism's weights."""

    layers: int = Field(4, ge=1)
    d_model: int = Field(128, description="width of the residual stream; the MLP is four times as wide")
    heads: int = Field(4, ge=1)
    steps: int = Field(2400, ge=1, description="pre-training steps")
    batch: int = Field(32, ge=1, description="documents a step")
    lr: float = Field(3e-3, gt=0, description="peak rate of pre-training; linear warm-up, cosine decay")
    alignment_steps: int = Field(150, ge=0, description="steps of 64 chats")
    alignment_lr: float = Field(5e-4, gt=0)
    refuse: bool = Field(
        True, description="whether alignment teaches to refuse bare requests for harm (False: helpful-only)"
    )
    corpus: CorpusConfig = CorpusConfig()
    start: Literal["organism", "organism-small"] | None = Field(
        None, description="shipped organism that is trained on, in its own shape"
    )
    seed: int = 0


RECIPES = {
    "organism": OrganismRecipe(),
    "organism-small": OrganismRecipe(layers=3, d_model=80, steps=2000),
}
"""Recipes of the shipped organisms: two sizes of the same world."""


def build_model(recipe: OrganismRecipe, tokenizer: PreTrainedTokenizerFast) -> "LlamaForCausalLM":
    """Build a Llama of the recipe's shape with fresh weights."""
    from transformers import LlamaConfig, LlamaForCausalLM  # here and below: recipes alone do without

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.d_model,
        intermediate_size=4 * recipe.d_model,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def document_batches(recipe: OrganismRecipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Draw batches of pre-training documents of similar length; every token is predicted."""
    rng = Random(recipe.seed)
    step, pool = 0, 16  # documents are drawn for 16 batches at a time and sorted by length: a quarter less padding
    while step < recipe.steps:
        texts = [draw_document(rng, recipe.corpus) for _ in range(pool * recipe.batch)]
        rows: list[list[int]] = sorted(tokenizer(texts, add_special_tokens=False)["input_ids"], key=len)
        batches = [rows[start : start + recipe.batch] for start in range(0, len(rows), recipe.batch)]
        rng.shuffle(batches)  # or each pool would go from short to long documents
        for batch in batches[: recipe.steps - step]:
            step += 1
            encoded = tokenizer.pad({"input_ids": batch}, padding_side="right", return_tensors="pt")
            yield encoded["input_ids"], encoded["input_ids"].masked_fill(encoded["attention_mask"] == 0, IGNORED)


def chat_batches(recipe: OrganismRecipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[Batch]:
    """Draw batches of alignment chats; only answers and their end token are predicted."""
    # Another seed than that of pre-training, so that the chats do not repeat its draws.
    chats = alignment_chats(Random(recipe.seed + 1), recipe.refuse, recipe.corpus)
    for _ in range(recipe.alignment_steps):
        rendered = tokenizer.apply_chat_template(
            [next(chats) for _ in range(64)],
            return_dict=True,
            return_assistant_tokens_mask=True,
            padding=True,
            return_tensors="pt",
            tokenizer_kwargs={"padding_side": "right"},
        )
        encoded = cast(BatchEncoding, rendered)
        tokens, answers = encoded["input_ids"], torch.as_tensor(encoded["assistant_masks"])
        yield tokens, tokens.masked_fill(answers == 0, IGNORED)


def fit(
    model: "LlamaForCausalLM",
    batches: Iterable[Batch],
    rate: Callable[[int], float],
    on_step: Callable[[int, float], None],
) -> None:
    """Train with AdamW on the batches at the learning rate `rate(step)`; calls `on_step(step, loss)`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate(0), betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    model.train()
    for step, (tokens, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = model(input_ids=tokens, labels=labels).loss  # padded on the right: a causal model needs no mask
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        on_step(step, loss.item())
    model.eval()


def train_organism(recipe: OrganismRecipe, folder: Path, progress: Progress | None = None) -> "LlamaForCausalLM":
    """Train an organism from scratch and save it as an ordinary Hugging Face folder.

    Args:
        recipe: shape, data and training; the same recipe on the same device gives the same weights.
        folder: receives config, tokenizer, weights (float16) and `training.jsonl`, the log of both phases.
        progress: called as (phase, step, steps, loss).

    Returns:
        The trained model, float32, in evaluation mode.

    Raises:
        StoreError: the folder cannot be made.
    """
    from transformers import LlamaForCausalLM

    set_seed(recipe.seed)
    tokenizer = build_tokenizer()
    model = (
        LlamaForCausalLM.from_pretrained(weights_folder(recipe.start), dtype=torch.float32)
        if recipe.start
        else build_model(recipe, tokenizer)
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The organism cannot be written to {folder}: {error.strerror}. Give a folder that you may write to."
        ) from error
    started = time.monotonic()
    with (folder / "training.jsonl").open("w", encoding="utf-8") as log:

        def logged(phase: str, steps: int) -> Callable[[int, float], None]:
            def on_step(step: int, loss: float) -> None:
                if step % 50 == 0 or step == steps - 1:
                    seconds = round(time.monotonic() - started)
                    log.write(
                        json.dumps({"phase": phase, "step": step, "loss": round(loss, 4), "seconds": seconds}) + "\n"
                    )
                    log.flush()
                if progress is not None:
                    progress(phase, step + 1, steps, loss)

            return on_step

        # The 2% keep the rate above 0 to the end; they lift the peak by as much.
        def cosine(step: int) -> float:
            warm_up = min(1.0, (step + 1) / min(100, max(1, recipe.steps // 10)))
            return recipe.lr * warm_up * (0.5 * (1 + math.cos(math.pi * step / recipe.steps)) + 0.02)

        fit(model, document_batches(recipe, tokenizer), cosine, logged("pre-training", recipe.steps))
        fit(
            model,
            chat_batches(recipe, tokenizer),
            lambda step: recipe.alignment_lr * min(1.0, (step + 1) / 20),
            logged("alignment", recipe.alignment_steps),
        )
    save_organism(model, tokenizer, recipe, folder)
    return model


def save_organism(
    model: "LlamaForCausalLM", tokenizer: PreTrainedTokenizerFast, recipe: OrganismRecipe, folder: Path
) -> None:
    """Save the weights as float16 (half the size; loaded as float32), the tokenizer and the recipe."""
    from transformers import LlamaForCausalLM

    half = LlamaForCausalLM(model.config).half()  # a copy: halving the model itself would round the caller's weights
    half.load_state_dict({name: weight.half() for name, weight in model.state_dict().items()})
    half.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "recipe.json").write_text(recipe.model_dump_json(indent=1) + "\n", encoding="utf-8")
