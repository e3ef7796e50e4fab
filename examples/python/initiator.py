"""An initiator in Python, with nothing but its standard library.

    python3 initiator.py http://127.0.0.1:7780 order/1042 alice 1999 http://127.0.0.1:8090/tcc/account ...

It has the account charged at every participant that is named, or at none of them. Run it again with the same order number:
nothing new begins, and it says what became of the first.
"""

import http.client
import json
import os
import random
import sys
import time
from urllib.parse import quote, urlsplit

PATIENCE = 60  # seconds; then nobody knows yet, and the same order asked again finds it out


class Unknown(Exception):
    """It may or may not have happened."""


def ask(coordinator, method, path, body, until):
    """Sends a request until it is answered. Repeating is safe: the gid is in it."""
    url = urlsplit(coordinator)
    headers = {"Content-Type": "application/json"} if body else {}
    if token := os.environ.get("TCC_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    wait = 0.1
    while True:
        connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = connect(url.netloc, timeout=20)
        try:
            connection.request(method, url.path.rstrip("/") + path, body, headers)
            response = connection.getresponse()
            status, answer = response.status, json.loads(response.read() or b"null")
            if status < 300:
                return status, answer
            if 400 <= status < 500 and status not in (408, 429):
                raise SystemExit(f"{status} {answer['code']}: {answer.get('detail')}")
            why = f"status {status}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = repr(error)
        finally:
            connection.close()
        if time.monotonic() + wait > until:
            raise Unknown(why)
        time.sleep(wait * random.uniform(0.5, 1.5))
        wait = min(2 * wait, 2)


def main():
    coordinator, gid, account, cents, *participants = sys.argv[1:]
    branches = [
        {"id": f"account-{n}", "at": at, "payload": {"account": account, "cents": int(cents)}}
        for n, at in enumerate(participants, 1)
    ]
    until = time.monotonic() + PATIENCE
    wait = "?wait=end&timeout_ms=10000"
    try:
        # The gid is chosen before the first request: whatever is lost, asking again starts nothing new.
        begin = json.dumps({"gid": gid, "timeout_ms": 20000, "branches": branches})
        status, transaction = ask(coordinator, "POST", "/v1/transactions" + wait, begin, until)
        # 202: not over yet. The decision, if there is one, will not change any more.
        while status == 202 and time.monotonic() < until:
            path = f"/v1/transactions/{quote(gid, safe='')}{wait}"
            status, transaction = ask(coordinator, "GET", path, None, until)
    except Unknown as why:
        raise SystemExit(f"{gid} is unknown: {why}") from None
    reason = transaction.get("reason")
    print(f"{gid} is {transaction['phase']}" + (f": {reason}" if reason else ""))


if __name__ == "__main__":
    main()
