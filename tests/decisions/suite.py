"""Decisions whose answers are known, made up by a rule: the same for the same seed on any machine.

Five families: whom a message is for (`triage`), what a note says (`extraction`), whether a short text says
something (`yes_no`), which of two numbers is larger (`arithmetic`), where on a scale a remark stands
(`levels`). The phrases of "fit", by which temperatures are found, are none of those of "test".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_router.questions.question import Choice, Level, Option, Question, Scale, YesNo

Split = Literal["fit", "test"]
EACH = 60  # decisions of a family


@dataclass(frozen=True, slots=True)
class Decision:
    """`answer` is the index of the right one among the question's probabilities."""

    family: str
    state: str
    question: Question
    answer: int


def suite(split: Split, seed: int = 17, each: int = EACH) -> list[Decision]:
    return [
        make(random.Random(f"{seed} {split} {family} {number}"), split, number)
        for family, make in FAMILIES.items()
        for number in range(each)
    ]


def _half(split: Split, phrases: Sequence[str]) -> Sequence[str]:
    """Every other phrase: the first, third, ... for "fit"."""
    return phrases[0 if split == "fit" else 1 :: 2]


# ---- whom a message is for ---------------------------------------------------------------------------------

_TEAMS: Mapping[str, tuple[str, Sequence[str]]] = {
    "billing": (
        "invoices, charges and refunds",
        (
            "I was charged twice for my subscription this month.",
            "My invoice shows the wrong amount.",
            "Please refund the payment of last Tuesday.",
            "Why did the price on my credit card statement go up?",
            "The receipt for my last payment never came.",
            "I would like my money back for the second charge.",
            "The tax on this bill is not right.",
            "My card was declined, but the amount was taken anyway.",
        ),
    ),
    "technical": (
        "errors, crashes and what does not work",
        (
            "The app crashes whenever I open the settings.",
            "I get error 502 when I upload a file.",
            "The page stays blank after the last update.",
            "My printer driver does not install on the new laptop.",
            "The screen freezes and I have to restart the computer.",
            "Since yesterday the program cannot connect to the server.",
            "The search button does nothing when I click it.",
            "After the upgrade the sound no longer works.",
        ),
    ),
    "sales": (
        "prices, offers and new orders",
        (
            "We would like to buy forty licenses for our company.",
            "Do you have a discount for schools?",
            "Can somebody show us a demo of the premium plan?",
            "What does the large package cost for a year?",
            "I want to order ten more of these chairs.",
            "Please send us an offer for a team of twelve.",
            "Which plan would you recommend to a new customer?",
            "We are interested in your product and want a quote.",
        ),
    ),
    "delivery": (
        "parcels on their way",
        (
            "My parcel has not arrived yet.",
            "The tracking page says the package is in the wrong city.",
            "The box came, but it was broken by the carrier.",
            "When will the courier bring my order?",
            "I need to change the address for the shipment.",
            "The driver left the package with a neighbour I do not know.",
            "The shipment is two weeks late.",
            "Nobody was home, can the parcel be brought again?",
        ),
    ),
}
_OPENINGS = ("Hello,", "Hi there!", "Good morning.", "Dear team,", "Hey.", "To whom it may concern:")
_CLOSINGS = ("Thanks, Anna", "Best regards, Tom", "Please help.", "Thank you!", "Regards, P. Novak", "Cheers")


def _triage(draw: random.Random, split: Split, number: int) -> Decision:
    teams = list(_TEAMS)
    draw.shuffle(teams)
    right = teams[number % len(teams)]
    said = draw.choice(_half(split, _TEAMS[right][1]))
    state = f"{draw.choice(_OPENINGS)} {said} {draw.choice(_CLOSINGS)}"
    options = tuple(Option(team, _TEAMS[team][0]) for team in teams)
    return Decision(
        "triage", state, Choice(None, "Which team is this message for?", options), teams.index(right)
    )


# ---- what a note says --------------------------------------------------------------------------------------

_NAMES = ("Maria", "Peter", "Aisha", "Jonas", "Elena", "David", "Yuki", "Carlos", "Ingrid", "Samuel")
_CITIES = ("Lisbon", "Oslo", "Nairobi", "Toronto", "Vienna", "Osaka", "Madrid", "Boston", "Dublin", "Prague")
_THINGS = ("lamp", "guitar", "bicycle", "camera", "kettle", "blanket", "tent", "printer", "clock", "violin")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _extraction(draw: random.Random, split: Split, number: int) -> Decision:
    name, city, thing, day = (draw.choice(row) for row in (_NAMES, _CITIES, _THINGS, _DAYS))
    state = draw.choice(_half(split, (
        f"{name} ordered a {thing} on {day}. It goes to {city}.",
        f"On {day} a {thing} will be sent to {city}, where {name} lives.",
        f"Note: customer {name}, {city}. Bought one {thing}. Delivery on {day}.",
        f"The {thing} for {name} leaves on {day} and is bound for {city}.",
    )))  # fmt: skip
    kind, right, rows = (
        ("Which city is mentioned?", city, _CITIES),
        ("Who is the customer?", name, _NAMES),
        ("What was ordered?", thing, _THINGS),
        ("Which day is mentioned?", day, _DAYS),
    )[number % 4]
    found = [right, *draw.sample([value for value in rows if value != right], 3)]
    draw.shuffle(found)
    return Decision("extraction", state, Choice(None, kind, tuple(map(Option, found))), found.index(right))


