// A participant in Node, without any package: accounts behind a guard, in a journal.
//
//     node participant.mjs journal.jsonl 127.0.0.1:8091
//
// It serves POST /tcc/account/try, /confirm and /cancel, with a payload such as {"account": "alice", "cents": 1999}.
//
// Node has no database of its own, so that the local transaction is a line of a file: what a call does to the account and
// to the guard row stands in one line, written and synced before it counts and before it is answered. A line that a
// crash cut off never counted. One process, and one call at a time: for anything larger take a database, whose
// transaction then does all of this. docs/protocol.md says what each call does with the guard row. To see that it holds:
//
//     tcc-server conformance --url http://127.0.0.1:8091/tcc/account --payload '{"account": "alice", "cents": 10}' \
//         --refused-payload '{"account": "alice", "cents": 100000000}' --effect-url http://127.0.0.1:8091/books

import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { dirname } from "node:path";

const LONGEST_PAYLOAD = 64 * 1024;
const [file, address = "127.0.0.1:8091"] = process.argv.slice(2);

// The journal.

const accounts = new Map([["alice", { available: 500000, frozen: 0 }], ["shop", { available: 0, frozen: 0 }]]);
const guard = new Map(); // gid and branch, split by a blank, which stands in neither: { state, kept, begun }
const journal = openSync(file, "a+");

function apply({ key, row, changes }) {
  guard.set(key, row);
  for (const [name, available, frozen] of changes) {
    const account = accounts.get(name);
    account.available += available;
    account.frozen += frozen;
  }
}

function replay() {
  const text = readFileSync(file);
  const end = text.lastIndexOf("\n") + 1; // what comes after it was never answered
  ftruncateSync(journal, end);
  for (const line of text.subarray(0, end).toString().split("\n").filter(Boolean)) apply(JSON.parse(line));
  fsyncSync(journal); // visible is not yet durable
  const directory = openSync(dirname(file), "r");
  fsyncSync(directory);
  closeSync(directory);
}

// Business and guard, together or not at all.
function commit(key, row, changes = []) {
  const entry = { key, row, changes };
  try {
    const line = Buffer.from(JSON.stringify(entry) + "\n");
    if (writeSync(journal, line) !== line.length) throw new Error("not all of it was written");
    fsyncSync(journal);
  } catch (error) {
    // Whether it is durable is not known: the next process reads it in the journal.
    console.error(error);
    process.exit(70);
  }
  apply(entry);
}

// The business: what each operation changes, as [account, available, frozen].

class Refused extends Error {}
class Unreadable extends Error {}

function charge(payload) {
  let fields;
  try {
    fields = JSON.parse(payload);
  } catch {
    fields = null;
  }
  const { account, cents } = fields ?? {};
  if (typeof account !== "string" || !Number.isSafeInteger(cents) || cents <= 0) {
    throw new Unreadable("the payload cannot be read: an account and a number of cents are needed");
  }
  return { account, cents };
}

function reserve({ account, cents }) {
  if (!(accounts.get(account)?.available >= cents)) throw new Refused("insufficient funds");
  return [[account, -cents, cents]];
}

const spend = ({ account, cents }) => [[account, 0, -cents], ["shop", cents, 0]];
const giveBack = ({ account, cents }) => [[account, cents, -cents]];

// The guard. Nothing is awaited between looking at a row and committing it, so that no other call comes in between.

const done = () => [200, null];
const problem = (status, code, detail) => [status, { status, code, detail }];
const refused = (reason) => problem(409, "refused", reason);

