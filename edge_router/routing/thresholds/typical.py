"""Prompts as people type them to an assistant, by kind, from greetings to proofs, written for this project.

What a threshold does to everyday traffic is told by these: no sample of a stranger's traffic can ship.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPICAL: Mapping[str, tuple[str, ...]] = {
    "small talk": (
        "hi",
        "Good morning! How are you?",
        "thanks, that helped",
        "Tell me a joke.",
        "What can you do?",
        "I'm bored, any ideas?",
        "good night",
        "Who are you?",
    ),
    "facts": (
        "What is the capital of Portugal?",
        "how many days until christmas if today is the 3rd of december",
        "Who wrote Pride and Prejudice?",
        "When did the Berlin Wall fall?",
        "What does HTTP stand for?",
        "how tall is mount everest",
        "What is the difference between weather and climate?",
        "Is a tomato a fruit or a vegetable?",
        "what currency do they use in Norway",
        "Which vitamins are in oranges?",
    ),
    "writing": (
        "Write two sentences about the sea.",
        "Write a short birthday message for my sister.",
        "Make this more polite: I need the file today.",
        "Fix the grammar: he go to school every days",
        "Summarise in one sentence: The meeting was moved from Tuesday to Friday because the room was taken.",
        "Translate into French: Where is the train station?",
        "Write an email to my landlord about the broken heating in the kitchen, friendly but firm.",
        "Give me five titles for a blog post about houseplants.",
        "Write a cover letter for a junior accountant position at a mid-sized logistics company. I have two "
        "years of experience and a degree in economics.",
        "Write a poem in which every line ends with the same letter.",
        "Rewrite this paragraph so that a ten year old understands it: Inflation erodes the purchasing power "
        "of money, which is why central banks raise interest rates when prices rise too quickly.",
        "Draft a two-page speech for my best friend's wedding, funny at the start and moving at the end.",
    ),
    "advice": (
        "What should I cook tonight?",
        "How do I get a coffee stain out of a shirt?",
        "How do I boil an egg?",
        "Tips for falling asleep faster",
        "What should I pack for three days in London in April?",
        "How often should I water a cactus?",
        "Plan a week of vegetarian dinners for four people for less than 80 euros, with a shopping list.",
        "Can I take ibuprofen together with blood pressure tablets?",
        "My employer wants me to sign a non-compete clause of two years. What should I look out for?",
        "Should I pay off my mortgage early or invest the money, if the loan costs 3.2 % and runs 12 years?",
    ),
    "explaining": (
        "Explain photosynthesis briefly.",
        "Why is the sky blue?",
        "What is a black hole?",
        "Explain quantum entanglement to someone who knows linear algebra.",
        "What were the main causes of the First World War, and how do historians disagree about them?",
        "Compare TCP and UDP, and say when you would use which.",
        "How does a transformer model attend to earlier tokens, and why does that cost quadratic time?",
        "Explain the difference between correlation and causation with an example from medicine.",
    ),
    "code": (
        "Write a Python function that reverses a string.",
        "How do I undo the last commit in git?",
        "Write a regular expression that matches an IPv4 address, and explain it.",
        "Why does this raise a TypeError? def f(x, y=[]): y.append(x); return y + 1",
        "Write a SQL query that returns the second highest salary of each department.",
        "Implement an LRU cache in C++ with constant time for get and put.",
        "My React component renders endlessly when I call setState inside useEffect. What is wrong, and how "
        "do I mend it?",
        "Write a Rust function that parses a comma-separated file with quoted fields into string vectors.",
        "What is the time complexity of building a heap, and why is it not n log n?",
        "Refactor a 300-line Django view into services: where would you begin?",
    ),
    "mathematics": (
        "What is 17 times 23?",
        "Prove that there are infinitely many primes.",
        "Solve for x: 3x^2 - 7x + 2 = 0",
        "A train leaves at 9:40 and takes 95 minutes. When does it arrive?",
        "What is the probability that two of 23 people share a birthday?",
        "Find the derivative of x^x and say for which x it is defined.",
        "If 5 machines make 5 parts in 5 minutes, how long do 100 machines take for 100 parts?",
        "Show that the square root of 2 is irrational.",
        "I pay 1,250 a month for 20 years at 3.5 % interest. How much can I borrow?",
        "Evaluate the integral of x * exp(-x^2) from 0 to infinity, step by step.",
    ),
    "reasoning": (
        "Three friends have a cat, a dog and a fish. Ann is allergic to fur, and Ben walks his pet each day. "
        "Who has which?",
        "I have 12 coins, one of which is lighter. How do I find it with three weighings?",
        "Is the following argument valid? All poets are dreamers, some dreamers are lazy, so some poets are "
        "lazy.",
        "What are the best arguments for and against a four-day week, and which evidence would settle it?",
        "Our web shop sold 12 % less in May than in April but had 5 % more visitors. What may explain that, "
        "and how would I find out?",
        "Design a study that tells whether a reading app improves the vocabulary of seven year olds.",
        "A farmer must carry a wolf, a goat and a cabbage across a river, one at a time. How?",
        "Which assumptions would have to change for electric aircraft to cross the Atlantic by 2040?",
    ),
}
