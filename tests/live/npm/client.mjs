// The official graphql-ws client against a hub: subscribe, publish, unsubscribe, resume, introspect. Prints what it saw as one JSON line.
// Usage: node client.mjs URL. Bare sockets of `ws` break the protocol on purpose, to see the close codes.

import { createClient } from "graphql-ws";
import WebSocket from "ws";

const [url] = process.argv.slice(2);
const FEED = "subscription ($after: Offset) { events(channel: \"npm\", after: $after) { data offset } }";
const PUBLISH = "mutation ($data: JSON!) { publish(channel: \"npm\", data: $data) { offset } }";
const client = createClient({ url, webSocketImpl: WebSocket, lazy: false, retryAttempts: 0 });
const seen = {};

/** Run a query or mutation; its one result. */
async function ask(query, variables) {
  for await (const result of client.iterate({ query, variables })) return result;
}

/** Publish numbers from..to; their offsets. */
async function publish(from, to) {
  const offsets = [];
  for (let n = from; n <= to; n++) offsets.push((await ask(PUBLISH, { data: { n } })).data.publish.offset);
  return offsets;
}

/** Take `count` events of a subscription, then unsubscribe; `ready` is called once it is open. */
async function take(count, after, ready = async () => {}) {
  const events = [];
  const feed = client.iterate({ query: FEED, variables: { after } });
  const first = feed.next();
  await ready();
  for (let result = await first; ; result = await feed.next()) {
    events.push({ n: result.value.data.events.data.n, offset: result.value.data.events.offset });
    if (events.length === count) break;
  }
  await feed.return();
  return events;
}

/** Open a bare socket, send these messages (the rest after the acknowledgement), and wait for the close code. */
function closeCode(protocols, first, afterAck = []) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols);
    socket.on("open", () => first.forEach((message) => socket.send(message)));
    socket.on("message", (text) => {
      if (JSON.parse(text).type === "connection_ack") afterAck.splice(0).forEach((message) => socket.send(message));
    });
    socket.on("close", resolve);
    socket.on("error", reject);
  });
}

const text = JSON.stringify;
const modern = "graphql-transport-ws";
const init = text({ type: "connection_init" });
const subscribe = text({ id: "a", type: "subscribe", payload: { query: FEED } });

// `take` and `publish` share one connection, so the subscription is open before the first publish is read.
seen.live = await take(50, undefined, async () => { seen.offsets = await publish(1, 50); });
seen.after_unsubscribe = await publish(51, 60);
seen.resumed = await take(10, seen.live.at(-1).offset);
seen.types = (await ask("{ __schema { queryType { name } mutationType { name } subscriptionType { name } } }")).data.__schema;
seen.wrong = await ask("{ nothing }").then((result) => result, (errors) => errors);
seen.codes = {
  malformed: await closeCode(modern, ["not json"]),
  before_init: await closeCode(modern, [subscribe]),
  second_init: await closeCode(modern, [init], [init]),
  duplicate_id: await closeCode(modern, [init], [subscribe, subscribe]),
  init_late: await closeCode(modern, []),
};
await client.dispose();
console.log(text(seen));
