// OpenAI's own SDK for Node while its caller waits in line and is served. Run by
// tests/integration/gateway/test_gateway_waiting_sdks.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ask, client, textOf } from "./waiting_caller.mjs";

test("a stream goes on after the notices", async () => {
  const stream = await client.chat.completions.create({ ...ask, stream: true });
  assert.equal(await textOf(stream), "served");
});

test("a whole answer stands behind white space", async () => {
  const answer = await client.chat.completions.create(ask);
  assert.equal(answer.choices[0].message.content, "served");
});
