// OpenAI's own SDK for Node at a line that is full. Run by
// tests/integration/gateway/test_gateway_waiting_sdks.py, which makes room once it was turned away.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const { FLOODGATE_TEST_URL, FLOODGATE_TEST_KEY, FLOODGATE_TEST_MODEL: model } = process.env;
const client = new OpenAI({
  baseURL: `${FLOODGATE_TEST_URL}/v1`, apiKey: FLOODGATE_TEST_KEY, maxRetries: 5,
});

test("it comes back by itself and is served", async () => {
  const answer = await client.chat.completions.create({
    model, messages: [{ role: "user", content: "serve me" }],
  });
  assert.equal(answer.choices[0].message.content, "served");
});
