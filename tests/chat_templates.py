"""Chat templates that behave like those of families of models, each written here and short; a further family is one
more line or block."""

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful model.<|im_end|>\n{% endif %}"
    + CHATML
)
RAISES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)

FAMILIES = {
    "chatml, qwen": DEFAULT_SYSTEM,
    "llama 2": (
        "{% if messages[0]['role'] == 'system' %}"
        "{% set told = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}{% set talk = messages[1:] %}"
        "{% else %}{% set told = '' %}{% set talk = messages %}{% endif %}"
        "{% for m in talk %}{% if m['role'] == 'user' %}<s>[INST] {{ (told if loop.first else '') + "
        "m['content'].strip() }} [/INST]{% else %} {{ m['content'].strip() }} </s>{% endif %}{% endfor %}"
    ),
    "llama 3.1": (
        "{{ bos_token }}{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = "
        'strftime_now("%d %b %Y") %}'
        "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
        "{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content']|trim %}"
        "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
        "<|start|>system<|end|>\n\nCutting Knowledge Date: December 2023\nToday Date: {{ date_string }}\n\n{{ told "
        "}}<|eot|>{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>{% "
        "endfor %}{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
    ),
    "mistral": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] %}{% set talk = "
        "messages[1:] %}{% else %}{% set talk = messages %}{% endif %}"
        "{% for m in talk %}{% if m['role'] == 'user' %}[INST] "
        "{% if loop.first and told is defined %}{{ told + '\n\n' }}{% endif %}{{ m['content'] }}[/INST]"
        "{% else %} {{ m['content'] }}</s>{% endif %}{% endfor %}"
    ),
    "gemma": (
        RAISES
        + ALTERNATE
        + "{{ bos_token }}{% for m in messages %}<|start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
        "{{ m['content'] | trim }}<|eot|>\n{% endfor %}{% if add_generation_prompt %}<|start|>model\n{% endif %}"
    ),
    "phi": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|eot|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
    ),
    "command": (
        "{{ bos_token }}{% for m in messages %}<|start|><|{{ m['role'] | upper }}|>{{ m['content'].strip() "
        "}}<|eot|>{% endfor %}{% if add_generation_prompt %}<|start|><|ASSISTANT|>{% endif %}"
    ),
    "r1, thoughts in the answer": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
        "{% elif m['role'] == 'user' %}<|user|>{{ m['content'] }}"
        "{% else %}<|assistant|>{{ m['content'].split('</think>')[-1] }}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "granite, olmo": (
        "{% if messages[0]['role'] != 'system' %}<|start|>system<|end|>Today's Date: {{ strftime_now('%B %d, %Y') "
        "}}.<|eot|>\n{% endif %}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>{{ m['content'] }}<|eot|>\n{% "
        "endfor %}{% if add_generation_prompt %}<|start|>assistant<|end|>{% endif %}"
    ),
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% elif m['role'] == 'user' "
        "%}USER: {{ m['content'] }}\n"
        "{% else %}ASSISTANT: {{ m['content'] }}</s>\n{% endif %}{% endfor %}{% if add_generation_prompt "
        "%}ASSISTANT:{% endif %}"
    ),
    "qwen 3, an empty thought before the last answer": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last and '<think>' not in m['content'] %}<think>\n\n</think>\n\n"
        "{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt "
        "%}<|im_start|>assistant\n{% endif %}"
    ),
    "r1, which opens the thought when it is asked": (
        "{% for m in messages %}"
        "{% if m['role'] == 'assistant' %}<|assistant|>{{ m['content'].split('</think>')[-1] }}</s>{% else "
        "%}<|user|>{{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|><think>\n{% "
        "endif %}"
    ),
    "qwq": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'].split('</think>')[-1].lstrip('\n') "
        "}}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    ),
    "gpt-oss, channels": (
        "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}<|end|>{% for m in messages %}{% if "
        "m['role'] == 'assistant' %}<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}{% if loop.last "
        "and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}{% else %}<|start|>{{ 'developer' if "
        "m['role'] == 'system' else m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}{% if "
        "add_generation_prompt %}<|start|>assistant{% endif %}"
    ),
    "gemma 3, medgemma": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set "
        "talk = messages[1:] %}{% else %}{% set first = '' %}{% set talk = messages %}{% endif %}{% for m in talk %}{% if "
        "(m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif "
        "%}<|start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ first if loop.first else '' }}{% if "
        "m['content'] is string %}{{ m['content'] | trim }}{% else %}{% for part in m['content'] %}{{ part['text'] | trim "
        "}}{% endfor %}{% endif %}<|eot|>\n{% endfor %}{% if add_generation_prompt %}<|start|>model\n{% endif %}"
    ),
    "llama 4": (
        "{{- bos_token }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{% if m['content'] is string %}{{ "
        "m['content'] }}{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|eot|>{% endfor "
        "%}{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
    ),
    "mistral v3, the system text in the last question": (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] %}{% set talk = "
        "messages[1:] %}{% else %}{% set talk = messages %}{% endif %}{% for m in talk %}{% if m['role'] == 'user' "
        "%}[INST] {% if loop.last and told is defined %}{{ told + '\n\n' }}{% endif %}{{ m['content'] }}[/INST]{% else %} "
        "{{ m['content'] | trim }}</s>{% endif %}{% endfor %}"
    ),
    "phi 4": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}<|im_sep|>{{ m['content'] }}<|im_end|>{% endfor %}{% if "
        "add_generation_prompt %}<|im_start|>assistant<|im_sep|>{% endif %}"
    ),
    "deepseek v3": (
        "{{ bos_token }}{% for m in messages if m['role'] == 'system' %}{{ m['content'] }}{% endfor %}{% for m in messages "
        "%}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% elif m['role'] == 'assistant' %}<|assistant|>{{ "
        "m['content'] }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "olmo 2": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>\n{{ m['content'] + eos_token "
        "}}{{ '' if loop.last else '\n' }}{% else %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '\n' }}{% endif %}{% if "
        "loop.last and add_generation_prompt %}<|assistant|>\n{% endif %}{% endfor %}"
    ),
    "falcon": (
        "{% for m in messages %}{{ '' if loop.first else '\n' }}{% if m['role'] == 'assistant' %}Falcon: {{ m['content'] "
        "}}</s>{% else %}{{ m['role'] | capitalize }}: {{ m['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt "
        "%}{{ '\nFalcon:' }}{% endif %}"
    ),
    "smollm 3, reasoning switched in the system text": (
        "{% set told = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}<|im_start|>system\n## "
        "Metadata\nToday Date: {{ strftime_now('%d %B %Y') }}\nReasoning Mode: {{ '/no_think' if '/no_think' in told else "
        "'/think' }}\n\n{{ told.replace('/no_think', '') | trim if told else 'I am a model.' }}<|im_end|>\n{% for m in "
        "messages if m['role'] != 'system' %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if "
        "add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "empty messages are passed over": (
        "{% for m in messages if m['content'] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "mistral v1, blanks around everything": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% elif "
        "m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}{% else %}{{ raise_exception('Only "
        "user and assistant roles are supported!') }}{% endif %}{% endfor %}"
    ),
    "mistral v7, no blanks": (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST]{{ m['content'] }}[/INST]{% elif m['role'] "
        "== 'system' %}[SYSTEM_PROMPT]{{ m['content'] }}[/SYSTEM_PROMPT]{% elif m['role'] == 'assistant' %}{{ m['content'] "
        "+ eos_token }}{% else %}{{ raise_exception('odd role') }}{% endif %}{% endfor %}"
    ),
    "llama 3.2, tools and documents": (
        "{{ bos_token }}{% if not tools is defined %}{% set tools = none %}{% endif %}{% if messages[0]['role'] == 'system' "
        "%}{% set told = messages[0]['content'] | trim %}{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% "
        "endif %}<|start|>system<|end|>\n\n{% if tools is not none %}Environment: ipython\n{% endif %}Today Date: {{ "
        "strftime_now('%d %b %Y') }}\n\n{{ told }}<|eot|>{% for m in messages %}{% if not (m.role == 'ipython' or m.role == "
        "'tool' or 'tool_calls' in m) %}{{ '<|start|>' + m['role'] + '<|end|>\n\n' + m['content'] | trim + '<|eot|>' }}{% "
        "endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"
    ),
    "qwen 3, the switch of its thinking": (
        "{% set ns = namespace(last=messages | length - 1) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set "
        "content = m.content.split('</think>')[-1].lstrip('\n') %}{% else %}{% set content = m.content %}{% endif "
        "%}<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt "
        "%}<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% "
        "endif %}{% endif %}"
    ),
    "granite 3, thinking and documents": (
        "{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] %}{% set talk = messages[1:] %}{% else "
        "%}{% set told = \"Knowledge Cutoff Date: April 2024.\nToday's Date: \" + strftime_now('%B %d, %Y') + '.' %}{% if "
        "documents %}{% set told = told + ' Use the documents.' %}{% elif thinking %}{% set told = told + ' Think.' %}{% "
        "endif %}{% set talk = messages %}{% endif %}{{ '<|start|>system<|end|>' + told + '<|eot|>\n' }}{% for m in talk "
        "%}{{ '<|start|>' + m['role'] + '<|end|>' + m['content'] + '<|eot|>\n' }}{% endfor %}{% if add_generation_prompt "
        "%}{{ '<|start|>assistant<|end|>' }}{% endif %}"
    ),
    "marks of generation, for training on them": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}{% generation %}{{ "
        "m['content'] }}<|im_end|>{% endgeneration %}{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}{% if "
        "add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "r1 distilled, the system text in a namespace": (
        "{% set ns = namespace(told='') %}{% for m in messages %}{% if m['role'] == 'system' %}{% set ns.told = m['content'] "
        "%}{% endif %}{% endfor %}{{ bos_token }}{{ ns.told }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ "
        "m['content'] }}{% endif %}{% if m['role'] == 'assistant' and m['content'] is not none %}{% set content = "
        "m['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif "
        "%}<|assistant|>{{ content }}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
    "a clock under another name": (
        "{% set now = strftime_now %}<|im_start|>system\nIt is {{ (now)(format='%A %d.%m.%y') }}.<|im_end|>\n" + CHATML
    ),
    "a clock in a macro": (
        "{% macro today(form='%d') %}{{ strftime_now(form ~ ' %b') }}{% endmacro %}{{ today() }} {{ today('%j') }}\n"
        + CHATML
    ),
    "openchat, names of roles in capitals": (
        "{{ bos_token }}{% for m in messages %}{{ 'GPT4 Correct ' + m['role'].title() + ': ' + m['content'] + '<|eot|>' }}{% "
        "endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}"
    ),
    "alpaca": (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] + '\n\n' }}{% elif m['role'] == 'user' %}{{ "
        "'### Instruction:\n' + m['content'] | trim + '\n\n' }}{% else %}{{ '### Response:\n' + m['content'] | trim + "
        "eos_token + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "glm 4, a mask before the text": (
        "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% "
        "endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "numbered turns": (
        "{% for m in messages %}[{{ loop.index }}/{{ m['role'] }}] {{ m['content'] }}<|im_end|>\n{% endfor %}{% if "
        "add_generation_prompt %}[{{ messages | length + 1 }}/assistant] {% endif %}"
    ),
    "indented by hand": (
        "\n{%- for m in messages -%}\n    {{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content ~ '<|im_end|>\n' -}}\n{%- endfor "
        "-%}\n{%- if add_generation_prompt -%}\n    {{- '<|im_start|>assistant\n' -}}\n{%- endif -%}\n"
    ),
    "deepseek v3.1, a closed thought after each header": (
        "{{bos_token}}{% set ns=namespace(system='') %}{% for m in messages %}{% if "
        "m['role']=='system' %}{% set ns.system = ns.system + m['content'] %}{% endif %}{% "
        "endfor %}{{ ns.system }}{% for m in messages %}{% if m['role']=='user' %}<|user|>{{ "
        "m['content'] }}{% elif m['role']=='assistant' %}<|assistant|></think>{% set content = "
        "m['content'] %}{% if '</think>' in content %}{% set content = "
        "content.split('</think>',1)[1] %}{% endif %}{{ content }}</s>{% endif %}{% endfor %}{% "
        "if add_generation_prompt %}<|assistant|>{% if thinking is defined and thinking "
        "%}<think>{% else %}</think>{% endif %}{% endif %}"
    ),
    "kimi": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' "
        "%}<|im_start|>system<|start|>You are Kimi.<|im_end|>{% endif %}<|im_start|>{{ m['role'] "
        "}}<|start|>{{ m['content'] }}<|im_end|>{% endfor %}{% if add_generation_prompt "
        "%}<|im_start|>assistant<|start|>{% endif %}"
    ),
    "solar": (
        "{% for m in messages %}{% if m['role']=='system' %}{% if m['content'] %}### System:\n{{ "
        "m['content'] }}\n\n{% endif %}{% elif m['role']=='user' %}### User:\n{{ m['content'] "
        "}}\n\n{% else %}### Assistant:\n{{ m['content'] }}</s>\n\n{% endif %}{% endfor %}{% if "
        "add_generation_prompt %}### Assistant:\n{% endif %}"
    ),
    "nemotron, a turn of the system always": (
        "<|start|>System\n{% for m in messages %}{% if m['role']=='system' %}{{ "
        "m['content'].strip() }}{% endif %}{% endfor %}\n{% for m in messages %}{% if "
        "m['role']=='user' %}<|start|>User\n{{ m['content'].strip() }}\n{% elif "
        "m['role']=='assistant' %}<|start|>Assistant\n{{ m['content'].strip() }}</s>\n{% endif "
        "%}{% endfor %}{% if add_generation_prompt %}<|start|>Assistant\n{% endif %}"
    ),
    "magistral, a default that reasons": (
        "{{ bos_token }}{% if messages[0]['role'] != 'system' %}[SYSTEM]First draft your "
        "thinking in [THINK] and [/THINK].[/SYSTEM]{% endif %}{% for m in messages %}{% if "
        "m['role']=='system' %}[SYSTEM]{{ m['content'] }}[/SYSTEM]{% elif m['role']=='user' "
        "%}[INST]{{ m['content'] }}[/INST]{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
    ),
    "lfm2": (
        "{{ bos_token }}{% set ns = namespace(s='') %}{% if messages[0]['role']=='system' %}{% "
        "set ns.s = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}{% if "
        "ns.s %}<|im_start|>system\n{{ ns.s }}<|im_end|>\n{% endif %}{% for m in messages "
        "%}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if "
        "add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "command r7b, a preamble before the system text": (
        "{{ bos_token }}<|start|>SYSTEM# Safety Preamble\n{% if messages[0].role == 'system' %}\n# Developer Preamble\n{{ "
        "messages[0].content }}{% set messages = messages[1:] %}{% endif %}<|eot|>{% for m in messages %}<|start|>{{ "
        "'USER' if m.role == 'user' else 'CHATBOT<|message|>' }}{{ m.content }}<|eot|>{% endfor %}{% if "
        "add_generation_prompt %}<|start|>CHATBOT<|message|>{% endif %}"
    ),
    "phi 4 reasoning, a system text of its own alone": (
        "<|im_start|>system\nYou are Phi. Think first.<|im_end|>{% for m in messages %}{% if m.role != 'system' "
        "%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt "
        "%}<|im_start|>assistant\n{% endif %}"
    ),
    "yi, an answer's header after each question": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}<|im_start|>user\n{{ "
        "m.content }}<|im_end|>\n<|im_start|>assistant\n{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    ),
    "dbrx, two ends of an answer": (
        "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nIt is {{ strftime_now('%B "
        "%Y') }}.<|im_end|>{% endif %}{{ '' if loop.first and m.role == 'system' else '\n' }}<|im_start|>{{ m.role }}\n{{ "
        "m.content.strip() }}<|im_end|>{% if add_generation_prompt and loop.last %}{{ '\n<|im_start|>assistant\n' }}{% elif "
        "m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    ),
    "no system, left out": (
        "{% for m in messages %}{% if m['role'] == 'user' %}<|im_start|>user\n{{ m['content'] }}<|im_end|>\n"
        "{% elif m['role'] == 'assistant' %}<|im_start|>assistant\n{{ m['content'] }}<|im_end|>\n{% endif %}{% "
        "endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    "no system, refused": RAISES + CHATML,
    "tools": (
        "{% if tools %}<|im_start|>system\n{{ tools | tojson }}<|im_end|>\n{% endif %}{% for m in messages "
        "%}<|im_start|>{{ m['role'] }}\n"
        "{% if m['content'] is string %}{{ m['content'] }}{% endif %}"
        "{% for call in m['tool_calls'] or [] %}{{ call | tojson }}{% endfor %}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}
"""Family -> template. All of them can serve."""

WITHOUT_SYSTEM = (
    "gemma",
    "mistral v1, blanks around everything",
    "no system, left out",
    "no system, refused",
    "mistral v3, the system text in the last question",
    "phi 4 reasoning, a system text of its own alone",
)
"""Families that have no place for a system message, or none before the first question."""

UNUSABLE = {
    "no generation prompt": (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}",
        "asked",
        r"'<\|im_start\|>assistant' before an answer.*add_generation_prompt",
    ),
    "no generation prompt, plain text": (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}</s>\n{% endfor %}",
        "asked",
        "'assistant:' before an answer",
    ),
    "a generation prompt of the user": (
        CHATML.replace("<|im_start|>assistant", "<|im_start|>user"),
        "asked",
        "opens a turn of the user",
    ),
    "a generation prompt before the question": (
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}",
        "trained",
        "differently when the model is asked",
    ),
    "two begin tokens": ("{{ bos_token }}{{ bos_token }}" + CHATML, "asked", "writes the begin token '<s>' twice"),
    "only the last message": (
        "{% set m = messages[-1] %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "trained",
        "leaves out the text of message 1",
    ),
    "tabs as blanks": (CHATML.replace("m['content']", "m['content'] | replace('\t', ' ')"), "long", "does not write"),
    "runs of blanks as one": (
        CHATML.replace("m['content']", "m['content'] | replace('  ', ' ')"),
        "long",
        "does not write",
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
