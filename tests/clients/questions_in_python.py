"""Python's clients of typed questions, as in_python.py: `python questions_in_python.py NAME URL MODEL WAY...`.

`decide` gives what came of the three types, `act` the candidate that an agent was led to, `image` who answered where
a picture was to be read, `refuse` what was raised for a choice of nothing.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import in_python
from assistant import ANGER, MAIL, TEAMS

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class TypeSafe:
    package = "typesafe-sdk"

    def __init__(self, url: str, model: str) -> None:
        from typesafe_sdk import RetryPolicy, TypeSafeClient

        self.client = TypeSafeClient(api_key="k", base_url=url, retry=RetryPolicy(max_retries=0))
        self.model = model

    def decide(self) -> object:
        """Longer than a kilobyte, which it packs where it can."""
        from typesafe_sdk import Choice, Noul, Score

        told = self.client.system_one(
            state={"document": MAIL * 50},
            questions={
                "team": Choice(instructions="Whose is it?", criteria=dict.fromkeys(TEAMS)),
                "urgent": Noul(instructions="Is it urgent?"),
                "anger": Score(instructions="How angry?", criteria=list(ANGER)),
            },
            model=self.model,
        )
        assert told.request_id and told.usage.input_tokens
        assert self.model in [model.name for model in self.client.models.list().models]
        team, urgent, anger = told.choices["team"], told.nouls["urgent"], told.scores["anger"]
        return [team.choice, team.probabilities[team.choice], urgent.noul, anger.score]

    def image(self) -> str:
        from typesafe_sdk import Image, Noul

        state = {"photo": Image(base64.b64decode(PICTURE))}
        told = self.client.system_one(
            state=state, questions={"cat": Noul(instructions="A cat?")}, model="auto"
        )
        return told.model

    def refuse(self) -> str:
        from typesafe_sdk import Score

        try:
            self.client.system_one(
                state="s", questions={"q": Score(instructions="i", criteria=["one"])}, model=self.model
            )
        except Exception as error:  # noqa: BLE001 - whatever it is
            return f"{type(error).__name__}: {error}"
        return "taken"


class OpenAI:
    package = "openai"

    def __init__(self, url: str, model: str) -> None:
        import openai

        self.client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
        self.model = model

    def decide(self) -> object:
        told = self.client.decisions.create(
            model=self.model,
            input=MAIL,
            questions=[
                {"type": "choice", "instructions": "Whose?", "choices": [{"value": team} for team in TEAMS]},
                {"type": "predicate", "name": "urgent", "instructions": "Is it urgent?"},
                {"type": "score", "instructions": "How angry?", "levels": [{"label": one} for one in ANGER]},
            ],
        )
        team, urgent, anger = told.answers
        assert (team.name, urgent.name) == (None, "urgent") and told.usage.total_tokens
        probabilities = {each.value: each.probability for each in team.probabilities}
        return [team.choice, probabilities[team.choice], urgent.probability, anger.score]

    def act(self) -> object:
        from openai.lib.decisions_tool_runner import DecisionsToolRunner

        candidates: Any = [
            {"id": "done", "description": "It is done.", "done": True},
            {"id": "wait", "description": "Wait.", "execute": lambda: None},
        ]
        runner = DecisionsToolRunner(observe=lambda: "All is done.", candidates=lambda seen: candidates)
        return runner.run(self.client, {"model": self.model, "input": "Finish."})["status"]

    def image(self) -> str:
        part = {"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}
        told = self.client.decisions.create(
            model="auto",
            input=[{"role": "user", "content": [part]}],
            questions=[{"type": "predicate", "instructions": "A cat?"}],
        )
        return str(told.model)

    def refuse(self) -> str:
        choices = [{"value": "one"}]
        question = {"type": "choice", "instructions": "i", "choices": choices}
        try:
            self.client.decisions.create(model=self.model, input="s", questions=[question])
        except Exception as error:  # noqa: BLE001 - whatever it is
            return f"{type(error).__name__}: {error}"
        return "taken"


class LangChain:
    package = "langchain-openai"

    def __init__(self, url: str, model: str) -> None:
        from langchain_openai.decisions import OpenAIDecisions

        self.client = OpenAIDecisions(model=model, base_url=f"{url}/v1", api_key="k", max_retries=0)  # type: ignore[arg-type,call-arg]

    def decide(self) -> object:
        from langchain_openai.decisions import Choice, Predicate, Score

        told: Any = self.client.invoke(
            {
                "input": MAIL,
                "questions": {
                    "team": Choice(instructions="Whose?", choices=dict.fromkeys(TEAMS)),  # type: ignore[arg-type]
                    "urgent": Predicate(instructions="Is it urgent?"),
                    "anger": Score(instructions="How angry?", levels=list(ANGER)),
                },
            }
        )
        team = told.choices["team"]
        return [
            team.choice,
            team.probabilities[team.choice],
            told.predicates["urgent"].probability,
            told.scores["anger"].score,
        ]


class LiteLLM:
    package = "litellm"

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    def decide(self) -> object:
        from litellm.decisions.main import decisions

        told: Any = decisions(
            model=f"openai/{self.model}",
            api_base=f"{self.url}/v1",
            api_key="k",
            input=MAIL,
            questions=[
                {"type": "choice", "instructions": "Whose?", "choices": [{"value": team} for team in TEAMS]},
                {"type": "predicate", "instructions": "Is it urgent?"},
                {"type": "score", "instructions": "How angry?", "levels": [{"label": one} for one in ANGER]},
            ],
        )
        team, urgent, anger = (each if isinstance(each, dict) else each.model_dump() for each in told.answers)
        chosen = {each["value"]: each["probability"] for each in team["probabilities"]}[team["choice"]]
        return [team["choice"], chosen, urgent["probability"], anger["score"]]


class LiteLLMSystemOne(LiteLLM):
    def decide(self) -> object:
        from litellm.systemone.main import systemone

        told: Any = systemone(
            model=f"typesafe/{self.model}",
            api_base=self.url,
            api_key="k",
            state={"document": MAIL},
            questions={
                "team": {"type": "choice", "instructions": "Whose?", "criteria": dict.fromkeys(TEAMS)},
                "urgent": {"type": "noul", "instructions": "Is it urgent?"},
                "anger": {"type": "score", "instructions": "How angry?", "criteria": list(ANGER)},
            },
        )
        team, urgent, anger = (told.answers[name] for name in ("team", "urgent", "anger"))
        return [team.choice, team.probabilities[team.choice], urgent.noul, anger.score]


in_python.CLIENTS = {
    "typesafe-sdk": TypeSafe,
    "openai, decisions": OpenAI,
    "langchain-openai, decisions": LangChain,
    "litellm, decisions": LiteLLM,
    "litellm, systemone": LiteLLMSystemOne,
}

if __name__ == "__main__":
    in_python.main(*sys.argv[1:])
