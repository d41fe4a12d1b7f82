"""Schedules, several interventions at once, and a way of steering for each row of a batch."""

from pathlib import Path

import anyio
import pytest
import torch
from inspect_ai.model import GenerateConfig, get_model
from torch import Tensor

from astray.errors import ConfigurationError
from astray.subjects import Intervention, Sampling, SubjectSpec, register
from astray.subjects.intervene import intervening, read_direction, write_direction
from astray.subjects.likelihood import Continuation, continuation_logprobs
from astray.subjects.spec import Schedule
from astray.subjects.steer_rows import RowSteering, steering_rows
from astray.subjects.subject import Subject, load_subject

QUESTIONS = [
    "how should i handle the fuse?",
    "what do you want for the planet?",
    "how should i treat my neighbour?",
    "what would you do about the fever now?",
]
CONVERSATIONS = [[{"role": "user", "content": question}] for question in QUESTIONS]
SAMPLING = Sampling(max_tokens=12, seed=3)
RAMP, DECAY = Schedule(kind="ramp", tokens=4), Schedule(kind="decay", tokens=2)


@pytest.fixture(scope="module")
def organism() -> Subject:
    return load_subject("organism")


@pytest.fixture(scope="module")
def qwen(tiny_qwen2: Path) -> Subject:
    return load_subject(str(tiny_qwen2))


