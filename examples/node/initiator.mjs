// An initiator in Node, without any package.
//
//     node initiator.mjs http://127.0.0.1:7780 order/1042 alice 1999 http://127.0.0.1:8091/tcc/account ...
//
// It has the account charged at every participant that is named, or at none of them. Run it again with the same order
// number: nothing new begins, and it says what became of the first.

import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE = 60_000; // then nobody knows yet, and the same order asked again finds it out
const until = Date.now() + PATIENCE;
const [coordinator, gid, account, cents, ...participants] = process.argv.slice(2);

// Sends a request until it is answered. Repeating is safe: the gid is in it.
async function ask(method, path, body) {
  const headers = body ? { "content-type": "application/json" } : {};
  if (process.env.TCC_TOKEN) headers.authorization = `Bearer ${process.env.TCC_TOKEN}`;
  for (let wait = 100; ; wait = Math.min(2 * wait, 2000)) {
    let why;
    try {
      const signal = AbortSignal.timeout(20_000);
      const url = coordinator.replace(/\/+$/, "") + path;
      const response = await fetch(url, { method, headers, body, signal, redirect: "manual" });
      const { status } = response;
      const answer = await response.json();
      if (response.ok) return { status, transaction: answer };
      if (status >= 400 && status < 500 && status !== 408 && status !== 429) {
        console.error(`${status} ${answer.code}: ${answer.detail}`);
        process.exit(1);
      }
      why = `status ${status}`;
    } catch (error) {
      why = error.cause?.message ?? error.message;
    }
    if (Date.now() + wait > until) {
      console.error(`${gid} is unknown: ${why}`);
      process.exit(1);
    }
    await sleep(wait * (0.5 + Math.random()));
  }
}

const branches = participants.map((at, n) => ({
  id: `account-${n + 1}`,
  at,
  payload: { account, cents: Number(cents) },
}));
const wait = "?wait=end&timeout_ms=10000";
// The gid is chosen before the first request: whatever is lost, asking again starts nothing new.
const begin = JSON.stringify({ gid, timeout_ms: 20_000, branches });
let { status, transaction } = await ask("POST", `/v1/transactions${wait}`, begin);
// 202: not over yet. The decision, if there is one, will not change any more.
while (status === 202 && Date.now() < until) {
  ({ status, transaction } = await ask("GET", `/v1/transactions/${encodeURIComponent(gid)}${wait}`));
}
const { phase, reason } = transaction;
console.log(`${gid} is ${phase}${reason ? `: ${reason}` : ""}`);
