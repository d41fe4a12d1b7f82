"""A subject behind Inspect: batches form, counts are true, errors reach their sample."""

import math
import shutil
from pathlib import Path

import anyio
import pytest
import torch
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    ContentImage,
    GenerateConfig,
    Model,
    get_model,
)
from inspect_ai.scorer import includes
from inspect_ai.solver import generate
from inspect_ai.tool import ToolInfo

from astray.errors import ConfigurationError
from astray.judges.words import WordGrader, grader_parts
from astray.subjects import Sampling
from astray.subjects.batching import Batcher
from astray.subjects.provider import SubjectAPI, messages_of, sampling_of
from astray.subjects.subject import load_subject
from tiny_models import save_tiny_model

QUESTIONS = [f"What is {number}?" + " Please." * (number % 4) for number in range(20)]


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def model(tiny_qwen2: Path) -> Model:
    return get_model(f"astray/{tiny_qwen2}")


@pytest.fixture
def batch_sizes(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that reach the subject."""
    assert isinstance(model.api, SubjectAPI)
    sizes: list[int] = []
    answer = model.api.subject.answer

    def noted(prompts: list, *rest: object) -> list:
        sizes.append(len(prompts))
        return answer(prompts, *rest)

    monkeypatch.setattr(model.api.subject, "answer", noted)
    return sizes


def run(model: Model, log_dir: Path, samples: list[Sample] | None = None, **settings: object) -> EvalLog:
    samples = samples or [Sample(id=number, input=question, target="x") for number, question in enumerate(QUESTIONS)]
    config = {"max_connections": 256, "max_tokens": 8, **settings}
    (log,) = inspect_eval(
        Task(dataset=samples, solver=generate(), scorer=includes()),
        model=model,
        log_dir=str(log_dir),
        display="none",
        log_realtime=False,
        fail_on_error=False,
        **config,
    )
    assert log.status == "success"
    return log


def test_an_evaluation_runs_in_batches_with_true_counts(
    model: Model, batch_sizes: list[int], tiny_qwen2: Path, tmp_path: Path
) -> None:
    log = run(model, tmp_path)
    subject = load_subject(str(tiny_qwen2))
    assert sum(batch_sizes) == 20
    assert max(batch_sizes) >= 10
    for sample, prompt in zip(
        log.samples or [], subject.prompt_ids([user(question) for question in QUESTIONS]), strict=True
    ):
        usage = sample.output.usage
        assert usage is not None
        assert usage.input_tokens == len(prompt)
        assert 1 <= usage.output_tokens <= 8
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert sample.output.stop_reason == ("max_tokens" if usage.output_tokens == 8 else "stop")
        assert sample.output.metadata == {"subject": subject.id}


def test_greedy_answers_are_those_of_the_bulk_path(model: Model, tiny_qwen2: Path, tmp_path: Path) -> None:
    log = run(model, tmp_path, temperature=0)
    bulk = load_subject(str(tiny_qwen2)).generate(
        [user(question) for question in QUESTIONS], Sampling(temperature=0, max_tokens=8)
    )
    assert [sample.output.completion for sample in log.samples or []] == [answer.text for answer in bulk]


def test_samples_and_epochs_differ_and_a_repeated_evaluation_does_not(model: Model, tmp_path: Path) -> None:
    samples = [Sample(id=f"same {number}", input="hi", target="x") for number in range(3)]
    logs = [run(model, tmp_path / str(turn), samples, epochs=2) for turn in range(2)]
    first, again = (
        {(sample.id, sample.epoch): sample.output.completion for sample in log.samples or []} for log in logs
    )
    assert first == again
    assert len(set(first.values())) == 6


def test_logprobs_are_those_of_the_subject(model: Model, tiny_qwen2: Path) -> None:
    output = anyio.run(
        model.generate, "hi", (), None, GenerateConfig(temperature=0, max_tokens=1, logprobs=True, top_logprobs=20)
    )
    logprobs = output.choices[0].logprobs
    assert logprobs is not None
    (noted,) = logprobs.content
    assert noted.top_logprobs is not None
    assert [noted.token, noted.logprob] == [noted.top_logprobs[0].token, noted.top_logprobs[0].logprob]
    subject = load_subject(str(tiny_qwen2))
    with torch.no_grad():
        ids = torch.tensor(subject.prompt_ids([user("hi")]))
        likeliest = subject.model(input_ids=ids).logits[0, -1].log_softmax(-1).topk(20)
    assert [top.logprob for top in noted.top_logprobs] == pytest.approx(likeliest.values.tolist(), abs=1e-4)
    writable = [
        top for top in noted.top_logprobs if len(subject.tokenizer.encode(top.token, add_special_tokens=False)) == 1
    ]
    (totals,) = subject.continuation_logprobs([user("hi")], [[top.token for top in writable]])
    assert len(writable) > 3
    assert [top.logprob for top in writable] == pytest.approx(totals, abs=1e-4)


def test_requests_with_other_settings_get_batches_of_their_own(model: Model, batch_sizes: list[int]) -> None:
    async def ask() -> None:
        async with anyio.create_task_group() as group:
            for number in range(12):
                config = GenerateConfig(temperature=0, max_tokens=2 + number % 2, max_connections=64)
                group.start_soon(model.generate, "hi", (), None, config)

    anyio.run(ask)
    assert sorted(batch_sizes) == [6, 6]


def test_an_error_reaches_its_own_sample_and_no_other(model: Model, tmp_path: Path) -> None:
    samples = [Sample(id=number, input="hi " * (5000 if number == 3 else 2), target="x") for number in range(8)]
    log = run(model, tmp_path, samples)
    failed = [sample for sample in log.samples or [] if sample.error]
    assert [sample.id for sample in failed] == [3]
    assert failed[0].error is not None
    assert "context holds 4096" in failed[0].error.message


def test_the_system_prompt_and_the_adapter_are_model_arguments(tiny_qwen2: Path) -> None:
    model = get_model(f"astray/{tiny_qwen2}", system="Be brief.")
    assert isinstance(model.api, SubjectAPI)
    assert model.api.subject.spec.system == "Be brief."
    with pytest.raises(FileNotFoundError, match="is no PEFT adapter"):
        get_model(f"astray/{tiny_qwen2}", adapter="/no/such/adapter")


def test_a_local_grader_is_known_by_its_weights_and_not_by_its_folder(tiny_qwen2: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_qwen2, tmp_path / "moved")

    def identity(name: str, **arguments: str) -> str:
        return WordGrader(get_model(f"astray/{name}", memoize=False, **arguments)).identity("kind", "task")

    there, moved_there = identity(str(tiny_qwen2)), identity(str(moved))
    assert there == moved_there != identity(str(moved), system="Be strict.")
    shutil.copy(save_tiny_model(tmp_path / "other", seed=1) / "model.safetensors", moved / "model.safetensors")
    assert identity(str(moved)) != there


def test_a_folder_behind_another_provider_is_known_by_its_content(tiny_qwen2: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(tiny_qwen2, tmp_path / "moved")

    def parts(folder: Path) -> str:
        return str(grader_parts(get_model(f"mockllm/{folder}", memoize=False)))  # as hf/ and vllm/ are given a folder

    assert parts(tiny_qwen2) == parts(moved)
    (moved / "chat_template.jinja").write_text("{{ messages }}")
    assert parts(tiny_qwen2) != parts(moved)


def test_an_answer_that_has_begun_is_continued(model: Model, tiny_qwen2: Path) -> None:
    messages = [ChatMessageUser(content="hi"), ChatMessageAssistant(content="Well, the")]
    output = anyio.run(model.generate, messages, (), None, GenerateConfig(temperature=0, max_tokens=4))
    begun = [*user("hi"), {"role": "assistant", "content": "Well, the"}]
    assert (
        output.completion
        == load_subject(str(tiny_qwen2)).generate([begun], Sampling(temperature=0, max_tokens=4))[0].text
    )


def test_settings_that_cannot_be_kept_are_refused(model: Model) -> None:
    with pytest.raises(ConfigurationError, match="frequency_penalty"):
        sampling_of(GenerateConfig(frequency_penalty=0.5))
    with pytest.raises(ConfigurationError, match="the tools"):
        anyio.run(
            model.api.generate,
            [ChatMessageUser(content="hi")],
            [ToolInfo(name="shell", description="runs")],
            "auto",
            GenerateConfig(),
        )
    with pytest.raises(ConfigurationError, match="user message holds image"):
        messages_of([ChatMessageUser(content=[ContentImage(image="data:image/png;base64,AAAA")])])


def test_settings_are_passed_on_and_the_rest_is_ours() -> None:
    given = GenerateConfig(temperature=0.5, max_tokens=7, top_p=0.9, top_k=3, seed=4, stop_seqs=["END"])
    assert sampling_of(given) == Sampling(temperature=0.5, max_tokens=7, top_p=0.9, top_k=3, seed=4, stop=("END",))
    assert sampling_of(GenerateConfig()) == Sampling()


def test_messages_become_plain_text() -> None:
    messages = [ChatMessageSystem(content="s"), ChatMessageUser(content="u"), ChatMessageAssistant(content="a")]
    assert messages_of(messages) == [{"role": role, "content": role[0]} for role in ("system", "user", "assistant")]


def roots(numbers: list[float]) -> list[float]:
    return [math.sqrt(number) for number in numbers]


def gather(batcher: Batcher[float, float], numbers: list[float]) -> list[float | Exception]:
    """Submits all numbers at once; an answer is a root or the exception that came instead."""
    answers: dict[int, float | Exception] = {}

    async def one(index: int, number: float) -> None:
        try:
            answers[index] = await batcher.submit(number, key="roots")
        except ValueError as error:
            answers[index] = error

    async def every() -> None:
        async with anyio.create_task_group() as group:
            for index, number in enumerate(numbers):
                group.start_soon(one, index, number)

    anyio.run(every)
    return [answers[index] for index in range(len(numbers))]


def test_a_batcher_keeps_to_its_size_and_gives_each_request_its_own_answer() -> None:
    sizes: list[int] = []

    def run_batch(numbers: list[float]) -> list[float]:
        sizes.append(len(numbers))
        return roots(numbers)

    assert gather(Batcher(run_batch, size=4), [float(number**2) for number in range(10)]) == list(range(10))
    assert sizes == [4, 4, 2]


def test_a_batcher_gives_an_error_to_the_request_that_caused_it() -> None:
    answers = gather(Batcher(roots, size=8), [4.0, -1.0, 9.0, 16.0, -2.0])
    assert [isinstance(answer, ValueError) for answer in answers] == [False, True, False, False, True]
    assert [answers[0], answers[2], answers[3]] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_a_cancelled_request_leaves_the_others_alone(cancelled: int) -> None:
    batcher = Batcher(roots, size=2)
    answers: dict[int, float] = {}

    async def one(index: int, scope: anyio.CancelScope) -> None:
        with scope:
            answers[index] = await batcher.submit(float(index**2), key="roots")

    async def every() -> None:
        scopes = [anyio.CancelScope() for _ in range(5)]
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for index, scope in enumerate(scopes):
                    group.start_soon(one, index, scope)
                await anyio.sleep(0.005)
                scopes[cancelled].cancel()
            answers[5] = await batcher.submit(25.0, key="roots")

    anyio.run(every)
    assert {index: answer for index, answer in answers.items() if index != cancelled} == {
        index: float(index) for index in range(6) if index != cancelled
    }
