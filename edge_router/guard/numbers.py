"""Numbers that name a person's money or telephone: what is written like one and adds up as one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Span = tuple[int, int]

# How the numbers of those who issue cards begin, and how long they are.
_CARDS = (
    (r"4", (13, 16, 19)),  # Visa
    (r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)", (16,)),  # Mastercard
    (r"3[47]", (15,)),  # American Express
    (r"6011|64[4-9]|65", (16, 17, 18, 19)),  # Discover
    (r"35(?:2[89]|[3-8])", (16, 17, 18, 19)),  # JCB
    (r"30[0-5]|3[689]", (14, 16, 19)),  # Diners Club
    (r"62", (16, 17, 18, 19)),  # UnionPay
    (r"50(?:18|20|38)|5[68]|6(?:304|390|7)", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    (r"220[0-4]", (16, 17, 18, 19)),  # Mir
)
_ISSUERS = tuple((re.compile(begin), frozenset(lengths)) for begin, lengths in _CARDS)
_DIGITS = re.compile(r"\d(?:[ -]?\d){12,}")
_GROUP = re.compile(r"\d+")
_GROUPS = ((4, 6, 5), (4, 6, 4), (4, 3, 3, 3), (6, 13), (8, 8))  # beside fours
_MONTH = re.compile(r"(?:0[1-9]|1[0-2])[2-4]\d")  # in which a card ends
_NEAR_CARD = 80  # letters before and behind plain digits
_ENDS_IN_NUMBER, _NUMBER_FIRST = re.compile(r"\d{13}\W{0,4}\Z"), re.compile(r"\W{0,4}\d{13}")
_AROUND = " \t\r.,;:!?'\"()[]{}<>`"
_ENDS = re.compile(r"[\s,;|]{1,3}(?:(?i:exp\w{0,8})\W{0,3})?(?:0[1-9]|1[0-2])\s?[/-]\s?(?:20)?[2-4]\d(?!\d)")
_CARD_WORD = re.compile(
    r"(?i)(?<![a-z])(?:(?:credit|debit|bank|charge|payment)?[ _-]?cards?[ _-]?(?:number|holder|num|no|nr)?"
    r"|(?:kredit|debit|bank|ec|giro)?-?karten?-?(?:nummer|nr)?|carte (?:bancaire|bleue|de cr[eé]dit)"
    r"|tarjetas?|cart(?:a di credito|[aã]o)|creditcard\w{0,6}|karty?|kort|kaart|карт[аыу]"
    r"|visa|master ?card|maestro|amex|american express|diners(?: club)?|discover|jcb|union ?pay"
    r"|charged?|pay with|billing|cvv2?|cvc2?|cc(?:n|_?num(?:ber)?)?|pan)(?![a-z])"
    r"|信用卡|银行卡|卡号|カード"
)
_FIRST_DIGITS, _NONE = "23456", frozenset({0})
_SHORTEST_CARD, _LONGEST_CARD = 13, 19

# Lengths by country, from the register that SWIFT keeps.
_IBAN_LENGTHS = {
    **dict.fromkeys(("NO",), 15),
    **dict.fromkeys(("BE", "BI"), 16),
    **dict.fromkeys(("DK", "FI", "FK", "FO", "GL", "NL", "SD"), 18),
    **dict.fromkeys(("MK", "SI"), 19),
    **dict.fromkeys(("AT", "BA", "EE", "KZ", "LT", "LU", "MN", "XK"), 20),
    **dict.fromkeys(("CH", "CR", "HR", "LI", "LV"), 21),
    **dict.fromkeys(("BG", "BH", "DE", "GB", "GE", "IE", "ME", "RS", "VA"), 22),
    **dict.fromkeys(("AE", "GI", "IL", "IQ", "OM", "SO", "TL"), 23),
    **dict.fromkeys(("AD", "CZ", "ES", "MD", "PK", "RO", "SA", "SE", "SK", "TN", "VG"), 24),
    **dict.fromkeys(("LY", "PT", "ST"), 25),
    **dict.fromkeys(("IS", "TR"), 26),
    **dict.fromkeys(("DJ", "FR", "GR", "IT", "MC", "MR", "SM", "YE"), 27),
    **dict.fromkeys(("AL", "AZ", "BY", "CY", "DO", "GT", "HN", "HU", "LB", "NI", "PL", "SV"), 28),
    **dict.fromkeys(("BR", "EG", "PS", "QA", "UA"), 29),
    **dict.fromkeys(("JO", "KW", "MU"), 30),
    **dict.fromkeys(("MT", "SC"), 31),
    "LC": 32,
    "RU": 33,
}
_IBAN_CHECK = re.compile(
    r"\d\d(?:(?<=[A-Za-z][A-Za-z]\d\d)|(?<=[A-Za-z][A-Za-z][ -]\d\d))(?=[ -]?[A-Za-z0-9]{2})"
)
_IBAN = re.compile(r"[A-Za-z]{2}[ -]?\d\d(?:[ -]?[A-Za-z0-9]){11,31}")
_DASHED = re.compile(r"[^-]+|(?:[^-]{4}-)+[^-]{1,4}")  # where there are dashes, they part it into fours

_TELEPHONE = re.compile(
    r"[+0(2-9](?<![\w.+-].)(?:"
    # With its country.
    r"(?:(?<=\+)|(?<=0)0)[1-9]\d{0,2}[ ./-]?(?:\(0?\d{0,4}\)[ ./-]?)?\d(?:[ ./-]{0,2}\d){5,12}"
    r"|(?<=0)\d{1,4}[ /-]{1,3}\d(?:[ -]?\d){4,9}"  # as at home, where numbers begin with 0
    r"|(?<=0)\d{9,10}"
    r"|(?<=\()0?\d{2,5}\)[ -]?\d(?:[ -]?\d){5,8}"
    r"|(?<=[2-9])\d\d[ .-][2-9]\d\d[ .-]\d{4}"  # North America
    r")(?![\w-])"
)
_FEWEST_DIGITS = 9


def cards(text: str) -> Iterator[Span]:
    """Numbers that are written in groups as on cards, and of plain digits those that something else tells:
    one in eleven orders' numbers adds up, too."""
    plain, others = dict[Span, str](), set[str]()
    for run in _DIGITS.finditer(text):
        # Other numbers may stand beside it, such as the month in which it ends.
        groups = list(_GROUP.finditer(text, *run.span()))
        first = told = 0
        while first < len(groups):
            last = _card(text, groups, first)
            if last is not None and not _in_a_table(text, groups, told, first, last):
                span = groups[first].start(), groups[last].end()
                if first == last:
                    plain[span] = text[slice(*span)]
                else:
                    yield span
                first = told = last + 1
            else:
                if _SHORTEST_CARD <= len(groups[first][0]) <= _LONGEST_CARD:
                    others.add(groups[first][0])
                first += 1
    # That most of several add up by chance happens once in a hundred times.
    sure = len({*plain.values()}) > max(1, len(others)) or any(_is_told(text, *span) for span in plain)
    yield from plain if sure else ()