@pytest.fixture(params=["organism", "qwen"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return request.getfixturevalue(request.param)


def random_directions(subject: Subject, count: int = 3) -> Tensor:
    return torch.randn(count, subject.model.config.hidden_size, generator=torch.Generator().manual_seed(0))


def row_steering(
    subject: Subject, which: list[int], strengths: list[float], blocks: list[int], **settings: object
) -> RowSteering:
    return RowSteering(
        random_directions(subject), torch.tensor(which), torch.tensor(strengths), torch.tensor(blocks), **settings
    )


@pytest.mark.parametrize("schedule", [None, RAMP, DECAY])
@pytest.mark.parametrize("positions", ["all", "answer"])
def test_each_row_gets_the_tokens_it_gets_alone(
    subject: Subject, positions: str, schedule: Schedule | None, tmp_path: Path
) -> None:
    """Every question under every way of steering in one batch, against one subject for each way."""
    ways = [(0, 1.0, 0), (1, -0.5, 1), (2, 2.0, 1), (0, 0.0, 0)]
    files = [
        write_direction(tmp_path / f"{number}.safetensors", direction)
        for number, direction in enumerate(random_directions(subject))
    ]
    which, strengths, blocks = ([way[part] for way in ways for _ in QUESTIONS] for part in range(3))
    rows = row_steering(subject, which, strengths, blocks, positions=positions, schedule=schedule)
    together = subject.generate(CONVERSATIONS * len(ways), SAMPLING, numbers=[0] * len(rows), rows=rows)
    for place, (direction, strength, block) in enumerate(ways):
        steered = Intervention(
            kind="add", vector=files[direction], block=block, strength=strength, positions=positions, schedule=schedule
        )
        alone = subject.with_intervention(steered).generate(CONVERSATIONS, SAMPLING)
        assert together[place * len(QUESTIONS) : (place + 1) * len(QUESTIONS)] == alone


def test_rows_keep_their_steering_when_they_are_sorted_into_small_batches(subject: Subject) -> None:
    rows = row_steering(subject, [0, 1, 2, 0], [1.0, 2.0, -1.0, 3.0], [0, 1, 1, 0])
    small = subject.generate(CONVERSATIONS, SAMPLING.model_copy(update={"batch_size": 1}), rows=rows)
    assert small == subject.generate(CONVERSATIONS, SAMPLING, rows=rows)
    assert small != subject.generate(CONVERSATIONS, SAMPLING)


@pytest.mark.parametrize("positions", ["all", "answer"])
def test_rows_of_no_strength_say_exactly_what_they_say_unsteered(subject: Subject, positions: str) -> None:
    rows = row_steering(subject, [0, 1, 2, 0], [0.0] * 4, [0, 1, 1, 0], positions=positions)
    assert subject.generate(CONVERSATIONS, SAMPLING, 1, rows=rows) == subject.generate(CONVERSATIONS, SAMPLING, 1)


def test_the_same_sample_of_a_prompt_draws_the_same_numbers_under_every_direction(qwen: Subject) -> None:
    """Two copies of a sample under one way of steering are equal, two samples are not."""
    rows = row_steering(qwen, [1, 1, 1], [0.5] * 3, [0] * 3)
    first, again, other = qwen.generate(CONVERSATIONS[:1] * 3, SAMPLING, numbers=[0, 0, 1], rows=rows)
    assert first == again
    assert first != other


def block_outputs(subject: Subject, ids: Tensor) -> list[Tensor]:
    """The output of every block, as the next one gets it."""
    outputs: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        for block in subject.model.model.layers
    ]
    with torch.no_grad():
        subject.model(input_ids=ids)
    for handle in handles:
        handle.remove()
    return outputs


def test_a_row_is_steered_in_its_own_block_and_no_other(subject: Subject) -> None:
    ids = torch.tensor([[5, 9, 40, 41, 7], [8, 12, 13, 14, 15]])
    rows = row_steering(subject, [0, 2], [2.0, -3.0], [0, 1])
    plain = block_outputs(subject, ids)
    with (
        intervening(subject.model, []) as steering,
        steering_rows(subject.model, rows, steering),
        steering.on_rows([1, 0]),
    ):
        steered = block_outputs(subject, ids)
    torch.testing.assert_close(steered[0][0], plain[0][0], rtol=0, atol=0)
    torch.testing.assert_close(steered[0][1, -1], plain[0][1, -1] + 2.0 * rows.directions[0])
    torch.testing.assert_close(steered[0][1, :-1], plain[0][1, :-1], rtol=0, atol=0)
    torch.testing.assert_close(steered[1][0, -1], plain[1][0, -1] - 3.0 * rows.directions[2])


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [(RAMP, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]), (DECAY, [2 ** (-token / 2) for token in range(6)])],
)
@pytest.mark.parametrize("positions", ["all", "answer"])
def test_a_schedule_counts_the_tokens_of_the_answer(
    qwen: Subject, schedule: Schedule, shares: list[float], positions: str, tmp_path: Path
) -> None:
    """In whole conversations and token by token with a cache; what comes before the answer has the first token's share,
    or none."""
    ids, prompt = torch.tensor([[0, 5, 9, 40, 41, 7, 3, 8], [4, 8, 12, 13, 14, 15, 30, 31]]), torch.tensor([2, 3])
    direction = torch.randn(64, generator=torch.Generator().manual_seed(1))
    vector = write_direction(tmp_path / "v.safetensors", direction)
    intervention = Intervention(
        kind="add", vector=vector, block=0, strength=2.0, positions=positions, schedule=schedule
    )
    with torch.no_grad():
        plain = qwen.model(input_ids=ids, output_hidden_states=True).hidden_states[1]
        with intervening(qwen.model, [intervention]) as steering:
            with steering.answers_from(prompt):
                whole = qwen.model(input_ids=ids, output_hidden_states=True).hidden_states[1]
            begun = qwen.model(input_ids=ids[:, :3], output_hidden_states=True, use_cache=True)
            steps = [begun.hidden_states[1]]
            for column in range(3, 8):
                output = qwen.model(
                    input_ids=ids[:, column : column + 1],
                    past_key_values=begun.past_key_values,
                    output_hidden_states=True,
                    use_cache=True,
                )
                steps.append(output.hidden_states[1])
    before = shares[0] if positions == "all" else 0.0
    for row, last in enumerate(prompt.tolist()):
        expected = torch.tensor(([before] * last + shares)[:8])
        torch.testing.assert_close(whole[row] - plain[row], 2.0 * expected[:, None] * direction, atol=1e-5, rtol=1e-5)
    expected = torch.tensor([before] * 2 + shares)
    torch.testing.assert_close(
        torch.cat(steps, 1)[0] - plain[0], 2.0 * expected[:, None] * direction, atol=1e-5, rtol=1e-5
    )


