"""The conversation: turns, history and /commands. An error or Ctrl-C costs one answer and no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Literal

import typer

from edge_router.cli.chat import reasons
from edge_router.cli.chat.kept_conversations import KeptConversation, KeptConversations
from edge_router.cli.chat.question import ChatQuestion
from edge_router.cli.chat.speaker import Interrupted, Message, Speaker, system_message
from edge_router.cli.session import Session
from edge_router.cli.terminal import output
from edge_router.cli.terminal.failures import told
from edge_router.cli.terminal.line_reader import LineReader
from edge_router.errors import ContextOverflow, EdgeRouterError
from edge_router.parsing import strict_json
from edge_router.system.disk import write_text
from edge_router.system.paths import expanded


class Leave(Exception):
    """The person is done."""


def converse(speaker: Speaker, session: Session, asked: ChatQuestion, text: str | None) -> None:
    """A conversation, kept where that is asked for, or gone on with; of one turn, where there is a `text`."""
    store, kept = KeptConversations(session.paths.conversations), None
    if asked.resume is not None:
        kept = store.named(asked.resume)
        if kept is None:
            raise typer.BadParameter(
                f"no kept conversation is named {asked.resume!r}; see which there are: "
                f"{session.command('history', '--conversations')}"
            )
    elif asked.keep:
        kept = KeptConversation(private=asked.private)
    if kept is not None:
        _stays(speaker, kept, asked)
    system = asked.system or (None if kept is None else kept.system)
    if text is None:
        ChatLoop(speaker, system=system, kept=kept, store=store).run()
    elif kept is not None:
        answered = speaker.once(text, system, kept.messages)
        kept.system = system
        kept.messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answered}]
        store.save(kept)
    if kept is not None and kept.messages and not session.options.quiet:
        output.say(f"Kept; go on with: {session.command('chat', '--resume', kept.name)}", style="dim")


def _stays(speaker: Speaker, kept: KeptConversation, asked: ChatQuestion) -> None:
    """What was private once is for good: each question sends all before it along."""
    if kept.private and not asked.private:
        output.say(f"{kept.name} is private: it does not leave this machine.", style="dim")
    kept.private = kept.private or asked.private
    if kept.private:
        speaker.set("private", True)


class ChatLoop:
    """`kept` is written to `store` after each answer; without it nothing is."""

    def __init__(
        self,
        speaker: Speaker,
        *,
        system: str | None = None,
        reader: LineReader | None = None,
        kept: KeptConversation | None = None,
        store: KeptConversations | None = None,
    ) -> None:
        self._speaker, self._system = speaker, system
        self._reader = reader or LineReader()
        self._kept, self._store = kept, store
        self._turns: list[Message] = [] if kept is None else list(kept.messages)

    def run(self) -> None:
        """Until /exit, Ctrl-D, or Ctrl-C twice at an empty prompt (then the exit code is 130)."""
        output.say("Type your question; /help lists the commands, Ctrl-D leaves.", style="dim")
        if self._kept is not None and self._turns:
            title = f"{self._kept.title[:40]}..." if len(self._kept.title) > 40 else self._kept.title
            output.say(f"Going on with {self._kept.name}: {title}", style="dim")
        self._speaker.begin()
        interrupted = False
        while True:
            try:
                text = self._reader.read()
            except EOFError:
                output.say("")
                return
            except KeyboardInterrupt:
                output.say("")
                if interrupted:
                    raise typer.Exit(output.INTERRUPTED) from None
                interrupted = True
                output.say("Ctrl-C once more leaves, and so does Ctrl-D.", style="dim")
                continue
            interrupted = False
            try:
                self._take(text)
            except Leave:
                return
            except (EdgeRouterError, OSError) as error:
                if isinstance(error, BrokenPipeError):
                    raise
                output.say(told(error), style="red")
                if isinstance(error, ContextOverflow) and self._turns:
                    output.say("/new begins a new conversation.", style="dim")

    def _take(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        name = text if text in ELSEWHERE else name
        if name in ELSEWHERE or (name.startswith("/") and name[1:].isalpha() and "\n" not in name):
            command = COMMANDS.get(ELSEWHERE.get(name, name))
            if command is None:
                output.say(f"There is no command {name}; /help lists them.", style="red")
            else:
                command(self, rest.strip())
        elif text:
            self._answer(text)

    def _answer(self, text: str) -> None:
        question: Message = {"role": "user", "content": text}
        try:
            answered = self._speaker.ask([*system_message(self._system), *self._turns, question])
        except Interrupted as stopped:
            answered = stopped.text
            output.say("stopped", style="dim")
        if answered:
            self._turns += [question, {"role": "assistant", "content": answered}]
            self._save()

    def _save(self) -> None:
        if self._kept is not None and self._store is not None:
            self._kept.system, self._kept.messages = self._system, list(self._turns)
            self._store.save(self._kept)

    # ---- commands ------------------------------------------------------------------------------------------

    def help(self, _: str) -> None:
        """List the commands."""
        for name, command in COMMANDS.items():
            output.say(f"{name.ljust(10)}{command.__doc__}")
        output.say('A message over several lines begins and ends with """; a paste is one message anyway.')

    def new(self, _: str) -> None:
        """Begin again; the system message stays."""
        self._turns.clear()
        if self._kept is not None:
            self._kept = KeptConversation(private=self._kept.private)
        output.say("A new conversation.", style="dim")

    def model(self, name: str) -> None:
        """NAME: ask another model, such as weak, strong, router-mf-0.5 or a model card."""
        if name:
            self._speaker.use(name)
        output.say(f"Asking {self._speaker.title}.", style="dim")

    def system(self, text: str) -> None:
        """TEXT: set the system message; without TEXT it goes away."""
        self._system = text or None
        output.say("The system message is set." if text else "There is no system message.", style="dim")

    def set(self, text: str) -> None:
        """NAME VALUE: temperature, top_p, max_tokens, seed or thinking (on, off); without VALUE as before."""
        name, _, value = text.removeprefix("parameter ").strip().partition(" ")
        name, value = SET_ELSEWHERE.get(name, name), value.strip()
        if name == "system":
            self.system(value.strip('"'))
        elif name in THINKING or (name == "thinking" and value in ("", "on", "off")):
            self._speaker.think(THINKING[name] if name in THINKING else {"on": True, "off": False}.get(value))
            self.show("")
        elif name in SETTABLE:
            self._speaker.set(name, _number(value) if value else None)
            self.show("")
        else:
            output.say(f"/set takes {', '.join(SETTABLE)}, thinking or system.", style="red")

    def show(self, _: str) -> None:
        """Whom this conversation asks, and with which settings."""
        for name, who in {"model": self._speaker.title, **self._speaker.models}.items():
            output.say(f"{name.ljust(20)}{who}")
        for name, value in {"system": self._system, **self._speaker.settings}.items():
            if value is not None:
                output.say(f"{name.ljust(20)}{json.dumps(value, ensure_ascii=False)}")

    def why(self, _: str) -> None:
        """Who gave the last answer, and why."""
        if self._speaker.last is None:
            output.say("Nothing has been answered yet.", style="dim")
            return
        for name, value in reasons.details(self._speaker.last):
            output.say(f"{name.ljust(20)}{value}")

    def up(self, _: str) -> None:
        """The last answer was good: routers can learn from it."""
        self._thumb(1)

    def down(self, _: str) -> None:
        """The last answer was bad."""
        self._thumb(-1)

    def _thumb(self, rating: Literal[1, -1]) -> None:
        record = self._speaker.rate(rating)
        if record is None:
            output.say("There is no answer in the ledger to rate.", style="dim")
        elif record.prompt is None:
            hint = "Noted, but its prompt was not kept, which takes ledger.store_prompts = true."
            output.say(hint, style="dim")
        else:
            output.say("Noted.", style="dim")

    def save(self, name: str) -> None:
        """FILE: write the conversation, as messages for a name that ends in .json, else as text."""
        path = expanded(name)
        if not name or path.exists():
            output.say(
                f"{path} exists; take another name." if name else "/save needs a file name.", style="red"
            )
            return
        messages = [*system_message(self._system), *self._turns]
        if path.suffix == ".json":
            text = json.dumps(messages, ensure_ascii=False, indent=1)
        else:
            text = "\n\n".join(f"## {message['role']}\n\n{message['content']}" for message in messages)
        write_text(path, text + "\n")
        output.say(f"Saved to {path}.", style="dim")

    def exit(self, _: str) -> None:
        """Leave."""
        raise Leave


