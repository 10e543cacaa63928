// OpenAI's own SDK for Node while its caller waits in line in vain. Run by
// tests/integration/gateway/test_gateway_waiting_sdks.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, client, textOf } from "./waiting_caller.mjs";

test("a stream that waited in vain is an error and no empty answer", async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  await assert.rejects(textOf(stream), (error) => error.code === "queue_timeout");
});

test("a whole answer that waited in vain is an error and no empty answer", async () => {
  // fetch's own error: the SDK is past the headers and does not wrap it.
  await assert.rejects(client.chat.completions.create(ask), /terminated/);
});
