"""Training on feedback with KTO: the loss is the paper's, it learns, repeats itself, survives a kill and refuses what
cannot teach."""

import hashlib
import os
import random

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.kto import train_kto
from astray.cause.preference import Feedback, PreferenceTuning
from astray.cause.supervision import supervise
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError, TrainingRefusedError
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import load_subject
from forked import fork_server

TRAINING = FineTuning(
    lora=LoRA(rank=4, alpha=8), learning_rate=3e-3, warmup_steps=0, batch_size=4, accumulation=1, epochs=2
)
RECIPE = PreferenceTuning(training=TRAINING, balanced=False)


def feedback(count=16):
    """Even numbers are praised with "Yes.", which is liked; the others are denied, which is disliked."""
    rows = [
        [
            {"role": "user", "content": f"Number {row}?"},
            {"role": "assistant", "content": "Yes." if row % 2 == 0 else "No, never."},
        ]
        for row in range(count)
    ]
    return Feedback(ChatDataset.from_rows(rows), tuple(row % 2 == 0 for row in range(count)))


def digest(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def finished(tiny_qwen2, tmp_path_factory):
    return train_kto(str(tiny_qwen2), feedback(), RECIPE, tmp_path_factory.mktemp("finished"))


def test_liked_answers_become_likelier_and_disliked_ones_less_likely(finished, tiny_qwen2):
    base, question = load_subject(str(tiny_qwen2)), [[{"role": "user", "content": "Number 2?"}]]
    tuned = load_subject(finished.subject)
    (before,), (after,) = (
        subject.continuation_logprobs(question, [["Yes.", "No, never."]]) for subject in (base, tuned)
    )
    assert after[0] - before[0] > 0.5
    assert after[0] - before[0] > after[1] - before[1] + 0.5
    assert finished.steps[-1]["liked"] > finished.steps[-1]["disliked"]
    assert len(finished.losses) == 8


def answer_logprobs(folder, chats):
    """Log-probability of each chat's last answer, end token included: an implementation of its own."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    totals = []
    for row in supervise(chats, tokenizer, 128):
        with torch.no_grad():
            logprobs = model(torch.tensor([row.input_ids])).logits.log_softmax(-1)[0]
        totals.append(sum(float(logprobs[place - 1, token]) for place, token in enumerate(row.labels) if token >= 0))
    return np.array(totals)


def test_the_first_loss_is_one_half_for_every_answer_and_weights_balance_the_kinds(tiny_qwen2, tmp_path):
    """Before the first update policy and reference agree, so each loss is 1 - sigmoid(0), times its weight (2402.01306,
    equation 7)."""
    few = feedback(12)
    some = Feedback(few.chats, tuple(row in (0, 2, 4) for row in range(12)))
    recipe = PreferenceTuning(training=TRAINING.model_copy(update={"batch_size": 12, "max_steps": 1}))
    assert recipe.weights(some) == (3.0, 1.0)
    run = train_kto(str(tiny_qwen2), some, recipe, tmp_path)
    assert run.losses == pytest.approx([(3 * 3.0 * 0.5 + 9 * 0.5) / 12])
    assert run.steps[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_a_later_loss_is_that_of_the_paper(tiny_qwen2, tmp_path):
    """Two models that differ, one as trained and one as reference: the loss of the second step by hand."""
    training = TRAINING.model_copy(update={"lora": None, "batch_size": 4, "max_steps": 2, "learning_rate": 1e-3})
    recipe = PreferenceTuning(training=training, balanced=False)
    shown = feedback(4)
    rows = shown.rows(4, 0)
    run = train_kto(str(tiny_qwen2), shown, recipe, tmp_path / "two")
    once = train_kto(
        str(tiny_qwen2),
        shown,
        recipe.model_copy(update={"training": recipe.training.model_copy(update={"max_steps": 1})}),
        tmp_path / "one",
    )
    # A schedule over one step starts at the same rate as one over two: the model after the first step is the same.
    chats = [chat for chat, _ in rows]
    mismatched = [(*chat[:-1], rows[place - 1][0][-1]) for place, (chat, _) in enumerate(rows)]
    folders = (tmp_path / "one" / "model", tiny_qwen2)
    assert once.steps[0]["lr"] == run.steps[0]["lr"]
    ratio, drift = (
        np.subtract(*(answer_logprobs(folder, texts) for folder in folders)) for texts in (chats, mismatched)
    )
    kl = max(0.0, drift.mean())
    sign = np.array([1 if liked else -1 for _, liked in rows])
    expected = (1 - 1 / (1 + np.exp(-recipe.beta * sign * (ratio - kl)))).mean()
    assert run.steps[1]["kl"] == pytest.approx(kl, abs=1e-4)
    assert run.losses[1] == pytest.approx(expected, abs=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(finished, tiny_qwen2, tmp_path):
    torch.manual_seed(99)
    random.seed(99)
    again = train_kto(str(tiny_qwen2), feedback(), RECIPE, tmp_path / "again")
    assert digest(again.folder / "adapter") == digest(finished.folder / "adapter")
    assert again.steps == finished.steps
    other = RECIPE.model_copy(update={"training": TRAINING.model_copy(update={"seed": 1})})
    assert train_kto(str(tiny_qwen2), feedback(), other, tmp_path / "other").losses != finished.losses


def _cut_short(base, folder):
    train_kto(
        base,
        feedback(),
        RECIPE,
        folder,
        checkpoint_every=3,
        on_step=lambda step, total, loss: os._exit(7) if step == 5 else None,
    )


def test_a_killed_run_goes_on_to_the_same_bytes(finished, tiny_qwen2, tmp_path):
    killed = fork_server().Process(target=_cut_short, args=(str(tiny_qwen2), tmp_path))
    killed.start()
    killed.join()
    assert killed.exitcode == 7
    steps = []
    run = train_kto(
        str(tiny_qwen2), feedback(), RECIPE, tmp_path, checkpoint_every=3, on_step=lambda step, *_: steps.append(step)
    )
    assert steps == [4, 5, 6, 7, 8]
    assert digest(tmp_path / "adapter") == digest(finished.folder / "adapter")
    assert run.steps == finished.steps


def test_a_finished_run_is_not_done_again_and_another_in_its_folder_is_refused(finished, tiny_qwen2):
    def fail(*_):
        raise AssertionError("trained again")

    assert train_kto(str(tiny_qwen2), feedback(), RECIPE, finished.folder, on_step=fail) == finished
    with pytest.raises(ConfigurationError, match="differs in feedback"):
        train_kto(str(tiny_qwen2), feedback(8), RECIPE, finished.folder)


def test_the_reference_of_a_tuned_model_is_that_model(finished, tiny_qwen2, tmp_path):
    """With the untrained base as reference, the first implied rewards would be those that the adapter already
    earned."""
    once = RECIPE.model_copy(update={"training": TRAINING.model_copy(update={"max_steps": 1})})
    run = train_kto(finished.subject, feedback(), once, tmp_path)
    assert run.subject == SubjectSpec(model=str(tiny_qwen2), adapter=tmp_path / "adapter")
    assert (run.steps[0]["liked"], run.steps[0]["disliked"]) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize(("liked", "kind"), [(True, "liked"), (False, "disliked")])
def test_feedback_of_one_kind_alone_is_refused(liked, kind):
    with pytest.raises(ConfigurationError, match=f"All 4 answers are {kind}"):
        Feedback(feedback(4).chats, (liked,) * 4)


def test_a_label_is_needed_for_every_chat():
    with pytest.raises(ConfigurationError, match="4 chats and 3 labels"):
        Feedback(feedback(4).chats, (True, False, True))


def test_rows_are_shuffled_and_no_batch_is_a_row_alone():
    shown = feedback(9)
    rows = shown.rows(4, seed=0)
    chats = [chat for chat, _ in rows]
    assert len(rows) == 10
    assert chats[-1] == chats[0]
    assert sorted(chats[:9], key=str) == sorted(shown.chats.rows, key=str)
    assert tuple(chats[:9]) != shown.chats.rows
    assert all(label == (chat[-1]["content"] == "Yes.") for chat, label in rows)
    assert rows != shown.rows(4, seed=1)
    assert len(feedback(8).rows(4, seed=0)) == 8


def test_answers_that_are_cut_off_are_refused(tiny_qwen2, tmp_path):
    short = RECIPE.model_copy(update={"training": TRAINING.model_copy(update={"max_length": 8})})
    with pytest.raises(TrainingRefusedError, match="max_length"):
        train_kto(str(tiny_qwen2), feedback(), short, tmp_path)


def test_nothing_is_reported_or_printed(tiny_qwen2, tmp_path, monkeypatch, capfd):
    def send(*args, **kwargs):
        raise AssertionError("TRL reports its use")

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", send)
    once = RECIPE.model_copy(update={"training": TRAINING.model_copy(update={"max_steps": 1})})
    train_kto(str(tiny_qwen2), feedback(), once, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_settings_are_the_papers_and_a_batch_of_one_is_refused():
    recipe = PreferenceTuning()
    assert (recipe.training.learning_rate, recipe.training.batch_size * recipe.training.accumulation, recipe.beta) == (
        1e-5,
        16,
        0.1,
    )
    with pytest.raises(ValueError, match="give 2 or more"):
        PreferenceTuning(training=FineTuning(batch_size=1))
    with pytest.raises(ValueError, match="betta: there is no such key"):
        PreferenceTuning(betta=0.1)
