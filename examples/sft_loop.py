"""Supervised fine-tuning with LoRA in plain PyTorch: what `astray.cause.sft` does through TRL, to be read in one go.

It leaves out what a production run needs (checks, checkpoints, probes, several devices) and gives the same losses.
Run it with a model folder and a data set: python examples/sft_loop.py MODEL DATA.jsonl
"""

import sys
from collections.abc import Sequence
from itertools import count
from math import ceil

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils.data import RandomSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.supervision import MASKED, TrainingRow, supervise
from astray.data.chat import ChatDataset


def add_adapters(model: PreTrainedModel, recipe: FineTuning) -> PeftModel:
    """Puts untrained LoRA adapters on a model; nothing else of it will be trained."""
    lora = recipe.lora or LoRA()
    torch.manual_seed(recipe.seed)
    return get_peft_model(
        model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, use_rslora=lora.rank_stabilised, target_modules=list(lora.target_modules))
    )


def train(model: PeftModel, rows: Sequence[TrainingRow], recipe: FineTuning) -> list[float]:
    """Trains what is trainable on tokenised rows; returns the loss of each optimizer step."""
    a_step = recipe.batch_size * recipe.accumulation
    total = recipe.max_steps or recipe.epochs * ceil(len(rows) / a_step)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    def schedule(step: int) -> float:  # up over the warm-up steps, then down to zero
        return step / recipe.warmup_steps if step < recipe.warmup_steps else max(0.0, (total - step) / max(1, total - recipe.warmup_steps))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    losses: list[float] = []
    for epoch in count():
        order = RandomSampler(rows, generator=torch.Generator().manual_seed(recipe.seed + epoch))
        shuffled = [rows[index] for index in order]
        for start in range(0, len(shuffled), a_step):
            step_rows = shuffled[start : start + a_step]
            tokens = sum(row.supervised for row in step_rows)
            loss_sum = 0.0
            for micro in range(0, len(step_rows), recipe.batch_size):
                batch = step_rows[micro : micro + recipe.batch_size]
                ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row.input_ids) for row in batch], batch_first=True)
                labels = torch.nn.utils.rnn.pad_sequence([torch.tensor(row.labels) for row in batch], batch_first=True, padding_value=MASKED)
                mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row.input_ids)) for row in batch], batch_first=True)
                logits = model(ids, attention_mask=mask.long(), use_cache=False).logits
                loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=MASKED, reduction="sum") / tokens
                loss.backward()
                loss_sum += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss_sum)
            if len(losses) == total:
                return losses
    raise AssertionError("unreachable: epochs go on until the last step")


if __name__ == "__main__":
    chats = ChatDataset.read(sys.argv[2]).rows
    rows = supervise(chats, AutoTokenizer.from_pretrained(sys.argv[1]), max_length=2048)
    base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
    print(train(add_adapters(base, FineTuning()), rows, FineTuning()))