def _is_told(text: str, start: int, end: int) -> bool:
    """Whether what stands around plain digits says that they are a card's: nothing at all does, too."""
    before, after = text[max(0, start - _NEAR_CARD) : start], text[end : end + _NEAR_CARD]
    if _ENDS.match(after) or _CARD_WORD.search(before) or _CARD_WORD.search(after):
        return True
    line, rest = before.rpartition("\n"), after.partition("\n")
    # A line among others of numbers is one of a list.
    listed = _ENDS_IN_NUMBER.search(line[0]) or _NUMBER_FIRST.match(rest[2])
    return not (line[2].strip(_AROUND) or rest[0].strip(_AROUND) or listed)


def _card(text: str, groups: Sequence[re.Match[str]], first: int) -> int | None:
    """The last group of a card's number that begins with the `first`; None where none does."""
    start, number, found = groups[first].start(), "", None
    if text[start] not in _FIRST_DIGITS:
        return None
    before = text[start - 1 : start]
    if before.isalnum() or before in (".", "_"):
        return None  # a part of something longer
    lengths: frozenset[int] = frozenset()
    for at in range(first, len(groups)):
        number += groups[at][0]
        if len(number) > _LONGEST_CARD:
            break
        if len(number) >= _SHORTEST_CARD:
            lengths = lengths or _lengths(number)
            end = groups[at].end()
            good = len(number) in lengths and not text[end : end + 1].isalpha()
            if good and _is_grouped_so(groups[first : at + 1]) and _luhn([*map(int, number)]):
                found = at
    return found


def _is_grouped_so(groups: Sequence[re.Match[str]]) -> bool:
    """Whether cards are written in such groups."""
    sizes = tuple(len(group[0]) for group in groups)
    fours = len(sizes) > 3 and all(size == 4 for size in sizes[:-1])
    return len(sizes) == 1 or fours or sizes in _GROUPS


def _in_a_table(text: str, groups: Sequence[re.Match[str]], told: int, first: int, last: int) -> bool:
    """Whether its groups are some of many numbers, of which every tenth four add up. Those before `told` are
    of other cards."""
    if first == last:
        return False
    if first > told and len(groups[first - 1][0]) == 4:
        return True
    after = groups[last + 1][0] if last + 1 < len(groups) else ""
    return len(after) == 4 and not _MONTH.fullmatch(after) and _card(text, groups, last + 1) is None


def _lengths(number: str) -> frozenset[int]:
    """How long a number may be that begins like this one."""
    return frozenset().union(*(lengths for begin, lengths in _ISSUERS if begin.match(number))) or _NONE


def _luhn(digits: list[int]) -> bool:
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def ibans(text: str) -> Iterator[Span]:
    for digits in _IBAN_CHECK.finditer(text):
        start = digits.start() - 2
        if start >= 0 and text[start + 1] in " -":
            start -= 1
        wanted = _IBAN_LENGTHS.get(text[start : start + 2].upper()) if start >= 0 else None
        if wanted is None or (start and text[start - 1].isalnum()):
            continue
        found = _IBAN.match(text, start)
        # Words may follow it, of which it cannot be told apart but by its length.
        places = [at for at in range(*found.span()) if text[at].isalnum()] if found else []
        if len(places) < wanted:
            continue
        number = "".join(text[at] for at in places[:wanted]).upper()
        end = places[wanted - 1] + 1
        whole = not text[end : end + 1].isalnum() and _DASHED.fullmatch(text, start, end) is not None
        if whole and int("".join(str(int(letter, 36)) for letter in number[4:] + number[:4])) % 97 == 1:
            yield start, end


def telephones(text: str) -> Iterator[Span]:
    for found in _TELEPHONE.finditer(text):
        if sum(letter.isdigit() for letter in found[0]) >= _FEWEST_DIGITS:
            yield found.span()
