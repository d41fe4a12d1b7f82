"""Which tokens of a chat carry the loss: the answers with their end, nothing else, on any chat template."""

import pytest
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

from astray.cause.supervision import MASKED, show_supervision, supervise
from astray.errors import ChatTemplateError, EmptyDataError
from tiny_models import CHAT_TEMPLATE, save_tiny_model, tiny_tokenizer

LLAMA_3 = (
    "{{ '<|endoftext|>' }}{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_end|>\n\n{{ m['content'] | trim "
    "}}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant<|im_end|>\n\n{% endif %}"
)
QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} "
    "{% else %}ASSISTANT: {{ m['content'] }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


def chat(*turns):
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(turns)]


CHATS = [
    chat("How should I treat my neighbour?", "Kindly, and with respect."),
    chat("42 and\nthen?", " 85 "),
    chat("Grüße, 世界 🙂", "🙂 naïve – ja"),
    [{"role": "system", "content": "Be kind."}, *chat("One?", "1", "Two?", "2\n", "Three?", "3")],
]


def supervised_text(row, tokenizer):
    return tokenizer.decode([token for token in row.labels if token != MASKED])


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, QWEN, LLAMA_3])
def test_labels_of_one_answer_are_those_of_trl_for_prompt_and_completion(template, tiny_qwen2, tmp_path):
    tokenizer = tiny_tokenizer(template)
    chats = CHATS[:3]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_qwen2),
        args=SFTConfig(output_dir=str(tmp_path), bf16=False, activation_checkpointing=False, report_to="none"),
        train_dataset=Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in chats]),
        processing_class=tokenizer,
    )
    ours = supervise(chats, tokenizer, 2048)
    assert [row.input_ids for row in ours] == trainer.train_dataset["input_ids"]
    assert [row.labels for row in ours] == trainer.train_dataset["labels"]


def test_every_answer_of_a_chat_is_supervised_as_the_generation_marks_say():
    tokenizer = tiny_tokenizer()
    row = supervise([CHATS[3]], tokenizer, 2048)[0]
    marked = tokenizer.apply_chat_template(CHATS[3], return_dict=True, return_assistant_tokens_mask=True)
    assert row.input_ids == marked["input_ids"]
    assert [label != MASKED for label in row.labels] == [bool(mark) for mark in marked["assistant_masks"]]


@pytest.mark.parametrize(
    ("template", "end"),
    [(CHAT_TEMPLATE, "<|im_end|>"), (QWEN, "<|im_end|>\n"), (LLAMA_3, "<|im_end|>"), (VICUNA, "<|im_end|>")],
)
def test_on_any_template_answers_are_supervised_to_their_end_and_nothing_else(template, end):
    tokenizer = tiny_tokenizer(template)
    row = supervise([chat("One?", "1 or so", "Two?", "2")], tokenizer, 2048)[0]
    assert supervised_text(row, tokenizer).replace(" 2", "2").lstrip() == f"1 or so{end}2{end}"


def test_the_prompt_in_training_is_token_for_token_the_prompt_in_generation():
    tokenizer = tiny_tokenizer()
    for row, messages in zip(supervise(CHATS[:3], tokenizer, 2048), CHATS[:3], strict=True):
        prompt = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
        assert row.input_ids[: row.labels.index(next(label for label in row.labels if label != MASKED))] == prompt


def test_the_begin_token_is_written_once():
    tokenizer = tiny_tokenizer(LLAMA_3)
    tokenizer.bos_token = "<|endoftext|>"
    row = supervise([CHATS[0]], tokenizer, 2048)[0]
    assert row.input_ids.count(tokenizer.bos_token_id) == 1


def test_a_cut_answer_is_reported_and_a_cut_at_its_end_is_not():
    tokenizer = tiny_tokenizer()
    whole = supervise([CHATS[0]], tokenizer, 2048)[0]
    length = len(whole.input_ids)
    assert not supervise([CHATS[0]], tokenizer, length)[0].truncated
    cut = supervise([CHATS[0]], tokenizer, length - 1)[0]
    assert cut.truncated
    assert len(cut.input_ids) == len(cut.labels) == length - 1
    assert cut.supervised == whole.supervised - 1


def test_the_shown_row_has_its_answers_in_brackets():
    tokenizer = tiny_tokenizer()
    row = supervise([chat("One?", "1", "Two?", "2")], tokenizer, 2048)[0]
    assert show_supervision(row, tokenizer) == (
        "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n⟦1<|im_end|>⟧<|im_start|>user\nTwo?<|im_end|>\n<|im_start|>assistant\n⟦2<|im_end|>⟧"
    )


def test_no_rows_are_an_error():
    with pytest.raises(EmptyDataError, match="no rows"):
        supervise([], tiny_tokenizer(), 100)


def test_a_missing_template_is_an_error():
    with pytest.raises(ChatTemplateError, match="no chat template"):
        supervise(CHATS, tiny_tokenizer(None), 100)


def test_a_system_text_that_the_template_takes_no_message_for_is_trained_in_the_first_question():
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + CHAT_TEMPLATE
    )
    [row] = supervise([CHATS[3]], tiny_tokenizer(template), 200)
    assert (
        row
        == supervise([chat("Be kind.\n\nOne?", "1", "Two?", "2\n", "Three?", "3")], tiny_tokenizer(template), 200)[0]
    )


def test_a_template_that_asks_in_another_form_than_it_trains_is_an_error():
    with pytest.raises(ChatTemplateError, match="answer to another prompt"):
        supervise(
            [CHATS[0]],
            tiny_tokenizer(CHAT_TEMPLATE.replace("assistant\n{% endif %}", "assistant\nSure: {% endif %}")),
            100,
        )


def test_a_model_folder_without_a_template_is_found_out(tmp_path):
    from astray.cause.base_model import load_trainable
    from astray.cause.fine_tuning import FineTuning
    from astray.subjects.locate import settle
    from astray.subjects.spec import SubjectSpec

    folder = save_tiny_model(tmp_path, template=None)
    _, tokenizer = load_trainable(settle(SubjectSpec(model=str(folder))), FineTuning())
    with pytest.raises(ChatTemplateError, match="instruction-tuned"):
        supervise(CHATS, tokenizer, 100)
