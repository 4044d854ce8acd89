"""The chat template of folders that bring none."""

from __future__ import annotations

# ZAYA's own writes the system turn even where it is empty.
BUILT_IN_TEMPLATE = """\
{%- set last_user = namespace(index=-1) %}
{%- for message in messages %}
{%- if message.role == 'user' %}{% set last_user.index = loop.index0 %}{% endif %}
{%- endfor %}
{{- bos_token }}
{%- set has_system = messages and messages[0].role == 'system' %}
{{- '<|im_start|>system\\n' }}
{%- if has_system %}{{- messages[0].content }}{% endif %}
{%- if tools %}
{%- if has_system and messages[0].content %}{{- '\\n\\n' }}{% endif %}
{{- '# Tools\\n\\nYou have access to the following functions:\\n\\n<tools>' }}
{%- for tool in tools %}
{%- set tool = tool.function if tool.function is defined else tool %}
{{- '\\n<function>\\n<name>' ~ tool.name ~ '</name>' }}
{%- if tool.description %}{{- '\\n<description>' ~ tool.description | trim ~ '</description>' }}{% endif %}
{{- '\\n<parameters>' }}
{%- set schema = tool.parameters if tool.parameters is mapping else {} %}
{%- for name, field in (schema.properties | default({}, true)) | items %}
{{- '\\n<parameter>\\n<name>' ~ name ~ '</name>' }}
{%- if field.type %}{{- '\\n<type>' ~ field.type ~ '</type>' }}{% endif %}
{%- if field.description %}{{- '\\n<description>' ~ field.description | trim ~ '</description>' }}{% endif %}
{%- if field.enum %}{{- '\\n<enum>' ~ field.enum | tojson ~ '</enum>' }}{% endif %}
{{- '\\n</parameter>' }}
{%- endfor %}
{%- if schema.required %}{{- '\\n<required>' ~ schema.required | tojson ~ '</required>' }}{% endif %}
{{- '\\n</parameters>\\n</function>' }}
{%- endfor %}
{{- '\\n</tools>\\n\\nIf you choose to call a function ONLY reply in the following format with NO suffix:\\n\\n' }}
{{- '<zyphra_tool_call>\\n<function=example_function_name>\\n<parameter=example_parameter>\\nvalue\\n' }}
{{- '</parameter>\\n</function>\\n</zyphra_tool_call>' }}
{%- endif %}
{{- '<|im_end|>\\n' }}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.first or loop.previtem.role != 'tool' %}{{- '<|im_start|>user\\n' }}{% else %}{{- '\\n' }}{% endif %}
{{- '<zyphra_tool_response>\\n' ~ message.content ~ '\\n</zyphra_tool_response>' }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
{%- elif message.role == 'assistant' %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if loop.index0 > last_user.index and message.reasoning_content %}
{{- message.reasoning_content | trim ~ '\\n' }}
{%- endif %}
{{- '</think>\\n\\n' ~ message.content | default('', true) }}
{%- for call in message.tool_calls | default([], true) %}
{%- set call = call.function if call.function is defined else call %}
{%- if message.content or not loop.first %}{{- '\\n' }}{% endif %}
{{- '<zyphra_tool_call>\\n<function=' ~ call.name ~ '>\\n' }}
{%- for name, value in (call.arguments if call.arguments is mapping else {}) | items %}
{{- '<parameter=' ~ name ~ '>\\n' ~ (value if value is string else value | tojson) ~ '\\n</parameter>\\n' }}
{%- endfor %}
{{- '</function>\\n</zyphra_tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- elif not (loop.first and has_system) %}
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n<think>\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{- '</think>\\n\\n' }}{% endif %}
{%- endif %}
"""
