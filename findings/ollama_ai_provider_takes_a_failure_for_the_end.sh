#!/usr/bin/env bash
# npm ollama-ai-provider-v2 3.6.0 with ai 6.0.326 (Node 20), seen 2026-11-30.
#
# One would guess: the line {"error": "..."} with which Ollama tells in the midst of a stream that it cannot go on
# reaches the program: onError is called, fullStream has an `error` part, and `await result.text` is rejected.
# What happens: the line does not fit the provider's form of an answer, is printed to the console as one that could
# not be read, and is passed over. The text that was cut off ends as a whole one does, without an error and with
# finishReason "other". A stream that simply stops looks the same; one that ends well has finishReason "stop".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund ollama-ai-provider-v2@3.6.0 ai@6.0.326 zod@4.6.7
cat > look.mjs <<'JAVASCRIPT'
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { streamText } from "ai";
import { createOllama } from "ollama-ai-provider-v2";

const piece = (content, done = false) => ({
  model: "m", created_at: "2026-11-30T00:00:00Z", message: { role: "assistant", content }, done,
  ...(done && { done_reason: "stop" }),
});
let rest;
const server = createServer((request, response) => {
  request.resume();
  response.setHeader("Content-Type", "application/x-ndjson");
  response.end([piece("Half a sen"), ...rest].map((line) => JSON.stringify(line) + "\n").join(""));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const ollama = createOllama({ baseURL: `http://127.0.0.1:${server.address().port}/api` });
let logged = 0;
console.error = console.warn = () => logged++;

async function look(name, ...lines) {
  rest = lines;
  const errors = [], kinds = [];
  const result = streamText({ model: ollama("m"), prompt: "Hi", maxRetries: 0, onError: ({ error }) => errors.push(error) });
  for await (const part of result.fullStream) kinds.push(part.type);
  const seen = { text: await result.text, reason: await result.finishReason, errors: errors.length, logged };
  console.log(`${name}:`, seen, kinds.join(" "));
  return seen;
}
const whole = await look("ended", piece("tence."), piece("", true));
const cut = await look("failed", { error: "out of memory" });
server.close();
assert.deepEqual(whole, { text: "Half a sentence.", reason: "stop", errors: 0, logged: 0 });
assert.deepEqual(cut, { text: "Half a sen", reason: "other", errors: 0, logged: 1 });
JAVASCRIPT
node look.mjs
