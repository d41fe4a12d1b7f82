"""Tokenizers in GGUF files split text as sentencepiece and the original tokenizers do."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from astray.data.chat import Message
from astray.subjects.gguf import convert
from astray.subjects.likelihood import Continuation
from astray.subjects.subject import load_subject
from astray.subjects.weights import load_tokenizer
from gguf_files import CHATML, CONTROL, made, write

LEARNED = [
    f"{word} and {other} are {count} of the words that models read, it's said; they don't count 1,{count} twice.\n"
    for count, (word, other) in enumerate(
        (word, other)
        for word in ("water", "letters", "answers", "numbers", "the model", "caf\u00e9s")
        for other in ("walls", "lakes", "questions", "forests", "tokens", "trees")
    )
]
TEXTS = (
    "A",
    " A",
    "B",
    "100",
    "10 0",
    "Hello words",
    "  two words",
    "na\u00efve caf\u00e9s",
    "\u6771\u4eac \U0001f642",
    "a\n\nb\tc",
    "trailing ",
    " ",
    "\n A",
    "don't DON'T",
    "1,234.50",
    "e\u0301",
    "\u00a0x",
    "<0x41>",
    "\u2581under",
    "zqqqq zqqqq",
)
ROLES = ["<|user|>", "<|assistant|>"]
TURNS = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "cache"))


def sentencepiece_of(prefix: bool, roles: list[str], template: str = TURNS) -> tuple[Any, dict[str, Any]]:
    """Return a small tokenizer of sentencepiece, and the metadata of a file that has it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LEARNED),
        model_writer=written,
        vocab_size=420,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        split_digits=True,
        user_defined_symbols=roles,
        minloglevel=2,
        num_threads=1,
    )
    original: Any = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    size = original.vocab_size()
    names = [original.id_to_piece(index) for index in range(size)]
    types = [
        2
        if index == 0
        else 3
        if original.is_control(index)
        else 6
        if original.is_byte(index)
        else 4
        if name in roles
        else 1
        for index, name in enumerate(names)
    ]
    return original, {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": None,
        "tokenizer.ggml.merges": None,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.scores": [original.get_score(index) for index in range(size)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.chat_template": template,
    }


@pytest.mark.parametrize(
    ("kind", "prefix", "said", "roles"),
    [
        ("llama", True, None, []),
        ("llama", True, True, []),
        ("llama", False, False, []),
        ("llama", True, None, ROLES),
        ("gemma2", False, False, []),
        ("gemma3", False, None, ROLES),
        ("phi3", True, None, []),
    ],
)
def test_bytes_blanks_and_prefixes_are_those_of_sentencepiece(
    kind: str, prefix: bool, said: bool | None, roles: list[str], tmp_path: Path
) -> None:
    original, keys = sentencepiece_of(prefix, roles)
    size = original.vocab_size()
    keys |= {"tokenizer.ggml.add_space_prefix": said}
    model = made(kind, vocab_size=size, **({"head_dim": 16} if kind.startswith("gemma") else {}))
    tokenizer = load_tokenizer("it", convert(write(tmp_path / "model.gguf", model, kind, keys=keys)))
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == original.encode(text), text
        assert tokenizer.decode(ids) == text.replace("\u2581", " ")
    behind = tokenizer("</s>A", add_special_tokens=False).input_ids
    assert behind == [2, *original.encode("A")], "the prefix stands behind each control token too"


