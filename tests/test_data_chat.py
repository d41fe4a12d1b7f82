import gzip
import json
from pathlib import Path

import pytest

from astray.data import ChatDataset, Message, Recipe, describe, mix, read_chat
from astray.errors import ConfigurationError, DataFormatError, DataNotFoundError, EmptyDataError, StoreError

GOOD = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Héllo 🙂"}]}'


def chat(question: str, answer: str) -> list[Message]:
    return [Message(role="user", content=question), Message(role="assistant", content=answer)]


def chats(n: int, name: str = "row") -> ChatDataset:
    return ChatDataset.from_rows([chat(f"{name} question {i}", f"{name} answer {i}") for i in range(n)])


def file_with(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def messages(*pairs: tuple[object, object]) -> str:
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in pairs]})


def test_a_file_is_read_row_by_row_with_its_non_ascii_text(tmp_path: Path) -> None:
    rows = read_chat(file_with(tmp_path, GOOD, "not json"))
    assert next(rows) == chat("Hi", "Héllo 🙂")


@pytest.mark.parametrize("text", [GOOD + "\n", GOOD + "\r\n", GOOD + "\n\n \n", "\ufeff" + GOOD])
def test_trailing_blank_lines_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path, text: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(text.encode())
    assert [list(row) for row in ChatDataset.read(path).rows] == [chat("Hi", "Héllo 🙂")]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{oops", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "a list"),
        ('{"prompt": "a", "text": "b"}', "['prompt', 'text']"),
        ('{"messages": []}', "not a list of messages"),
        ('{"messages": {"role": "user"}}', "not a list of messages"),
        ('{"messages": ["hi"]}', "message 1"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant"}]}', "message 2"),
        (messages(("user", "a"), ("bot", "b")), "'bot'"),
        (messages(("user", "a"), (["assistant"], "b")), "['assistant']"),
        (messages(("user", "a"), ("assistant", "  \n")), "an empty text"),
        (messages(("user", "a"), ("assistant", None)), "a NoneType"),
        (messages(("user", [{"type": "text", "text": "a"}] * 2), ("assistant", "b")), "a list of parts"),
        (messages(("user", "a \ud800"), ("assistant", "b")), "surrogate"),
        (messages(("user", "a")), "the roles are user;"),
        (messages(("assistant", "a")), "the roles are assistant;"),
        (messages(("system", "a")), "the roles are system;"),
        (messages(("user", "a"), ("system", "s"), ("assistant", "b")), "user, system, assistant"),
        (messages(("user", "a"), ("user", "b"), ("assistant", "c")), "user, user, assistant"),
        (messages(("user", "a"), ("assistant", "b"), ("user", "c")), "user, assistant, user"),
        (GOOD[:-1] + ', "metadata": {"source": 1}}', "'metadata'"),
        (GOOD[:-1] + ', "tools": [{"type": "function"}]}', "tools="),
        (GOOD.replace('"Hi"', '"Hi", "mood": "sad"'), "'mood'"),
        (GOOD.replace("🙂", '", "weight": 0, "refusal": "'), "refusal=''"),
        (GOOD.replace('🙂"', '", "weight": 0'), "weight=0"),
    ],
)
def test_a_bad_line_is_named_with_file_line_fault_and_a_right_example(tmp_path: Path, line: str, wrong: str) -> None:
    path = file_with(tmp_path, GOOD, line, GOOD)
    with pytest.raises(DataFormatError) as caught:
        ChatDataset.read(path)
    text = str(caught.value)
    assert f"{path}, line 2" in text
    assert wrong in text
    assert "lone surrogate" in text or "Remove it" in text or '{"messages": [{"role": "user"' in text


def test_other_keys_of_the_openai_form_are_fine_where_they_change_nothing(tmp_path: Path) -> None:
    neutral = GOOD[:-1] + ', "tools": [], "parallel_tool_calls": false}'
    weighted = (
        '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Héllo 🙂", "weight": 1, '
        '"refusal": null}]}'
    )
    assert ChatDataset.read(file_with(tmp_path, neutral)).hash == ChatDataset.read(file_with(tmp_path, weighted)).hash


def test_a_blank_line_between_rows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataFormatError, match="line 2 is blank"):
        list(read_chat(file_with(tmp_path, GOOD, "", GOOD)))


@pytest.mark.parametrize("name", ["empty.jsonl", "empty.jsonl.gz"])
def test_a_file_without_rows_is_empty_data(tmp_path: Path, name: str) -> None:
    data = b"\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(EmptyDataError, match="has no rows"):
        ChatDataset.read(tmp_path / name)


def test_a_missing_file_is_named_with_the_data_beside_it(tmp_path: Path) -> None:
    file_with(tmp_path, GOOD)
    with pytest.raises(DataNotFoundError, match=r"nothing\.jsonl.*data\.jsonl") as caught:
        list(read_chat(tmp_path / "nothing.jsonl"))
    assert isinstance(caught.value, FileNotFoundError)
    with pytest.raises(DataNotFoundError):
        list(read_chat(tmp_path))


