from __future__ import annotations

import json
import threading
import tracemalloc
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from table import each

from edge_router.chat.message import Message
from edge_router.errors import InvalidModel, TemplateError
from edge_router.prompts.template import ChatTemplate, TemplateLimits

TALK = [
    Message("system", "Be brief."),
    Message("user", " Hi <b> & {{ 1 }} "),
    Message("assistant", "<think>\nhm\n</think>\n\nHello."),
    Message("user", "Why?\nNow 日本"),
]

# What templates of current models do, each in the way that one of them does it.
TEMPLATES = {
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "system first, the rest sliced": "{{ bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}[{{ system }}]"
    "{% for m in messages %}{{ loop.index0 }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}{{ m.content | trim }}\n{% endfor %}",
    "alternation checked": "{% for m in messages if m['role'] != 'system' %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{{ m['content'].strip() ~ eos_token }}{% endfor %}",
    "reasoning cut off": "{%- set ns = namespace(last=messages|length - 1, seen=false) %}{%- for m in messages[::-1] %}"
    "{%- if m.role == 'user' and not ns.seen %}{%- set ns.last = loop.index0 %}{%- set ns.seen = true %}{%- endif %}{%- endfor %}{{ ns.last }}"
    "{%- for m in messages %}{%- set content = m.content %}{%- if m.role == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}{{- m.role + ':' + content }}\n{% endfor %}",
    "macros and JSON": "{%- macro show(value, depth=0) -%}{{ '  ' * depth }}{{ value | tojson }}{%- endmacro -%}"
    "{% for m in messages %}{{ show(m, loop.index) }}{{ {'b': [1, 2.5, none, true], 'a': m.role} | tojson(indent=2) }}{% endfor %}"
    "{{ {'x': 1, 'y': (2, 3)}.items() | list }}{% for k, v in {'x': 1}.items() %}{{ k ~ '=' ~ v }}{% endfor %}",
    "loop controls and filters": "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{% if loop.index == 4 %}{% break %}{% endif %}"
    "{{ m.content|upper }}{% endfor %}{{ messages|map(attribute='role')|join(', ') }}{{ messages|selectattr('role', 'equalto', 'user')|list|length }}"
    "{{ messages[0].content.replace('brief', 'long') }}{{ 'a,b'.split(',') }}{{ ['x'] + ['y'] }}{{ '%s-%05.1f' % ('a', 2) }}{{ '{}:{:>4}'.format('k', 1) }}"
    "{{ messages[1].content|replace('<', '[')|indent(3) }}{{ ['p', 'q']|join }}{{ range(3)|list }}{{ 'ab'.center(6, '*') }}{{ ', '.join(['1', '2']) }}"
    "{{ 7 // 2 }}{{ 2 ** 3 }}{{ 2 * 3 }}{{ -1 }}{{ [1, 2, 3]|sum }}{{ [3, 1]|sort|first }}{{ 'x' if missing is defined else 'none' }}{{ missing }}",
    "blocks": "{% set text %}{% for m in messages %}{{ m.role }}{% if not loop.last %}, {% endif %}{% endfor %}{% endset %}<{{ text }}>"
    "{% filter upper %}{{ text }}{% endfilter %}{% macro outer() %}({{ caller() }}){% endmacro %}{% call outer() %}in{% endcall %}"
    "{% for row in [1, [2, [3]]] recursive %}{% if row is iterable %}{{ loop(row) }}{% else %}{{ row }}{% endif %}{% endfor %}",
    "joined in place": "{% for m in messages %}{{ m.role ~ ': ' ~ m.content ~ 1 ~ none ~ [1] }}{% endfor %}{{ dict(a=1).a }}{{ 'abc'[1:] }}{{ 'abc'[0] }}",
}


