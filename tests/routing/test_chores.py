"""Chores of chat programs, told from what people ask."""

from __future__ import annotations

from table import each

from edge_router import Controller, ScriptedEngine, ScriptedRouter
from edge_router.chat.message import Message
from edge_router.chat.request import ChatRequest
from edge_router.routing.chores import chore_of
from edge_router.types import Reason

HISTORY = "\n".join(f"USER: question {number}\nASSISTANT: an answer" for number in range(60))

# In words of our own, each built as some client builds it: a demand before the history, behind it, as system prompt.
CHORES = {
    "title": [
        (
            "",
            f"### Task:\nWrite a short title, with an emoji, that sums up the chat history.\n### History:\n{HISTORY}",
        ),
        ("", f"{HISTORY}\n\nNow, summarize the conversation above into a title of five words."),
        ("", "Generate a title for this conversation:\n"),
        ("", "Provide a brief, at most 5 word title for the conversation. Return only that."),
        ("", 'Create a short title (5 words) for this conversation: "sort a list"'),
        ("You are a title generator. Output a thread title and nothing else.", "sort a list in Rust"),
        ("- You will create a brief title based on the first message that somebody sends.", "hello"),
        ("You write short titles for conversations.", "sort a list"),
        ("Summarize this coding conversation in under 50 characters.", HISTORY),
        (
            "",
            "Write a 4 word title for this conversation\nuser: prove the theorem\nassistant: explain the law first",
        ),
        ("", f"Create a phrase of 3-5 words as a title for the previous conversation.\n{HISTORY}"),
        ("", f"Sum it up. Summarize the conversation in 5 words or fewer as a title.\n{HISTORY}"),
    ],
    "tags": [
        ("", f"### Task:\nProvide 1 to 3 broad tags for the main themes of the chat history.\n{HISTORY}")
    ],
    "follow-ups": [("", f"Suggest three follow-up questions that the user might ask next.\n{HISTORY}")],
    "search query": [
        ("", f"Analyze the chat history and say whether generating search queries would help.\n{HISTORY}"),
    ],
    "emoji": [("", "Your task is to reflect the mood of the message by one emoji: 'I got the job'")],
}

QUESTIONS = [
    ("", "Give me five titles for a blog post about houseplants."),
    ("", "Write a title for my essay about conversation"),
    ("", "What is the title tag in HTML, and how do I write one for a chat application?"),
    ("", "How do I write a component that shows the title of a conversation?"),
    ("", "Write a function that extracts the title from this chat message."),
    ("", "Generate tags for my blog post about dogs"),
    ("", "Write a SQL query that finds the tags of a message"),
    ("", "Create a chat application with a title bar"),
    ("", "Which emoji fits a message to my boss?"),
    ("", "Write a message to my landlord with the title 'Notice'"),
    ("", "Should I send the user follow-ups?"),
    (
        "",
        f"Why did you say that?\n{HISTORY}\nGenerate a title for this conversation.\n{HISTORY}\nAnd what is 17 * 23?",
    ),
    # An assistant that is to give a title beside its answer.
    (
        "You help with sales. " * 20 + "Also generate a title for this conversation.",
        "How do I calculate a discount?",
    ),
    # Work of which a conversation or a title is a part.
    ("", "Write a title and abstract for the following discussion of thresholds, and prove the theorem."),
    (
        "",
        "Summarize this conversation in detail, list all decisions and follow-up tasks, and find legal risks.",
    ),
    ("", "Generate follow-up emails for this thread of messages with the lawyer."),
    ("", "Analyze the following conversation for signs of manipulation and give it a title."),
    ("", "Write follow-up questions for the patient in this conversation, with a differential diagnosis."),
    ("", "Provide an analysis of the title dispute in this thread: who owns the land?"),
    ("", "Write a search query for our chat logs in Elasticsearch's DSL that joins nested messages."),
    ("", "Generate the SQL schema for a thread table: title, tags, user messages."),
    ("", "Write a novel chapter. Title: The Conversation."),
    ("", "Give a detailed critique of the following discussion section. Title: effects of statins"),
    ("", "Create git tags for each message in this thread of commits by a script."),
    ("", "Summarise our discussion: derive the equations again under the title 'Recap'"),
    ("", "Give me tags and a full taxonomy for the messages in this dataset"),
    ("", "Make the title of this chat window bold in CSS"),
    ("", "Write an emoji parser for our chat messages"),
    ("", "Create a Mermaid diagram of this conversation with a title"),
    ("", "Give me the title and author of the book that this conversation quotes from"),
    ("", "Summarize the argument of this discussion and give it a title, then refute it point by point"),
    ("", "Give the implementation of a lock-free queue for the message thread with tags against ABA"),
    ("", "Write the main themes of Hamlet with a title."),
    ("", "Summarize the following conversation in under 50 words."),
    ("", ""),
]


def messages(system: str, user: str) -> tuple[Message, ...]:
    return (*((Message("system", system),) if system else ()), Message("user", user))


@each("kind, system, user", [(kind, *pair) for kind, pairs in CHORES.items() for pair in pairs])
def test_what_programs_ask_for_is_known(kind: str, system: str, user: str) -> None:
    assert chore_of(messages(system, user)) == kind


@each("system, user", QUESTIONS)
def test_what_people_ask_is_none(system: str, user: str) -> None:
    assert chore_of(messages(system, user)) is None


def test_a_chore_stays_here_without_a_score() -> None:
    weak, strong, router = ScriptedEngine(["A title"] * 4), ScriptedEngine(["no"] * 4), ScriptedRouter(1.0)
    asked = ChatRequest(messages(*CHORES["title"][2]))
    with Controller(weak=weak, strong=strong, router=router) as controller:
        decision = controller.decision(asked)
        assert (decision.model, decision.reason, decision.score) == ("weak", Reason.CHORE, None)
        assert not router.calls
        assert controller.decision(ChatRequest(messages("", "What is a title?"))).model == "strong"
    with Controller(weak=weak, strong=strong, router=router, router__chores=False) as controller:
        assert controller.decision(asked).model == "strong"
