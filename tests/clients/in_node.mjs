// Node's clients, each with what is tried with it, as in in_python.py: `node in_node.mjs NAME URL MODEL QUESTIONS WAY...`.
// Runs in a folder whose node_modules has them; QUESTIONS is assistant.py's, as JSON.
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [name, url, model, questions, ...wanted] = process.argv.slice(2);
const { HELLO, WEATHER, CITY_AS_JSON, WHETHER, STORY, CUT } = JSON.parse(questions);
const here = createRequire(`${process.cwd()}/package.json`);
const load = (one) => import(pathToFileURL(here.resolve(one)));

const object = (properties) => ({
  type: 'object', properties, required: Object.keys(properties), additionalProperties: false,
});
const PARAMETERS = object({ city: { type: 'string' } });
const CITY = object({ name: { type: 'string' }, people: { type: 'integer' } });
const FUNCTION = { name: 'weather', description: 'of a city', parameters: PARAMETERS };
const weather = ({ city }) => `rain in ${city}`;
const user = (content) => ({ role: 'user', content });
const effort = (on) => (on ? 'low' : 'none');
const joined = (items, field) => items.map((item) => item[field] ?? '').join('');

async function openai() {
  const { default: OpenAI } = await load('openai');
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'k', maxRetries: 0 });
}

async function openaiChat() {
  const { chat } = await openai();
  const ask = async (text, more = {}) =>
    (await chat.completions.create({ model, messages: [user(text)], ...more })).choices[0].message;
  const tools = [{ type: 'function', function: { ...FUNCTION, parse: JSON.parse, function: weather } }];
  const response_format = { type: 'json_schema', json_schema: { name: 'city', schema: CITY, strict: true } };
  return {
    chat: async () => (await ask(HELLO)).content,
    stream: async () => {
      const pieces = [];
      for await (const chunk of chat.completions.stream({ model, messages: [user(HELLO)] })) {
        pieces.push(chunk.choices[0]?.delta?.content);
      }
      return pieces.filter(Boolean);
    },
    tools: () => chat.completions.runTools({ model, messages: [user(WEATHER)], tools, stream: true }).finalContent(),
    think: async (on) => {
      const message = await ask(WHETHER, { reasoning_effort: effort(on) });
      return [message.content, message.reasoning_content ?? ''];
    },
    call: async () => {
      const told = await ask(WEATHER, { tools: [{ type: 'function', function: FUNCTION }], tool_choice: 'required' });
      return told.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
    },
    cut: async () => {
      const told = await chat.completions.create({ model, messages: [user(STORY)], max_completion_tokens: CUT });
      return [told.choices[0].message.content, told.choices[0].finish_reason];
    },
    as_json: async () => JSON.parse((await ask(CITY_AS_JSON, { response_format })).content),
  };
}

async function openaiResponses() {
  const { responses } = await openai();
  const tools = [{ type: 'function', ...FUNCTION, strict: true }];
  const format = { type: 'json_schema', name: 'city', schema: CITY, strict: true };
  const ask = (input, more = {}) => responses.create({ model, input, ...more });
  return {
    chat: async () => (await ask(HELLO)).output_text,
    stream: async () => {
      const pieces = [];
      for await (const event of responses.stream({ model, input: HELLO })) {
        if (event.type === 'response.output_text.delta') pieces.push(event.delta);
      }
      return pieces;
    },
    tools: async () => {
      const first = await responses.stream({ model, input: WEATHER, tools, store: false }).finalResponse();
      const results = first.output.filter((item) => item.type === 'function_call').map((call) => (
        { type: 'function_call_output', call_id: call.call_id, output: weather(JSON.parse(call.arguments)) }));
      const said = first.output.map(({ parsed_arguments, ...item }) => item);
      return (await ask([user(WEATHER), ...said, ...results], { tools, store: false })).output_text;
    },
    think: async (on) => {
      const told = await ask(WHETHER, { reasoning: { effort: effort(on), summary: 'auto' } });
      const items = told.output.filter((item) => item.type === 'reasoning');
      return [told.output_text, joined(items.flatMap((item) => item.summary), 'text')];
    },
    call: async () => {
      const { output } = await ask(WEATHER, { tools, tool_choice: 'required' });
      return output.filter((item) => item.type === 'function_call').map((call) => [call.name, JSON.parse(call.arguments)]);
    },
    cut: async () => {
      const told = await ask(STORY, { max_output_tokens: CUT });
      return [told.output_text, told.incomplete_details.reason];
    },
    as_json: async () => JSON.parse((await ask(CITY_AS_JSON, { text: { format } })).output_text),
  };
}

