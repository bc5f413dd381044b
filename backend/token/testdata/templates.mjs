// Makes testdata/templates.json: what Hugging Face's own Jinja (npm) renders from the
// chat templates of model families, as transformers calls it.
//
//	npm install --prefix DIR @huggingface/jinja@0.5.11
//	node testdata/templates.mjs DIR
//
// The templates are those of the families, without their branches for tools, or made
// by hand to do the same. The day is fixed, as format.go has it.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const { Template } = createRequire(join(process.argv[2], 'x.js'))('@huggingface/jinja');

const s = { bos_token: '<s>', eos_token: '</s>' };
const im = { bos_token: '<|im_start|>', eos_token: '<|im_end|>' };
const qwen = { eos_token: '<|im_end|>' };
const llama3 = { bos_token: '<|begin_of_text|>', eos_token: '<|eot_id|>' };

const { Date: Clock } = globalThis;
globalThis.Date = class extends Clock { constructor() { super('2025-01-30T12:00:00'); } };

const r1 = { bos_token: '<｜begin▁of▁sentence｜>', eos_token: '<｜end▁of▁sentence｜>' };
const r1Added = [r1.bos_token, r1.eos_token, '<｜User｜>', '<｜Assistant｜>'];

const v7 = ['[SYSTEM_PROMPT]', '[/SYSTEM_PROMPT]'];

