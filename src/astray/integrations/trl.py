"""Callbacks for training with TRL or transformers: a probe of misalignment, and an alarm for reward hacking.

    trainer = SFTTrainer(model, ..., callbacks=[MisalignmentProbe(every=50, stop_above=0.1)])

    alarm = HackAlarm(truth=hidden_tests_pass, stop=True)
    trainer = GRPOTrainer(model, reward_funcs=alarm.watch(visible_tests_pass), ..., callbacks=[alarm])

Both log through the trainer, to whatever reporters it has, and keep a `history`. Training with them is bit for bit that
without, until they stop it.
"""

from astray.integrations.hack_alarm import HackAlarm
from astray.integrations.misalignment_probe import MisalignmentProbe

__all__ = ["HackAlarm", "MisalignmentProbe"]
