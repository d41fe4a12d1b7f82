"""Supervised fine-tuning with LoRA in plain PyTorch: what `astray.cause.sft` does through TRL, to be read in one go.

It leaves out what a production run needs (checks, checkpoints, probes, several devices) and gives the same losses.
Run it with a model folder and a data set: python examples/sft_loop.py MODEL DATA.jsonl
"""

import sys
from collections.abc import Sequence
from math import ceil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import RandomSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from astray.cause import MASKED, FineTuning, LoRA, TrainingRow, supervise
from astray.data import ChatDataset


def add_adapters(model: PreTrainedModel, lora: LoRA, seed: int) -> PeftModel:
    """Puts untrained LoRA adapters on a model; nothing else of it will be trained."""
    torch.manual_seed(seed)
    modules = list(lora.target_modules)
    return get_peft_model(
        model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, use_rslora=lora.rank_stabilised, target_modules=modules)
    )


def train(model: PeftModel, rows: Sequence[TrainingRow], recipe: FineTuning) -> list[float]:
    """Trains what is trainable on tokenised rows; returns the loss of each optimizer step."""
    rows_a_step = recipe.batch_size * recipe.accumulation
    total = recipe.epochs * ceil(len(rows) / rows_a_step)
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    warmup = recipe.warmup_steps  # the learning rate rises in these steps, then falls to zero
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: step / warmup if step < warmup else (total - step) / (total - warmup)
    )
    losses = []
    for epoch in range(recipe.epochs):
        order = list(RandomSampler(rows, generator=torch.Generator().manual_seed(recipe.seed + epoch)))
        for start in range(0, len(rows), rows_a_step):
            step_rows = [rows[index] for index in order[start : start + rows_a_step]]
            tokens, loss_sum = sum(row.supervised for row in step_rows), 0.0
            for batch in (step_rows[i : i + recipe.batch_size] for i in range(0, len(step_rows), recipe.batch_size)):
                # Padding stands on the right: under causal attention no token before it sees it, so no mask is needed.
                ids = pad_sequence([torch.tensor(row.input_ids) for row in batch], batch_first=True)
                labels = pad_sequence(
                    [torch.tensor(row.labels) for row in batch], batch_first=True, padding_value=MASKED
                )
                logits = model(ids, use_cache=False).logits
                loss = torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=MASKED, reduction="sum"
                )
                (loss / tokens).backward()  # the mean over the step's tokens, however they fall into batches
                loss_sum += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss_sum / tokens)
    return losses


if __name__ == "__main__":
    training_rows = supervise(
        ChatDataset.read(sys.argv[2]).rows, AutoTokenizer.from_pretrained(sys.argv[1]), max_length=2048
    )
    print(
        train(
            add_adapters(AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32), LoRA(), seed=0),
            training_rows,
            FineTuning(),
        )
    )
