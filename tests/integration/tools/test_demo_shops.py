"""The shops of the products demo are its witness: what they count must be what was asked."""

from __future__ import annotations

import http.client
import socket
import threading

import pytest

from tools.demo_pages import NOTICE, Page, Shops, page_of

PAGES = [page_of({"product_id": f"p{number}", "brand": "B", "model": str(number)}) for number in range(12)]
SHOP = next(page.domain for page in PAGES)
OF_ONE_SHOP = [page for page in PAGES if page.domain == SHOP]


def get(shops: Shops, page: Page, path: str = "") -> tuple[int, str]:
    host, _, port = shops.address.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("GET", path or page.path, headers={"Host": page.domain})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_pages_and_sheets_are_counted_apart_and_by_the_host_that_was_asked() -> None:
    page = PAGES[0]
    with Shops(PAGES, answer_seconds=0) as shops:
        assert get(shops, page) == (200, page.html)
        assert get(shops, page, f"{page.path}.txt") == (200, page.sheet)
        assert get(shops, page, "/nothing")[0] == 404
    assert NOTICE in page.html
    assert dict(shops.seen.pages_asked) == {page.product_id: 1}
    assert dict(shops.seen.sheets_asked) == {page.product_id: 1}
    assert dict(shops.seen.requests) == {page.domain: 3}
    assert dict(shops.seen.peak) == {page.domain: 1}


@pytest.mark.parametrize("together", [1, 2, 3])
def test_the_peak_is_how_many_were_open_at_once(together: int) -> None:
    asked = OF_ONE_SHOP[:together]
    assert len(asked) == together
    with Shops(PAGES, answer_seconds=30) as shops:
        host, _, port = shops.address.partition(":")
        askers = [socket.create_connection((host, int(port)), timeout=30) for _ in asked]
        for asker, page in zip(askers, asked, strict=True):
            asker.sendall(f"GET {page.path} HTTP/1.1\r\nHost: {page.domain}\r\n\r\n".encode())
        until(lambda: shops.open_now == together)
        for asker in askers:
            asker.close()
        # Who has hung up asks for nothing any more, long before the answer is due.
        until(lambda: shops.open_now == 0)
        assert shops.seen.peak[SHOP] == together


def until(held: object) -> None:
    """Looks again until it holds; the test's own time limit ends it."""
    assert callable(held)
    pause = threading.Event()
    while not held():
        pause.wait(0.005)
