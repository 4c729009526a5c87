"""`edge-router decide`: typed questions about a text, answered with probabilities."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from edge_router.cli.chat import reasons
from edge_router.cli.chat.building import prepare
from edge_router.cli.session import Session, choose_model
from edge_router.cli.terminal import output
from edge_router.cli.terminal.piped import piped_input, readable
from edge_router.control.reasons import why
from edge_router.errors import InvalidRequest, clipped
from edge_router.questions.checking import ProtocolWords, check

if TYPE_CHECKING:
    from edge_router.questions.inquiry import Truncation
    from edge_router.questions.question import Question
    from edge_router.questions.result import Answers, Given

app = typer.Typer(add_completion=False, rich_markup_mode=None)

BAR = 24  # characters
BESIDE, SHORTEST = BAR + 10, 8  # what stands in a line beside a label, and what always is left of that
WHICH, HOW_MUCH = "Which of these is it?", "Where on this scale is it?"


@app.command()
def decide(
    ctx: typer.Context,
    state: Annotated[
        list[str] | None,
        typer.Argument(metavar="STATE", help="The text that is asked about, or - .", show_default=False),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,C", help='Which of these? With words before it: "Whose is it? A,B,C".'),
    ] = None,
    yes_no: Annotated[list[str] | None, typer.Option(metavar="QUESTION", help="Is it so?")] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(metavar="LOW,HIGH", help='Where on this scale? "How angry? calm,annoyed,furious".'),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="auto, weak, strong or a model.")
    ] = None,
    cut: Annotated[
        bool, typer.Option("--cut", help="Leave out the middle of a text that is too long.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Never leave this machine.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use no network at all.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch and build what is missing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object, as /v1/decisions has it.")] = False,
) -> None:
    """Typed questions about a text, answered with probabilities and without a word written.

    Each option may be given several times; the text is read once. It may be piped in:
    cat mail.txt | edge-router decide --choice billing,technical,sales --yes-no "Is it urgent?"

    What the weak model is unsure of goes to the strong one, question by question, once
    edge-router calibrate --decisions has found how sure is sure enough.
    """
    session = Session(ctx, json=json)
    config = session.config(offline=offline)
    questions = _questions(choice or (), yes_no or (), score or ())
    text = readable(" ".join(state)) if state and state != ["-"] else piped_input(given=False)
    if not (text and text.strip()):
        raise typer.BadParameter("there is nothing to ask about: give a text as an argument, or pipe it in")
    from edge_router.questions.asking import inquiry_request

    controller = session.controller(config)
    try:
        chosen, name = choose_model(model, config, controller.model_names())
        if chosen is not config:
            controller.close()
            config, controller = chosen, session.controller(chosen)
        truncation: Truncation = "middle" if cut else "refuse"
        request = inquiry_request(text, questions, model=name, private=private, truncation=truncation)
        prepare(session, config, controller, request, yes=yes)
        answers = controller.decide(text, questions, model=name, private=private, truncation=truncation)
    finally:
        controller.close()
    _show(answers, session)


def _questions(choices: Sequence[str], yes_no: Sequence[str], scores: Sequence[str]) -> list[Question]:
    """Raises `typer.BadParameter` where there is none, or one that is no question."""
    from edge_router.questions.question import Choice, Scale, YesNo

    found: list[Question] = []
    for text in map(readable, choices):
        asked, options = _listing("--choice", text)
        found.append(_checked("--choice", text, Choice(None, asked or WHICH, options)))
    found += [_checked("--yes-no", text, YesNo(None, text)) for text in map(readable, yes_no)]
    for text in map(readable, scores):
        asked, levels = _listing("--score", text)
        found.append(_checked("--score", text, Scale(None, asked or HOW_MUCH, levels)))
    if not found:
        raise typer.BadParameter(
            'there is no question: --choice A,B,C, --yes-no "Is it?" or --score LOW,HIGH'
        )
    return found


def _listing(option: str, text: str) -> tuple[str, list[str]]:
    asked, listed = _asked(text)
    if not all(listed):
        lacks = "has an empty label" if any(listed) else "lists nothing, as in: Which is it? A,B,C"
        raise typer.BadParameter(f"{clipped(text)!r} {lacks}", param_hint=option)
    return asked, listed


def _checked(option: str, text: str, question: Question) -> Question:
    try:
        check(question, "", ProtocolWords())
    except InvalidRequest as error:
        raise typer.BadParameter(f"{clipped(text)!r}: {error.reason}", param_hint=option) from error
    return question


def _asked(text: str) -> tuple[str, list[str]]:
    """The words before a list, up to the last "?" or ": ", and what is listed."""
    at = max(text.rfind("?"), text.rfind(": ")) + 1
    return text[:at].removesuffix(":").strip(), [each.strip() for each in text[at:].split(",")]


def _show(answers: Answers, session: Session) -> None:
    if session.json:
        from edge_router.surfaces.base import Head
        from edge_router.surfaces.decisions.encode import decisions

        output.write_json(decisions(Head.begun(answers.model, answers.decision), answers))
        return
    if drawn():
        for given in answers.given:
            _draw(given)
    else:
        rows = [_row(given) for given in answers.given]
        output.table(COLUMNS, rows, right=("probability", "confidence"))
    if session.options.quiet:
        return
    if cause := reasons.fallback(answers):
        output.say(cause, style="yellow")
    if answers.cut:
        output.say(f"{answers.cut:,} tokens were left out of the text's middle", style="yellow")


def drawn() -> bool:
    """Whether bars show."""
    return sys.stdout.isatty()


def window() -> int:
    """How many characters a line of it has."""
    from rich.console import Console

    return Console().width


COLUMNS = ("question", "answer", "probability", "confidence", "model", "reason")


def _row(given: Given) -> tuple[str, ...]:
    listed = _listed(given)
    answer, probability = max(listed, key=lambda pair: pair[1], default=("-", 0.0))
    confidence = _confidence(given)
    return (
        given.answer.question.instructions,
        answer,
        f"{probability:.3f}" if listed else "-",
        "-" if confidence is None else f"{confidence:.3f}",
        given.model,
        str(given.decision.reason),
    )


def _listed(given: Given) -> list[tuple[str, float]]:
    """What could be said, and how likely each is; nothing where there is no answer."""
    from edge_router.questions.answer import ChoiceAnswer, ScaleAnswer, YesNoAnswer

    answer = given.answer
    if isinstance(answer, YesNoAnswer):
        return [("yes", answer.probability), ("no", 1 - answer.probability)]
    if isinstance(answer, ChoiceAnswer):
        return [
            (option.text, probability)
            for option, probability in zip(answer.question.options, answer.probabilities, strict=True)
        ]
    if isinstance(answer, ScaleAnswer):
        return [
            (level.label, probability)
            for level, probability in zip(answer.question.levels, answer.probabilities, strict=True)
        ]
    return []


def _confidence(given: Given) -> float | None:
    """Of the answer itself, whoever gave it."""
    from edge_router.questions.answer import NoAnswer

    return None if isinstance(given.answer, NoAnswer) else given.answer.confidence


def _draw(given: Given) -> None:
    listed = _listed(given)
    output.write_styled(given.answer.question.instructions, "bold")
    width = min(max((len(name) for name, _ in listed), default=0), max(window() - BESIDE, SHORTEST))
    best = max((probability for _, probability in listed), default=0.0)
    for name, probability in listed:
        bar = ("█" * round(probability * BAR)).ljust(BAR, "·")
        style = "green" if probability == best else ""
        label = name if len(name) <= width else f"{name[: width - 1]}…"
        output.write_styled(f"  {label.ljust(width)}  {bar} {probability:.3f}", style)
    if not listed:
        output.write_styled("  no answer", "yellow")
    confidence = _confidence(given)
    sure = "" if confidence is None else f", confidence {confidence:.2f}"
    output.say(f"  {given.model}{sure}: {why(given.decision)}", style="dim")