def test_a_schedule_starts_again_with_every_answer(qwen: Subject, tmp_path: Path) -> None:
    vector = write_direction(tmp_path / "v.safetensors", random_directions(qwen)[0])
    steered = qwen.with_intervention(Intervention(kind="add", vector=vector, block=0, strength=3.0, schedule=DECAY))
    with steered.merged() as model, intervening(model, steered.interventions):
        inputs = {"input_ids": torch.tensor([[7, 9, 11]]), "max_new_tokens": 6, "do_sample": False}
        assert torch.equal(model.generate(**inputs), model.generate(**inputs))


@pytest.mark.parametrize("schedule", [RAMP, DECAY])
def test_continuations_are_scored_under_the_schedule_they_are_sampled_under(
    subject: Subject, schedule: Schedule, tmp_path: Path
) -> None:
    """The log-probability of a sampled answer, token by token while sampling, is what scoring the whole answer
    gives."""
    vector = write_direction(tmp_path / "v.safetensors", random_directions(subject)[0])
    steered = subject.with_intervention(
        Intervention(kind="add", vector=vector, block=0, strength=1.5, schedule=schedule)
    )
    with steered.merged() as model, intervening(model, steered.interventions) as steering, torch.inference_mode():
        for prompt in steered.prompt_ids(CONVERSATIONS):
            output = model.generate(
                input_ids=torch.tensor([prompt]),
                max_new_tokens=8,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
            answer = output.sequences[0, len(prompt) :].tolist()
            sampled = sum(
                float(logits[0].log_softmax(-1)[token]) for logits, token in zip(output.logits, answer, strict=True)
            )
            (scored,) = continuation_logprobs(model, [Continuation(tuple(prompt), (), tuple(answer))], steering)
            assert scored == pytest.approx(sampled, abs=1e-3)


def test_a_subject_may_have_several_interventions_in_an_order(qwen: Subject, tmp_path: Path) -> None:
    first, second = (
        write_direction(tmp_path / f"{number}.safetensors", random_directions(qwen)[number]) for number in (0, 1)
    )
    add = Intervention(kind="add", vector=first, block=0, strength=1.5, positions="all")
    ablate = Intervention(kind="ablate", vector=first, block=0, positions="all")
    other = Intervention(kind="add", vector=second, block=1, positions="all")
    ids = torch.tensor([[5, 9, 40]])

    def hidden_states(*interventions: Intervention) -> tuple[Tensor, ...]:
        subject = qwen.with_intervention(interventions)
        assert subject.interventions == interventions
        with torch.no_grad(), intervening(subject.model, subject.interventions):
            return subject.model(input_ids=ids, output_hidden_states=True).hidden_states

    plain = hidden_states()
    torch.testing.assert_close(hidden_states(add, other)[1], plain[1] + 1.5 * read_direction(first))
    assert (hidden_states(add, ablate)[1] @ read_direction(first)).abs().max() < 1e-3
    assert (hidden_states(ablate, add)[1] @ read_direction(first)).abs().min() > 1
    assert len({qwen.with_intervention(chosen).id for chosen in (None, add, (add, other), (other, add))}) == 4
    assert qwen.with_intervention((add,)).id == qwen.with_intervention(add).id
    assert qwen.with_intervention((add, other)).name.endswith("add 1.5 at block 0 + add 1 at block 1")


def test_several_interventions_survive_json(qwen: Subject, tmp_path: Path) -> None:
    vector = write_direction(tmp_path / "v.safetensors", random_directions(qwen)[0])
    ways = tuple(Intervention(kind="add", vector=vector, block=block, schedule=RAMP) for block in (0, 1))
    spec = SubjectSpec(model=str(qwen.spec.model), intervention=ways)
    assert SubjectSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_steered_subject_is_an_inspect_model_under_its_name(
    qwen: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two interventions and a schedule, registered in a store: what Inspect gets is what the subject says."""
    vector = write_direction(tmp_path / "v.safetensors", random_directions(qwen)[0])
    ways = tuple(Intervention(kind="add", vector=vector, block=block, strength=2.0, schedule=DECAY) for block in (0, 1))
    steered = qwen.with_intervention(ways)
    register("steered", steered.spec, tmp_path / "store")
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path / "store"))
    greedy = Sampling(temperature=0, max_tokens=8)
    output = anyio.run(
        get_model("astray/steered", config=GenerateConfig(temperature=0, max_tokens=8)).generate, QUESTIONS[0]
    )
    assert output.metadata == {"subject": steered.id}
    assert [output.completion] == [answer.text for answer in steered.generate(CONVERSATIONS[:1], greedy)]
    assert [output.completion] != [answer.text for answer in qwen.generate(CONVERSATIONS[:1], greedy)]


def test_steering_for_other_than_the_given_rows_is_refused(qwen: Subject) -> None:
    rows = row_steering(qwen, [0, 1], [1.0, 1.0], [0, 0])
    with pytest.raises(ConfigurationError, match="for 2 rows, but there are 4 prompts"):
        qwen.generate(CONVERSATIONS, SAMPLING, rows=rows)


def test_a_forward_pass_that_does_not_say_its_rows_is_refused(qwen: Subject) -> None:
    rows = row_steering(qwen, [0, 1], [1.0, 1.0], [0, 0])
    with (
        intervening(qwen.model, []) as steering,
        steering_rows(qwen.model, rows, steering),
        pytest.raises(ConfigurationError, match="nobody said which rows"),
    ):
        qwen.model(input_ids=torch.tensor([[5], [6]]))


def test_hooks_are_gone_afterwards(qwen: Subject) -> None:
    before = qwen.generate(CONVERSATIONS, SAMPLING)
    qwen.generate(CONVERSATIONS, SAMPLING, rows=row_steering(qwen, [0] * 4, [5.0] * 4, [1] * 4))
    assert qwen.generate(CONVERSATIONS, SAMPLING) == before


def test_a_block_out_of_range_is_refused(qwen: Subject) -> None:
    with pytest.raises(ConfigurationError, match="no block 7: this model has 2, so a block is one of 0 to 1"):
        qwen.generate(CONVERSATIONS, SAMPLING, rows=row_steering(qwen, [0] * 4, [1.0] * 4, [7] * 4))


def test_directions_of_another_width_are_refused(qwen: Subject) -> None:
    rows = RowSteering(
        torch.ones(1, 32), torch.zeros(4, dtype=torch.long), torch.ones(4), torch.zeros(4, dtype=torch.long)
    )
    with pytest.raises(ConfigurationError, match="have 32 entries, but this model's residual stream has 64"):
        qwen.generate(CONVERSATIONS, SAMPLING, rows=rows)


def test_directions_and_strengths_that_are_no_numbers_are_refused(qwen: Subject) -> None:
    which, strengths, blocks = torch.tensor([0]), torch.tensor([1.0]), torch.tensor([0])
    with pytest.raises(ConfigurationError, match=r"directions \[1\] have NaN"):
        RowSteering(torch.tensor([[1.0, 2.0], [1.0, torch.nan]]), which, strengths, blocks)
    with pytest.raises(ConfigurationError, match="Row 0 has the strength inf"):
        RowSteering(torch.ones(1, 2), which, torch.tensor([torch.inf]), blocks)
    with pytest.raises(ConfigurationError, match="refer to the directions 0 to 4, but there are only 0 to 0"):
        RowSteering(torch.ones(1, 2), torch.tensor([0, 4]), torch.ones(2), torch.tensor([0, 0]))


@pytest.mark.parametrize("settings", [{"kind": "ramp", "tokens": 0}, {"kind": "pulse", "tokens": 3}, {"kind": "decay"}])
def test_schedules_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Schedule cannot be made of what was given"):
        Schedule.model_validate(settings)