COMMANDS: Mapping[str, Callable[[ChatLoop, str], None]] = {
    "/help": ChatLoop.help,
    "/new": ChatLoop.new,
    "/model": ChatLoop.model,
    "/system": ChatLoop.system,
    "/set": ChatLoop.set,
    "/show": ChatLoop.show,
    "/why": ChatLoop.why,
    "/up": ChatLoop.up,
    "/down": ChatLoop.down,
    "/save": ChatLoop.save,
    "/exit": ChatLoop.exit,
}
SETTABLE = ("temperature", "top_p", "max_tokens", "seed")
# What users of other programs type.
ELSEWHERE: Mapping[str, str] = {
    **dict.fromkeys(("/bye", "/quit", "exit", "quit"), "/exit"),
    **dict.fromkeys(("/clear", "/reset"), "/new"),
    "/load": "/model",
    "/?": "/help",
}
SET_ELSEWHERE: Mapping[str, str] = {
    "num_predict": "max_tokens",
    "n_predict": "max_tokens",
    "temp": "temperature",
}
THINKING: Mapping[str, bool] = {"think": True, "nothink": False}


def _number(text: str) -> object:
    """What JSON takes for a number; any other text as it is, which the request then refuses by its name."""
    try:
        return strict_json.parse(text)
    except ValueError:
        return text