def plain(source: str, **variables: object) -> str:
    """As transformers renders it: Jinja's own sandbox and nothing more."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(source).render(**variables)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=20)  # of each of the templates
@given(texts=st.lists(st.text(max_size=12), max_size=3))
def test_the_limits_change_nothing_in_what_a_template_writes(name: str, texts: list[str]) -> None:
    source = TEMPLATES[name]
    messages = [
        *TALK,
        *(Message("assistant" if i % 2 == 0 else "user", text) for i, text in enumerate(texts)),
    ]
    wanted = plain(
        source,
        messages=[{"role": m.role, "content": m.text} for m in messages],
        add_generation_prompt=True,
        bos_token="<s>",
        eos_token="</s>",
    )
    ours = ChatTemplate(source, model="m", variables={"bos_token": "<s>", "eos_token": "</s>"})
    assert ours.write([{"role": m.role, "content": m.text} for m in messages]) == wanted


def test_a_generation_block_is_its_content() -> None:
    template = ChatTemplate("a{% generation %}{{ messages[0].content }}{% endgeneration %}c", model="m")
    assert template.render([Message("user", "b")]) == "abc"


def test_the_developer_speaks_as_the_system() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.role }} {% endfor %}", model="m")
    assert template.render([Message("developer", "x"), Message("user", "y")]) == "system user "


NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}"
    "{{ m.role[0] }}:{{ m.content }};{% endfor %}"
)


def test_what_a_template_refuses_is_said_by_the_user() -> None:
    template = ChatTemplate(NO_SYSTEM, model="m")
    assert template.render(TALK[:2]) == "u:Be brief.\n\n Hi <b> & {{ 1 }} ;"
    turns = [Message("user", "a"), Message("user", "b"), Message("assistant", "c"), Message("tool", "d")]
    assert template.render(turns) == "u:a\n\nb;a:c;u:d;"


def test_what_it_refuses_even_then_is_an_error_with_its_own_words() -> None:
    with pytest.raises(TemplateError, match="of m failed: never"):
        ChatTemplate("{{ raise_exception('never') }}", model="m").render([Message("assistant", "a")])


def test_each_text_is_guarded() -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }};{% endfor %}", model="m")
    assert template.render(TALK[:2], guard=lambda text: text[::-1]) == ".feirb eB; } 1 {{ & >b< iH ;".replace(
        "} 1 {{", "}} 1 {{"
    )


def test_today_is_known() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}{{ strftime_now('%-d') }}", model="m")
    assert str(datetime.now().year) in template.render(TALK)


@pytest.mark.parametrize(
    "source", ["{% for %}", "{{ x | nonsense }}", "{% include 'x' %}", "{{ 1 / 0 }}", "{{ nobody.at.home }}"]
)
def test_a_broken_template_is_a_template_error(source: str) -> None:
    with pytest.raises(TemplateError, match="of m failed"):
        ChatTemplate(source, model="m").render(TALK)


# ---- limits ------------------------------------------------------------------------------------------------

DOUBLE = "{% set ns = namespace(x='A' * 1000) %}{% for i in range(60) %}"
GREEDY = {
    "repeated text": "{{ 'A' * 10**8 }}",
    "repeated list": "{{ [1] * 10**8 }}",
    "doubled by ~": DOUBLE + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubled by +": DOUBLE + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubled in a block": DOUBLE + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "doubled by join": DOUBLE + "{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    "doubled by replace": DOUBLE + "{% set ns.x = ns.x.replace('A', 'AA') %}{% endfor %}",
    "doubled by the replace filter": DOUBLE + "{% set ns.x = ns.x|replace('A', 'AA') %}{% endfor %}",
    "doubled by a macro": "{% macro d(x) %}{{ x }}{{ x }}{% endmacro %}"
    + DOUBLE
    + "{% set ns.x = d(ns.x) %}{% endfor %}",
    "doubled by format": DOUBLE + "{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}",
    "doubled by str.format": DOUBLE + "{% set ns.x = '{0}{0}'.format(ns.x) %}{% endfor %}",
    "nested lists": DOUBLE + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "nested tuples": DOUBLE + "{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x == ns.x }}",
    "nested dicts": DOUBLE + "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}",
    "nested by dict": DOUBLE + "{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}",
    "copies kept": "{% set ns = namespace(l=[]) %}{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set ns.l = ns.l + [s[1:]] %}{% endfor %}",
    "padding": "{{ 'a'.center(10**9) }}",
    "padding by a filter": "{{ 'a'|center(1000000000) }}",
    "padding with zeros": "{{ '1'.zfill(10**9) }}",
    "tabs": "{{ ('\t' * 1000).expandtabs(tabsize=10000000) }}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a wide format filter": "{{ '%1000000000d'|format(1) }}",
    "a width out of the arguments": "{{ '%*d' % (1000000000, 1) }}",
    "a wide str.format": "{{ '{:1000000000}'.format(1) }}",
    "a nested str.format": "{{ '{:{}}'.format(1, 1000000000) }}",
    "a wide date": "{{ strftime_now('%999999999Y') }}",
    "a long date": "{{ strftime_now('%A' * 1000) }}",
    "bytes of a number": "{{ (1).to_bytes(1000000000, 'big') }}",
    "a huge number": "{{ 9 ** 9999999 }}",
    "a product of numbers": "{% set ns = namespace(x=9 ** 999) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "join with a long separator": "{{ range(100000)|join('x' * 1000000) }}",
    "str.join with a long separator": "{{ ('x' * 1000000).join(range(100000)|map('string')) }}",
    "slices": "{{ [1]|slice(100000000)|list }}",
    "batches": "{{ [1]|batch(1000000000, 'x')|list }}",
    "indented text": "{{ ('a\n' * 100000)|indent(100000) }}",
    "indented JSON": "{{ messages|tojson(indent=100000) }}",
    "sums of lists": "{{ ([[1] * 1000] * 1000)|sum(start=[]) }}",
    "translation": "{{ ('a' * 1000000).translate({97: 'b' * 1000000}) }}",
    "recursion": "{% macro f(n) %}{{ f(n - 1) }}{% endmacro %}{{ f(9) }}",
    "a recursive loop": "{% for c in 'a' * 1000 recursive %}{{ loop('a' * 100000) }}{% endfor %}",
    "a long range": "{{ range(10**9)|list }}",
    "much to write": "{% for i in range(90000) %}{{ 'some text ' * 10 }}{% endfor %}",
    "much to write as it stands": "{% for i in range(90000) %}" + "text " * 30 + "{% endfor %}",
}
SLOW = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "branching recursion": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
    "lazy loops": "{% for i in range(99999) %}{% set x = range(99999)|map('string')|select('in', ['x'])|first %}{% endfor %}",
}


@each("name", GREEDY)
def test_a_template_that_builds_too_much_is_stopped(name: str) -> None:
    limits = TemplateLimits(work=1_000_000, seconds=30)
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError, match="of m failed") as caught:
            ChatTemplate(GREEDY[name], model="m", limits=limits).render(TALK)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30_000_000
    assert "MemoryError" not in str(caught.value)


@pytest.mark.parametrize("name", SLOW)
def test_a_template_that_takes_too_long_is_stopped(name: str) -> None:
    limits = TemplateLimits(work=10**12, seconds=0.2)
    with pytest.raises(TemplateError, match=r"more than 0\.2 s"):
        ChatTemplate(SLOW[name], model="m", limits=limits).render(TALK)


def test_a_long_conversation_is_within_the_limits() -> None:
    turns = [Message("user" if index % 2 == 0 else "assistant", "word " * 200) for index in range(1000)]
    for source in TEMPLATES.values():
        assert ChatTemplate(source, model="m").render(turns)


ESCAPES = (
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{{ cycler.__init__.__globals__ }}",
    "{{ messages.append(1) }}",
    "{{ ''|attr('__class__')|attr('mro') }}",
    "{{ namespace(__class__=1) }}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{{ '{0.__class__.__mro__}'.format(1) ~ raise_exception }}{{ lipsum() }}",
)


@pytest.mark.parametrize("source", ESCAPES)
def test_the_sandbox_still_holds(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source, model="m").render(TALK)


def test_a_namespace_does_not_show_what_it_holds() -> None:
    assert ChatTemplate("{{ namespace(x='secret') }}", model="m").render(TALK) == "<namespace>"


def test_many_threads_may_render_at_once() -> None:
    template = ChatTemplate(TEMPLATES["macros and JSON"], model="m")
    alone = template.render(TALK)
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(template.render(TALK))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 8


# ---- model directories -------------------------------------------------------------------------------------


def directory(path: Path, config: object | None = None, jinja: str | None = None) -> Path:
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if jinja is not None:
        (path / "chat_template.jinja").write_text(jinja, encoding="utf-8")
    return path


def rendered(path: Path) -> str | None:
    template = ChatTemplate.from_directory(path, "m")
    return None if template is None else template.render([Message("user", "x")])


def test_the_template_of_a_directory(tmp_path: Path) -> None:
    assert rendered(tmp_path) is None
    named = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "plain {{ bos_token }}"},
    ]
    special = {"bos_token": {"content": "<s>", "lstrip": False}, "eos_token": "</s>", "pad_token": None}
    assert rendered(directory(tmp_path, {"model_max_length": 3})) is None
    assert rendered(directory(tmp_path, {"chat_template": named, **special})) == "plain <s>"
    assert rendered(directory(tmp_path, {"chat_template": named[:1]})) == "tools"
    assert rendered(directory(tmp_path, {"chat_template": "one{{ eos_token }}", **special})) == "one</s>"
    assert rendered(directory(tmp_path, jinja="file {{ messages[0].content }}")) == "file x"


@pytest.mark.parametrize("content", ["{", "[1]", "\udcff"])
def test_a_damaged_tokenizer_config_is_an_invalid_model(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidModel, match=r"tokenizer_config\.json"):
        ChatTemplate.from_directory(tmp_path, "m")


def test_a_template_that_takes_long_to_compile_is_refused() -> None:
    longest = "x" * TemplateLimits().source
    ChatTemplate(longest, model="m")
    with pytest.raises(TemplateError, match="it has 100001 characters, of at most 100000"):
        ChatTemplate(longest + "x", model="m")
