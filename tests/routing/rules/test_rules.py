"""Files of rules: what they may hold, what is refused, and which requests they hold for."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from edge_router.chat.message import Image, Message, Text, ToolCall, ToolResult
from edge_router.chat.request import ChatRequest, Extra, JsonOutput, Tool
from edge_router.errors import InvalidRules
from edge_router.routing.rules.file import parse_rules, read_rules
from edge_router.routing.rules.query import Query, language_of
from edge_router.routing.rules.rule import Rule, judged

FILE = Path("rules.toml")
MONDAY = datetime(2026, 11, 30, 10, 0)
CODE = "def f(x):\n    return x + 1\n\nfor n in range(3):\n    print(f(n))\n"


def asked(text: str = "Hello.", **fields: object) -> ChatRequest:
    return ChatRequest((Message("user", text),), **fields)  # type: ignore[arg-type]


def holds(condition: str, request: ChatRequest, now: datetime = MONDAY, then: str = "block") -> bool:
    (rule,) = parse_rules(f'[[rule]]\nthen = "{then}"\n{condition}\n', FILE)
    return rule.holds(Query(request, now))


SAID = (Message("user", "About Acme."), Message("assistant", "Yes?"), Message("user", "Thanks."))
HOLDS = [
    ('words = ["acme"]', asked("Is ACME's bill due?")),
    ('words = "new york"', asked("In New York, please")),
    ('words = ["C++", ".env"]', asked("Read my .env file")),
    ('words = ["acme"]', asked("A\u200bcme")),
    ('words = ["секрет"]', asked("Это Секрет?")),
    ('words = ["caf\u00e9"]', asked("Cafe\u0301")),
    ('words = ["cafe\u0301"]', asked("CAF\u00c9")),
    (
        'words = ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"]',
        asked("\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
    ),
    (
        'words = ["\u0939\u093f\u0902\u0926\u0940"]',
        asked("\u0939\u093f\u0902\u0926\u0940 \u092e\u0947\u0902"),
    ),
    ("pattern = '(?i)секрет[а-я]+'", asked("Секреты")),
    ("pattern = 'a – b'", asked("x a – b")),
    ('words = ["\u6a5f\u5bc6"]', asked("\u3053\u308c\u306f\u6a5f\u5bc6\u3067\u3059")),
    ('words = ["acme"]', ChatRequest(SAID)),
    ('words = ["acme"]', asked(tools=(Tool("f", "Asks Acme"),))),
    ("pattern = '(?i)case[- ]no\\. ?\\d{4}'", asked("Case No. 1234")),
    ("pattern = ['^x', 'y$']\nreads = 'last'", asked("only y")),
    ("pattern = ['^x', '(?m)y$']", asked("only y", tools=(Tool("f"),))),
    ("pattern = 'b'", asked("half \ud800 a b")),
    ('content = "tools"', asked(tools=(Tool("f"),))),
    ('content = ["tools", "audio"]', ChatRequest((Message("tool", (ToolResult("c", (Text("42"),)),)),))),
    ('content = "tools"', ChatRequest((Message("assistant", (ToolCall("c", "f", "{}"),)),))),
    ('content = "images"', ChatRequest((Message("user", (Image("data:image/png;base64,AAAA"),)),))),
    ('content = "json"', asked(output=JsonOutput())),
    ('content = "code"', asked(CODE)),
    ('content = "code"', asked("What does this do?\n```\nx\n```")),
    ("longer_than = 5", asked("sixsix")),
    ("shorter_than = 9", asked("short")),
    ('language = ["fr", "de"]', asked("Wie ist das Wetter, und wird es auch morgen so sein?")),
    ('language = "ru"', asked("Как дела сегодня?")),
    ('metadata = {team = "Legal"}', asked(extra=Extra("openai", {"metadata": {"team": "legal"}}))),
    ("metadata = {team = ['a', 'b'], n = 3}", asked(extra=Extra("x", {"metadata": {"team": "b", "n": "3"}}))),
    ('program = "claude"', asked(program="claude-cli/2.1.197 (external, cli)")),
    ('hours = "09:00-17:00"', asked()),
    ('hours = "22:00 - 10:01"', asked()),
    ('days = ["mon", "sun"]', asked()),
    ("", asked()),
]
DOES_NOT = [
    ('words = ["acme"]', asked("acmeology, the macme")),
    ('words = ["acme"]\nreads = "last"', ChatRequest(SAID)),
    ("pattern = 'Acme'", asked("acme")),
    ('words = ["user", "auto", "tool", "text"]', asked(tools=(Tool("f"),))),
    ('words = "acme"\nlanguage = "de"', asked("What is that, and how is Acme?")),
    ('content = ["images", "code"]', asked("I import things (from abroad); return soon.")),
    ('content = "code"', asked("Dear all,\nreturn the books;\nthanks")),
    ("longer_than = 6", asked("sixsix")),
    ('language = "en"', asked("12345 67 + 8")),
    ('language = "en"', asked("Das ist nicht gut und wird auch nicht besser")),
    ('metadata = {team = "legal"}', asked()),
    ('metadata = {team = "legal"}', asked(extra=Extra("openai", {"metadata": "legal"}))),
    ('program = "claude"', asked()),
    ('hours = "10:01-17:00"', asked()),
    ('hours = "22:00-06:00"', asked()),
    ('days = "tue"', asked()),
]


def test_which_requests_a_condition_holds_for() -> None:
    for condition, request in HOLDS:
        assert holds(condition, request), condition
    for condition, request in DOES_NOT:
        assert not holds(condition, request), condition
    # What names a model looks at the last words alone, unless it says otherwise.
    for more, expected in (("", False), ('\nreads = "all"', True)):
        assert holds(f'words = "acme"{more}', ChatRequest(SAID), then="weak") is expected


REFUSED = [
    ("not TOML", "x = [", "not TOML"),
    ("other tables", "[rules]\nx = 1", "'rules' is not known"),
    ("one table", '[rule]\nthen = "weak"', "below [[rule]]"),
    ("no then", '[[rule]]\nwords = "x"', "rule 1: then is missing"),
    ("a slip", '[[rule]]\nthen = "weak"\nwrods = "x"', "'wrods' is not known; did you mean words?"),
    ("unknown key", '[[rule]]\nthen = "weak"\nxyz = 1', "it may have name, then"),
    ("empty list", '[[rule]]\nthen = "weak"\nwords = []', "words must be a text or a list of texts"),
    ("empty word", '[[rule]]\nthen = "weak"\nwords = [" "]', "words must be"),
    ("wrong type", '[[rule]]\nthen = "weak"\nwords = 3', "words must be"),
    ("no text", '[[rule]]\nthen = ["weak"]', "then must be a text"),
    ("unknown kind", '[[rule]]\nthen = "weak"\ncontent = "video"', "content = 'video' must be one of tools"),
    (
        "unknown language",
        '[[rule]]\nthen = "weak"\nlanguage = "english"',
        "language = 'english' must be one of",
    ),
    ("hours", '[[rule]]\nthen = "weak"\nhours = "22-6"', "must be written as 22:00-06:00"),
    ("no hours", '[[rule]]\nthen = "weak"\nhours = "06:00-06:00"', "must be written as"),
    ("days", '[[rule]]\nthen = "weak"\ndays = "weekend"', "must be one of mon"),
    ("length", '[[rule]]\nthen = "weak"\nlonger_than = "8k"', "must be a number of characters"),
    ("metadata", '[[rule]]\nthen = "weak"\nmetadata = "legal"', "metadata must be a table"),
    ("metadata value", '[[rule]]\nthen = "weak"\nmetadata = {a = []}', "metadata.a must be"),
    (
        "look-ahead",
        "[[rule]]\nthen = \"weak\"\npattern = '(?=x)y'",
        "a pattern is not taken: invalid perl operator",
    ),
    (
        "reference back",
        "[[rule]]\nthen = \"weak\"\npattern = '(a)\\1'",
        "a pattern is not taken: invalid escape",
    ),
    ("open bracket", "[[rule]]\nthen = \"weak\"\npattern = '('", "a pattern is not taken: missing )"),
    ("matches nothing", "[[rule]]\nthen = \"weak\"\npattern = 'x*'", "it matches where nothing stands"),
    ("none to many", "[[rule]]\nthen = \"weak\"\npattern = 'xa{,3}'", "write {0,n}"),
    ("too large", "[[rule]]\nthen = \"weak\"\npattern = '((a{1,99}){1,99}){1,99}'", "a pattern is not taken"),
    ("twice", '[[rule]]\nname="a"\nthen = "weak"\n[[rule]]\nname="a"\nthen = "weak"', "two of that name"),
    ("name", '[[rule]]\nname="a\\nb"\nthen = "weak"', "name must be in one line"),
    ("reads", '[[rule]]\nthen = "weak"\nreads = "first"', "must be one of all, last"),
    ("too many", '[[rule]]\nthen = "weak"\n' * 501, "more than 500 rules"),
]


def test_what_is_not_understood_is_refused_by_name(capfd: pytest.CaptureFixture[str]) -> None:
    for what, text, said in REFUSED:
        with pytest.raises(InvalidRules) as error:
            parse_rules(text, FILE)
        assert said in str(error.value), (what, str(error.value))
    assert capfd.readouterr() == (
        "",
        "",
    )  # RE2 tells of bad expressions on standard error, unless told not to


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    for content, said in (
        (None, "cannot be read"),
        (b"\xff\xfe", "not UTF-8"),
        (b"#" * (2 << 20), "larger than"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InvalidRules, match=said):
            read_rules(file)
    file.write_bytes(b"\xef\xbb\xbf[[rule]]\r\nthen = 'weak'\r\n")
    assert [rule.then for rule in read_rules(file)] == ["weak"]
    file.write_text("")
    assert read_rules(file) == ()


def test_no_expression_takes_longer_than_its_text() -> None:
    """Each of these takes Python's own until after the end of the world."""
    request = asked("a" * 20_000 + "!")
    begin = time.perf_counter()
    for source in ("(a+)+$", "(a|aa)+$", "(.*a){20}b", "(a*)*c"):
        holds(f"pattern = '{source}x'", request)
    assert time.perf_counter() - begin < 20


