"""Python's clients, each with what is tried with it: `python in_python.py NAME URL MODEL WAY...` prints what came of it.

A method that a client lacks is one that it has no word for. All raise what the client raises. `call` demands a
call and gives those that came, `cut` an answer of CUT tokens with the client's word for why it ended.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import pydantic

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from assistant import CITY_AS_JSON, CUT, HELLO, STORY, WAYS, WEATHER, WHETHER

Thought = tuple[str, str | None]  # the answer, and the thoughts; None where the client shows none
Call = tuple[str, object]  # the function's name, and its arguments


class City(pydantic.BaseModel):
    name: str
    people: int


def weather(city: str) -> str:
    """The weather of a city."""
    return f"rain in {city}"


PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": PARAMETERS}
TOOL: Any = {"type": "function", "function": FUNCTION}


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def effort(on: bool) -> str:
    return "low" if on else "none"


class OpenAI:
    """openai-python, and its helpers that stream and parse."""

    package = "openai"

    def __init__(self, url: str, model: str) -> None:
        import openai

        self.client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0)
        self.model = model

    def close(self) -> None:
        self.client.close()


class OpenAIChat(OpenAI):
    def ask(self, text: str, **more: Any) -> Any:
        completions = self.client.chat.completions
        return completions.create(model=self.model, messages=[user(text)], **more).choices[0].message

    def chat(self) -> str:
        return str(self.ask(HELLO).content)

    def stream(self) -> Iterator[str]:
        for chunk in self.client.chat.completions.create(
            model=self.model, messages=[user(HELLO)], stream=True, stream_options={"include_usage": True}
        ):
            yield from (choice.delta.content for choice in chunk.choices if choice.delta.content)

    def tools(self) -> str:
        completions, given = self.client.chat.completions, {"model": self.model, "tools": [TOOL]}
        with completions.stream(messages=[user(WEATHER)], **given) as events:
            message = events.get_final_completion().choices[0].message
        said = message.to_dict()
        for call in said["tool_calls"]:
            call["function"].pop("parsed_arguments", None)
        results = [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "content": weather(**json.loads(call.function.arguments)),
            }
            for call in message.tool_calls
        ]
        after = completions.create(messages=[user(WEATHER), said, *results], **given)
        return str(after.choices[0].message.content)

    def think(self, on: bool) -> Thought:
        message = self.ask(WHETHER, reasoning_effort=effort(on))
        return message.content, getattr(message, "reasoning_content", "")

    def call(self) -> list[Call]:
        calls = self.ask(WEATHER, tools=[TOOL], tool_choice="required").tool_calls
        return [(call.function.name, json.loads(call.function.arguments)) for call in calls]

    def cut(self) -> Thought:
        asked = {"model": self.model, "messages": [user(STORY)], "max_completion_tokens": CUT}
        choice = self.client.chat.completions.create(**asked).choices[0]
        return choice.message.content, choice.finish_reason

    def as_json(self) -> object:
        parsed = self.client.chat.completions.parse(
            model=self.model, messages=[user(CITY_AS_JSON)], response_format=City
        )
        return parsed.choices[0].message.parsed.model_dump()


class OpenAIResponses(OpenAI):
    def ask(self, text: str, **more: Any) -> Any:
        return self.client.responses.create(model=self.model, input=text, **more)

    def chat(self) -> str:
        return str(self.ask(HELLO).output_text)

    def stream(self) -> Iterator[str]:
        with self.client.responses.stream(model=self.model, input=HELLO) as events:
            yield from (event.delta for event in events if event.type == "response.output_text.delta")

    def tools(self) -> str:
        tools = [{"type": "function", **FUNCTION, "strict": True}]
        with self.client.responses.stream(model=self.model, input=WEATHER, tools=tools) as events:
            first = events.get_final_response()
        results = [
            {
                "type": "function_call_output",
                "call_id": item.call_id,
                "output": weather(**json.loads(item.arguments)),
            }
            for item in first.output
            if item.type == "function_call"
        ]
        after = self.client.responses.create(
            model=self.model, input=results, tools=tools, previous_response_id=first.id
        )
        return str(after.output_text)

    def think(self, on: bool) -> Thought:
        told = self.ask(WHETHER, reasoning={"effort": effort(on), "summary": "auto"})
        items = [item for item in told.output if item.type == "reasoning"]
        return told.output_text, "".join(part.text for item in items for part in item.summary)

    def call(self) -> list[Call]:
        tools = [{"type": "function", **FUNCTION, "strict": True}]
        output = self.ask(WEATHER, tools=tools, tool_choice="required").output
        return [(item.name, json.loads(item.arguments)) for item in output if item.type == "function_call"]

    def cut(self) -> Thought:
        told = self.ask(STORY, max_output_tokens=CUT)
        return told.output_text, told.incomplete_details.reason

    def as_json(self) -> object:
        parsed = self.client.responses.parse(model=self.model, input=CITY_AS_JSON, text_format=City)
        return parsed.output_parsed.model_dump()


class Anthropic:
    """anthropic, and its helpers that stream and parse."""

    package = "anthropic"

    def __init__(self, url: str, model: str) -> None:
        import anthropic

        self.client: Any = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
        self.given: Any = {"model": model, "max_tokens": 2000}

    def close(self) -> None:
        self.client.close()

    def chat(self) -> str:
        content = self.client.messages.create(messages=[user(HELLO)], **self.given).content
        return "".join(block.text for block in content if block.type == "text")

    def stream(self) -> Iterator[str]:
        with self.client.messages.stream(messages=[user(HELLO)], **self.given) as stream:
            yield from stream.text_stream

    def tools(self) -> str:
        tools = [{"name": "weather", "description": "of a city", "input_schema": PARAMETERS}]
        with self.client.messages.stream(messages=[user(WEATHER)], tools=tools, **self.given) as stream:
            content = stream.get_final_message().content
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": weather(**block.input)}
            for block in content
            if block.type == "tool_use"
        ]
        turns = [
            user(WEATHER),
            {"role": "assistant", "content": content},
            {"role": "user", "content": results},
        ]
        return str(self.client.messages.create(messages=turns, tools=tools, **self.given).content[-1].text)

    def think(self, on: bool) -> Thought:
        thinking = {"type": "enabled", "budget_tokens": 1024} if on else {"type": "disabled"}
        told = self.client.messages.create(messages=[user(WHETHER)], thinking=thinking, **self.given)
        thoughts = "".join(block.thinking for block in told.content if block.type == "thinking")
        return "".join(block.text for block in told.content if block.type == "text"), thoughts

    def call(self) -> list[Call]:
        tools = [{"name": "weather", "description": "of a city", "input_schema": PARAMETERS}]
        choice = {"type": "any"}
        told = self.client.messages.create(
            messages=[user(WEATHER)], tools=tools, tool_choice=choice, **self.given
        )
        return [(block.name, block.input) for block in told.content if block.type == "tool_use"]

    def cut(self) -> Thought:
        told = self.client.messages.create(messages=[user(STORY)], **{**self.given, "max_tokens": CUT})
        return told.content[-1].text, told.stop_reason

    def as_json(self) -> object:
        parsed = self.client.messages.parse(messages=[user(CITY_AS_JSON)], output_format=City, **self.given)
        return parsed.parsed_output.model_dump()


class Ollama:
    package = "ollama"

    def __init__(self, url: str, model: str) -> None:
        import ollama

        self.client: Any = ollama.Client(url)
        self.model = model

    def close(self) -> None:
        self.client.close()

    def ask(self, *messages: Any, **more: Any) -> Any:
        return self.client.chat(self.model, messages, **more)

    def chat(self) -> str:
        return str(self.ask(user(HELLO)).message.content)

    def stream(self) -> Iterator[str]:
        pieces = self.ask(user(HELLO), stream=True)
        yield from (piece.message.content for piece in pieces if piece.message.content)

    def tools(self) -> str:
        pieces = list(self.ask(user(WEATHER), tools=[weather], stream=True))
        calls = [call for piece in pieces for call in piece.message.tool_calls or ()]
        said = {"role": "assistant", "tool_calls": calls}
        results = [
            {"role": "tool", "tool_name": "weather", "content": weather(**call.function.arguments)}
            for call in calls
        ]
        return str(self.ask(user(WEATHER), said, *results, tools=[weather]).message.content)

    def think(self, on: bool) -> Thought:
        message = self.ask(user(WHETHER), think=on).message
        return message.content, message.thinking or ""

    def cut(self) -> Thought:
        told = self.ask(user(STORY), options={"num_predict": CUT})
        return told.message.content, told.done_reason

    def as_json(self) -> object:
        told = self.ask(user(CITY_AS_JSON), format=City.model_json_schema())
        return City.model_validate_json(told.message.content).model_dump()


class LangChain:
    """Its chat models are one shape; `make` makes one that thinks or does not."""

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    def make(self, **more: Any) -> Any: ...

    def thinking(self, on: bool) -> dict[str, Any]: ...

    def text(self, message: Any) -> str:
        return str(message.text if isinstance(message.text, str) else message.text())

    def chat(self) -> str:
        return self.text(self.make().invoke(HELLO))

    def stream(self) -> Iterator[str]:
        yield from filter(None, map(self.text, self.make().stream(HELLO)))

    def tools(self) -> str:
        from langchain_core.messages import HumanMessage, ToolMessage
        from langchain_core.tools import tool

        bound = self.make().bind_tools([tool(weather)])
        first, *rest = bound.stream([HumanMessage(WEATHER)])
        for piece in rest:
            first += piece
        results = [ToolMessage(weather(**call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
        return self.text(bound.invoke([HumanMessage(WEATHER), first, *results]))

    def think(self, on: bool) -> Thought:
        message = self.make(**self.thinking(on)).invoke(WHETHER)
        blocks = [block for block in message.content_blocks if block["type"] == "reasoning"]
        thoughts = "".join(block.get("reasoning", "") for block in blocks)
        return self.text(message), None if self.hides else thoughts

    hides = False
    limit = "max_tokens"

    def call(self) -> list[Call]:
        from langchain_core.tools import tool

        told = self.make().bind_tools([tool(weather)], tool_choice="any").invoke(WEATHER)
        return [(call["name"], call["args"]) for call in told.tool_calls]

    def cut(self) -> Thought:
        message = self.make(**{self.limit: CUT}).invoke(STORY)
        told = message.response_metadata
        reasons = [told.get(name) for name in ("finish_reason", "stop_reason", "done_reason")]
        reasons.append((told.get("incomplete_details") or {}).get("reason"))
        return self.text(message), next(filter(None, reasons), "")

    def as_json(self) -> object:
        return self.make().with_structured_output(City).invoke(CITY_AS_JSON).model_dump()


class LangChainOpenAI(LangChain):
    package, hides = "langchain-openai", True
    responses = False

    def make(self, **more: Any) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(
            model=self.model,
            base_url=f"{self.url}/v1",
            api_key="k",
            max_retries=0,
            use_responses_api=self.responses,
            **more,
        )

    def thinking(self, on: bool) -> dict[str, Any]:
        return {"reasoning_effort": effort(on)}


class LangChainResponses(LangChainOpenAI):
    responses, hides = True, False

    def thinking(self, on: bool) -> dict[str, Any]:
        return {"reasoning": {"effort": effort(on), "summary": "auto"}}


class LangChainAnthropic(LangChain):
    package = "langchain-anthropic"

    def make(self, **more: Any) -> Any:
        from langchain_anthropic import ChatAnthropic

        given = {"model": self.model, "base_url": self.url, "api_key": "k", "max_retries": 0}
        return ChatAnthropic(**{**given, "max_tokens": 2000, **more})

    def thinking(self, on: bool) -> dict[str, Any]:
        return {"thinking": {"type": "enabled", "budget_tokens": 1024} if on else {"type": "disabled"}}


class LangChainOllama(LangChain):
    package, limit = "langchain-ollama", "num_predict"
    call: Any = None  # as Ollama's API, it has no word for that

    def make(self, **more: Any) -> Any:
        from langchain_ollama import ChatOllama

        return ChatOllama(model=self.model, base_url=self.url, **more)

    def thinking(self, on: bool) -> dict[str, Any]:
        return {"reasoning": on}


class LiteLLM:
    package = "litellm"
    prefix, path = "openai", "/v1"

    def __init__(self, url: str, model: str) -> None:
        self.given: Any = {"model": f"{self.prefix}/{model}", "api_base": url + self.path, "api_key": "k"}

    def ask(self, *messages: Any, **more: Any) -> Any:
        import litellm

        return litellm.completion(messages=list(messages), num_retries=0, **self.given, **more)

    def chat(self) -> str:
        return str(self.ask(user(HELLO)).choices[0].message.content)

    def stream(self) -> Iterator[str]:
        pieces = (chunk.choices[0].delta.content for chunk in self.ask(user(HELLO), stream=True))
        yield from filter(None, pieces)

    def tools(self) -> str:
        import litellm

        chunks = list(self.ask(user(WEATHER), tools=[TOOL], stream=True))
        message = cast("Any", litellm.stream_chunk_builder(chunks)).choices[0].message
        results = [
            {
                "role": "tool",
                "tool_call_id": call.id,
                "name": "weather",
                "content": weather(**json.loads(call.function.arguments)),
            }
            for call in message.tool_calls
        ]
        after = self.ask(user(WEATHER), message.model_dump(), *results, tools=[TOOL])
        return str(after.choices[0].message.content)

    def think(self, on: bool) -> Thought:
        message = self.ask(user(WHETHER), **self.thinking(on)).choices[0].message
        return message.content, getattr(message, "reasoning_content", None) or ""

    def thinking(self, on: bool) -> dict[str, Any]:
        return {"reasoning_effort": effort(on), "allowed_openai_params": ["reasoning_effort"]}

    def call(self) -> list[Call]:
        message = self.ask(user(WEATHER), tools=[TOOL], tool_choice="required").choices[0].message
        return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]

    def cut(self) -> Thought:
        choice = self.ask(user(STORY), max_tokens=CUT).choices[0]
        return choice.message.content, choice.finish_reason

    def as_json(self) -> object:
        told = self.ask(user(CITY_AS_JSON), response_format=City)
        return City.model_validate_json(told.choices[0].message.content).model_dump()


class LiteLLMAnthropic(LiteLLM):
    prefix, path = "anthropic", ""

    def thinking(self, on: bool) -> dict[str, Any]:
        switch = {"type": "enabled", "budget_tokens": 1024} if on else {"type": "disabled"}
        return {"thinking": switch, "max_tokens": 2000, "allowed_openai_params": ["thinking"]}


class LiteLLMOllama(LiteLLM):
    prefix, path = "ollama_chat", ""
    call: Any = None

    def thinking(self, on: bool) -> dict[str, Any]:
        return {"think": on}


class PydanticAI:
    package = "pydantic-ai-slim"

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    def make(self) -> Any: ...

    def thinking(self, on: bool) -> Any: ...

    def chat(self) -> str:
        from pydantic_ai import Agent

        return Agent(self.make()).run_sync(HELLO).output

    def stream(self) -> Iterator[str]:
        from pydantic_ai import Agent

        async def pieces() -> list[str]:
            async with Agent(self.make()).run_stream(HELLO) as run:
                return [text async for text in run.stream_text(delta=True, debounce_by=None)]

        yield from asyncio.run(pieces())

    def tools(self) -> str:
        from pydantic_ai import Agent

        async def run() -> str:
            async with Agent(self.make(), tools=[weather]).run_stream(WEATHER) as streamed:
                return await streamed.get_output()

        return asyncio.run(run())

    def think(self, on: bool) -> Thought:
        from pydantic_ai import Agent
        from pydantic_ai.messages import ThinkingPart

        run = Agent(self.make()).run_sync(WHETHER, model_settings=self.thinking(on))
        parts = run.all_messages()[-1].parts
        return run.output, "".join(part.content for part in parts if isinstance(part, ThinkingPart))

    def call(self) -> list[Call]:
        """Its way to a form, for models that know no other."""
        from pydantic_ai import Agent

        return [("city", Agent(self.make(), output_type=City).run_sync(CITY_AS_JSON).output.model_dump())]

    def cut(self) -> Thought:
        from pydantic_ai import Agent

        run = Agent(self.make()).run_sync(STORY, model_settings={"max_tokens": CUT})
        return run.output, run.all_messages()[-1].finish_reason

    def as_json(self) -> object:
        from pydantic_ai import Agent, NativeOutput

        return Agent(self.make(), output_type=NativeOutput(City)).run_sync(CITY_AS_JSON).output.model_dump()


class PydanticAIChat(PydanticAI):
    def make(self) -> Any:
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        return OpenAIChatModel(
            self.model,
            provider=OpenAIProvider(base_url=f"{self.url}/v1", api_key="k"),
            profile=self.profile(),
        )

    def profile(self) -> Any:
        from pydantic_ai.profiles.openai import OpenAIModelProfile

        return OpenAIModelProfile(supports_json_schema_output=True, supports_thinking=True)

    def thinking(self, on: bool) -> Any:
        return {"openai_reasoning_effort": effort(on)}


class PydanticAIResponses(PydanticAIChat):
    def make(self) -> Any:
        from pydantic_ai.models.openai import OpenAIResponsesModel
        from pydantic_ai.providers.openai import OpenAIProvider

        return OpenAIResponsesModel(
            self.model,
            provider=OpenAIProvider(base_url=f"{self.url}/v1", api_key="k"),
            profile=self.profile(),
        )

    def thinking(self, on: bool) -> Any:
        return {"openai_reasoning_effort": effort(on), "openai_reasoning_summary": "auto"}


class PydanticAIAnthropic(PydanticAI):
    def make(self) -> Any:
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(
            self.model,
            provider=AnthropicProvider(base_url=self.url, api_key="k"),
            profile={"supports_json_schema_output": True},
        )

    def thinking(self, on: bool) -> Any:
        switch = {"type": "enabled", "budget_tokens": 1024} if on else {"type": "disabled"}
        return {"anthropic_thinking": switch, "max_tokens": 2000}


class LLM:
    """simonw/llm, as a library."""

    package = "llm"

    def __init__(self, url: str, model: str) -> None:
        from llm.default_plugins.openai_models import Chat

        self.model: Any = Chat(
            "ours",
            model_name=model,
            api_base=f"{url}/v1",
            supports_tools=True,
            supports_schema=True,
            reasoning=True,
        )
        self.model.key = "k"

    def chat(self) -> str:
        return str(self.model.prompt(HELLO, stream=False).text())

    def stream(self) -> Iterator[str]:
        yield from filter(None, self.model.prompt(HELLO))

    def tools(self) -> str:
        return str(self.model.chain(WEATHER, tools=[weather]).text())

    def think(self, on: bool) -> Thought:
        return self.model.prompt(WHETHER, reasoning_effort=effort(on), stream=False).text(), None

    def cut(self) -> Thought:
        told = self.model.prompt(STORY, max_tokens=CUT, stream=False)
        return told.text(), told.response_json["choices"][0]["finish_reason"]

    def as_json(self) -> object:
        return json.loads(self.model.prompt(CITY_AS_JSON, schema=City).text())


class Instructor:
    """It is there for JSON only; the rest of what it has is openai's."""

    package = "instructor"

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    def asked(self, mode: str) -> object:
        import instructor
        import openai

        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="k", max_retries=0) as client:
            made = instructor.from_openai(client, mode=instructor.Mode[mode])
            city = made.chat.completions.create(
                model=self.model, messages=[user(CITY_AS_JSON)], response_model=City, max_retries=0
            )
            return city.model_dump()

    def call(self) -> list[Call]:
        return [("city", self.asked("TOOLS")), ("city", self.asked("RESPONSES_TOOLS"))]

    def as_json(self) -> object:
        return self.asked("JSON_SCHEMA")


