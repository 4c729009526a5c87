"""Gates are open wherever their detectors find anything, and closed to what people mostly write."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

from edge_router.bench.decision import _PROMPTS
from edge_router.guard.detectors import MachineIdentity, detectors
from edge_router.guard.encodings import encoded
from edge_router.guard.gates import CODED, all_of, gate
from edge_router.guard.key_formats import KEY_FORMATS, NAMES
from edge_router.guard.reading import Reading

ALL = [each for each in detectors(MachineIdentity("/home/anna", ("annas-laptop",))) if each.gate is not None]
LETTERS = "abcdefABCDEF0123456789"
WAYS = (
    ": ",
    " = ",
    "=",
    " => ",
    " := ",
    ": str = ",
    " is ",
    " ",
    '": "',
    "' : '",
    '"]="',
    '\\": \\"',
    "s=",
    ">",
    "\t=\t",
)
PIECES = (
    *("4111 1111 1111 1111", "4111-1111-1111-1111", "5500005555555559", "378282246310005", "12/27", "0000"),
    *("DE89 3704 0044 0532 0130 00", "GB29NWBK60161331926819", "GB29-NWBK-6016-1331-9268-19", "kw81", "CBKU"),
    *(
        "postgres://anna:hunt3r22x@db.example.net/x",
        "https://a.example:8080/",
        "eyJhbGciOiJI",
        ".eyJzdWIiOiIxMjM0",
    ),
    *(
        ".SflKxwRJSMeKKF2QT4fwpM",
        "-----BEGIN RSA PRIVATE KEY-----",
        "MIIEow",
        "-----END RSA PRIVATE KEY-----",
    ),
    *(
        "Authorization: Bearer abcdef1234567890",
        "AUTHORIZATION",
        "anna@example.org",
        "anna%40example.org",
        "git@x.org",
    ),
    *(
        "\u0130",
        "\u017f",
        "\u212a",
        "\uff11",
        "\u200b",
        "\ud800",
        "\n",
        " ",
        "\\n",
        '"',
        "'",
        "(",
        ")",
        "</",
        "--",
        "x",
    ),
)


def keys(draw: random.Random) -> str:
    form = draw.choice(KEY_FORMATS)
    letters = "0123456789abcdef" if "a-f0-9" in form.letters or "0-9a-f" in form.letters else LETTERS
    letters = "ABCDEF234567" if "A-Z" in form.letters and "a-z" not in form.letters else letters
    rest = "." + "".join(draw.choices("0123456789abcdef", k=64)) if form.rest else ""
    return (
        draw.choice(form.prefixes)
        + "".join(draw.choices(letters, k=form.shortest + draw.randrange(8)))
        + rest
    )


def passwords(draw: random.Random) -> str:
    name = draw.choice(("", "api_", "client ", "--")) + draw.choice(NAMES)
    name = draw.choice((str.upper, str.lower, str.title))(name)
    value = "".join(draw.choices(LETTERS + "-_./+ ü", k=draw.randrange(6, 24)))
    return name + draw.choice(WAYS) + draw.choice(("", '"', "'")) + value + draw.choice(("", '"', "'", "</"))


def test_they_are_open_wherever_something_is_found() -> None:
    draw, found = random.Random(16), dict.fromkeys((each.kind for each in ALL), 0)
    opens = {each.kind: gate(each.gate or "") for each in ALL}
    whole = all_of([each.gate for each in ALL])
    assert whole is not None
    for _ in range(1500):
        makers = [keys, passwords, *[lambda draw: draw.choice(PIECES)] * 3]
        text = Reading("".join(draw.choice(makers)(draw) for _ in range(draw.randrange(1, 7)))).plain
        for each in ALL:
            if next(iter(each.find(text)), None) is not None:
                found[each.kind] += 1
                assert opens[each.kind](text) and whole(text), (each.kind, text)
    assert min(found.values()) > 25, found


def test_that_of_codes_is_open_wherever_one_is_read() -> None:
    """Bytes that are no letters stand around a key, too: ends of lines, other numbers."""
    ways: tuple[Callable[[bytes], str], ...] = (
        bytes.hex,
        lambda data: data.hex(" "),
        lambda data: data.hex(":"),
        lambda data: "".join(f"\\x{each:02x}" for each in data),
        lambda data: ", ".join(f"0x{each:02X}" for each in data),
        lambda data: "".join(f"%{each:02X}" for each in data),
        lambda data: "\n".join(data[at : at + 8].hex(" ") for at in range(0, len(data), 8)),
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.encodebytes(data).decode(),
    )
    draw, opens = random.Random(16), gate(CODED)
    for number in range(900):
        inner = "".join(draw.choices(LETTERS, k=draw.randrange(10, 40))).encode()
        around = [bytes(draw.choices(b"\n\t\x00\xffa", k=draw.randrange(6))) for _ in range(2)]
        text = draw.choice(("", "as ", "1")) + ways[number % len(ways)](inner.join(around))
        if any(meaning for _, _, meaning in encoded(text)):
            assert opens(text), text


def test_they_are_closed_to_what_people_mostly_write() -> None:
    whole = all_of([*(each.gate for each in ALL if each.kind != "emails"), CODED])
    assert whole is not None
    for kind, words in _PROMPTS.items():
        assert not whole(words * 20), kind
    assert all_of(["a", None]) is None and all_of([]) is None
