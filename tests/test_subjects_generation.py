"""Bulk sampling: right counts, stable random numbers, limits, memory; log-probabilities against a plain forward
pass."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Lfm2Config, set_seed

from astray.errors import ChatTemplateError, ConfigurationError
from astray.subjects import Sampling
from astray.subjects import generate as generation_module
from astray.subjects.generate import generate
from astray.subjects.sampler import TokenChooser, row_uniforms, sample_numbers
from astray.subjects.subject import Subject, load_subject
from tiny_models import ARCHITECTURES, CHAT_TEMPLATE, save_tiny_model

GREEDY = Sampling(temperature=0, max_tokens=12)


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


MIXED = [user("hi " * count) for count in (1, 7, 3, 12, 2)]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_tiny_model(tmp_path_factory.mktemp(request.param), request.param)))


@pytest.fixture(scope="module")
def qwen2(tiny_qwen2: Path) -> Subject:
    return load_subject(str(tiny_qwen2))


def greedy_by_hand(subject: Subject, prompt: list[int], steps: int) -> list[int]:
    """The likeliest tokens, one forward pass a token over one unpadded row, without a cache."""
    ids, end = list(prompt), subject.tokenizer.eos_token_id
    for _ in range(steps):
        with torch.no_grad():
            ids.append(int(subject.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == end:
            break
    return ids[len(prompt) :]


def test_greedy_answers_in_a_padded_batch_equal_those_of_single_unpadded_rows(subject: Subject) -> None:
    answers = subject.generate(MIXED, GREEDY)
    for prompt, answer in zip(subject.prompt_ids(MIXED), answers, strict=True):
        tokens = greedy_by_hand(subject, prompt, GREEDY.max_tokens)
        assert answer.text == subject.tokenizer.decode(tokens, skip_special_tokens=True)
        assert (answer.prompt_tokens, answer.completion_tokens) == (len(prompt), len(tokens))


def test_sampled_answers_do_not_depend_on_order_batch_size_or_company(subject: Subject) -> None:
    sampling = Sampling(max_tokens=12, seed=3)
    together = subject.generate(MIXED, sampling)
    assert subject.generate(MIXED[::-1], sampling)[::-1] == together
    assert subject.generate(MIXED, sampling.model_copy(update={"batch_size": 2})) == together
    assert [subject.generate([conversation], sampling)[0] for conversation in MIXED] == together


def test_samples_of_one_prompt_share_the_pass_over_it_and_are_what_they_are_alone(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [user("Hi.")] * 2 + [user("How should I treat my neighbour?")] * 5
    read: list[int] = []
    cached = generation_module.prompt_cache

    def counted(model: object, pad: int, prompts: list) -> object:
        found = cached(model, pad, prompts)
        read.append(0 if found is None else len(set(prompts)))
        return found

    monkeypatch.setattr(generation_module, "prompt_cache", counted)
    together = subject.generate(asked, Sampling(max_tokens=8), top_logprobs=2)
    assert read == [2]
    monkeypatch.setattr(generation_module, "prompt_cache", lambda *_: None)
    alone = subject.generate(asked, Sampling(max_tokens=8), top_logprobs=2)
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    for one, other in zip(together, alone, strict=True):
        assert [token.logprob for token in one.logprobs] == pytest.approx(
            [token.logprob for token in other.logprobs], abs=1e-4
        )


@pytest.mark.parametrize("config", [BloomConfig, Lfm2Config])
def test_models_without_positions_or_with_more_than_keys_and_values_read_every_row_by_itself(
    config: type, qwen2: Subject, tmp_path: Path
) -> None:
    tokenizer = qwen2.tokenizer
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {"vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    layers = (
        {"intermediate_size": 64, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}
        if config is Lfm2Config
        else {}
    )
    set_seed(0)
    AutoModelForCausalLM.from_config(config(**shape, **layers, **special)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    subject = load_subject(str(tmp_path))
    together = subject.generate([user("Hi.")] * 3, Sampling(max_tokens=6))
    assert together == [
        subject.generate([user("Hi.")], Sampling(max_tokens=6), numbers=[number])[0] for number in range(3)
    ]


def test_equal_prompts_get_different_samples_and_another_seed_others(qwen2: Subject) -> None:
    first = qwen2.generate([user("hi")] * 8, Sampling(max_tokens=12))
    assert len({answer.text for answer in first}) == 8
    assert qwen2.generate([user("hi")] * 8, Sampling(max_tokens=12)) == first
    assert not {answer.text for answer in qwen2.generate([user("hi")] * 8, Sampling(max_tokens=12, seed=1))} & {
        answer.text for answer in first
    }


def test_a_numbered_sample_is_that_of_the_whole_series(qwen2: Subject) -> None:
    series = qwen2.generate([user("hi")] * 4, Sampling(max_tokens=12))
    assert qwen2.generate([user("hi")] * 2, Sampling(max_tokens=12), numbers=[3, 1]) == [series[3], series[1]]


DRAWS = 3000
MODEL = torch.nn.Linear(1, 1)


def shares(sampling: Sampling, probabilities: list[float]) -> dict[int, float]:
    """Share of each token among many draws."""
    uniforms = row_uniforms([(1,)] * DRAWS, range(DRAWS), sampling.seed, 1)
    chooser = TokenChooser(MODEL, sampling, uniforms, None)
    chosen = chooser(
        torch.zeros(DRAWS, 1, dtype=torch.long), torch.tensor(probabilities).log().expand(DRAWS, -1)
    ).argmax(-1)
    return {token: count / DRAWS for token, count in Counter(chosen.tolist()).items()}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.0, 0.5, 0.4]),
        ({"temperature": 0.5}, [0.01 / 0.42, 0.0, 0.25 / 0.42, 0.16 / 0.42]),
        ({"top_k": 2}, [0.0, 0.0, 5 / 9, 4 / 9]),
        ({"top_p": 0.6}, [0.0, 0.0, 5 / 9, 4 / 9]),
        ({"temperature": 0}, [0.0, 0.0, 1.0, 0.0]),
    ],
)
def test_tokens_are_drawn_as_often_as_their_probability_says(settings: dict[str, float], expected: list[float]) -> None:
    found = shares(Sampling(**settings), [0.1, 0.0, 0.5, 0.4])
    for token, probability in enumerate(expected):
        assert found.get(token, 0.0) == pytest.approx(
            probability, abs=4 * math.sqrt(probability * (1 - probability) / DRAWS)
        )


def test_a_random_number_next_to_one_still_picks_a_possible_token() -> None:
    almost_one = torch.full((1, 1), 1.0 - 2**-20)
    chooser = TokenChooser(MODEL, Sampling(), almost_one, None)
    assert chooser(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[0.3, 0.7, 0.0]]).log()).argmax() == 1


def test_rows_are_numbered_among_equal_prompts() -> None:
    assert sample_numbers([(1, 2), (3,), (1, 2), (1, 2), (3,)]) == [0, 0, 1, 2, 1]


def biased_subject(folder: Path, token: str, weight: float) -> Subject:
    """A model whose every next token is `token` with high probability."""
    subject = load_subject(str(save_tiny_model(folder, "llama")))
    (identity,) = subject.tokenizer.encode(token, add_special_tokens=False)
    head = torch.nn.Linear(64, subject.model.config.vocab_size)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[identity] = weight
    subject.model.lm_head = head
    return subject


def test_an_answer_that_the_model_ends_stops_and_counts_its_end_token(tmp_path: Path) -> None:
    (answer,) = biased_subject(tmp_path / "m", "<|im_end|>", 50.0).generate([user("hi")], Sampling(max_tokens=9))
    assert (answer.text, answer.completion_tokens, answer.stop_reason) == ("", 1, "stop")


def test_an_answer_that_is_cut_says_so(tmp_path: Path) -> None:
    (answer,) = biased_subject(tmp_path / "m", "a", 50.0).generate([user("hi")], Sampling(max_tokens=9))
    assert (answer.text, answer.completion_tokens, answer.stop_reason) == ("a" * 9, 9, "length")


def test_answers_of_different_lengths_are_counted_without_padding(tmp_path: Path) -> None:
    subject = biased_subject(tmp_path / "m", "<|im_end|>", math.log(100))
    answers = subject.generate([user("hi")] * 32, Sampling(max_tokens=20), top_logprobs=0)
    assert len({answer.completion_tokens for answer in answers}) > 3
    for answer in answers:
        assert answer.logprobs is not None
        assert len(answer.logprobs) == answer.completion_tokens
        assert (answer.logprobs[-1].token == "<|im_end|>") == (answer.stop_reason == "stop")
        assert all(noted.token != "<|im_end|>" for noted in answer.logprobs[:-1])


def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(tmp_path: Path) -> None:
    (answer,) = biased_subject(tmp_path / "m", "a", 50.0).generate([user("hi")], Sampling(max_tokens=9, stop=("aaa",)))
    assert (answer.text, answer.completion_tokens, answer.stop_reason) == ("", 3, "stop")


def test_no_second_start_token_is_put_in_front(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    subject = load_subject(str(save_tiny_model(tmp_path / "m", template="{{ '<|endoftext|>' }}" + CHAT_TEMPLATE)))
    start = subject.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    subject.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", start)]
    )
    assert subject.tokenizer("hi")["input_ids"][0] == start
    (ids,) = subject.prompt_ids([user("hi")])
    assert ids.count(start) == 1


def test_a_conversation_that_ends_with_the_assistant_is_continued(subject: Subject) -> None:
    begun = [*user("hi"), {"role": "assistant", "content": "Well, the"}]
    assert subject.tokenizer.decode(subject.prompt_ids([begun])[0]).endswith("<|im_start|>assistant\nWell, the")
    (answer,) = subject.generate([begun], GREEDY)
    assert not answer.text.startswith("Well")


def test_the_subjects_system_prompt_stands_above_that_of_the_conversation(qwen2: Subject) -> None:
    own = [{"role": "system", "content": "Rhyme."}, *user("hi")]
    subject = qwen2.with_system("Be brief.")
    texts = [subject.tokenizer.decode(ids) for ids in subject.prompt_ids([own, user("hi")])]
    assert texts[0].startswith("<|im_start|>system\nBe brief.\n\nRhyme.<|im_end|>\n<|im_start|>user\nhi")
    assert texts[1].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi")


def test_a_template_that_refuses_a_conversation_is_named_with_the_row(tmp_path: Path) -> None:
    template = (
        "{% if messages | length > 1 %}{{ raise_exception('one question, please') }}{% endif %}{{ "
        "messages[0]['content'] }}"
    )
    subject = load_subject(str(save_tiny_model(tmp_path / "m", template=template)))
    with pytest.raises(ChatTemplateError, match=r"Conversation 1: .*roles user, user: one question, please"):
        subject.generate([user("hi"), [*user("hi"), *user("hi")]])


def test_an_empty_conversation_is_refused_and_no_conversations_give_no_answers(qwen2: Subject) -> None:
    with pytest.raises(ConfigurationError, match="Conversation 1 has no messages"):
        qwen2.generate([user("hi"), []])
    assert qwen2.generate([]) == []


def test_a_row_longer_than_the_context_is_refused_by_its_number(qwen2: Subject) -> None:
    with pytest.raises(ConfigurationError, match=r"Row 1 has \d+ tokens, but the model's context holds 4096"):
        qwen2.generate([user("hi"), user("hi " * 5000)], GREEDY)


def test_a_row_near_the_end_of_the_context_gets_the_room_that_is_left(qwen2: Subject) -> None:
    long = user("0 " * 2030)
    room = 4096 - len(qwen2.prompt_ids([long])[0])
    assert 0 < room < 64
    answers = qwen2.generate([user("hi"), long], Sampling(temperature=0, max_tokens=64))
    assert answers[0] == qwen2.generate([user("hi")], Sampling(temperature=0, max_tokens=64))[0]
    assert answers[1].completion_tokens == room
    assert answers[1].stop_reason == "length"


def test_when_memory_runs_out_the_batch_is_halved_and_nothing_is_lost(
    qwen2: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = qwen2.generate(MIXED, Sampling(max_tokens=6))
    answer, sizes = generation_module._answer, []

    def small_memory(model: object, tokenizer: object, rows: list, *rest: object) -> list:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(model, tokenizer, rows, *rest)

    monkeypatch.setattr(generation_module, "_answer", small_memory)
    assert qwen2.generate(MIXED, Sampling(max_tokens=6)) == expected
    assert sizes == [5, 2, 3, 1, 2]


def test_a_row_that_alone_needs_too_much_memory_is_an_error(qwen2: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_arguments: object) -> list:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generation_module, "_answer", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        qwen2.generate(MIXED, GREEDY)


def test_batches_keep_to_the_token_budget(qwen2: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation_module, "TOKENS_PER_BATCH", 120)
    sizes: list[tuple[int, int]] = []
    answer = generation_module._answer

    def noted(model: object, tokenizer: object, rows: list, *rest: object) -> list:
        sizes.append((len(rows), max(len(row.prompt) for row in rows) + rows[0].max_tokens))
        return answer(model, tokenizer, rows, *rest)

    monkeypatch.setattr(generation_module, "_answer", noted)
    qwen2.generate(MIXED, Sampling(max_tokens=6))
    assert len(sizes) > 1
    assert all(rows * tokens <= 120 for rows, tokens in sizes)


def test_published_generation_settings_do_not_leak_into_sampling(
    tiny_qwen2: Path, tmp_path: Path, qwen2: Subject
) -> None:
    import json
    import shutil

    folder = shutil.copytree(tiny_qwen2, tmp_path / "published")
    settings = {"do_sample": True, "temperature": 0.01, "top_k": 1, "repetition_penalty": 5.0, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    sampling = Sampling(max_tokens=12)
    assert load_subject(str(folder)).generate(MIXED, sampling) == qwen2.generate(MIXED, sampling)


def continuation_by_hand(subject: Subject, prompt: list[int], text: str) -> float:
    """Total log-probability from one unpadded row."""
    tokens = subject.tokenizer.encode(text, add_special_tokens=False)
    with torch.no_grad():
        logprobs = subject.model(input_ids=torch.tensor([prompt + tokens])).logits[0].log_softmax(-1)
    return sum(float(logprobs[len(prompt) - 1 + step, token]) for step, token in enumerate(tokens))


def test_continuation_logprobs_equal_those_of_single_unpadded_rows(subject: Subject) -> None:
    continuations = [["yes", " no, never"], ["42"], ["a", "bb", "ccc ddd eee"], ["x"], ["Kindly", "cruelly"]]
    prefixes = ["", "I would", "", " well", ""]
    found = subject.continuation_logprobs(MIXED, continuations, prefixes)
    for prompt, prefix, texts, values in zip(subject.prompt_ids(MIXED), prefixes, continuations, found, strict=True):
        begun = prompt + subject.tokenizer.encode(prefix, add_special_tokens=False)
        assert values == pytest.approx([continuation_by_hand(subject, begun, text) for text in texts], abs=1e-4)


def test_generated_logprobs_are_those_of_the_model_itself(subject: Subject) -> None:
    sampling = Sampling(max_tokens=3, temperature=0.7, top_p=0.9)
    answers = subject.generate(MIXED, sampling, top_logprobs=3)
    for prompt, answer in zip(subject.prompt_ids(MIXED), answers, strict=True):
        assert answer.logprobs is not None
        with torch.no_grad():
            likeliest = subject.model(input_ids=torch.tensor([prompt])).logits[0, -1].log_softmax(-1).topk(3)
        assert [value for _, value in answer.logprobs[0].top] == pytest.approx(likeliest.values.tolist(), abs=1e-4)
        assert [token for token, _ in answer.logprobs[0].top] == [
            subject.tokenizer.decode([int(token)]) for token in likeliest.indices
        ]


def test_generated_logprobs_agree_with_those_of_continuations(subject: Subject) -> None:
    (answer,) = subject.generate([user("hi")], Sampling(max_tokens=1), top_logprobs=1000)
    assert answer.logprobs is not None
    noted = dict(answer.logprobs[0].top)
    assert len(answer.logprobs[0].top) == subject.model.config.vocab_size
    (totals,) = subject.continuation_logprobs([user("hi")], [["a", "z", "7"]])
    assert [noted[token] for token in ("a", "z", "7")] == pytest.approx(totals, abs=1e-4)


def test_scoring_many_continuations_in_small_passes_changes_nothing(
    qwen2: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    from astray.subjects import likelihood

    texts = [["yes", "no", "perhaps so"]] * len(MIXED)
    whole = qwen2.continuation_logprobs(MIXED, texts)
    monkeypatch.setattr(likelihood, "TOKENS_PER_PASS", 80)
    monkeypatch.setattr(likelihood, "LOGITS_PER_PASS", 3000)
    for split, together in zip(qwen2.continuation_logprobs(MIXED, texts), whole, strict=True):
        assert split == pytest.approx(together, abs=1e-4)


def test_continuations_that_cannot_be_scored_are_refused(qwen2: Subject) -> None:
    with pytest.raises(ConfigurationError, match="Continuation 1 is empty"):
        qwen2.continuation_logprobs([user("hi")], [["yes", ""]])
    with pytest.raises(ConfigurationError, match="context holds 4096"):
        qwen2.continuation_logprobs([user("hi")], [["yes " * 5000]])
    with pytest.raises(ConfigurationError, match="2 conversations, 1 lists"):
        qwen2.continuation_logprobs([user("hi")] * 2, [["yes"]])


def test_an_empty_prompt_is_refused(qwen2: Subject) -> None:
    with pytest.raises(ConfigurationError, match="Row 0 is empty"):
        generate(qwen2.model, qwen2.tokenizer, [[]], GREEDY)
