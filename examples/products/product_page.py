"""Reads one product's page: JSON of the item on standard input, JSON of what the page says on standard output.

Nothing here knows of Penstock. Without arguments it reads the page's table; with --sheet the plain data sheet beside
the page, which is slower to get but never broken: that is how an item is healed. Exit code 3: the page has no price.
Exit code 4: the shop asks to come back later. `via` is where the shops of the demo are served; without it, the shop.
"""

import http.client
import json
import re
import sys
from urllib.parse import urlsplit

FIELDS = ("price", "weight_g", "dpi", "buttons", "sensor", "connection")
NUMBERS = {"price": float, "weight_g": float, "dpi": int, "buttons": int}
ROW = re.compile(r'<tr><th scope="row">([a-z_]+)</th><td>([^<]*)</td></tr>')
LINE = re.compile(r"^([a-z_]+): (.+)$", re.MULTILINE)


def fetch(url: str, via: str) -> str:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(via or parts.netloc, timeout=20)
    connection.request("GET", parts.path, headers={"Host": parts.netloc, "User-Agent": "penstock-demo"})
    answer = connection.getresponse()
    if answer.status in (429, 503):
        print(json.dumps({"retry_after": float(answer.headers.get("Retry-After", 1))}))
        raise SystemExit(4)
    if answer.status != 200:
        raise SystemExit(f"{url} answered {answer.status} {answer.reason}")
    return answer.read().decode()


def fields_of(text: str, *, sheet: bool) -> dict[str, object]:
    """What the page says, typed; a field that it has not is null."""
    found = dict((LINE if sheet else ROW).findall(text))
    return {name: NUMBERS.get(name, str)(found[name]) if name in found else None for name in FIELDS}


def main() -> int:
    item = json.load(sys.stdin)
    sheet = "--sheet" in sys.argv[1:]
    url = item["payload"]["url"] + (".txt" if sheet else "")
    found = fields_of(fetch(url, item["parameters"]["via"]), sheet=sheet)
    if found["price"] is None:
        print(f"no price in the table of {url}", file=sys.stderr)
        return 3
    known = sum(value is not None for value in found.values())
    json.dump({**found, "fields": known, "confidence": round(known / len(FIELDS), 2), "read": item["mode"]}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
