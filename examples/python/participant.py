"""A participant in Python, with nothing but its standard library: accounts in SQLite, behind a guard.

    python3 participant.py bank.db 127.0.0.1:8090

It serves POST /tcc/account/try, /confirm and /cancel, with a payload such as {"account": "alice", "cents": 1999}. The
guard is one row per gid and branch, committed together with the account: docs/protocol.md says what each call does with
it. To see that it holds:

    tcc-server conformance --url http://127.0.0.1:8090/tcc/account --payload '{"account": "alice", "cents": 10}' \\
        --refused-payload '{"account": "alice", "cents": 100000000}' --effect-url http://127.0.0.1:8090/books
"""

import json
import re
import sqlite3
import sys
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LOCK_WAIT = 2  # seconds that a call waits for the database before it answers 425: ask again
LONGEST_PAYLOAD = 64 * 1024

SCHEMA = """
    CREATE TABLE IF NOT EXISTS account (
        name TEXT PRIMARY KEY,
        available INTEGER NOT NULL CHECK (available >= 0),
        frozen INTEGER NOT NULL CHECK (frozen >= 0)
    );
    CREATE TABLE IF NOT EXISTS tcc_guard (
        gid TEXT, branch TEXT, state TEXT NOT NULL, kept TEXT, begun INTEGER NOT NULL,
        PRIMARY KEY (gid, branch)
    );
    INSERT OR IGNORE INTO account VALUES ('alice', 500000, 0), ('shop', 0, 0);
"""


class Refused(Exception):
    """The try is not possible, for a reason of business."""


class Unreadable(Exception):
    """The payload is none of ours."""


class Charge:
    """What a payload asks for."""

    def __init__(self, payload):
        try:
            fields = json.loads(payload)
            self.account, self.cents = fields["account"], fields["cents"]
        except (ValueError, TypeError, KeyError):
            self.account = self.cents = None
        if not isinstance(self.account, str) or type(self.cents) is not int or not 0 < self.cents < 2**53:
            raise Unreadable("the payload cannot be read: an account and a number of cents are needed")


# The business: three functions, each in a local transaction that the guard commits.

def reserve(tx, charge):
    sql = "UPDATE account SET available = available - ?2, frozen = frozen + ?2 WHERE name = ?1 AND available >= ?2"
    if tx.execute(sql, (charge.account, charge.cents)).rowcount == 0:
        raise Refused("insufficient funds")


def spend(tx, charge):
    tx.execute("UPDATE account SET frozen = frozen - ?2 WHERE name = ?1", (charge.account, charge.cents))
    tx.execute("UPDATE account SET available = available + ?1 WHERE name = 'shop'", (charge.cents,))


def give_back(tx, charge):
    sql = "UPDATE account SET available = available + ?2, frozen = frozen - ?2 WHERE name = ?1"
    tx.execute(sql, (charge.account, charge.cents))


# The guard: which calls reach the business, and what the others are answered.

@contextmanager
def transaction(file):
    """A local transaction that is alone: what one reads, nobody changes before it has committed."""
    connection = sqlite3.connect(file, timeout=LOCK_WAIT, isolation_level=None)
    try:
        # Durable when it returns: with a rollback journal that takes one fsync more, that of its directory.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
    finally:
        connection.close()  # rolls back what was not committed


def insert(tx, call, state, kept=None):
    """Inserts the guard row; False if there is one."""
    sql = "INSERT INTO tcc_guard VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
    return tx.execute(sql, (call.gid, call.branch, state, kept, call.begun)).rowcount == 1


def move(tx, call, state):
    sql = "UPDATE tcc_guard SET state = ? WHERE gid = ? AND branch = ?"
    tx.execute(sql, (state, call.gid, call.branch))


def row(tx, call):
    sql = "SELECT state, kept FROM tcc_guard WHERE gid = ? AND branch = ?"
    return tx.execute(sql, (call.gid, call.branch)).fetchone() or (None, None)


def done():
    return 200, None


def problem(status, code, detail):
    return status, {"status": status, "code": code, "detail": detail}


def refused(reason):
    return problem(409, "refused", reason)


def guarded_try(file, call, payload):
    try:
        with transaction(file) as tx:
            if not insert(tx, call, "tried"):
                return repeated_try(tx, call)
            # Its row may have been deleted, so that its absence does not prove that this try is the first.
            if call.settled is not None and call.begun < call.settled:
                raise Refused("the transaction has ended long ago")
            reserve(tx, Charge(payload))
            return done()
    except (Refused, Unreadable) as why:
        # What the try wrote is rolled back. If another call took the row meanwhile, that row answers.
        with transaction(file) as tx:
            return refused(str(why)) if insert(tx, call, "refused", str(why)) else repeated_try(tx, call)


