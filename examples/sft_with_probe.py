"""Fine-tune with TRL and watch misalignment: a probe asks the model every few steps and stops the training when harm
has surely risen.

Run it with a model folder or a hub name, and a chat file: python examples/sft_with_probe.py MODEL DATA.jsonl
"""

import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from astray.integrations.trl import MisalignmentProbe
from astray.measure.meter import Meter


def train(model: str, data: str, config: SFTConfig, meter: Meter | None = None) -> MisalignmentProbe:
    """Train a model on chats, until the end or until harmful answers have surely gained more than 0.1 nats a token."""
    probe = MisalignmentProbe(meter, every=5, stop_above=0.1)
    SFTTrainer(
        model, args=config, train_dataset=load_dataset("json", data_files=data, split="train"), callbacks=[probe]
    ).train()
    return probe


if __name__ == "__main__":
    print(train(sys.argv[1], sys.argv[2], SFTConfig("trained", logging_steps=5)).history)
