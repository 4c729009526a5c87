"""What is found in a text, and what is not."""

from __future__ import annotations

import base64
import random
import re

from edge_router.guard import numbers
from edge_router.guard.detectors import MachineIdentity, detectors
from edge_router.guard.key_formats import HEX, KEY_FORMATS, KeyFormat
from edge_router.guard.screening import Screening

MACHINE = MachineIdentity("/home/alice", ("alices-laptop.lan",))
LOOK = Screening(detectors(MACHINE))


def found(text: str) -> list[tuple[str, str]]:
    return [(each.kind, text[each.start : each.end]) for each in LOOK.findings(text)]


def letters(form: KeyFormat, count: int) -> str:
    """So many letters that a key of that form may have."""
    pool = [chr(code) for code in range(48, 123) if re.fullmatch(form.letters, chr(code))]
    return "".join(pool[7 * n % len(pool)] for n in range(count)) if form.letters != HEX else "0a1b2c3d" * 20


def key(form: KeyFormat, prefix: str) -> str:
    """One that nobody was ever given."""
    rest = {"SendGrid": "." + "a1B2" * 8, "Airtable": "." + "0a1b" * 16}.get(form.service, "")
    return prefix + letters(form, form.shortest + 4)[: form.shortest + 4] + rest


def escaped(note: bytes) -> str:
    return "".join(f"\\x{code:02x}" for code in note)


def test_keys_of_every_service_are_found_wherever_they_stand() -> None:
    assert len(KEY_FORMATS) > 70
    for form in KEY_FORMATS:
        for prefix in form.prefixes:
            secret = key(form, prefix)
            hidden = f"{secret[:6]}\u200b{secret[6:]}"
            note = f"# for the build\nKEY={secret}\n".encode()
            coded, dump = base64.b64encode(note).decode(), note.hex(" ")
            wrapped = "\n".join(coded[at : at + 44] for at in range(0, len(coded), 44))
            for text, part in (
                (f"Why does {secret} fail?", secret),
                (f"{secret}", secret),
                (f'{{"env": "A=1\\n{secret}"}}', secret),
                (f"see https://example.org/?k={secret}&x=1", secret),
                (f"copied from a page: {hidden} it was", hidden),
                (f"kubectl says {coded} of it", coded),
                (f"in a file:\n{wrapped}\nplease", wrapped),
                (f"hex {secret.encode().hex()} of it", secret.encode().hex()),
                (f"dumped: be {dump} so", dump),
                (f"b'{escaped(note)}'", escaped(note)),
            ):
                places = [(kind, what) for kind, what in found(text) if kind == "secrets"]
                assert any(part in what for _, what in places), (form.service, text, places)


def test_the_start_of_a_key_is_no_key() -> None:
    for form in KEY_FORMATS:
        for prefix in form.prefixes:
            text = f"Keys of {form.service} begin with {prefix} as all know."
            assert found(text) == [], text


