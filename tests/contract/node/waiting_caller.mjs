// What the scripts about waiting share: the SDK as their caller uses it, without retries.
import OpenAI from "openai";

const { FLOODGATE_TEST_URL, FLOODGATE_TEST_KEY, FLOODGATE_TEST_MODEL: model } = process.env;
export const client = new OpenAI({
  baseURL: `${FLOODGATE_TEST_URL}/v1`, apiKey: FLOODGATE_TEST_KEY, maxRetries: 0,
});
export const ask = { model, messages: [{ role: "user", content: "serve me" }] };

export async function textOf(stream) {
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  return text;
}