# ---- whether a short text says something -------------------------------------------------------------------

_CLAIMS: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (
    (
        "Does the writer want a refund?",
        ("I want my money back.", "Please refund me.", "Return the payment to my card.", "Give me a refund."),
        ("I love this product.", "When do you open?", "The parcel is here.", "How do I log in?"),
    ),
    (
        "Is the writer angry?",
        ("This is outrageous!", "I am furious with you.", "What a terrible service!", "I am very angry now."),
        ("Have a lovely day.", "Thank you so much.", "All is well here.", "I am happy with it."),
    ),
    (
        "Is this about the weather?",
        ("It will rain tomorrow.", "The sun is shining.", "Snow fell all night.", "A storm is coming."),
        ("The bank is closed.", "He plays the piano.", "My car needs fuel.", "The book is long."),
    ),
    (
        "Is this about food?",
        ("The soup was salty.", "She baked a cake.", "We had pasta for dinner.", "I ate an apple."),
        ("The train was late.", "He painted the door.", "Our team lost the game.", "The phone rang."),
    ),
    (
        "Does the writer ask a question?",
        ("Where is the station?", "What time is it?", "Can you help me?", "How much is it?"),
        ("The station is far.", "It is noon.", "I can help.", "It is cheap."),
    ),
    (
        "Does the text mention an animal?",
        ("The dog barked.", "A cat sat outside.", "Two horses ran by.", "Her bird sings."),
        ("The bell rang.", "A man sat outside.", "Two cars drove by.", "Her brother sings."),
    ),
)  # fmt: skip


def _yes_no(draw: random.Random, split: Split, number: int) -> Decision:
    asked, holding, others = _CLAIMS[number // 2 % len(_CLAIMS)]
    yes = number % 2
    said = draw.choice(_half(split, holding if yes else others))
    state = draw.choice(
        _half(split, (f"{said}", f"{draw.choice(_NAMES)}: {said}", f'"{said}"', f"Dear all, {said}"))
    )
    return Decision("yes_no", state, YesNo(None, asked), yes)


# ---- which number is larger --------------------------------------------------------------------------------


def _arithmetic(draw: random.Random, split: Split, number: int) -> Decision:
    first, second = draw.sample(_THINGS, 2)
    one, other = draw.sample(range(2, 100), 2)
    state = draw.choice(_half(split, (
        f"The {first} costs {one} euros. The {second} costs {other} euros.",
        f"We have {one} of the {first} and {other} of the {second}.",
        f"Price list: {first} {one}, {second} {other}.",
        f"{first}: {one}\n{second}: {other}",
    )))  # fmt: skip
    if number % 2:
        asked = f"Is the number for the {first} larger than that for the {second}?"
        return Decision("arithmetic", state, YesNo(None, asked), int(one > other))
    options = (Option(first), Option(second))
    return Decision(
        "arithmetic", state, Choice(None, "Which has the larger number?", options), int(other > one)
    )


# ---- where on a scale --------------------------------------------------------------------------------------

_REMARKS: Sequence[Sequence[str]] = (
    ("Horrible, the worst I ever had.", "Absolutely terrible.", "Disgusting, avoid it!", "A complete disaster."),
    ("Rather disappointing.", "Not good, several flaws.", "It was worse than I hoped.", "Poor quality."),
    ("It was okay.", "Average, nothing special.", "Neither good nor bad.", "Acceptable."),
    ("Good, I liked it.", "Quite nice.", "A solid product, I am pleased.", "Better than I hoped."),
    ("Perfect, I love it!", "Absolutely wonderful.", "Outstanding, the best ever!", "Amazing in every way."),
)  # fmt: skip
_URGENCY: Sequence[Sequence[str]] = (
    ("Whenever you have time, no hurry.", "Some day you may look at it."),
    ("Please do it this week.", "It should be done in some days."),
    ("This must be done right now, everything is down!", "Emergency, help immediately!"),
)
_GRADES = ("terrible", "bad", "okay", "good", "excellent")
_URGENT = ("not urgent", "soon", "immediate")


def _levels(draw: random.Random, split: Split, number: int) -> Decision:
    if number % 3:
        rows, labels, asked = _REMARKS, _GRADES, "How good does the writer find it?"
    else:
        rows, labels, asked = _URGENCY, _URGENT, "How urgent is it?"
    right = draw.randrange(len(rows))
    state = draw.choice(_half(split, rows[right]))
    return Decision("levels", state, Scale(None, asked, tuple(map(Level, labels))), right)


FAMILIES: Mapping[str, Callable[[random.Random, Split, int], Decision]] = {
    "triage": _triage,
    "extraction": _extraction,
    "yes_no": _yes_no,
    "arithmetic": _arithmetic,
    "levels": _levels,
}