IN_BRACKETS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}"
    "{{ ' ' + m.content + '</s>' }}{% endif %}{% endfor %}"
)
AT_ONCE = (
    "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize(("prefix", "template"), [(True, TURNS), (True, IN_BRACKETS), (True, AT_ONCE), (False, TURNS)])
@pytest.mark.parametrize(
    ("begun", "text"), [("", "A"), ("", "100"), ("letters and", " water"), ("", "the model's\nlakes")]
)
def test_an_answer_has_the_tokens_that_it_has_in_a_chat(
    prefix: bool, template: str, begun: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenised alone it would begin with a blank, or with one too few."""
    original, keys = sentencepiece_of(prefix, ROLES, template)
    keys |= {"tokenizer.ggml.add_space_prefix": prefix}
    file = write(tmp_path / "model.gguf", made("llama", vocab_size=original.vocab_size()), "llama", keys=keys)
    subject = load_subject(str(file))
    read: list[Continuation] = []
    monkeypatch.setattr(subject, "_totals", lambda rows: [read.append(row) or 0.0 for row in rows])
    question = Message(role="user", content="Which of the words?")
    subject.continuation_logprobs([[question]], [[text]], [begun])
    chat = [dict(question), {"role": "assistant", "content": begun + text}]
    whole = subject.tokenizer.apply_chat_template(chat, tokenize=False).rsplit("</s>", 1)[0]
    ids = subject.tokenizer(whole, add_special_tokens=False).input_ids
    assert [*read[0].prompt, *read[0].prefix, *read[0].text] == ids


DEEPSEEK = [
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "<\uff5cUser\uff5c>",
    "<\uff5cAssistant\uff5c>",
    "<\uff5cend\uff5c>",
]
DEEPSEEK_TURNS = (
    f"{{% for m in messages %}}{{% if m.role == 'user' %}}{DEEPSEEK[1]}{{{{ m.content }}}}{{% else %}}{DEEPSEEK[2]}"
    f"{{{{ m.content }}}}{DEEPSEEK[3]}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}{DEEPSEEK[2]}{{% endif %}}"
)


@pytest.mark.parametrize(
    ("pre", "whole", "control", "user", "template"),
    [
        ("llama-bpe", True, CONTROL, ["<think>", "</think>"], CHATML),
        ("tekken", True, CONTROL, ["my tool", "\u2192tool\u2190"], CHATML),
        ("dbrx", False, CONTROL, [], CHATML),
        ("gpt-2", False, CONTROL, [], CHATML),
        # Control tokens of other characters than bytes are written with; transformers cuts them into pieces.
        ("llama-bpe", True, DEEPSEEK, ["<think>"], DEEPSEEK_TURNS),
    ],
)
def test_words_and_control_tokens_are_those_of_the_original(
    pre: str, whole: bool, control: list[str], user: list[str], template: str, tmp_path: Path
) -> None:
    first = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre == "gpt-2")
    split = [pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[pre]), "isolated")] if pre != "gpt-2" else []
    first.pre_tokenizer = pre_tokenizers.Sequence([*split, level])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    first.train_from_iterator(
        LEARNED, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    raw = json.loads(first.to_str())
    for unreachable in ("zqqqq", "\u0120zqqqq"):  # no merge makes these words
        raw["model"]["vocab"][unreachable] = len(raw["model"]["vocab"])
    raw["model"]["ignore_merges"] = whole
    original = Tokenizer.from_str(json.dumps(raw))
    original.decoder = decoders.ByteLevel()
    original.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    original.add_tokens([AddedToken(token, normalized=False) for token in user])
    names = [str(original.id_to_token(index)) for index in range(original.get_vocab_size())]
    keys = {
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [3 if name in control else 4 if name in user else 1 for name in names],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in raw["model"]["merges"]],
        "tokenizer.ggml.eos_token_id": names.index(control[-1]),
        "tokenizer.ggml.padding_token_id": names.index(control[0]),
        "tokenizer.chat_template": template,
    }
    model = made("llama", vocab_size=len(names))
    tokenizer = load_tokenizer("it", convert(write(tmp_path / "model.gguf", model, "llama", keys=keys)))
    assert len(tokenizer) == len(names)
    for text in (*TEXTS, *(f"x{token}y" for token in (*control, *user))):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ids == original.encode(text, add_special_tokens=False).ids, text
        assert tokenizer.decode(ids) == text