def test_what_is_tried_at_once_holds_as_each_does_alone() -> None:
    """Expressions whose flags, quotes and names would reach into the next one's."""
    sources = (
        *(
            "(?i)straße",
            "ACCT-[0-9]{4}",
            r"\bx\d+\b",
            "^begin",
            "end$",
            r"\Aonly\z",
            "(?s)a.b",
            "(?m)^row$",
            "a|bc",
        ),
        *("(?P<n>1)2", "(?P<n>3)4", r"\Qa+b(", r"\Qb\E{3}", r"\pL7", "ü{2}", "[^ -~]{3}"),
    )
    texts = (
        *(
            "STRASSE",
            "Straße STRAßE",
            "acct-1234",
            "ACCT-1234",
            "x12",
            "ax12",
            "begin",
            "not begin",
            "end",
            "end .",
        ),
        *(
            "only",
            "only\n",
            "a\nb",
            "x\nrow\ny",
            "BC",
            "bc",
            "12",
            "34",
            "a+b(",
            "bbb",
            "ü7",
            "7",
            "üü",
            "日本語",
            "\ud8007",
            "",
        ),
    )

    def parsed(*some: str) -> tuple[Rule, ...]:
        return parse_rules("".join(f"[[rule]]\nthen = 'weak'\npattern = '{each}'\n" for each in some), FILE)

    for some in (sources, sources[:9], sources[:11], sources[11:13]):
        together, alone = parsed(*some), [rule for each in some for rule in parsed(each)]
        for text in texts:
            held = [
                [rule.holds(Query(asked(text or "."), MONDAY)) for rule in rules]
                for rules in (together, alone)
            ]
            assert held[0] == held[1], (some, text)


