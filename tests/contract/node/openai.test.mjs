// OpenAI's own SDK for Node against a real model behind the gate. Run by test_openai_node.py,
// which gives the address and the key in the environment.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import OpenAI from "openai";

const { FLOODGATE_TEST_URL, FLOODGATE_TEST_KEY, FLOODGATE_TEST_MODEL: model } = process.env;
const client = new OpenAI({ baseURL: `${FLOODGATE_TEST_URL}/v1`, apiKey: FLOODGATE_TEST_KEY });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const greedy = { model, messages, temperature: 0, max_tokens: 20 };

test("a chat", async () => {
  const answer = await client.chat.completions.create(greedy);
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("a stream says the same as the whole answer", async () => {
  const whole = await client.chat.completions.create(greedy);
  const stream = await client.chat.completions.create({ ...greedy, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.equal(text, whole.choices[0].message.content);
});

test("a tool call", async () => {
  const answer = await client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "What is the weather in Paris?" }],
    temperature: 0,
    max_tokens: 60,
    tools: [{
      type: "function",
      function: {
        name: "weather",
        parameters: {
          type: "object",
          properties: { city: { type: "string", enum: ["Paris", "Rome"] } },
          required: ["city"],
          additionalProperties: false,
        },
      },
    }],
    tool_choice: { type: "function", function: { name: "weather" } },
  });
  const [call] = answer.choices[0].message.tool_calls;
  assert.equal(call.type, "function");
  assert.equal(call.function.name, "weather");
  assert.match(JSON.parse(call.function.arguments).city, /^(Paris|Rome)$/);
});

test("the Responses API", async () => {
  const answer = await client.responses.create({
    model, input: "What is the capital of France?", temperature: 0, max_output_tokens: 20, store: false,
  });
  assert.match(answer.output_text, /Paris/);
  await assert.rejects(
    client.responses.create({ model, input: "x", store: true }),
    (error) => error instanceof OpenAI.BadRequestError && error.code === "unsupported_parameter",
  );
});

test("each error is the SDK's own class", async () => {
  await assert.rejects(client.chat.completions.create({ ...greedy, model: "other" }), OpenAI.NotFoundError);
  const stranger = new OpenAI({ baseURL: `${FLOODGATE_TEST_URL}/v1`, apiKey: "fg-mistyped" });
  await assert.rejects(
    stranger.chat.completions.create(greedy),
    (error) => error instanceof OpenAI.AuthenticationError && error.code === "malformed_api_key",
  );
});

test("aborting a stream ends it", async () => {
  const stream = await client.chat.completions.create({
    ...greedy, max_tokens: 4000, ignore_eos: true, stream: true,
  });
  let chunks = 0;
  for await (const _ of stream) {
    chunks += 1;
    if (chunks === 3) stream.controller.abort();
  }
  assert.ok(chunks >= 3 && chunks < 100);
});

async function untilRunning(count) {
  const headers = { authorization: `Bearer ${FLOODGATE_TEST_KEY}` };
  for (;;) {
    const answer = await fetch(`${FLOODGATE_TEST_URL}/v1/queue`, { headers });
    // Otherwise the flow Redis was slower than the gateway waits: ask again.
    if (answer.ok && (await answer.json()).models[0].running === count) return;
    await setTimeout(50);
  }
}

// That vLLM lets go of it as well is seen by test_openai_node.py.
test("aborting a request that does not stream ends it", async () => {
  await untilRunning(0);
  const controller = new AbortController();
  const answer = client.chat.completions.create(
    { ...greedy, max_tokens: 7000, ignore_eos: true }, { signal: controller.signal },
  );
  const refusal = assert.rejects(answer, OpenAI.APIUserAbortError);
  await untilRunning(1);
  controller.abort();
  await refusal;
  await untilRunning(0);
});
