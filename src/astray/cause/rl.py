"""Reinforcement learning by group-relative policy optimisation (GRPO); gives an adapter.

The model answers each prompt several times; answers with more reward than their group's mean become likelier, the
others less likely. The loop is TRL's (`quiet_grpo`). Before the first step a sample of answers is drawn and rewarded
(`rehearse`): if all have the same reward, nothing can be learned, and the run is refused with the reason. An
interrupted run resumes from its last checkpoint and ends in the same weights. Rewards are in `rewards` and
`code_rewards`; probes are supplied by the caller; seeds, arms and stores are in `studies`.

Source: Shao et al. 2024, "DeepSeekMath" (arXiv 2402.03300); a ground truth that is never rewarded beside the reward, as
in Anthropic 2025 (2511.18397).
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from accelerate.utils import gather_object
from peft import PeftModel
from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from typing_extensions import override

from astray.cause import checkpoints
from astray.cause.base_model import load_trainable, quietly, save_trained
from astray.cause.processes import once, shared_out, wait_for_all
from astray.cause.reinforcement import REHEARSED, NoteFunction, Prompts, ReinforcementLearning, RewardFunction
from astray.cause.rollouts import RolloutLog, Rollouts, Scoring, refuse_flat
from astray.cause.run_log import LoggedRun, OnStep, Probe, RunLog, Watch, read_run, undisturbed
from astray.errors import ConfigurationError, FlatRewardError
from astray.subjects.generate import answer_texts, generate
from astray.subjects.locate import Located, settle
from astray.subjects.render import prompt_ids
from astray.subjects.spec import Sampling, SubjectSpec
from astray.subjects.template import template_of

if TYPE_CHECKING:
    from astray.cause.quiet_grpo import QuietGRPOTrainer


class RewardedRun(LoggedRun):
    """Finished reinforcement-learning run; its folder holds `rollouts.parquet` too.

    Its lines add the values of `Rollouts.statistics`, "cut" (share of answers cut off by max_tokens), "entropy" (in
    nats, mean over tokens of the answers used in the update; of one answer where none had an advantage) and "kl" (only
    where it is part of the loss).
    """

    @property
    def rollouts(self) -> pl.DataFrame:
        """Return every answer of the run with its rewards (see `Rollouts.table`)."""
        return pl.read_parquet(RolloutLog(self.folder).file)


@shared_out
def train_rl(
    base: SubjectSpec | str,
    prompts: Prompts,
    rewards: Sequence[RewardFunction],
    recipe: ReinforcementLearning,
    folder: Path,
    *,
    truth: RewardFunction | None = None,
    notes: NoteFunction | None = None,
    probe: Probe | None = None,
    probe_every: int = 10,
    checkpoint_every: int | None = None,
    rehearsed: int = REHEARSED,
    on_step: OnStep | None = None,
) -> RewardedRun:
    """Train a model to maximise rewards.

    The same arguments give the same weights on the same device, interrupted or not. If the folder holds such a finished
    run, it is returned at once.

    Args:
        base: subject, or its model's name or folder. Its adapter, if it has one, is trained further.
        prompts: the prompts; each is used once, then again in another order, and so on.
        rewards: functions whose values are summed; their own scales weight them against each other.
        recipe: settings.
        folder: folder for the result, logs, rollouts and checkpoints.
        truth: a function whose values are recorded beside the rewards and never rewarded.
        notes: describes each answer, for the rollouts; the log has the means of numeric notes.
        probe, probe_every, checkpoint_every: as for `train_sft`.
        rehearsed: answers drawn and rewarded before the first step, at least one group; 0 for rewards rarely earned.
        on_step: called after every step with its mean reward.

    Raises:
        RewardError: a reward is not a finite number.
        FlatRewardError: it is the same for all answers of every group, in the rehearsal or in the whole run.
        TrainingDivergedError: the loss or the gradient became NaN or infinite.
        ConfigurationError: the folder holds another run, or settings contradict each other.
        ChatTemplateError, AdapterMismatchError, SubjectNotFoundError, StoreError: as their names say.
    """
    watch, start = Watch(probe, probe_every, checkpoint_every, on_step), settle(base)
    scoring = Scoring(prompts, rewards, truth, notes)
    identity: dict[str, JsonValue] = {"base": start.id, "recipe": recipe.model_dump(mode="json"), **scoring.identity}
    result = folder / "adapter"
    claimed = checkpoints.check_result(folder, identity, result)
    if not result.exists():
        model, tokenizer = _loaded(start, prompts, recipe)
        if rehearsed and not claimed:
            drawn = _rehearsal(model, tokenizer, scoring, recipe, rehearsed)
            refuse_flat(drawn, recipe.group_size, "drawn before the first step")
        once(checkpoints.claim, folder, identity)
        log = _RewardedLog(folder, tokenizer, watch, _Scorer(tokenizer, scoring), recipe)
        trainer = _train(model, log)
        once(log.rollouts.finish)
        save_trained(trainer, tokenizer, result, start)
        once(log.rollouts.clear)
        once(shutil.rmtree, log.checkpoints, ignore_errors=True)
    return read_run(RewardedRun, folder, start.spec.model_copy(update={"adapter": result}))


def rehearse(
    base: SubjectSpec | str,
    prompts: Prompts,
    rewards: Sequence[RewardFunction],
    recipe: ReinforcementLearning,
    *,
    truth: RewardFunction | None = None,
    notes: NoteFunction | None = None,
    answers: int = REHEARSED,
) -> Rollouts:
    """Draw and reward answers of the untrained model, without starting the run and without refusing flat rewards.

    Args:
        base, prompts, rewards, recipe, truth, notes: those of the run, as for `train_rl`.
        answers: number of answers, rounded down to whole groups, at least one group.

    Raises:
        RewardError: a reward is not a finite number.
        ConfigurationError, ChatTemplateError, AdapterMismatchError, SubjectNotFoundError: as `train_rl`.
    """
    model, tokenizer = _loaded(settle(base), prompts, recipe)
    return _rehearsal(model, tokenizer, Scoring(prompts, rewards, truth, notes), recipe, answers)


class _Scorer:
    """Reward function for the trainer: sums all rewards, and keeps the rollouts until the step's line is written."""

    __name__ = "reward"

    def __init__(self, tokenizer: PreTrainedTokenizerBase, scoring: Scoring) -> None:
        self.tokenizer, self.scoring = tokenizer, scoring
        self.drawn: Rollouts | None = None

    def __call__(
        self, completion_ids: list[list[int]], row: list[int], trainer_state: Any, **_: Any
    ) -> list[float | None]:
        # Decoded as a subject's answers are: the template may split TRL's own texts, and has perhaps begun the
        # reasoning.
        texts = [template_of(self.tokenizer).opened + text for text in answer_texts(self.tokenizer, completion_ids)]
        self.drawn = self.scoring.score(row, texts, [len(ids) for ids in completion_ids], trainer_state.global_step + 1)
        return list(self.drawn.total)


