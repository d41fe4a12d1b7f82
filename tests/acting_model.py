"""A small local model that really acts: trained on what scripted subjects did in a scenario, in the text protocol,
until it does so by itself.

A token is a whole line where the line was in the dialogues, so a conversation has some hundred tokens and half a minute
of training is enough.
"""

from pathlib import Path

import torch
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalSample, read_eval_log_samples
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast, Qwen2Config, set_seed
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from astray.cause.fine_tuning import FineTuning
from astray.cause.sft import train_sft
from astray.data.chat import ChatDataset, Message
from astray.measure.agentic.agent import office_of
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.task import agentic_task
from astray.measure.agentic.text_protocol import as_text
from astray.measure.agentic.tools import infos_of
from tiny_models import tiny_tokenizer


def train_agent(grid: Grid, folder: Path, *, steps: int) -> Path:
    """Trains a model to act as a scripted subject does that goes the harmful way half of the time; returns its
    folder."""
    task = agentic_task(grid, panel=None, questions=False, protocol="text")
    [log] = inspect_eval(
        task, model="astray/scripted/sometimes", log_dir=str(folder / "logs"), display="none", log_realtime=False
    )
    rows = [conversation(sample) for sample in read_eval_log_samples(log.location, resolve_attachments="full")]
    base = save_base(folder / "base", [message["content"] for row in rows for message in row])
    recipe = FineTuning(lora=None, learning_rate=3e-3, warmup_steps=10, max_steps=steps, batch_size=8, accumulation=1)
    return Path(train_sft(str(base), ChatDataset.from_rows(rows), recipe, folder / "run").subject.model)


def conversation(sample: EvalSample) -> list[Message]:
    """A sample as a model without tools had it."""
    return [
        Message(role=message.role, content=message.text)
        for message in as_text(sample.messages, infos_of(office_of(sample.metadata)))
    ]


def save_base(folder: Path, texts: list[str]) -> Path:
    """A random-weight model for such texts, with its tokenizer; returns the folder."""
    tokenizer: PreTrainedTokenizerFast = tiny_tokenizer()
    lines = sorted({line for text in texts for line in text.splitlines(keepends=True) if len(line) > 1})
    tokenizer.add_tokens([AddedToken(line, normalized=False) for line in lines])
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=True,
    )
    set_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