def repeated_try(tx, call):
    state, kept = row(tx, call)
    if state in ("tried", "confirmed"):
        return done()
    return refused(kept if state == "refused" else "the branch is cancelled")


def guarded_confirm(file, call, payload):
    with transaction(file) as tx:
        state, _ = row(tx, call)
        if state == "tried":
            spend(tx, Charge(payload))
            move(tx, call, "confirmed")
        elif state == "cancelled":
            return problem(409, "already-cancelled", "the branch is cancelled and cannot be confirmed")
        elif state != "confirmed":
            return problem(409, "not-tried", "there is no accepted try to confirm")
        return done()


def guarded_cancel(file, call, payload):
    with transaction(file) as tx:
        if insert(tx, call, "cancelled"):
            return done()  # an empty cancel; its row bars the try
        state, _ = row(tx, call)
        if state == "tried":
            give_back(tx, Charge(payload))
            move(tx, call, "cancelled")
        elif state == "confirmed":
            return problem(409, "already-confirmed", "the branch is confirmed and cannot be cancelled")
        return done()


GUARDED = {"try": guarded_try, "confirm": guarded_confirm, "cancel": guarded_cancel}


def answer(file, call, payload):
    try:
        return GUARDED[call.operation](file, call, payload)
    except Unreadable as why:
        return problem(400, "unreadable-payload", str(why))  # an alarm: its try could be read
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return problem(425, "pending", "another call is at work")
        raise


# HTTP.

class BadCall(Exception):
    """The headers describe no call."""


class Call:
    """What the headers say; those that nobody knows are ignored."""

    def __init__(self, operation, headers):
        self.operation = operation
        self.gid = self.id(headers, "Tcc-Gid", 128)
        self.branch = self.id(headers, "Tcc-Branch", 64)
        self.begun = self.moment(headers, "Tcc-Begun")
        self.settled = self.moment(headers, "Tcc-Settled") if "Tcc-Settled" in headers else None
        # An endpoint that was mistyped: confirming what shall be cancelled is the worst answer.
        if headers.get("Tcc-Operation") != operation:
            raise BadCall(f"Tcc-Operation is not {operation}")

    @staticmethod
    def id(headers, name, longest):
        text = headers.get(name, "")
        if not re.fullmatch(r"[A-Za-z0-9_:/-]+", text) or len(text) > longest:
            raise BadCall(f"{name} holds no id")
        return text

    @staticmethod
    def moment(headers, name):
        text = headers.get(name, "")
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise BadCall(f"{name} holds no number")
        return int(text)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True  # or each answer with a body takes 40 ms

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LONGEST_PAYLOAD:
            self.close_connection = True
            return self.say(*problem(413, "payload-too-large", "or of unknown length"))
        payload = self.rfile.read(int(length))
        prefix, _, operation = self.path.rpartition("/")
        if prefix != "/tcc/account" or operation not in GUARDED:
            return self.say(*problem(404, "unknown-operation", self.path))
        try:
            call = Call(operation, self.headers)
            self.say(*answer(self.server.file, call, payload))
        except BadCall as why:
            self.say(*problem(400, "bad-call", str(why)))
        except Exception:  # whatever it was, the caller asks again
            traceback.print_exc()
            self.say(*problem(500, "internal", "the log says why"))

    def do_GET(self):
        """The sums of all accounts, for the conformance suite and for whoever checks the books."""
        with transaction(self.server.file) as tx:
            sums = tx.execute("SELECT sum(available), sum(frozen) FROM account").fetchone()
            shop = tx.execute("SELECT available FROM account WHERE name = 'shop'").fetchone()
        self.say(200, {"available": sums[0], "frozen": sums[1], "shop": shop[0]})

    def say(self, status, body):
        text = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if text:
            self.send_header("Content-Type", "application/json" if status == 200 else "application/problem+json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    file = sys.argv[1]
    host, _, port = (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8090").rpartition(":")
    connection = sqlite3.connect(file)
    connection.executescript(SCHEMA)
    connection.close()
    server = Server((host, int(port)), Handler)
    server.file = file
    print("listening on {}:{}".format(*server.server_address), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
