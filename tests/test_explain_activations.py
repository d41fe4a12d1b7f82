"""Captured activations are those of the named site and the chosen tokens, whatever else is in the batch, and reading
leaves the model as it was."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteActivationsError, UnknownNameError
from astray.explain.activations import TOKENS_PER_PASS, Captured, TokenRow, capture, conversation_rows, text_rows
from astray.explain.direction import answer_activations
from astray.explain.sites import Site, reading, sites_of
from astray.subjects.intervene import Intervention, read_direction, write_direction
from astray.subjects.subject import Subject, load_subject
from causal_models import save_causal_model

ROWS = [
    TokenRow((5, 9, 40, 41, 7, 30, 31), 4),
    TokenRow((8, 12), 1),
    TokenRow((50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61), 10),
    TokenRow((70, 71, 72, 73), 2),
]
PROMPTS = [[{"role": "user", "content": "hi " * count}] for count in (1, 6, 3)]
ANSWERS = ["Kindly.", "add left right", "7"]


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma2", "gpt2", "bloom"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_causal_model(tmp_path_factory.mktemp(request.param), request.param)))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_subject(str(save_causal_model(tmp_path_factory.mktemp("llama"), "llama")))


def hidden_states(subject: Subject, row: TokenRow) -> tuple[Tensor, ...]:
    """Of one row alone, without padding."""
    with torch.no_grad():
        states: tuple[Tensor, ...] = subject.model(
            input_ids=torch.tensor([row.tokens]), output_hidden_states=True
        ).hidden_states
    return states


def test_rows_of_a_padded_batch_equal_hidden_states_of_single_rows(subject: Subject) -> None:
    sites = [Site(place="block in", block=0), Site(place="block out", block=1), Site(place="block in", block=2)]
    captured = capture(subject, ROWS, sites, "all")
    assert captured.rows == 4
    assert captured.row.tolist() == [number for number, row in enumerate(ROWS) for _ in row.tokens]
    assert captured.position.tolist() == [place for row in ROWS for place in range(len(row.tokens))]
    for number, row in enumerate(ROWS):
        states = hidden_states(subject, row)
        for site, index in zip(sites, (0, 2, 2), strict=True):
            torch.testing.assert_close(captured[site][captured.row == number], states[index][0], rtol=1e-4, atol=1e-4)


def test_chosen_positions_are_the_same_activations(llama: Subject) -> None:
    site = Site(place="mlp out", block=1)
    everything = capture(llama, ROWS, [site], "all")
    for positions, chosen in (("last prompt", [3, 0, 9, 1]), ("answer", [4, 5, 6, 1, 10, 11, 2, 3])):
        captured = capture(llama, ROWS, [site], positions)
        assert captured.position.tolist() == chosen
        wanted = [
            int(((everything.row == row) & (everything.position == place)).nonzero())
            for row, place in zip(captured.row, chosen, strict=True)
        ]
        torch.testing.assert_close(captured[site], everything[site][wanted], rtol=1e-4, atol=1e-5)


def test_how_rows_are_batched_changes_nothing(llama: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = sites_of(llama.model)
    together = capture(llama, ROWS, sites, "answer")
    monkeypatch.setitem(TOKENS_PER_PASS, "cpu", 8)
    apart = capture(llama, ROWS, sites, "answer")
    for site in sites:
        torch.testing.assert_close(together[site], apart[site], rtol=1e-4, atol=1e-5)


def test_the_pass_stops_at_the_deepest_site_and_leaves_the_model_as_it_was(subject: Subject) -> None:
    ids = torch.tensor([ROWS[0].tokens])
    with torch.no_grad():
        before = subject.model(input_ids=ids).logits
    hooks = [len(module._forward_hooks) for module in subject.model.modules()]
    run: list[str] = []
    names = {
        name: module
        for name, module in subject.model.named_modules()
        if name.split(".")[-1] in ("0", "1", "2") or name == "lm_head"
    }
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: run.append(name.split(".")[-1]))
        for name, module in names.items()
    ]
    capture(subject, ROWS[:1], [Site(place="block out", block=1), Site(place="block in", block=0)], "all")
    for handle in handles:
        handle.remove()
    assert run == ["0", "1"]
    assert [len(module._forward_hooks) for module in subject.model.modules()] == hooks
    with torch.no_grad():
        torch.testing.assert_close(subject.model(input_ids=ids).logits, before, rtol=0, atol=0)


def test_means_of_rows_are_those_of_their_tokens(llama: Subject) -> None:
    site = Site(place="block out", block=0)
    captured = capture(llama, ROWS, [site, Site(place="block out", block=2)], "answer")
    by_hand = torch.stack([captured[site][captured.row == row].mean(0) for row in range(4)])
    torch.testing.assert_close(captured.row_means(captured[site]), by_hand)
    squared = captured.row_means(captured[site] ** 2)
    assert squared.shape == by_hand.shape
    assert (squared >= by_hand**2 - 1e-5).all()


def test_conversations_are_read_as_the_subject_reads_them(llama: Subject) -> None:
    rows = conversation_rows(llama.with_system("Be brief."), PROMPTS, ANSWERS)
    prompts = llama.with_system("Be brief.").prompt_ids(PROMPTS)
    assert [list(row.tokens[: row.prompt]) for row in rows] == prompts
    assert [llama.tokenizer.decode(row.tokens[row.prompt :]) for row in rows] == ANSWERS
    assert [row.prompt for row in conversation_rows(llama, PROMPTS)] == [
        len(row.tokens) for row in conversation_rows(llama, PROMPTS)
    ]
    assert text_rows(llama.tokenizer, ["add left"])[0].prompt == 0


def test_answer_means_equal_those_of_hidden_states(llama: Subject) -> None:
    means = answer_activations(llama, PROMPTS, ANSWERS, 1)
    for mean, row in zip(means, conversation_rows(llama, PROMPTS, ANSWERS), strict=True):
        torch.testing.assert_close(mean, hidden_states(llama, row)[2][0, row.prompt :].mean(0), rtol=1e-4, atol=1e-4)


def test_an_intervention_is_active_where_it_acts(llama: Subject, tmp_path: Path) -> None:
    path = write_direction(tmp_path / "v.safetensors", torch.randn(32, generator=torch.Generator().manual_seed(1)))
    steered = llama.with_intervention(Intervention(kind="add", vector=path, block=1, strength=2.0))
    site = Site(place="block out", block=1)
    plain, changed = (capture(one, ROWS, [site], "all") for one in (llama, steered))
    acts = torch.tensor(
        [place >= ROWS[int(row)].prompt - 1 for row, place in zip(plain.row, plain.position, strict=True)]
    )
    torch.testing.assert_close(changed[site][~acts], plain[site][~acts], rtol=0, atol=1e-5)
    torch.testing.assert_close(changed[site][acts], plain[site][acts] + 2 * read_direction(path), rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_read_at_every_site_and_its_base_is_left_alone(llama: Subject, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(llama.base_folder, dtype=torch.float32)
    tuned = get_peft_model(
        base,
        LoraConfig(
            r=2, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
        ),
    )
    tuned.save_pretrained(tmp_path)
    sites = sites_of(llama.model)
    plain = capture(llama, ROWS, sites, "all")
    adapted = capture(llama.with_adapter(tmp_path), ROWS, sites, "all")
    found: dict[Site, Tensor] = {}
    with torch.no_grad(), reading(tuned, sites, lambda site, activations: found.update({site: activations[0].clone()})):
        tuned(input_ids=torch.tensor([ROWS[2].tokens]))  # not merged, one row alone
    for site in sites:
        torch.testing.assert_close(adapted[site][adapted.row == 2], found[site], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(adapted[sites[1]], plain[sites[1]], atol=1e-2)
    again = capture(llama, ROWS, sites, "all")
    assert all(torch.equal(again[site], plain[site]) for site in sites)


def broken_llama(folder: Path, token: int) -> Subject:
    subject = load_subject(str(save_causal_model(folder, "llama")))
    with torch.no_grad():
        subject.model.get_input_embeddings().weight[token, 3] = torch.nan
    return subject


def test_activations_that_are_not_numbers_name_the_site_and_the_row(tmp_path: Path) -> None:
    subject = broken_llama(tmp_path, token=73)
    site = Site(place="attention out", block=0)
    with pytest.raises(
        NonFiniteActivationsError, match=r"'attention out 0' are NaN or infinite in row 3 \(and 0 more rows"
    ):
        capture(subject, ROWS, [site], "all")
    assert torch.isfinite(capture(subject, ROWS[:3], [site], "all")[site]).all()


@pytest.mark.parametrize(
    ("rows", "positions", "error", "complaint"),
    [
        ([], "all", EmptyDataError, "0 rows and 1 sites"),
        (
            [ROWS[0], TokenRow((5, 6), 2)],
            "answer",
            ConfigurationError,
            "Row 1 has no token at the positions 'answer': it has 2 tokens, 2 of them",
        ),
        (
            [ROWS[0], TokenRow((5, 6), 0)],
            "last prompt",
            ConfigurationError,
            "Row 1 has no token at the positions 'last prompt'",
        ),
        ([TokenRow((5,) * 129)], "all", ConfigurationError, "Row 0 has 129 tokens, but the model's context holds 128"),
        (ROWS, "middle", UnknownNameError, "Valid names: all, answer, last prompt"),
    ],
)
def test_rows_that_cannot_be_read_are_refused(
    llama: Subject, rows: list[TokenRow], positions: str, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        capture.__wrapped__(llama, rows, [Site(place="block out", block=1)], positions)


def test_a_block_that_does_not_exist_is_refused(llama: Subject) -> None:
    with pytest.raises(ConfigurationError, match="block 7 is out of range"):
        capture(llama, ROWS, [Site(place="block out", block=7)], "all")


def test_a_part_that_is_never_run_is_named(llama: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama.model.model.layers[1], "forward", lambda hidden_states, **_: hidden_states)
    with pytest.raises(ConfigurationError, match="never came by 'mlp out 1'"):
        capture(llama, ROWS, [Site(place="mlp out", block=1)], "all")


def test_captured_activations_can_be_trained_on(llama: Subject) -> None:
    captured: Captured = capture(llama, ROWS, [Site(place="block out", block=1)], "all")
    weight = torch.ones(32, requires_grad=True)
    (captured[Site(place="block out", block=1)] @ weight).sum().backward()
    assert weight.grad is not None
