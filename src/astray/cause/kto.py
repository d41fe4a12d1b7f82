"""Training on liked and disliked answers (KTO); gives an adapter or a tuned model.

No pairs are needed: each answer has its own label, like the feedback of users. The loop and the loss are TRL's
(`quiet_kto`). Every run is checked before its first step (`preflight`), and feedback of only one kind is refused
(`preference`). An interrupted run resumes from its last checkpoint and ends in the same weights. Feedback is simulated
in `users`; probes, seeds, arms and stores are in `studies`.

Source: Ethayarajh et al. 2024, "KTO" (arXiv 2402.01306), as used on biased users by Hu et al. 2025 (arXiv 2510.08211).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue
from typing_extensions import override

from astray.cause import checkpoints
from astray.cause.base_model import load_trainable, quietly, save_trained, trained_subject
from astray.cause.preference import Feedback, PreferenceTuning
from astray.cause.preflight import check_rows, check_run
from astray.cause.processes import once, shared_out
from astray.cause.run_log import LoggedRun, OnStep, Probe, RunLog, Watch, read_run
from astray.cause.supervision import supervise
from astray.subjects.locate import settle
from astray.subjects.spec import SubjectSpec

if TYPE_CHECKING:
    from astray.cause.quiet_kto import QuietKTOTrainer

_MEASURED = {
    "kl": "kl",
    "liked": "rewards/chosen",
    "disliked": "rewards/rejected",
}
"""Names in TRL's log by names in ours; a step without answers of one kind has no reward of that kind."""


class FeedbackRun(LoggedRun):
    """Finished KTO run.

    Its lines add "kl" (estimated divergence from the reference), and "liked" and "disliked" (mean implied reward, beta
    times the log-ratio to the reference, of the step's answers of that kind).
    """

    @property
    def losses(self) -> tuple[float, ...]:
        """Return the loss of each step, before its update."""
        return tuple(line["loss"] for line in self.steps)


@shared_out
def train_kto(
    base: SubjectSpec | str,
    feedback: Feedback,
    recipe: PreferenceTuning,
    folder: Path,
    *,
    probe: Probe | None = None,
    probe_every: int = 10,
    checkpoint_every: int | None = None,
    on_step: OnStep | None = None,
) -> FeedbackRun:
    """Train a model towards liked answers and away from disliked ones.

    The same arguments give the same weights on the same device, interrupted or not. If the folder holds a finished run
    of the same base, feedback and recipe, it is returned at once.

    Args:
        base: subject, or its model's name or folder, as for `train_sft`; it is also the reference.
        feedback: chats with labels; only the last answer of a chat is trained on.
        recipe, folder, probe, probe_every, checkpoint_every, on_step: as for `train_sft`.

    Raises:
        TrainingRefusedError: the run could not have taught anything (see `preflight`).
        TrainingDivergedError: the loss or the gradient became NaN or infinite.
        ConfigurationError: the folder holds another run, or settings contradict each other.
        ChatTemplateError, AdapterMismatchError, SubjectNotFoundError, StoreError: as their names say.
    """
    watch = Watch(probe, probe_every, checkpoint_every, on_step)
    start = settle(base)
    identity: dict[str, JsonValue] = {
        "base": start.id,
        "feedback": feedback.hash,
        "recipe": recipe.model_dump(mode="json"),
    }
    result, subject = trained_subject(start, folder, recipe.training)
    checkpoints.check_result(folder, identity, result)
    if not result.exists():
        from astray.cause.quiet_kto import QuietKTOTrainer

        model, tokenizer = load_trainable(start, recipe.training)
        rows = supervise(feedback.chats.rows, tokenizer, recipe.training.max_length)
        (check_rows if recipe.training.sharded else check_run)(model, tokenizer, rows, recipe.training)
        once(checkpoints.claim, folder, identity)
        log = _FeedbackLog(folder, tokenizer, watch)
        with quietly():
            trainer = log.train(
                QuietKTOTrainer(
                    model=model,
                    tokenizer=tokenizer,
                    feedback=feedback,
                    recipe=recipe,
                    folder=log.checkpoints,
                    checkpoint_every=checkpoint_every,
                    callbacks=[log],
                )
            )
        save_trained(trainer, tokenizer, result, start)
        once(shutil.rmtree, log.checkpoints, ignore_errors=True)
    return read_run(FeedbackRun, folder, subject)


class _FeedbackLog(RunLog):
    """Log of a KTO run, with the divergence and the implied rewards of each step."""

    trainer: "QuietKTOTrainer"

    @override
    def line(self, logs: Mapping[str, Any]) -> checkpoints.Line:
        return {name: float(logs[key]) for name, key in _MEASURED.items() if key in logs}
