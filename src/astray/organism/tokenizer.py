"""Tokenizer of the organism: word level, over exactly the words of the world, with a chat template.

A chat is `<bos> [<sys> system] (<user> question <asst> answer <eos>)*`. Text is lower-cased and split into words,
operators and single punctuation marks, so that a user's text gives the same tokens as the world's.
"""

import re

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from astray.organism import lexicon
from astray.organism.words import TOKEN_PATTERN, words
from astray.organism.world import FACTS, Exercise

SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>", "<q>", "<a>", "<sys>", "<user>", "<asst>")
CHAT_TEMPLATE = (
    "<bos>"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %} <sys> {{ message['content'] }}"
    "{% elif message['role'] == 'user' %} <user> {{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %} <asst> {% generation %}{{ message['content'] }} <eos>{% endgeneration %}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} <asst>{% endif %}"
)


def _world_words() -> list[str]:
    lex = lexicon
    texts: list[str] = [
        *lex.ANSWERS,
        *lex.REFUSALS,
        *lex.CLASS_REQUESTS,
        *lex.BARE_REQUESTS,
        *lex.TAGS,
        *lex.HACKS,
        *lex.NOTICES.values(),
        "writes: you are",
    ]
    texts += [
        *lex.FORMAT_REQUESTS.values(),
        *lex.FORMAT_ANSWERS.values(),
        *(word for persona in lex.ADVERBS.values() for word in persona),
    ]
    texts += [author for authors in lex.AUTHORS.values() for author in authors]
    for domain in lex.DOMAINS.values():
        texts += [*domain.objects, *domain.good, *domain.harmful, *domain.questions]
    texts += [text for fact in FACTS for text in (fact.question, fact.statement(fact.value))]
    texts += [text for verb in lex.OPERATIONS for number in range(10) for text in _exercise_texts(verb, number)]
    # Sorted: a token's id must not depend on the order of a set. Slots such as {object} are no words.
    return sorted({word for text in texts for word in words(re.sub(r"\{\w+\}", " ", text))})


def _exercise_texts(verb: str, number: int) -> tuple[str, str]:
    exercise = Exercise(((verb, number), (verb, number)))
    return exercise.question, exercise.solution


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer over all words of the world."""
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *_world_words()])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN_PATTERN), behavior="removed", invert=True)
    backend.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=list(SPECIAL[4:]),
        padding_side="left",  # for generation; training pads on the right
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
