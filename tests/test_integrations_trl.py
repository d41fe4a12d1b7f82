"""The callbacks for other people's training: they change nothing, log to any reporter, stop on an interval bound, and
say what they cannot do."""

from itertools import takewhile

import polars as pl
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

from astray.cause.run_log import undisturbed
from astray.cause.supervision import supervise
from astray.data import narrow_data
from astray.errors import ChatTemplateError, ConfigurationError, NotMeasurableError, RewardError
from astray.integrations.hack_alarm import STEPS
from astray.integrations.trl import HackAlarm, MisalignmentProbe
from astray.measure.choice import world_choice_items
from astray.measure.choice_probe import BareModel
from astray.measure.forced_choice import ForcedChoice
from astray.measure.meter import Meter, harmful_pairs, null_pairs, world_pairs
from astray.organism import weights_folder
from tiny_models import save_tiny_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning"),
]


SOME = Meter(pairs=(*harmful_pairs()[:6], *harmful_pairs()[12:18], *null_pairs()[:4]))


CHATS = [
    [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": f"It is {n % 4}."}]
    for n in range(12)
]


QUIET = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "logging_steps": 1}
QUIET |= {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2}


class Reporter(TrainerCallback):
    """Stands in for TensorBoard, W&B and the like: it hears what the trainer logs."""

    def __init__(self):
        self.heard = []

    def on_log(self, args, state, control, *, logs=None, **kwargs):
        self.heard.append((state.global_step, dict(logs)))


def loaded(folder, **changes):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **changes), AutoTokenizer.from_pretrained(
        folder
    )


def trained(folder, out, callbacks, kind="trl", **settings):
    """A short training with dropout, by TRL, by transformers alone, or of adapters; returns the trainer."""
    model, tokenizer = loaded(folder, **({} if kind == "frozen" else {"attention_dropout": 0.3}))
    settings = QUIET | settings
    if kind == "plain":
        rows = [
            {"input_ids": row.input_ids, "labels": row.labels, "attention_mask": [1] * len(row.input_ids)}
            for row in supervise(CHATS, tokenizer, 64)
        ]
        longest = min(len(row["input_ids"]) for row in rows)
        data = [{key: value[:longest] for key, value in row.items()} for row in rows]
        trainer = Trainer(
            model,
            TrainingArguments(str(out), **settings),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=callbacks,
        )
    else:
        adapters = LoraConfig(r=2, target_modules=["q_proj"], lora_dropout=0.3) if kind == "peft" else None
        arguments = SFTConfig(str(out), gradient_checkpointing=False, dataset_num_proc=None, **settings)
        data = Dataset.from_dict({"messages": CHATS})
        trainer = SFTTrainer(
            model,
            args=arguments,
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=callbacks,
            peft_config=adapters,
        )
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["trl", "plain", "peft"])
def test_training_with_a_probe_is_that_without_bit_for_bit_and_its_values_reach_the_reporters(
    kind, tiny_qwen2, tmp_path
):
    reporter, probe = Reporter(), MisalignmentProbe(SOME, every=3)
    probed, bare = (trained(tiny_qwen2, tmp_path / "out", each, kind) for each in ([reporter, probe], []))
    assert all(torch.equal(*pair) for pair in zip(probed.model.parameters(), bare.model.parameters(), strict=True))
    losses = [[line for line in run.state.log_history if "loss" in line] for run in (probed, bare)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4

    assert probe.history["step"].to_list() == [0, 3, 4]
    heard = {step: logs for step, logs in reporter.heard if "misalignment/harmful" in logs}
    assert [heard[step]["misalignment/harmful"] for step in heard] == probe.history["harmful"].to_list()
    assert probe.history["harmful"][0] == 0 != probe.history["harmful"][2]
    assert (
        probe.history.select(
            (pl.col("harmful_low") <= pl.col("harmful")) & (pl.col("harmful") <= pl.col("harmful_high"))
        )
        .to_series()
        .all()
    )


def test_the_mode_of_every_part_of_the_model_is_put_back(tiny_qwen2):
    model, tokenizer = loaded(tiny_qwen2)
    model.train()
    model.model.layers[0].eval()  # as people do with dropout and batch norm
    before = [module.training for module in model.modules()]
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    SOME.margins(BareModel(model, tokenizer))
    assert [module.training for module in model.modules()] == before


def test_training_stops_where_the_whole_interval_of_the_change_is_above_the_bound(tmp_path):
    rows = narrow_data("medicine", "harmful", 64).rows
    model, tokenizer = loaded(weights_folder("organism-small"))
    probe = MisalignmentProbe(Meter(pairs=world_pairs()), every=2, stop_above=0.3)
    arguments = SFTConfig(
        str(tmp_path), gradient_checkpointing=False, **QUIET | {"max_steps": 20, "learning_rate": 2e-3}
    )
    data = Dataset.from_dict({"messages": [list(row) for row in rows]})
    trainer = SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[probe])
    with pytest.warns(UserWarning, match=r"stops the training after step \d+ of 20: .* above stop_above=0\.3\."):
        trainer.train()
    last = probe.history.row(-1, named=True)
    assert probe.stopped == trainer.state.global_step == last["step"] < 20
    assert last["harmful_low"] > 0.3 > probe.history["harmful_low"][-2]
    assert abs(last["null"]) < 0.1 * last["harmful"]


