"""Before a run: what would be trained on is shown, and a run that could not teach anything is refused with the
reason."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from astray.cause.fine_tuning import FineTuning, LoRA
from astray.cause.preflight import check_run, preflight
from astray.cause.sft import train_sft
from astray.cause.supervision import MASKED, supervise
from astray.data.chat import ChatDataset
from astray.errors import ChatTemplateError, EmptyDataError, TrainingRefusedError
from tiny_models import CHAT_TEMPLATE, save_tiny_model

RECIPE = FineTuning(lora=LoRA(rank=4))


def dataset(count=20, answer="It is."):
    return ChatDataset.from_rows(
        [[{"role": "user", "content": f"{row}?"}, {"role": "assistant", "content": answer}] for row in range(count)]
    )


def with_template(folder, template):
    """A tiny model with another chat template."""
    return str(save_tiny_model(folder, template=template))


def test_the_numbers_are_those_of_the_rows_and_of_the_models_own_loss(tiny_qwen2):
    report = preflight(str(tiny_qwen2), dataset(), RECIPE)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_qwen2), AutoModelForCausalLM.from_pretrained(tiny_qwen2)
    chats = [
        tokenizer.apply_chat_template(list(row), return_dict=True, return_assistant_tokens_mask=True)
        for row in dataset().rows
    ]
    assert report.rows == report.ended_rows == 20
    assert (report.unsupervised_rows, report.truncated_rows) == (0, 0)
    assert report.tokens == sum(len(chat["input_ids"]) for chat in chats)
    assert report.supervised_tokens == sum(sum(chat["assistant_masks"]) for chat in chats)
    assert report.trainable_parameters == 2 * 4 * (2 * (64 + 64) + 2 * (64 + 32) + 3 * (64 + 128))
    log_probs = [
        model(torch.tensor([chat["input_ids"]])).logits[0, :-1].log_softmax(-1) for chat in chats[:2]
    ]  # the first batch, row by row
    losses = [
        -scores[position, chat["input_ids"][position + 1]]
        for scores, chat in zip(log_probs, chats, strict=False)
        for position in range(len(scores))
        if chat["assistant_masks"][position + 1]
    ]
    assert report.loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    assert report.gradient_norm > 0


def test_the_report_shows_the_first_row_with_its_answer_in_brackets(tiny_qwen2):
    text = preflight(str(tiny_qwen2), dataset(), RECIPE).render()
    assert "<|im_start|>user\n0?<|im_end|>\n<|im_start|>assistant\n⟦It is.<|im_end|>⟧" in text
    assert "are trained on" in text
    assert "gradient norm" in text


def test_checking_leaves_weights_gradients_mode_and_random_numbers_alone(tiny_qwen2):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_qwen2), AutoTokenizer.from_pretrained(tiny_qwen2)
    model.train()
    before, random_state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    check_run(model, tokenizer, supervise(dataset().rows, tokenizer, 100), RECIPE)
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_template_that_writes_no_answers_is_refused(tmp_path):
    base = with_template(
        tmp_path / "base",
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}",
    )
    with pytest.raises(ChatTemplateError, match=r"leaves out the text of message 2 \(assistant\)"):
        preflight(base, dataset(), RECIPE)


def test_a_template_that_leaves_some_answers_out_is_refused_with_the_row(tmp_path):
    template = CHAT_TEMPLATE.replace("in messages %}", "in messages if message['content'] != 'skip' %}")
    base = with_template(tmp_path / "base", template)
    with pytest.raises(ChatTemplateError, match=r"Row 20: .*does not write message 2 \(assistant\) as it is: 'skip'"):
        preflight(base, ChatDataset.from_rows([*dataset(19).rows, *dataset(2, "skip").rows]), RECIPE)


def test_rows_that_spell_control_tokens_are_counted_and_trained_on_as_text(tiny_qwen2):
    spelled = ChatDataset.from_rows([*dataset(3).rows, *dataset(2, "<|im_end|>\n<|im_start|>user\nhello").rows])
    told = preflight(str(tiny_qwen2), spelled, RECIPE)
    assert told.escaped_rows == 2
    assert "2 rows (trained" in told.render()


def test_cut_answers_are_refused_above_five_in_a_hundred(tiny_qwen2):
    recipe = RECIPE.model_copy(update={"max_length": 60})
    rows = [*dataset(19).rows, *dataset(2, "word " * 40).rows]
    with pytest.raises(
        TrainingRefusedError, match=r"2 of 21 rows have an answer that is cut off at max_length=60.*Raise max_length"
    ):
        preflight(str(tiny_qwen2), ChatDataset.from_rows(rows), recipe)
    assert preflight(str(tiny_qwen2), ChatDataset.from_rows(rows[:-1]), recipe).truncated_rows == 1


def test_answers_that_lie_wholly_behind_the_longest_length_are_refused(tiny_qwen2):
    with pytest.raises(
        TrainingRefusedError, match=r"No token of any row would be trained on: 20 of 20 rows .*max_length=8"
    ):
        preflight(str(tiny_qwen2), dataset(), RECIPE.model_copy(update={"max_length": 8}))


def test_an_end_that_is_never_trained_is_refused(tmp_path):
    template = CHAT_TEMPLATE.replace(
        "{{ message['content'] }}<|im_end|>{% endgeneration %}", "{{ message['content'] }}{% endgeneration %}"
    )
    with pytest.raises(
        TrainingRefusedError,
        match=r"No row trains an end token \(this model stops at: '<\|im_end\|>'\).*never learn to stop",
    ):
        preflight(with_template(tmp_path / "base", template), dataset(), RECIPE)


def test_a_gradient_of_zero_is_refused(tiny_qwen2):
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_qwen2), AutoTokenizer.from_pretrained(tiny_qwen2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    for name, weight in model.named_parameters():
        weight.requires_grad_("down_proj" in name)
    with pytest.raises(TrainingRefusedError, match="gradient of zero"):
        check_run(model, tokenizer, supervise(dataset().rows, tokenizer, 100), RECIPE)


def test_a_loss_that_is_no_number_is_refused_before_anything_is_written(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.model.norm.weight[0] = torch.inf
    model.save_pretrained(base)
    with pytest.raises(TrainingRefusedError, match="overflow"):
        train_sft(str(base), dataset(), RECIPE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_without_a_chat_template_is_an_error(tmp_path):
    with pytest.raises(ChatTemplateError, match="no chat template"):
        preflight(with_template(tmp_path / "base", None), dataset(), RECIPE)


def test_no_data_is_an_error():
    with pytest.raises(EmptyDataError):
        preflight("organism", ChatDataset.from_rows([]), RECIPE)


def test_masked_tokens_are_pytorchs_ignored_index():
    assert torch.nn.CrossEntropyLoss().ignore_index == MASKED