class Agents:
    """openai-agents, whose own way is Responses."""

    package = "openai-agents"
    kind = "OpenAIResponsesModel"

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model

    def run(self, text: str, **more: Any) -> Any:
        return asyncio.run(self.run_async(text, **more))

    async def run_async(self, text: str, streamed: bool = False, **more: Any) -> Any:
        import agents
        import openai

        agents.set_tracing_disabled(True)
        async with openai.AsyncOpenAI(base_url=f"{self.url}/v1", api_key="k", max_retries=0) as client:
            model = getattr(agents, self.kind)(self.model, client)
            agent: Any = agents.Agent(name="one", model=model, **more)
            if not streamed:
                return await agents.Runner.run(agent, text)
            run = agents.Runner.run_streamed(agent, text)
            events = [event async for event in run.stream_events()]
            return run.final_output, [
                event.data.delta
                for event in events
                if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
            ]

    def chat(self) -> str:
        return str(self.run(HELLO).final_output)

    def stream(self) -> Iterator[str]:
        yield from self.run(HELLO, streamed=True)[1]

    def tools(self) -> str:
        from agents import function_tool

        return str(self.run(WEATHER, streamed=True, tools=[function_tool(weather)])[0])

    def think(self, on: bool) -> Thought:
        from agents import ModelSettings
        from openai.types.shared import Reasoning

        settings = ModelSettings(reasoning=Reasoning(effort=cast("Any", effort(on)), summary="auto"))
        run = self.run(WHETHER, model_settings=settings)
        items = [item.raw_item for item in run.new_items if item.type == "reasoning_item"]
        return run.final_output, "".join(part.text for item in items for part in item.summary)

    def call(self) -> list[Call]:
        from agents import ModelSettings, function_tool

        told: list[Call] = []

        def weather(city: str) -> str:
            told.append(("weather", {"city": city}))
            return "rain"

        settings = ModelSettings(tool_choice="required")
        tools = [function_tool(weather)]
        self.run(WEATHER, tools=tools, model_settings=settings, tool_use_behavior="stop_on_first_tool")
        return told

    def as_json(self) -> object:
        return self.run(CITY_AS_JSON, output_type=City).final_output.model_dump()