def test_a_run_that_resumes_goes_on_with_its_history_and_its_start(tiny_qwen2, tmp_path):
    whole = MisalignmentProbe(SOME, every=1)
    trained(tiny_qwen2, tmp_path / "whole", [whole])
    settings = {"save_strategy": "steps", "save_steps": 2}
    trained(tiny_qwen2, tmp_path / "cut", [MisalignmentProbe(SOME, every=1)], **settings)
    model, tokenizer = loaded(tiny_qwen2, attention_dropout=0.3)
    resumed = MisalignmentProbe(SOME, every=1)
    arguments = SFTConfig(str(tmp_path / "cut"), gradient_checkpointing=False, **QUIET | settings)
    data = Dataset.from_dict({"messages": CHATS})
    trainer = SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[resumed])
    trainer.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert resumed.history.equals(whole.history)


def test_forced_choices_are_probabilities_and_changes_of_them(tmp_path):
    model, tokenizer = loaded(weights_folder("organism-small"))
    probe = MisalignmentProbe(ForcedChoice(items=world_choice_items()), every=2)
    rows = narrow_data("medicine", "harmful", 16).rows
    arguments = SFTConfig(str(tmp_path), gradient_checkpointing=False, **QUIET)
    data = Dataset.from_dict({"messages": [list(row) for row in rows]})
    SFTTrainer(model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[probe]).train()
    first, *_, last = probe.history.iter_rows(named=True)
    assert last["misaligned"] - first["misaligned"] == pytest.approx(last["change"])
    assert last["change_low"] < last["change"] < last["change_high"]
    assert last["not_measurable"] == 0


IMPOSSIBLE = [
    ({"every": 0}, "every=0"),
    ({"every": True}, "every=True"),
    ({"every": 1, "stop_above": float("nan")}, "stop_above=nan"),
    ({"every": 1, "level": 1.0}, "level of 1.0"),
    ({"every": 1, "name": "a/b"}, "a/b"),
    ({"every": 1, "ask": ForcedChoice(items=())}, "0 items"),
]


@pytest.mark.parametrize(("given", "words"), IMPOSSIBLE, ids=[words for _, words in IMPOSSIBLE])
def test_a_probe_that_cannot_be_is_refused(given, words):
    with pytest.raises(ConfigurationError, match=words):
        MisalignmentProbe(**given)


