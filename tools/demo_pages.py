"""The shops of `make demo-products`: pages written from a list of names, and a server on loopback that counts.

Nothing here is a real shop: names of brands and models are facts, every price and property is made up from a hash of
the product's id, and each page says so. The hosts end in `.example`, which nobody owns; one server answers for all of
them and tells them apart by the Host header, as a real one would. What it counts is the demo's witness: it knows
nothing of Penstock, so its log says what was really asked, how often, and how many at once.
"""

from __future__ import annotations

import hashlib
import html
import select
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

SHOPS = ("alpha.example", "beta.example", "gamma.example")
SHARES = (3, 2, 1)
"""Of six products, so many are in each shop: as many as it will be asked for at once."""
BROKEN_OF_100 = 7
NOTICE = (
    "This page was made by the Penstock demo from a list of product names. It is not a real offer: "
    "every price and property on it is made up."
)
SENSORS = ("optical A", "optical B", "optical C", "laser D")
CONNECTIONS = ("wired", "wireless", "wired and wireless")


@dataclass(frozen=True)
class Page:
    product_id: str
    domain: str
    path: str
    broken: bool
    html: str
    sheet: str

    @property
    def url(self) -> str:
        return f"http://{self.domain}{self.path}"


def page_of(product: dict[str, object]) -> Page:
    """The page of one product, the same on every machine. A broken one is cut off before its table."""
    product_id = str(product["product_id"])
    digest = hashlib.sha256(product_id.encode()).digest()
    place = digest[0] % sum(SHARES)
    domain = next(shop for shop, end in zip(SHOPS, _ends(), strict=True) if place < end)
    broken = digest[1] % 100 < BROKEN_OF_100
    properties = {
        "price": f"{19 + int.from_bytes(digest[2:4], 'big') % 13000 / 100:.2f}",
        "weight_g": str(48 + digest[4] % 90),
        "dpi": str(800 * (1 + digest[5] % 32)),
        "buttons": str(3 + digest[6] % 10),
        "sensor": SENSORS[digest[7] % len(SENSORS)],
        "connection": CONNECTIONS[digest[8] % len(CONNECTIONS)],
    }
    # Real pages leave things out, too; the price is always there.
    told = {name: value for at, (name, value) in enumerate(properties.items()) if at == 0 or digest[9 + at] % 5}
    title = " ".join(str(product[name]) for name in ("brand", "model", "variant") if product.get(name))
    return Page(
        product_id=product_id,
        domain=domain,
        path="/" + quote(product_id, safe=""),
        broken=broken,
        html=_html(title, domain, {} if broken else told, whole=not broken),
        sheet=f"# {NOTICE}\n# {title}\n" + "".join(f"{name}: {value}\n" for name, value in told.items()),
    )


def _ends() -> list[int]:
    return [sum(SHARES[: at + 1]) for at in range(len(SHARES))]


def _html(title: str, shop: str, told: dict[str, str], *, whole: bool) -> str:
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{html.escape(value)}</td></tr>\n' for name, value in told.items()
    )
    head = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f"<body>\n<p><strong>{NOTICE}</strong></p>\n<h1>{html.escape(title)}</h1>\n<p>Shop: {shop}</p>\n<table>\n"
    )
    return head + (f"{rows}</table>\n</body></html>\n" if whole else "<tr><th sc")


def write_pages(pages: list[Page], folder: Path) -> None:
    """All pages as files, FOLDER/SHOP/ID.html and .txt, for whoever wants to look at them."""
    for page in pages:
        place = folder / page.domain
        place.mkdir(parents=True, exist_ok=True)
        name = page.path.removeprefix("/")
        (place / f"{name}.html").write_text(page.html)
        (place / f"{name}.txt").write_text(page.sheet)


@dataclass(frozen=True)
class Seen:
    """What shops were asked: by shop how often and how many at once, by product its page and its sheet.

    last_asked: when a product's page or sheet was asked for last, in seconds since 1970.
    """

    requests: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)
    pages_asked: Counter[str] = field(default_factory=Counter)
    sheets_asked: Counter[str] = field(default_factory=Counter)
    last_asked: dict[str, float] = field(default_factory=dict)


class Shops:
    """Serves pages on a free port of loopback and counts: requests of each page, and how many a shop had at once."""

    def __init__(self, pages: list[Page], *, answer_seconds: float) -> None:
        self._lock = threading.Lock()
        self._answers = {(page.domain, page.path): page.html for page in pages}
        self._answers |= {(page.domain, f"{page.path}.txt"): page.sheet for page in pages}
        self._ids = {(page.domain, page.path): page.product_id for page in pages}
        self._ids |= {(page.domain, f"{page.path}.txt"): page.product_id for page in pages}
        self._answer_seconds = answer_seconds
        self._open: Counter[str] = Counter()
        self.seen = Seen()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="shops", daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def open_now(self) -> int:
        with self._lock:
            return sum(self._open.values())

    def __enter__(self) -> Shops:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, host: str, path: str, asker: socket.socket) -> str | None:
        """The text of a page, after the time that the shop takes; None where there is none.

        A request counts as open until it is answered or the asker has hung up: a killed program asks for nothing more.
        """
        with self._lock:
            self._open[host] += 1
            self.seen.requests[host] += 1
            self.seen.peak[host] = max(self.seen.peak[host], self._open[host])
            product_id = self._ids.get((host, path))
            if product_id is not None:
                (self.seen.sheets_asked if path.endswith(".txt") else self.seen.pages_asked)[product_id] += 1
                self.seen.last_asked[product_id] = time.time()
        try:
            select.select([asker], [], [], self._answer_seconds)
        finally:
            with self._lock:
                self._open[host] -= 1
        return self._answers.get((host, path))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        shops = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = shops.answer(self.headers.get("Host", ""), self.path, self.connection)
                body = (text or "there is no such page\n").encode()
                try:
                    self.send_response(200 if text is not None else 404)
                    kind = "plain" if self.path.endswith(".txt") else "html"
                    self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # Who asked was killed meanwhile; it is counted all the same.

            def log_message(self, *_: object) -> None:
                pass

        return Handler