async function anthropic() {
  const { default: Anthropic } = await load('@anthropic-ai/sdk');
  const { messages } = new Anthropic({ baseURL: url, apiKey: 'k', maxRetries: 0 });
  const ask = (given, more = {}) => messages.create({ model, max_tokens: 2000, messages: given, ...more });
  const text = (told) => joined(told.content.filter((block) => block.type === 'text'), 'text');
  const tools = [{ name: 'weather', description: 'of a city', input_schema: PARAMETERS }];
  return {
    chat: async () => text(await ask([user(HELLO)])),
    stream: async () => {
      const pieces = [];
      const stream = messages.stream({ model, max_tokens: 2000, messages: [user(HELLO)] });
      stream.on('text', (piece) => pieces.push(piece));
      await stream.finalMessage();
      return pieces;
    },
    tools: async () => {
      const given = [user(WEATHER)];
      const first = await messages.stream({ model, max_tokens: 2000, messages: given, tools }).finalMessage();
      const results = first.content.filter((block) => block.type === 'tool_use').map((block) => (
        { type: 'tool_result', tool_use_id: block.id, content: weather(block.input) }));
      return text(await ask([...given, { role: 'assistant', content: first.content }, user(results)], { tools }));
    },
    think: async (on) => {
      const thinking = on ? { type: 'enabled', budget_tokens: 1024 } : { type: 'disabled' };
      const told = await ask([user(WHETHER)], { thinking });
      return [text(told), joined(told.content.filter((block) => block.type === 'thinking'), 'thinking')];
    },
    call: async () => {
      const told = await ask([user(WEATHER)], { tools, tool_choice: { type: 'any' } });
      return told.content.filter((block) => block.type === 'tool_use').map((block) => [block.name, block.input]);
    },
    cut: async () => {
      const told = await ask([user(STORY)], { max_tokens: CUT });
      return [text(told), told.stop_reason];
    },
    as_json: async () => {
      const output_config = { format: { type: 'json_schema', schema: CITY } };
      return JSON.parse(text(await ask([user(CITY_AS_JSON)], { output_config })));
    },
  };
}

async function ollama() {
  const { Ollama } = await load('ollama');
  const client = new Ollama({ host: url });
  const tools = [{ type: 'function', function: FUNCTION }];
  const ask = (messages, more = {}) => client.chat({ model, messages, ...more });
  const pieces = async (messages, more = {}) => {
    const found = [];
    for await (const piece of await ask(messages, { stream: true, ...more })) found.push(piece.message);
    return found;
  };
  return {
    chat: async () => (await ask([user(HELLO)])).message.content,
    stream: async () => (await pieces([user(HELLO)])).map((piece) => piece.content).filter(Boolean),
    tools: async () => {
      const calls = (await pieces([user(WEATHER)], { tools })).flatMap((piece) => piece.tool_calls ?? []);
      const results = calls.map((call) => (
        { role: 'tool', tool_name: 'weather', content: weather(call.function.arguments) }));
      const said = { role: 'assistant', content: '', tool_calls: calls };
      return (await ask([user(WEATHER), said, ...results], { tools })).message.content;
    },
    think: async (on) => {
      const { message } = await ask([user(WHETHER)], { think: on });
      return [message.content, message.thinking ?? ''];
    },
    cut: async () => {
      const told = await ask([user(STORY)], { options: { num_predict: CUT } });
      return [told.message.content, told.done_reason];
    },
    as_json: async () => JSON.parse((await ask([user(CITY_AS_JSON)], { format: CITY })).message.content),
  };
}