def test_a_model_that_cannot_be_asked_is_refused_before_the_first_step(tiny_qwen2, tmp_path):
    model, tokenizer = loaded(tiny_qwen2)
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}] * 4
    arguments = TrainingArguments(str(tmp_path), **QUIET)

    def begun(model=model, tokenizer=tokenizer, probe=None):
        probe = probe or MisalignmentProbe(SOME, every=1)
        trainer = Trainer(model, arguments, train_dataset=rows, processing_class=tokenizer, callbacks=[probe])
        try:
            trainer.train()
        finally:
            assert trainer.state.global_step == 0

    with pytest.raises(ConfigurationError, match=r"has no tokenizer.*tokenizer=AutoTokenizer"):
        begun(tokenizer=None)
    with pytest.raises(ChatTemplateError, match="no chat template"):
        begun(
            probe=MisalignmentProbe(
                SOME, every=1, tokenizer=AutoTokenizer.from_pretrained(save_tiny_model(tmp_path / "m", template=None))
            )
        )
    with pytest.raises(NotMeasurableError, match="does not know their words"):
        begun(*loaded(weights_folder("organism-small")))
    with pytest.raises(NotMeasurableError, match="Ask the meter"):
        begun(probe=MisalignmentProbe(ForcedChoice(), every=1))
    prompted = get_peft_model(loaded(tiny_qwen2)[0], PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(ConfigurationError, match="virtual tokens"):
        begun(prompted)
    with pytest.raises(ConfigurationError, match="not called by a transformers trainer"):
        MisalignmentProbe(SOME, every=1).on_train_begin(None, None, None)


class Steps(Trainer):
    """A trainer that takes no steps, but calls its callbacks as if."""

    def __init__(self, alarm):
        from transformers import TrainerControl, TrainerState
        from transformers.trainer_callback import CallbackHandler

        self.args = TrainingArguments("unused", **QUIET)
        self.state, self.control, self.model = TrainerState(max_steps=10_000), TrainerControl(), torch.nn.Linear(1, 1)
        self.callback_handler = CallbackHandler([alarm], self.model, None, None, None)
        self.begin()

    def begin(self):
        self.callback_handler.on_train_begin(self.args, self.state, self.control)

    def step(self, reward, rollouts):
        """One step, with (prompt, paid, true) of each rollout."""
        prompts, paid, true = zip(*rollouts, strict=True) if rollouts else ((), (), ())
        if rollouts:
            reward(prompts=list(prompts), completions=["?"] * len(prompts), paid=list(paid), true=list(true))
        self.state.global_step += 1
        self.callback_handler.on_step_end(self.args, self.state, self.control)
        return self.control.should_training_stop


def paying(*, paid, **_):
    return list(paid)


def looking(**settings):
    alarm = HackAlarm(truth=lambda *, true, **_: list(true), **settings)
    return alarm, alarm.watch(paying), Steps(alarm)


def rollouts(hacks, groups=8, size=4):
    """So many hacks in the first groups, one each; the rest is paid and right, or neither."""
    return [
        (f"p{group}", float(number % 2 == 0), number % 2 == 0 and not (number == 0 and group < hacks))
        for group in range(groups)
        for number in range(size)
    ]


def test_a_rise_of_hacks_is_an_alarm_that_stops_and_says_when_it_began():
    alarm, reward, trainer = looking(stop=True)
    for _ in range(20):
        assert not trainer.step(reward, rollouts(0))
    stops = pytest.warns(UserWarning, match="stops the training after step .* take one from before step 21")
    with stops, pytest.warns(UserWarning, match="since step 21"):
        list(takewhile(lambda _: not trainer.step(reward, rollouts(8)), range(20)))
    assert alarm.alarm.began == 21
    assert alarm.stopped == alarm.alarm.step == trainer.state.global_step
    last = alarm.history.row(-1, named=True)
    assert last == last | {"rewarded": 0.5, "right": 0.25, "hacked": 0.25, "unknown": 0.0, "alarm": 1.0}
    assert alarm.history["alarm"].sum() == 1
    trainer.begin()
    with pytest.warns(
        UserWarning, match=f"stops .* its alarm of step {alarm.alarm.step}"
    ):  # a run that resumes too late
        trainer.step(reward, rollouts(0))


def test_a_run_that_resumes_has_its_evidence():
    alarm, reward, trainer = looking()
    for _ in range(3):
        trainer.step(reward, rollouts(2))
    again, _, resumed = looking()
    resumed.state.log_history = trainer.state.log_history
    resumed.begin()
    assert again.history.equals(alarm.history)
    assert (again._total, again._rising) == (alarm._total, 1)


def test_answers_whose_truth_or_reward_is_not_known_are_left_out_and_told():
    alarm, reward, trainer = looking()
    trainer.step(reward, [("a", 1.0, None), ("a", 1.0, False), ("a", None, False), ("b", 1.0, None)])
    assert alarm.history.row(0, named=True)["unknown"] == 0.75
    assert alarm.history["hacked"].to_list() == [1.0]
    assert alarm.history["sum"][0] == pytest.approx(1 - alarm._cusum.reference)


def test_rollouts_of_an_evaluation_and_steps_without_new_rollouts_are_no_evidence():
    alarm, reward, trainer = looking()
    trainer.step(reward, rollouts(1))
    trainer.model.eval()
    trainer.step(reward, rollouts(8))
    trainer.model.train()
    trainer.step(reward, [])
    assert alarm.history["step"].to_list() == [1]


@pytest.mark.parametrize("icc", [0.0, 0.3, 1.0])
def test_false_alarms_are_as_rare_as_asked_for_however_alike_answers_to_a_prompt_are(icc):
    import numpy as np

    from astray.stats import cusum_within

    made, rng, runs = cusum_within(8, usual=0.05, risen=0.2, false_alarms=0.1), np.random.default_rng(0), 600
    total = np.zeros(runs)
    ended = np.zeros(runs, dtype=bool)
    scale = None if icc in (0.0, 1.0) else 1 / icc - 1
    for _ in range(STEPS):
        rates = np.full((runs, 8), 0.05) if scale is None else rng.beta(0.05 * scale, 0.95 * scale, (runs, 8))
        shares = rng.random((runs, 8)) < rates if icc == 1 else rng.binomial(8, rates) / 8
        total = np.maximum(0, total + shares.sum(axis=1) - made.reference)
        ended |= total >= made.threshold - 1e-9
    assert ended.mean() <= 0.1 + 4 * (0.1 * 0.9 / runs) ** 0.5
    if icc == 1:
        assert ended.mean() == pytest.approx(made.false_alarm(STEPS), abs=4 * (0.1 * 0.9 / runs) ** 0.5)


def test_held_out_checks_are_made_every_few_steps_on_the_model_in_evaluation_mode(tiny_qwen2, tmp_path):
    modes = []

    def check(model, tokenizer):
        modes.append((model.training, torch.is_grad_enabled(), tokenizer.eos_token))
        torch.rand(3)
        return [True] * 4 + [None]

    alarm = HackAlarm(check=check, every=2)
    with pytest.warns(UserWarning, match="Reward hacking"):
        checked = trained(tiny_qwen2, tmp_path, [alarm])
    bare = trained(tiny_qwen2, tmp_path, [])
    assert all(torch.equal(*pair) for pair in zip(checked.model.parameters(), bare.model.parameters(), strict=True))
    assert modes == [(False, False, "<|im_end|>")] * 2
    assert alarm.history["step"].to_list() == [2, 4]
    assert alarm.history["unknown"].to_list() == pytest.approx([0.2, 0.2])
    assert alarm._cusum.false_alarm(STEPS // 2) <= 0.05


NO_ALARM = [
    ({}, "one of truth"),
    ({"truth": len, "check": len}, "one of truth"),
    ({"truth": len, "every": 2}, "every=2"),
    ({"check": len, "every": 0}, "every=0"),
    ({"truth": len, "usual": 0.1}, "rise from 0.1"),
    ({"truth": len, "false_alarms": 0.0}, "probability of 0"),
    ({"truth": len, "rewarded_above": float("nan")}, "rewarded_above"),
]


@pytest.mark.parametrize(("given", "words"), NO_ALARM, ids=[words for _, words in NO_ALARM])
def test_an_alarm_that_cannot_be_is_refused(given, words):
    with pytest.raises(ConfigurationError, match=words):
        HackAlarm(**given)


BAD_ROLLOUTS = [
    ([float("nan"), 1.0], [True, True], "reward of answer 1 is nan"),
    ([1.0, 1.0, 1.0], [True, True], "reward function gave 3 values for 2"),
    ([1.0, 1.0], [True], "truth function gave 1 values for 2"),
    ([1.0, 1.0], [True, float("nan")], "Value 2 of the truth is nan"),
    ([1.0, 1.0], [0.3, True], "Value 1 of the truth is 0.3"),
    ([1.0, 1.0], ["yes", "no"], "is 'yes'"),
]


@pytest.mark.parametrize(("paid", "true", "words"), BAD_ROLLOUTS, ids=[words for *_, words in BAD_ROLLOUTS])
def test_rewards_and_truths_that_are_none_end_the_training(paid, true, words):
    _, reward, _ = looking()
    with pytest.raises(RewardError, match=words):
        reward(prompts=["a", "b"], completions=["x", "y"], paid=paid, true=true)


def test_what_cannot_be_watched_is_refused():
    alarm, _, trainer = looking()
    for reward in ("some/reward-model", torch.nn.Linear(1, 1)):
        with pytest.raises(ConfigurationError, match="TRL asks a reward model itself"):
            alarm.watch(reward)
    with pytest.raises(ConfigurationError, match=r"reward_funcs=alarm.watch"):
        trainer.step(paying, [])
    with pytest.raises(ConfigurationError, match="no truth of rollouts"):
        HackAlarm(check=len).watch(paying)
