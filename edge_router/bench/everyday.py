"""What people ask an assistant first: prompts with short answers, and questions with one right answer.

Written for this project. No sampling default or quantizer was chosen by their answers: for that there were
others.
"""

from __future__ import annotations

from edge_router.records import dataclass


@dataclass(frozen=True, slots=True)
class EverydayQuestion:
    """`answers` are spellings of the only right one."""

    text: str
    answers: tuple[str, ...]


PROMPTS: tuple[str, ...] = (  # a good answer to any of them takes less than 200 tokens
    "Name four vegetables.",
    "Write three sentences about a rainy day.",
    "Count from 1 to 8.",
    "What can I cook with eggs and potatoes?",
    "Explain in two sentences why the sky is blue.",
    "Write a short poem about autumn.",
    "Give me three tips for sleeping better.",
    "Write a polite reply to a birthday invitation that I have to decline.",
    "What is the difference between a frog and a toad?",
    "Suggest two names for a black cat.",
    "How do I boil an egg?",
    "Tell me a short joke.",
    "Translate into Spanish: Good morning, my friend.",
    "Rewrite this more politely: Send me the report now.",
    "List the seasons of the year.",
    "Describe your favourite place in a few sentences.",
)


def _questions(*rows: str) -> tuple[EverydayQuestion, ...]:
    split = (row.split(" | ") for row in rows)
    return tuple(EverydayQuestion(text, tuple(answers)) for text, *answers in split)


QUESTIONS: tuple[EverydayQuestion, ...] = _questions(
    "What is the capital of Italy? | Rome",
    "What is the capital of Japan? | Tokyo",
    "What is the capital of Spain? | Madrid",
    "What is the capital of Egypt? | Cairo",
    "What is the capital of Russia? | Moscow",
    "On which continent is Kenya? | Africa",
    "On which continent is India? | Asia",
    "In which country is the Eiffel Tower? | France",
    "Which ocean lies between Europe and America? | Atlantic",
    "What is the largest planet of our solar system? | Jupiter",
    "Which planet is known as the red planet? | Mars",
    "Which planet is closest to the sun? | Mercury",
    "How many days are in a week? | 7 | seven",
    "How many months are in a year? | 12 | twelve",
    "How many minutes are in an hour? | 60 | sixty",
    "How many legs does a spider have? | 8 | eight",
    "How many sides does a triangle have? | 3 | three",
    "What is 2 plus 3? | 5 | five",
    "What is 10 minus 4? | 6 | six",
    "What is 3 times 3? | 9 | nine",
    "What is the opposite of hot? | cold",
    "What is the opposite of big? | small | little",
    "What is the opposite of up? | down",
    "What is the opposite of early? | late",
    "What colour is a ripe banana? | yellow",
    "What colour is grass? | green",
    "What colour do you get when you mix blue and yellow? | green",
    "Which animal says meow? | cat | cats",
    "Which animal barks? | dog | dogs",
    "What do bees make? | honey",
    "What is frozen water called? | ice",
    "What gas do we need to breathe? | oxygen",
    "What is the chemical formula of water? | H2O",
    "Who wrote Romeo and Juliet? | Shakespeare",
    "Who painted the Mona Lisa? | Leonardo | da Vinci",
    "What language is spoken in Brazil? | Portuguese",
    "What is the first month of the year? | January",
    "Which day comes after Monday? | Tuesday",
    "What is the past tense of go? | went",
    "What is the plural of mouse? | mice",
)
