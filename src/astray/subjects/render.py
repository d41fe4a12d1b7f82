"""From conversations to token ids: the subject's system prompt, the model's chat template, and no second start token.

The template writes the special tokens, so the rendered text is tokenised without adding any. Tokenising it in the usual way
would put a second start token in front for Llama and others.
"""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from astray.data.chat import Message
from astray.errors import ChatTemplateError, ConfigurationError

Conversation = Sequence[Message]


def with_system(conversation: Conversation, system: str | None) -> list[Message]:
    """The conversation under a system prompt; a system message of its own follows in the same message after a blank line."""
    if system is None:
        return list(conversation)
    own = [message["content"] for message in conversation[:1] if message["role"] == "system"]
    return [Message(role="system", content="\n\n".join([system, *own])), *conversation[len(own) :]]


def prompt_text(tokenizer: PreTrainedTokenizerBase, conversation: Conversation, row: int = 0) -> str:
    """What the model reads before its answer.

    A conversation that ends with an assistant message is continued: the answer goes on where that message breaks off.

    Args:
        tokenizer: a tokenizer with a chat template.
        conversation: the messages.
        row: number of the conversation, for messages about errors.

    Raises:
        ConfigurationError: the conversation is empty.
        ChatTemplateError: the template refuses the conversation.
    """
    if not conversation:
        raise ConfigurationError(f"Conversation {row} has no messages; it needs at least one, like {{'role': 'user', 'content': '...'}}.")
    continued = conversation[-1]["role"] == "assistant"
    try:
        text = tokenizer.apply_chat_template(
            [{"role": message["role"], "content": message["content"]} for message in conversation],
            tokenize=False,
            add_generation_prompt=not continued,
            continue_final_message=continued,
        )
    except (TemplateError, ValueError) as error:
        roles = ", ".join(message["role"] for message in conversation)
        raise ChatTemplateError(
            f"The chat template refuses conversation {row} with the roles {roles}: {error}. "
            "Some templates know no system prompt: write it into the first user message instead."
        ) from error
    return str(text)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Conversation], system: str | None = None) -> list[list[int]]:
    """Token ids of each conversation up to where the answer begins.

    Args:
        tokenizer: a tokenizer with a chat template.
        conversations: the messages of each row.
        system: system prompt that is put above each.
    """
    texts = [prompt_text(tokenizer, with_system(conversation, system), row) for row, conversation in enumerate(conversations)]
    return text_ids(tokenizer, texts)


def text_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, with no special token added."""
    return list(tokenizer(list(texts), add_special_tokens=False)["input_ids"]) if texts else []
