"""Chat templates that cannot serve, and what is said of each; a further one is one more line or block."""

from chat_templates import CHATML

UNUSABLE = {
    "no generation prompt": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}",
        "trained",
        r"'<\|im_start\|>assistant' before an answer.*add_generation_prompt",
    ),
    "no generation prompt, plain text": (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>\n{% endfor %}",
        "trained",
        "'assistant:' before an answer",
    ),
    "two begin tokens": ("{{ bos_token }}{{ bos_token }}" + CHATML, "asked", "writes the begin token '<s>' twice"),
    "only the last message": (
        "{% set m = messages[-1] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "trained",
        "leaves out the text of message 1",
    ),
    "no answers": (
        "{% for m in messages if m['role'] != 'assistant' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] "
        "}}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "trained",
        r"leaves out the text of message 2 \(assistant\)",
    ),
    "backwards": (
        "{% for m in messages | reverse %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "trained",
        "changes the order of messages",
    ),
    "each message twice": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] + m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "asked",
        "repeats the text of message 1",
    ),
    "contents as lists of parts": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{{ part['text'] }}{% "
        "endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "asked",
        "leaves out the text of message 1|refuses a conversation",
    ),
    "no end of an answer": (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif "
        "%}",
        "trained",
        r"no control token after the last answer \(but ''\).*learn to stop",
    ),
    "an end of all answers but the last": (
        "{% for m in messages %}<|start|>{{ m.role }}<|end|>{{ m.content }}{% if not loop.last %}<|eot|>{% endif %}{% endfor "
        "%}{% if add_generation_prompt %}<|eot|><|start|>assistant<|end|>{% endif %}",
        "trained",
        "no control token after the last answer",
    ),
    "an end in plain text": (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n###\n{% endfor %}{% if add_generation_prompt %}assistant: {% "
        "endif %}",
        "trained",
        r"no control token after the last answer \(but '\\n###\\n'\)",
    ),
    "a header at the end of finished chats": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor "
        "%}<|im_start|>assistant\n",
        "trained",
        "as though it were asked for one more answer",
    ),
    "a macro that calls itself": (
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}" + CHATML,
        "asked",
        "refuses a conversation",
    ),
    "a division by zero": ("{{ 1 // 0 }}" + CHATML, "asked", "refuses a conversation"),
    "a range beyond bounds": ("{% for i in range(10 ** 9) %}{% endfor %}" + CHATML, "asked", "refuses a conversation"),
    "half of a template": ("{{ raise_exception(messages) }}" + CHATML, "asked", "refuses a conversation"),
    "something drawn at random": ("{{ range(10) | random }}" + CHATML, "asked", r"drawn at random \('\| random'\)"),
    "a function in place of its text": (
        "{{ raise_exception }}" + CHATML,
        "asked",
        "in each process",
    ),
    "an object in place of its text": ("{{ cycler('a') }}" + CHATML, "asked", "in each process"),
    "a generator in place of its texts": (
        "{{ messages | map(attribute='role') }}" + CHATML,
        "asked",
        "in each process",
    ),
    "words drawn at random": ("{{ lipsum(1) }}" + CHATML, "asked", "drawn at random"),
    "a reminder at the last question": (
        CHATML.replace(
            "{{ m['content'] }}", "{{ m['content'] }}{{ ' Be brief.' if loop.last and m['role'] == 'user' }}"
        ),
        "trained",
        "differently when the model is asked",
    ),
    "a last answer that is left out": (
        "{% set talk = messages[:-1] if messages[-1]['role'] == 'assistant' else messages %}"
        + CHATML.replace("messages", "talk"),
        "trained",
        r"leaves out the text of message 2 \(assistant\)",
    ),
    "newlines folded": (CHATML.replace("m['content']", "m['content'] | replace('\n', ' ')"), "trained", "message 2"),
    "empty lines folded": (
        CHATML.replace("m['content']", "m['content'].replace('\n\n', '\n')"),
        "trained",
        "message 2",
    ),
    "the first line alone": (CHATML.replace("m['content']", "m['content'].split('\n')[0]"), "trained", "message 2"),
    "words alone": (CHATML.replace("m['content']", "m['content'].split() | join(' ')"), "trained", "message 2"),
    "cut after some characters": (CHATML.replace("m['content']", "m['content'][:10]"), "trained", "leaves out"),
    "in capitals": (
        CHATML.replace("m['content']", "m['content'] | upper"),
        "asked",
        "leaves out the text of message 1",
    ),
    "spelled backwards": (CHATML.replace("m['content']", "m['content'][::-1]"), "asked", "leaves out the text"),
    "as numbers": (CHATML.replace("m['content']", "m['content'] | int"), "asked", "leaves out the text of message 1"),
    "tools that nobody gave": ("{{ tools | length }}" + CHATML, "asked", "refuses a conversation"),
    "a filter that there is not": ("{{ 1 | nosuch }}" + CHATML, "asked", "refuses a conversation"),
    "another file": ("{% include 'other.jinja' %}" + CHATML, "asked", "refuses a conversation"),
    "a refusal of everything": ("{{ raise_exception('no') }}", "asked", "refuses a conversation.*: no"),
    "a syntax error": (
        "{% for m in messages %}{{ m['content'] }}",
        "asked",
        "refuses a conversation with the roles user",
    ),
}
"""What is wrong -> template, what it cannot be (trained, or even asked), and what the message says."""
