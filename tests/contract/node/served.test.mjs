// OpenAI's own SDK for Node while its caller waits in line and is served. Run by
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

test("a stream goes on after the notices", async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  assert.equal(await textOf(stream), "served");
});

test("a whole answer stands behind white space", async () => {
  const answer = await client.chat.completions.create(ask);
  assert.equal(answer.choices[0].message.content, "served");
});