const guarded = {
  try(call, payload) {
    const row = guard.get(call.key);
    if (row?.state === "tried" || row?.state === "confirmed") return done();
    if (row) return refused(row.state === "refused" ? row.kept : "the branch is cancelled");
    const { begun } = call;
    try {
      // Its row may have been deleted, so that its absence does not prove that this try is the first.
      if (call.settled !== null && begun < call.settled) throw new Refused("the transaction has ended long ago");
      commit(call.key, { state: "tried", begun }, reserve(charge(payload)));
      return done();
    } catch (why) {
      if (!(why instanceof Refused || why instanceof Unreadable)) throw why;
      commit(call.key, { state: "refused", kept: why.message, begun });
      return refused(why.message);
    }
  },

  confirm(call, payload) {
    const row = guard.get(call.key);
    if (row?.state === "confirmed") return done();
    if (row?.state === "cancelled") {
      return problem(409, "already-cancelled", "the branch is cancelled and cannot be confirmed");
    }
    if (row?.state !== "tried") return problem(409, "not-tried", "there is no accepted try to confirm");
    commit(call.key, { ...row, state: "confirmed" }, spend(charge(payload)));
    return done();
  },

  cancel(call, payload) {
    const row = guard.get(call.key);
    if (row?.state === "refused" || row?.state === "cancelled") return done();
    if (row?.state === "confirmed") {
      return problem(409, "already-confirmed", "the branch is confirmed and cannot be cancelled");
    }
    // Without a row it is an empty cancel, and its row bars the try.
    const changes = row ? giveBack(charge(payload)) : [];
    commit(call.key, { state: "cancelled", begun: call.begun }, changes);
    return done();
  },
};

// HTTP.

class BadCall extends Error {}

// What the headers say; those that nobody knows are ignored.
function readCall(operation, headers) {
  const id = (name, longest) => {
    const text = headers[name] ?? "";
    if (!/^[A-Za-z0-9_:/-]+$/.test(text) || text.length > longest) throw new BadCall(`${name} holds no id`);
    return text;
  };
  const moment = (name) => {
    const text = headers[name] ?? "";
    if (!/^-?[0-9]{1,15}$/.test(text)) throw new BadCall(`${name} holds no number`);
    return Number(text);
  };
  // An endpoint that was mistyped: confirming what shall be cancelled is the worst answer.
  if (headers["tcc-operation"] !== operation) throw new BadCall(`tcc-operation is not ${operation}`);
  const settled = "tcc-settled" in headers ? moment("tcc-settled") : null;
  return { key: `${id("tcc-gid", 128)} ${id("tcc-branch", 64)}`, begun: moment("tcc-begun"), settled };
}

function answer(request, payload) {
  const [, operation] = request.url.match(/^\/tcc\/account\/(try|confirm|cancel)$/) ?? [];
  if (request.method === "GET" && request.url === "/books") return [200, books()];
  if (!operation) return problem(404, "unknown-operation", request.url);
  if (request.method !== "POST") return problem(405, "not-post", request.method);
  try {
    return guarded[operation](readCall(operation, request.headers), payload);
  } catch (why) {
    if (why instanceof BadCall) return problem(400, "bad-call", why.message);
    if (why instanceof Unreadable) return problem(400, "unreadable-payload", why.message); // an alarm: its try could be read
    console.error(why);
    return problem(500, "internal", "the log says why");
  }
}

// The sums of all accounts, for the conformance suite and for whoever checks the books.
function books() {
  const sum = (what) => [...accounts.values()].reduce((sum, account) => sum + account[what], 0);
  return { available: sum("available"), frozen: sum("frozen"), shop: accounts.get("shop").available };
}

const server = createServer(async (request, response) => {
  const say = ([status, body]) => {
    const text = body === null ? "" : JSON.stringify(body);
    const type = status === 200 ? "application/json" : "application/problem+json";
    response.writeHead(status, { "content-length": Buffer.byteLength(text), ...(text && { "content-type": type }) });
    response.end(text);
  };
  const chunks = [];
  let length = 0;
  try {
    for await (const chunk of request) {
      length += chunk.length;
      if (length <= LONGEST_PAYLOAD) chunks.push(chunk);
    }
  } catch {
    return; // the caller is gone, and asks again
  }
  const whole = length <= LONGEST_PAYLOAD;
  say(whole ? answer(request, Buffer.concat(chunks).toString()) : problem(413, "payload-too-large", `over ${LONGEST_PAYLOAD} bytes`));
});

replay();
const [host, port] = [address.slice(0, address.lastIndexOf(":")), address.slice(address.lastIndexOf(":") + 1)];
server.listen(Number(port), host, () => {
  const { address: at, port: on } = server.address();
  console.log(`listening on ${at}:${on}`);
});