// Vercel's AI SDK: `made` is one of its models, `thinking` what its provider calls that; `silent` shows no thoughts.
async function vercel(made, thinking, silent = false) {
  const { generateText, streamText, tool, stepCountIs, jsonSchema, Output } = await load('ai');
  const tools = {
    weather: tool({ description: 'of a city', inputSchema: jsonSchema(PARAMETERS), execute: weather }),
  };
  return {
    chat: async () => (await generateText({ model: made, prompt: HELLO })).text,
    stream: async () => {
      const pieces = [];
      for await (const piece of streamText({ model: made, prompt: HELLO }).textStream) pieces.push(piece);
      return pieces;
    },
    tools: () => streamText({ model: made, prompt: WEATHER, tools, stopWhen: stepCountIs(3) }).text,
    think: async (on) => {
      const told = await generateText({ model: made, prompt: WHETHER, providerOptions: thinking(on) });
      return [told.text, silent ? null : told.reasoningText ?? ''];
    },
    call: async () => {
      const given = { model: made, prompt: WEATHER, tools, toolChoice: 'required' };
      return (await generateText(given)).toolCalls.map((call) => [call.toolName, call.input]);
    },
    cut: async () => {
      const told = await generateText({ model: made, prompt: STORY, maxOutputTokens: CUT });
      return [told.text, told.finishReason];
    },
    as_json: async () => {
      const output = Output.object({ schema: jsonSchema(CITY) });
      return (await generateText({ model: made, prompt: CITY_AS_JSON, output })).output;
    },
  };
}

async function vercelOpenAI(way) {
  const { createOpenAI } = await load('@ai-sdk/openai');
  const provider = createOpenAI({ baseURL: `${url}/v1`, apiKey: 'k' });
  return vercel(provider[way](model), (on) => (
    { openai: { reasoningEffort: effort(on), reasoningSummary: 'auto', forceReasoning: true } }),
  way === 'chat');
}

async function vercelCompatible() {
  const { createOpenAICompatible } = await load('@ai-sdk/openai-compatible');
  const provider = createOpenAICompatible({ name: 'ours', baseURL: `${url}/v1`, supportsStructuredOutputs: true });
  return vercel(provider(model), (on) => ({ ours: { reasoningEffort: effort(on) } }));
}

async function vercelAnthropic() {
  const { createAnthropic } = await load('@ai-sdk/anthropic');
  const provider = createAnthropic({ baseURL: `${url}/v1`, apiKey: 'k' });
  return vercel(provider(model), (on) => (
    { anthropic: { thinking: on ? { type: 'enabled', budgetTokens: 1024 } : { type: 'disabled' } } }));
}

const CLIENTS = {
  'openai (npm), chat': ['openai', openaiChat],
  'openai (npm), responses': ['openai', openaiResponses],
  '@anthropic-ai/sdk': ['@anthropic-ai/sdk', anthropic],
  'ollama (npm)': ['ollama', ollama],
  'ai, @ai-sdk/openai, responses': ['ai', () => vercelOpenAI('responses')],
  'ai, @ai-sdk/openai, chat': ['ai', () => vercelOpenAI('chat')],
  'ai, @ai-sdk/openai-compatible': ['ai', vercelCompatible],
  'ai, @ai-sdk/anthropic': ['ai', vercelAnthropic],
};

const [, make] = CLIENTS[name];
const client = await make();
const ways = { ...client, think: () => client.think(true), no_think: () => client.think(false) };
const found = {};
for (const way of wanted.filter((each) => ways[each])) {
  try {
    found[way] = { value: await ways[way]() };
  } catch (error) {
    found[way] = { error: `${error?.constructor?.name}: ${error?.message ?? error}` };
  }
}
process.stdout.write(`${JSON.stringify(found)}\n`);