def test_words_in_any_case_are_found_in_whatever_letters() -> None:
    for word, text in (
        *(
            ("\u00b5m", "5 \u03bcm"),
            ("\u03bcm", "5 \u00b5m"),
            ("\u03c3i\u03c3", "\u03a3I\u03a3"),
            ("\u212am", "5 km"),
        ),
        *(("ma\u017fs", "MASS"), ("straße", "STRA\u1e9eE"), ("iris", "\u0130R\u0130S"), ("x\u0131", "XI")),
    ):
        rule = parse_rules(f"[[rule]]\nthen = 'weak'\nwords = '{word}'\n", FILE)[0]
        assert rule.holds(Query(asked(text), MONDAY)), (word, text)


def test_protection_holds_beside_everything_and_the_first_model_counts() -> None:
    rules = parse_rules(
        """
        [[rule]]
        name = "big"
        words = "prove"
        then = "strong"
        [[rule]]
        name = "small"
        words = "prove"
        then = "weak"
        [[rule]]
        name = "here"
        words = "acme"
        then = "local_only"
        [[rule]]
        name = "names"
        words = ["acme", "ann"]
        then = "redact"
        [[rule]]
        name = "no"
        words = "bomb"
        then = "block"
        """.replace("        ", ""),
        FILE,
    )
    for text, block, local_only, redact, model in (
        ("Hello.", None, None, [], None),
        ("Prove it.", None, None, [], "big"),
        ("Prove it to Acme.", None, "here", ["names"], "big"),
        ("Prove it to Ann.", None, None, ["names"], "big"),
        ("Acme's bomb", "no", "here", ["names"], None),
    ):
        said = judged(rules, Query(asked(text), MONDAY))
        names = [None if each is None else each.name for each in (said.block, said.local_only, said.model)]
        assert (names, [rule.name for rule in said.redact]) == ([block, local_only, model], redact), text