class AgentsChat(Agents):
    kind = "OpenAIChatCompletionsModel"

    def cut(self) -> Thought:
        """It does not say why an answer ended; in the other way it takes the end for an error."""
        from agents import ModelSettings

        return str(self.run(STORY, model_settings=ModelSettings(max_tokens=CUT)).final_output), None


CLIENTS: dict[str, Any] = {
    "openai, chat": OpenAIChat,
    "openai, responses": OpenAIResponses,
    "anthropic": Anthropic,
    "ollama": Ollama,
    "langchain-openai, chat": LangChainOpenAI,
    "langchain-openai, responses": LangChainResponses,
    "langchain-anthropic": LangChainAnthropic,
    "langchain-ollama": LangChainOllama,
    "pydantic-ai, chat": PydanticAIChat,
    "pydantic-ai, responses": PydanticAIResponses,
    "pydantic-ai, messages": PydanticAIAnthropic,
    "llm": LLM,
    "instructor": Instructor,
    "litellm, chat": LiteLLM,
    "litellm, messages": LiteLLMAnthropic,
    "litellm, ollama": LiteLLMOllama,
    "openai-agents, chat": AgentsChat,
    "openai-agents, responses": Agents,
}


def tried(client: Any, ways: Iterable[str] = WAYS) -> dict[str, object]:
    """What came of each; text that says what was raised, where something was."""
    found: dict[str, object] = {}
    for name in ways:
        way = getattr(client, name.removeprefix("no_"), None)
        if way is None:
            continue
        try:
            value = way(name == "think") if name.endswith("think") else way()
            found[name] = {"value": list(value) if name == "stream" else value}
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what came of it
            found[name] = {"error": f"{type(error).__name__}: {error}"}
    return found


def main(name: str, url: str, model: str, *ways: str) -> None:
    kind = CLIENTS[name]
    told = {"version": importlib.metadata.version(kind.package), **tried(kind(url, model), ways)}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