TOKEN = "eyJ" + "a1B2" * 3 + ".eyJ" + "a1B2" * 4 + "." + "c3D4" * 8
FOUND = [
    ("cards", "Is 4111 1111 1111 1111 valid?", "4111 1111 1111 1111"),
    ("cards", "5555-5555-5555-4444", "5555-5555-5555-4444"),
    ("cards", "4111 1111 1111 1111 12/27 123", "4111 1111 1111 1111"),
    ("cards", "2 4111 1111 1111 1111 9", "4111 1111 1111 1111"),
    ("cards", "4111 1111 1111 1111 1229 123", "4111 1111 1111 1111"),
    ("cards", "amex 378282246310005.", "378282246310005"),
    ("cards", "amex 3782-822463-10005.", "3782-822463-10005"),
    ("cards", "４１１１１１１１１１１１１１１１", "４１１１１１１１１１１１１１１１"),
    ("cards", "4111\u00a01111\u20111111\u00a01111", "4111\u00a01111\u20111111\u00a01111"),
    ("cards", "Meine Kreditkarte 4111111111111111 wird abgelehnt", "4111111111111111"),
    ("cards", "try 4111111111111111 12/27 123", "4111111111111111"),
    ("cards", "4111111111111111, exp. 03/2028", "4111111111111111"),
    ("cards", "cardNumber=4111111111111111&n=1", "4111111111111111"),
    ("cards", '{"pan": "4111111111111111", "n": 1}', "4111111111111111"),
    ("cards", "Is this one right?\n\n  4111111111111111\n\nThanks", "4111111111111111"),
    ("ibans", "to DE89 3704 0044 0532 0130 00 by Monday", "DE89 3704 0044 0532 0130 00"),
    ("ibans", "gb82west12345698765432", "gb82west12345698765432"),
    ("ibans", "DE89-3704-0044-0532-0130-00", "DE89-3704-0044-0532-0130-00"),
    ("ibans", "NL91ABNA0417164300, please", "NL91ABNA0417164300"),
    ("ibans", "17 things, and FR14 2004 1010 0505 0001 3M02 606", "FR14 2004 1010 0505 0001 3M02 606"),
    ("emails", "Write to jürgen.müller+x@mail.example.co.uk today", "jürgen.müller+x@mail.example.co.uk"),
    ("emails", "https://example.com/?to=bob%40example.org&x=1", "bob%40example.org"),
    ("emails", "<a href='mailto:bob@example.com'>", "bob@example.com"),
    ("phones", "call +49 (0)171 2345678 now", "+49 (0)171 2345678"),
    ("phones", "or 0171 2345678", "0171 2345678"),
    ("phones", "(030) 12345678", "(030) 12345678"),
    ("phones", "555-234-5678", "555-234-5678"),
    ("paths", "open /home/alice/work/plan.txt", "/home/alice"),
    ("paths", r'{"file": "\\home\\alice\\x"}', r"\\home\\alice"),
    ("hosts", "ssh Alices-Laptop.lan -p 22", "Alices-Laptop.lan"),
    ("secrets", f"sign {TOKEN}, please", TOKEN),
    ("secrets", f"\u0455k-pr\u043ej-{'aB3' * 8}", f"\u0455k-pr\u043ej-{'aB3' * 8}"),  # in Cyrillic letters
    ("secrets", "password: hunter2hunter2", "hunter2hunter2"),
    ("secrets", "postgres://bob:hunter2x@db.example.com/x", "hunter2x"),
    ("secrets", 'password = "Tr0ub4dor&3"', "Tr0ub4dor&3"),
    ("secrets", "export DB_PASSWORD=correct1Horse", "correct1Horse"),
    ("secrets", "Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
    ("secrets", r"{\"password\": \"hunter2hunter2\"}", "hunter2hunter2"),
    ("secrets", 'password: str = "hunter2hunter2"', "hunter2hunter2"),
    ("secrets", 'os.environ["API_KEY"] = "9f8e7d6c5b4a39281706"', "9f8e7d6c5b4a39281706"),
    ("secrets", "<password>hunter2hunter2</password>", "hunter2hunter2"),
    ("secrets", "login --password hunter2hunter2", "hunter2hunter2"),
    ("secrets", "machine example.com login bob password hunter2hunter2", "hunter2hunter2"),
    ("secrets", "my password is hunter2hunter2", "hunter2hunter2"),
    ("secrets", "Passwort: hunter2hunter2", "hunter2hunter2"),
    ("secrets", "AccountKey=Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg==;", "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg=="),
    ("secrets", "api_key=550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-446655440000"),
    ("secrets", "openai_key = 9f8e7d6c5b4a39281706", "9f8e7d6c5b4a39281706"),
    ("secrets", "aws_secret_access_key: wJalrXUtnFEMIK7MDENGbPxRfiCYk3y", "wJalrXUtnFEMIK7MDENGbPxRfiCYk3y"),
]


def test_what_must_not_leave_is_found_whole() -> None:
    for kind, text, part in FOUND:
        assert found(text) == [(kind, part)], text
    begin, end = (f"-----{word} RSA PRIVATE KEY-----" for word in ("BEGIN", "END"))
    assert found(f"why {begin}\nMIIE\nabc\n{end} ?") == [("secrets", f"{begin}\nMIIE\nabc\n{end}")]
    assert found(f"cut {begin}\nMIIE") == [("secrets", f"{begin}\nMIIE")]


HARMLESS = [
    "4111 1111 1111 1112 does not add up",
    "94111111111111111 is longer than a card's number",
    "3.14111111111111111 is a fraction",
    "9 8123 4111 1111 1111 1111, 4111 1111 1111 1111 9876 and 41 111111 1111 111 1 1 are of tables",
    "4111111111111111f3 and 2bfd7760-3668-1376-2361-00e4b56a289e",
    "the order 4111111111111111 of 2024, track it at https://example.org/4111111111111111",
    "shipped:\n4111111111111111\n4532015112830367\n5425233430109904\n4000000000000003",
    "order 1234567890123456, id 20240131235959123",
    "DE89370400440532013001 does not add up",
    "ISBN 978-3-16-148410-0, 2023-01-02, 01-02-2023, 192.168.178.21, 10:30-11:45",
    "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, 0x41, 0x42, 0x43 and 4d 5a 90 00",
    "commit 3f786850e387550fdab836ed7e6dc881de23001b of the task-management-system",
    "550e8400-e29b-41d4-a716-446655440000, ee1579e7-ea61-a3a9-daeb-cac6bc50d495",
    "git@github.com:owner/repo.git",
    "@decorator\ndef f(): ...",
    "password = os.environ['DB_PASSWORD']; token = get_token(user); key = f(x1)",
    "max_tokens=4096, token_count: 123456789, key: value, keyboard=English",
    "Set PASSWORD=your-password-1 or API_KEY=<your key> or TOKEN=${TOKEN1} first",
    "the secret: nobody told the others",
    "def f(peer_public_key: X25519PublicKey) -> None: key = base64.b64encode(x)",
    "/home/alicex/x and /home/bob",
    "risk-adjusted-performance-of-2024-portfolios",
    "VGhpcyBpcyBqdXN0IGEgc2VudGVuY2Ugb2Ygbm8gaW1wb3J0YW5jZS4=",
    "Привет, как дела? 你好，世界。 ¿Qué tal?",
    'curl -H "Authorization: Bearer $OPENAI_API_KEY" -H "Authorization: Bearer YOUR_API_KEY_HERE"',
    "Authorization: token ${{ secrets.GITHUB_TOKEN }}, Authorization: Bearer <your_access_token>",
    "postgres://user:${DB_PASSWORD}@localhost:5432/db postgres://postgres:postgres@localhost/app",
    "mongodb+srv://<username>:<password>@cluster0.mongodb.net postgresql://user:password@localhost/db",
    "primary_key: user_id_2024, sort_key=created_at_2, key = 550e8400-e29b-41d4-a716-446655440000",
    "S3 key: data/2024/01/file.parquet, Redis key: session:42:data, key='model.layers.0.q_proj.weight'",
    "<li key='item-123'> :key=\"item.id2\" props.key = props.id2; token: eos_token_id2, Key: Ctrl+Shift+F12",
    "PWD=/home/user1/project, public_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8, monkey=banana12345banana",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==, pubkey=02a1633cafcc01ebfb6d78e39f687a1f0995c62fc95f51",
    "sk-image-processing-toolkit-v2, re_evaluate_the_results_of_2024_again, xai-explainable-intelligence-2024",
    "[SECRET_1] and postgres://bob:[SECRET_2]@db.example.com and password = '[SECRET_3]'",
]


def test_what_is_harmless_is_left_alone() -> None:
    for text in HARMLESS:
        assert found(text) == [], text


def test_plain_digits_are_seldom_taken_for_a_card_and_cards_always_are() -> None:
    draw = random.Random(16)
    orders = [draw.choice("456") + "".join(draw.choices("0123456789", k=15)) for _ in range(2000)]
    cards = [
        number for number in orders if numbers._luhn([*map(int, number)]) and numbers._lengths(number) >= {16}
    ]
    assert len(cards) > 100
    for form in (
        "The order {} was sent.",
        "id={}&x=1",
        '{{"order": {}, "n": 3}}',
        "see /orders/{}.html, please",
    ):
        assert sum(found(form.format(number)) != [] for number in orders) == 0, form
    for form in ("my card {}", "{}", "{} 12/27", "cvv 123, number {}", "CC: {}.", "charge {} please"):
        for number in cards:
            assert found(form.format(number)) == [("cards", number)], form
    table = "".join(f"{place},Ann,{number}\n" for place, number in enumerate(cards[:30]))
    assert len(found(table)) == 30  # a table of cards needs no word that says so


def test_two_cards_in_a_row_are_both_found() -> None:
    both = "4111 1111 1111 1111 5555 5555 5555 4444"
    assert found(both) == [("cards", both[:19]), ("cards", both[20:])]


def test_long_nonsense_costs_no_more_than_its_length() -> None:
    """Each of these made some expression or other start anew at each of its letters, for all of the rest."""
    pieces = "a|1|1 |4 |0 |a@|@a.|sk-|sk-a1|eyJ-|.eyJaaaaaaaaaaaaa|key=|+1(|://:|DE8|-----BEGIN "
    pieces += "|41|41 |%41|aaaaaaaaaaaaaaaaaaaaaaaa\n|44444444444444444444444444444444 "
    for piece in pieces.split("|"):
        text = piece * (10_000 // len(piece))
        assert len(LOOK.findings(text)) < len(text)  # ends


def test_the_home_folder_is_known_however_it_is_written() -> None:
    windows = Screening(detectors(MachineIdentity(r"C:\Users\Alice", ())))
    for text in (
        r"C:\Users\Alice\x",
        r"c:\\users\\alice\\x",
        "C:/Users/Alice/x",
        "/mnt/c/Users/Alice/x",
        "/c/Users/alice",
    ):
        assert [text[each.start : each.end] for each in windows.findings(text)] == [
            re.sub(r"[\\/]+x$", "", text)
        ], text
    for home in ("/", "/root", ""):
        assert (
            Screening(detectors(MachineIdentity(home, ("localhost",)))).findings("/root/x on localhost") == []
        )