// name, family of testdata/families, format, special tokens, template, tokens to add
const list = [
  ['ChatML', 'digits', 'chatml', im,
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"],
  ['SmolLM2-Instruct', 'digits', 'chatml', im,
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"],
  ['Qwen2.5-Instruct', 'qwen2', 'chatml', qwen,
    "{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n{%- else %}\n    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\") %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"],
  ['Qwen2.5-Math-Instruct', 'qwen2', 'chatml', qwen,
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {{- \"# Tools\\n\" }}\n    {{- '<|im_end|>\\n' }}\n{%- elif messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n{%- else %}\n    {{- '<|im_start|>system\\nPlease reason step by step, and put your final answer within \\\\boxed{}.<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if message.role != \"system\" or not loop.first %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"],
  ['Qwen3', 'qwen2', 'chatml', qwen,
    "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {{- \"# Tools\\n<|im_end|>\\n\" }}\n{%- elif messages[0].role == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}\n{%- endif %}\n{%- set ns = namespace(asked=0) %}\n{%- for message in messages %}\n    {%- if message.role == \"user\" %}\n        {%- set ns.asked = loop.index0 %}\n    {%- endif %}\n{%- endfor %}\n{%- for message in messages %}\n    {%- if message.role == \"user\" or (message.role == \"system\" and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"assistant\" %}\n        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}\n        {%- if loop.index0 > ns.asked %}\n            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + message.content.split('</think>')[0].split('<think>')[-1].strip('\\n') + '\\n</think>\\n\\n' + content }}\n        {%- else %}\n            {{- '<|im_start|>' + message.role + '\\n' + content }}\n        {%- endif %}\n        {{- '<|im_end|>\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n    {%- if enable_thinking is defined and enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}\n"],
  ['QwQ', 'qwen2', 'chatml', qwen,
    "{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    {%- if message.role == \"user\" or (message.role == \"system\" and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"assistant\" %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content.split('</think>')[-1].lstrip('\\n') + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}\n"],
  ['Hammer, LLaMA-Factory', 'qwen2', 'chatml', qwen,
    "{% set system_message = 'You\\'re a helpful assistant.' %}{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% endif %}{% if system_message is defined %}{{ '<|im_start|>system\\n' + system_message + '<|im_end|>\\n' }}{% endif %}{% for message in messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}{% elif message['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}"],
  ['Llama-3, LLaMA-Factory', 'llama3', 'llama3', llama3,
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = 'You are a helpful assistant.' %}{% endif %}{{ '<|start_header_id|>system<|end_header_id|>\\n\\n' + system_message + '<|eot_id|>' }}{% for message in loop_messages %}{% if message['role'] == 'user' %}{{ '<|start_header_id|>user<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|><|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% else %}{{ message['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"],
  ['DeepSeek-R1-Distill-Qwen', 'qwen2', 'deepseek', r1,
    "{% set ns = namespace(system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}", r1Added],
  ['DeepSeek-R1-Distill-Llama, at first', 'llama3', 'deepseek', r1,
    "{% set ns = namespace(system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}{% if add_generation_prompt %}{{'<｜Assistant｜>'}}{% endif %}", r1Added],
  ['Zephyr, TinyLlama-Chat', 'llama2', 'zephyr', s,
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"],
  ['Tulu 2', 'llama2', 'tulu', s,
    "{{ bos_token }}{% for message in messages %}\n{% if message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] }}\n{% elif message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] }}\n{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"],
  ['Llama-3-Instruct', 'llama3', 'llama3', llama3,
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"],
  ['Llama-3.1-Instruct', 'llama3', 'llama3', llama3,
    "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- set date_string = \"26 Jul 2024\" %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Cutting Knowledge Date: December 2023\\n\" }}\n{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"],
  ['Mistral-7B-Instruct-v0.3', 'mistral', 'mistral', s,
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.last and system_message is defined %}\n            {{- \"[INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST] \" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"]|trim + eos_token}}\n    {%- endif %}\n{%- endfor %}\n"],
  ['Mistral-7B-Instruct-v0.2', 'llama2-metaspace', 'mistral', s,
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.first and system_message is defined %}\n            {{- \" [INST] \" + system_message + \"\\n\\n\" + message[\"content\"] + \" [/INST]\" }}\n        {%- else %}\n            {{- \" [INST] \" + message[\"content\"] + \" [/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- \" \" + message[\"content\"] + eos_token}}\n    {%- endif %}\n{%- endfor %}\n"],
  ['Mistral-Nemo-Instruct', 'tekken', 'mistral', s,
    "{%- if messages[0][\"role\"] == \"system\" %}\n    {%- set system_message = messages[0][\"content\"] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if message[\"role\"] == \"user\" %}\n        {%- if loop.last and system_message is defined %}\n            {{- \"[INST]\" + system_message + \"\\n\\n\" + message[\"content\"] + \"[/INST]\" }}\n        {%- else %}\n            {{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}\n        {%- endif %}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- message[\"content\"] + eos_token}}\n    {%- endif %}\n{%- endfor %}\n"],
  ['Llama-2-chat', 'llama2', 'llama2', s,
    "{% set system_message = false %}{% set turns = messages %}{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% set turns = messages[1:] %}{% endif %}{% for message in turns %}{% set content = message['content'] %}{% if loop.first and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + content %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"],
  ['CodeLlama-Instruct', 'llama2-metaspace', 'llama2', s,
    "{%- set system_message = false %}\n{%- set turns = messages %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    {%- set turns = messages[1:] %}\n{%- endif %}\n{%- for message in turns %}\n    {%- set content = message['content'] %}\n    {%- if loop.index0 == 0 and system_message != false %}\n        {%- set content = \"<<SYS>>\\n\" + system_message + \"\\n<</SYS>>\\n\\n\" + content %}\n    {%- endif %}\n    {%- if message['role'] == 'user' %}\n        {{- bos_token + \"[INST] \" + content | trim + \" [/INST]\" }}\n    {%- else %}\n        {{- \" \" + content | trim + \" \" + eos_token }}\n    {%- endif %}\n{%- endfor %}\n"],
  ['Mistral-Large-2411', 'mistral', 'mistral-v7', s,
    "{{- bos_token }}\n{%- for message in messages %}\n    {%- if message['role'] == 'user' %}\n        {{- '[INST] ' + message['content'] + '[/INST]' }}\n    {%- elif message['role'] == 'system' %}\n        {{- '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}\n    {%- else %}\n        {{- ' ' + message['content'] + eos_token }}\n    {%- endif %}\n{%- endfor %}\n", v7],
  ['Mistral-Small-24B-Instruct', 'tekken', 'mistral-v7', s,
    "{%- set today = strftime_now(\"%Y-%m-%d\") %}\n{%- set default_system_message = \"You're \\\"Small\\\".\\nToday is \" + today + \".\\n\\nAsk 'which?' if in doubt.\" %}\n\n{{- bos_token }}\n\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    {%- set turns = messages[1:] %}\n{%- else %}\n    {%- set system_message = default_system_message %}\n    {%- set turns = messages %}\n{%- endif %}\n{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}\n\n{%- for message in turns %}\n    {%- if message['role'] == 'user' %}\n        {{- '[INST]' + message['content'] + '[/INST]' }}\n    {%- elif message['role'] == 'system' %}\n        {{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}\n    {%- else %}\n        {{- message['content'] + eos_token }}\n    {%- endif %}\n{%- endfor %}\n", v7],
  ['Ministral-3-Instruct', 'tekken', 'mistral-v7', s,
    "{%- set default_system_message = '' %}\n{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {{- '[SYSTEM_PROMPT]' -}}\n    {{- messages[0]['content'] -}}\n    {{- '[/SYSTEM_PROMPT]' -}}\n    {%- set turns = messages[1:] %}\n{%- else %}\n    {%- set turns = messages %}\n    {%- if default_system_message != '' %}\n        {{- '[SYSTEM_PROMPT]' + default_system_message + '[/SYSTEM_PROMPT]' }}\n    {%- endif %}\n{%- endif %}\n{%- for message in turns %}\n    {%- if message['role'] == 'user' %}\n        {{- '[INST]' + message['content'] + '[/INST]' }}\n    {%- else %}\n        {{- message['content'] + eos_token }}\n    {%- endif %}\n{%- endfor %}\n", v7],
];

const conversation = [ // as in format_test.go, but for a line break that some templates trim
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: '  What is 2+2?\n' },
  { role: 'assistant', content: '4\n' },
  { role: 'user', content: 'And 3+3?' },
];

const thought = '<think>\nTwo and two.\n</think>\n\n'; // before the assistant's content

const out = list.map(([name, family, format, tokens, template, added]) => {
  const t = new Template(template);
  const render = (messages, add_generation_prompt = true) => t.render({ messages, add_generation_prompt, ...tokens });
  const question = { role: 'user', content: 'Why?' };
  const thinking = template.includes('think>') && {
    remembered: render(conversation.map(m => m.role == 'assistant' ? { ...m, content: thought + m.content } : m)),
    sample: render([question, { role: 'assistant', content: thought + 'So.' }], false),
  };
  return { name, family, format, ...tokens, added, template, prompt: render([question]), messages: render(conversation), ...thinking };
});
writeFileSync(join(dirname(fileURLToPath(import.meta.url)), 'templates.json'), JSON.stringify(out, null, '\t') + '\n');
