// OpenAI's own SDK for Node while its caller waits in line in vain. Run by
// tests/integration/gateway/test_gateway_waiting_sdks.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { FLOODGATE_TEST_URL, FLOODGATE_TEST_KEY, FLOODGATE_TEST_MODEL: model } = process.env;
const client = new OpenAI({
  baseURL: `${FLOODGATE_TEST_URL}/v1`, apiKey: FLOODGATE_TEST_KEY, maxRetries: 0,
});
const ask = { model, messages: [{ role: "user", content: "serve me" }] };

async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}

test("a stream that waited in vain is an error and no empty answer", async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  await assert.rejects(textOf(stream), (error) => error.code === "queue_timeout");
});

test("a whole answer that waited in vain is an error and no empty answer", async () => {
  // fetch's own error: the SDK is past the headers and does not wrap it.
  await assert.rejects(client.chat.completions.create(ask), /terminated/);
});