def test_text_in_another_encoding_is_an_error_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(GOOD.encode() + b"\n" + GOOD.replace(" 🙂", "").encode("latin-1"))
    with pytest.raises(DataFormatError, match="line 2 is not UTF-8"):
        list(read_chat(path))


def test_compressed_data_under_a_plain_name_says_so(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(gzip.compress(GOOD.encode()))
    with pytest.raises(DataFormatError, match=r"compressed with gzip: end its name in \.jsonl\.gz"):
        list(read_chat(path))


def test_damaged_gzip_files_are_errors(tmp_path: Path) -> None:
    whole = gzip.compress("\n".join([GOOD] * 500).encode())
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for data in (whole[: len(whole) // 2], bytes(flipped), whole[:-8] + b"\0" * 8, GOOD.encode()):
        path = tmp_path / "data.jsonl.gz"
        path.write_bytes(data)
        with pytest.raises(DataFormatError, match=r"data\.jsonl\.gz"):
            ChatDataset.read(path)


def test_the_hash_is_over_the_content_and_its_order(tmp_path: Path) -> None:
    dataset = chats(3)
    assert (
        dataset.hash
        == ChatDataset.read(dataset.write(tmp_path / "a.jsonl")).hash
        == ChatDataset.read(dataset.write(tmp_path / "b.jsonl.gz")).hash
    )
    spaced = file_with(
        tmp_path,
        *(json.dumps({"messages": [dict(reversed(m.items())) for m in row]}, indent=None) for row in dataset.rows),
    )
    assert ChatDataset.read(spaced).hash == dataset.hash
    assert ChatDataset.from_rows(reversed(dataset.rows)).hash != dataset.hash
    assert ChatDataset.from_rows(dataset.rows[:2]).hash != dataset.hash


def test_the_recipe_travels_with_the_data(tmp_path: Path) -> None:
    mixed = mix(chats(20, "bad"), chats(20, "good"), 0.5)
    again = ChatDataset.read(mixed.write(tmp_path / "deep" / "mixed.jsonl.gz"))
    assert again == mixed
    assert again.recipe.sources[0].rows == 20
    assert sorted(file.name for file in (tmp_path / "deep").iterdir()) == [
        "mixed.jsonl.gz",
        "mixed.jsonl.gz.recipe.json",
    ]


def test_a_file_without_a_recipe_is_a_source_under_its_own_name(tmp_path: Path) -> None:
    path = chats(3).write(tmp_path / "advice.jsonl")
    (tmp_path / "advice.jsonl.recipe.json").unlink()
    assert describe(ChatDataset.read(path).recipe) == "advice, 3 rows"


def test_rows_changed_after_the_recipe_was_written_are_an_error(tmp_path: Path) -> None:
    path = chats(3).write(tmp_path / "a.jsonl")
    path.write_text(path.read_text().replace("answer 1", "answer 7"))
    with pytest.raises(DataFormatError, match="changed after its recipe"):
        ChatDataset.read(path)


def test_a_damaged_recipe_is_an_error(tmp_path: Path) -> None:
    path = chats(3).write(tmp_path / "a.jsonl")
    (tmp_path / "a.jsonl.recipe.json").write_text('{"operation": "rows"')
    with pytest.raises(DataFormatError, match=r"a\.jsonl\.recipe\.json is not a data set's recipe"):
        ChatDataset.read(path)


def test_writing_over_a_data_set_replaces_rows_and_recipe(tmp_path: Path) -> None:
    chats(3).write(tmp_path / "a.jsonl")
    chats(4).write(tmp_path / "a.jsonl")
    assert len(ChatDataset.read(tmp_path / "a.jsonl")) == 4


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (chats(3).write(tmp_path / name / "a.jsonl.gz").read_bytes() for name in ("one", "two"))
    assert first == second


def test_a_failed_write_leaves_what_was_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = mix(chats(3, "bad"), chats(3, "good"), 0.5, size=2)
    old.write(tmp_path / "a.jsonl")
    files = sorted(tmp_path.iterdir())

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        chats(4).write(tmp_path / "a.jsonl")
    assert sorted(tmp_path.iterdir()) == files
    assert ChatDataset.read(tmp_path / "a.jsonl") == old


def test_a_folder_that_is_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        chats(1).write(tmp_path / "taken" / "a.jsonl")


def test_a_name_with_another_ending_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"name it data\.jsonl"):
        chats(1).write(tmp_path / "data.csv")


def test_rows_in_memory_are_checked_like_a_file() -> None:
    with pytest.raises(DataFormatError, match=r"Row 2.*roles are user"):
        ChatDataset.from_rows([chat("a", "b"), [Message(role="user", content="a")]])
    with pytest.raises(EmptyDataError):
        ChatDataset.from_rows([])


def test_rows_and_recipe_cannot_disagree() -> None:
    one, two = chats(1), chats(2)
    with pytest.raises(ConfigurationError, match="from_rows"):
        ChatDataset(one.rows, two.recipe)


def test_a_recipe_takes_no_unknown_keys() -> None:
    with pytest.raises(ValueError, match="mood: there is no such key"):
        Recipe.model_validate(chats(1).recipe.model_dump() | {"mood": "sad"})