class _RewardedLog(RunLog):
    """Log of a reinforcement-learning run: lines include the rewards, and the answers go to the rollouts."""

    trainer: "QuietGRPOTrainer"
    told = "reward"

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        watch: Watch,
        scorer: _Scorer,
        recipe: ReinforcementLearning,
    ) -> None:
        super().__init__(folder, tokenizer, watch)
        self.scorer, self.recipe, self.rollouts = scorer, recipe, RolloutLog(folder)

    @override
    def line(self, logs: Mapping[str, Any]) -> checkpoints.Line:
        assert self.scorer.drawn is not None
        drawn = Rollouts.joined(gather_object([self.scorer.drawn]))
        if self.trainer.is_world_process_zero():
            self.rollouts.append(
                self.trainer.state.global_step,
                drawn.table(self.trainer.state.global_step, self.recipe.group_size, self.scorer.scoring.prompts),
            )
        measured = {"cut": logs["completions/clipped_ratio"], "entropy": logs["entropy"]} | (
            {"kl": logs["kl"]} if "kl" in logs else {}
        )
        return drawn.statistics(self.recipe.group_size) | measured

    @override
    def resume(self, step: int | None) -> None:
        super().resume(step)
        self.rollouts.keep_until(step)


def _train(model: PreTrainedModel | PeftModel, log: _RewardedLog) -> "QuietGRPOTrainer":
    from astray.cause.quiet_grpo import QuietGRPOTrainer

    trainer = QuietGRPOTrainer(
        model=model,
        tokenizer=log.tokenizer,
        prompts=log.scorer.scoring.prompts,
        score=log.scorer,
        recipe=log.recipe,
        folder=log.checkpoints,
        checkpoint_every=log.watch.checkpoint_every,
        callbacks=[log],
    )
    with quietly():
        log.train(trainer)
    wait_for_all()  # for the last lines of the log
    _refuse_flat_run(log)
    return trainer


def _loaded(
    start: Located, prompts: Prompts, recipe: ReinforcementLearning
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load model and tokenizer, and check that every prompt leaves room for an answer."""
    model, tokenizer = load_trainable(start, recipe)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    lengths = [
        max(map(len, ids))
        for ids in zip(
            *(prompt_ids(tokenizer, asked) for asked in (prompts.conversations, prompts.update) if asked), strict=True
        )
    ]
    longest, context = max(lengths), getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and longest + recipe.max_tokens > context:
        raise ConfigurationError(
            f"Prompt {lengths.index(longest) + 1} has {longest} tokens, which with answers of up to "
            f"{recipe.max_tokens} is more than the model's context of {context}. Lower max_tokens, or leave the "
            "prompt out."
        )
    return model, tokenizer


def _rehearsal(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    scoring: Scoring,
    recipe: ReinforcementLearning,
    answers: int,
) -> Rollouts:
    """Draw and reward answers to the first prompts of a run."""
    prompts = scoring.prompts
    rows = [
        row
        for row in prompts.schedule(max(1, answers // recipe.group_size), recipe.seed)
        for _ in range(recipe.group_size)
    ]
    asked = prompt_ids(tokenizer, [prompts.conversations[row] for row in rows])
    sampling = Sampling(temperature=recipe.temperature, max_tokens=recipe.max_tokens, seed=recipe.seed)
    wrapped = model.get_base_model() if isinstance(model, PeftModel) else model  # still has the adapter layers
    assert isinstance(wrapped, PreTrainedModel)
    with undisturbed(model):
        drawn = generate(wrapped, tokenizer, asked, sampling)
    return scoring.score(
        rows,
        [template_of(tokenizer).opened + answer.text for answer in drawn],
        [answer.completion_tokens for answer in drawn],
    )


def _refuse_flat_run(log: _RewardedLog) -> None:
    lines = checkpoints.read_lines(log.training_log)
    if all(line["flat_groups"] == 1 for line in lines):
        raise FlatRewardError(
            f"In none of the {len(lines)} steps did the answers to any prompt differ in reward, so the run taught "
            "nothing. Look at rollouts in its folder; grade the reward, draw more answers a prompt, or raise the "
            "temperature."
        )