def test_languages() -> None:
    for language, text in {
        "en": "What is the best way to write this?",
        "de": "Ich habe eine Frage zu den Kosten, die mir nicht klar sind.",
        "fr": "Quelle est la meilleure façon de faire une tarte pour vous ?",
        "es": "¿Cuál es la mejor manera de hacer una tarta para el lunes?",
        "it": "Che cosa è questo e come si fa una torta per il lunedì?",
        "pt": "Você sabe como isso é feito? Não é uma pergunta difícil.",
        "nl": "Ik weet niet hoe het met de kosten van dit project zit.",
        "pl": "Czy to jest dobre? Nie wiem, jak to zrobić.",
        "tr": "Bu ne kadar ve nasıl yapılır? Çok güzel bir şey ama.",
        "sv": "Jag vet inte hur det är, men vad kan vi göra med den?",
        "ru": "Напишите письмо",
        "uk": "Напишіть лист, будь ласка, її мамі",
        "zh": "今天天气怎么样",
        "ja": "今日の天気はどうですか",
        "ko": "오늘 날씨 어때요",
        "ar": "كيف حالك اليوم",
        "el": "Τι καιρό κάνει σήμερα",
        "he": "מה שלומך היום",
        "hi": "आज मौसम कैसा है",
        "th": "วันนี้อากาศเป็นอย่างไร",
    }.items():
        assert language_of(text) == language, text
    for text in ("", "42", "Foo bar baz", "print(x)"):
        assert language_of(text) is None, text


def test_rules_look_at_requests_of_any_form() -> None:
    odd = replace(asked(), messages=(Message("system", "Be brief."), Message("assistant", ())))
    for condition, _ in HOLDS:
        holds(condition, odd)  # has no user's message, and raises nothing
