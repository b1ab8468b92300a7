"""`make demo-products [DATA=FILE]`: a scan of a product catalog, from the list to a price for each, and two kills.

It makes a page for every product of examples/products/mice.jsonl (or of DATA, JSONL with product_id, brand and model),
serves them on loopback as three shops, and has a program of examples/products read them through Penstock: catalog,
order, preview, limits, scan, kill -9, pause, kill -9, resume, results. The shops count what they are asked; at its
end the demo compares that with what was recorded, and fails if a page was read after its product was recorded, if a
product is missing or twice, or if a shop was asked for more at once than its limit says.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tools.demo_pages import SHARES, SHOPS, Page, Seen, Shops, page_of, write_pages
from tools.demo_penstock import (
    COMPLETED,
    COMPLETED_WITH_FAILURES,
    OUT,
    ROOT,
    Penstock,
    fresh_folder,
    give_up,
    headline,
    place_of,
    play,
    running,
    say,
)

EXAMPLE = ROOT / "examples" / "products"
PLACE = OUT / "products"
PINNED = "Razer"
NEXT = ("Logitech G", "Corsair")
LIMITS = dict(zip(SHOPS, SHARES, strict=True))
ANSWER_SECONDS = 0.25
WAIT_SECONDS = 120.0
CONCURRENCY = 16
HEAL = '{"heal": {"attempts": 1}}'
FIELDS = 6
COLUMNS = "brand,model"


def products_of(path: Path) -> list[dict[str, Any]]:
    """The products of a JSONL file. Ends the demo where it is none, naming the line."""
    found = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            row = json.loads(line)
            if not all(str(row.get(name) or "") for name in ("product_id", "brand", "model")):
                raise ValueError("product_id, brand and model are needed")
        except (ValueError, AttributeError) as error:
            give_up(f"{path}, line {number}: {error}")
        found.append(row)
    if len(found) < 20:
        give_up(f"{path} has {len(found)} products; at least 20 are needed to stop a scan in its middle")
    return found


def write_catalog(products: list[dict[str, Any]], pages: list[Page], path: Path) -> None:
    """The list with the page of each product beside it: what a user would register."""
    with path.open("w") as file:
        for product, page in zip(products, pages, strict=True):
            file.write(json.dumps({**product, "domain": page.domain, "url": page.url}, ensure_ascii=False) + "\n")


def wait_until(what: str, held: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not held():
        if time.monotonic() > end:
            give_up(f"waited {WAIT_SECONDS:.0f} s for {what}; logs: {place_of(PLACE)}/penstock.log")
        time.sleep(0.02)


def kill_a_worker(penstock: Penstock, shops: Shops) -> None:
    """While pages are being read, so that something is cut off."""
    workers = {name: pid for name, pid in penstock.ask_json("status")["pids"].items() if name.startswith("worker")}
    name, pid = min(workers.items())
    wait_until("pages that are being read", lambda: shops.open_now >= 3)
    say(f"\n$ kill -9 {pid}     # {name}, with what it has begun: another one takes its place")
    os.kill(pid, signal.SIGKILL)


def seconds_of(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def check(items: list[dict[str, Any]], pages: list[Page], seen: Seen) -> list[str]:
    """What does not hold, by the shops' own count; prints what they counted."""
    wrong = []
    wanted = {page.product_id for page in pages}
    broken = {page.product_id for page in pages if page.broken}
    keys = [item["key"] for item in items if item["state"] == "completed"]
    again = {key for key, count in seen.pages_asked.items() if count > 1}
    # Leased more often than for its work and its healing: a kill had ended a lease.
    lost = {item["key"] for item in items if item["attempt"] - bool(item["healed"]) > 1}
    late = [item["key"] for item in items if seen.last_asked.get(item["key"], 0) > seconds_of(item["end_time"])]
    say(f"{'shop':<16}{'pages':>8}{'requests':>10}{'limit':>8}{'most at once':>14}")
    for shop in SHOPS:
        count = sum(page.domain == shop for page in pages)
        say(f"{shop:<16}{count:>8}{seen.requests[shop]:>10}{LIMITS[shop]:>8}{seen.peak[shop]:>14}")
        if seen.peak[shop] > LIMITS[shop]:
            wrong.append(f"{shop} was asked for {seen.peak[shop]} pages at once, its limit is {LIMITS[shop]}")
    say(
        f"\nThe shops were asked for {len(seen.pages_asked)} pages, {sum(seen.pages_asked.values())} times: "
        f"{len(again)} were read again, because a kill had cut off their reading."
    )
    say(
        f"{len(set(keys))} products are recorded as completed, {len(keys) - len(set(keys))} of them twice; "
        f"{len(late)} pages were asked for after that."
    )
    say(f"{len(broken)} pages were broken on purpose; {len(seen.sheets_asked)} were healed by a second command.")
    if sorted(keys) != sorted(wanted):
        wrong.append(f"{len(keys)} results of {len(set(keys))} products were recorded, {len(pages)} are expected")
    if set(seen.pages_asked) != wanted:
        wrong.append(f"{len(wanted - set(seen.pages_asked))} pages were never asked for")
    if late:
        wrong.append(f"pages were asked for after their product was recorded: {', '.join(late[:5])}")
    if again - lost:
        wrong.append(f"pages were read twice without a kill: {', '.join(sorted(again - lost)[:5])}")
    if set(seen.sheets_asked) != broken:
        wrong.append("other pages were healed than those that are broken")
    return wrong


def show_brands(rows: list[dict[str, Any]]) -> None:
    """What came out, brand by brand; the bar is the median price."""
    brands: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        brands.setdefault(row["group"], []).append(row["result"])
    say(f"{'brand':<15}{'products':>9}{'healed':>8}{'fields of ' + str(FIELDS):>13}{'median price, made up':>24}")
    for brand, results in brands.items():
        price = statistics.median(result["value"]["price"] for result in results)
        fields = statistics.mean(result["value"]["fields"] for result in results)
        healed = sum(result["healed"] for result in results) or ""
        say(f"{brand:<15}{len(results):>9}{healed:>8}{fields:>13.1f}{price:>14.2f} {'▇' * max(1, round(price / 5))}")


def write_results(rows: list[dict[str, Any]], path: Path) -> None:
    columns = ("price", "weight_g", "dpi", "buttons", "sensor", "connection", "fields", "read")
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("product_id", "brand", "model", *columns))
        for row in rows:
            names = (row["key"], row["values"]["brand"], row["values"]["model"])
            table.writerow((*names, *(row["result"]["value"][name] for name in columns)))


def scan(penstock: Penstock, catalog: Path, shops: Shops, total: int) -> None:
    """All that a user would do, from the catalog to the results."""
    headline("the catalog")
    penstock.run("sources", "add", "mice", place_of(catalog))
    headline("a program as a processor, and what the shops can bear")
    folder = PLACE / "data" / "processors"
    folder.mkdir()
    say(f"\n$ mkdir {place_of(folder)}")
    say(f"$ cp {place_of(EXAMPLE)}/product*page* {place_of(folder)}/")
    for path in sorted(EXAMPLE.glob("product*page*")):
        shutil.copyfile(path, folder / path.name)
    penstock.run("processors", "show", "product-page")
    for shop, most in LIMITS.items():
        penstock.run("limits", "set", f"domain:{shop}", "--concurrency", str(most))
    headline("the plan: what will run, in what order; nothing runs yet")
    plan = ("plans", "create", "mice", "--processor", "product-page", "--param", f"via={shops.address}")
    order = ("--pin", PINNED, "--group-order", ",".join(NEXT))
    penstock.run(*plan, *order, "--concurrency", str(CONCURRENCY), "--rules", HEAL, "--name", "scan")
    penstock.run("plans", "order", "scan", "--limit", "15")
    headline("the scan, and a worker that dies in the middle of it")
    penstock.run("plans", "start", "scan", "--yes")
    wait_until("a quarter of the pages", lambda: len(shops.seen.pages_asked) >= total // 4)
    kill_a_worker(penstock, shops)
    wait_until("more pages", lambda: len(shops.seen.pages_asked) >= total // 3)
    penstock.run("runs", "explain", "1")
    wait_until("half of the pages", lambda: len(shops.seen.pages_asked) >= total // 2)
    headline("pause, kill -9 of everything, start, resume")
    penstock.run("runs", "pause", "1", "--reason", "the demo wants to pull the plug")
    pid = penstock.kill()
    say(f"\n$ kill -9 {pid}     # penstock up: the supervisor, and with it all programs end")
    say("$ penstock up")
    penstock.start()
    # What was granted before the pause may have asked until it was killed; from here on nothing may.
    before = sum(shops.seen.requests.values())
    penstock.run("runs", "list")
    if sum(shops.seen.requests.values()) != before:
        give_up("a page was asked for while the run was paused")
    penstock.run("runs", "resume", "1")
    code = penstock.run("runs", "watch", "1", accept=(COMPLETED, COMPLETED_WITH_FAILURES))
    if code:
        penstock.run("runs", "show", "1")
        give_up("some products failed: see above")
    headline("what came out")
    penstock.run("items", "list", "1", "--filter", "healed = true", "--limit", "3")
    penstock.run("process", "missing", "product-page", "--source", "mice")
    complete = f"result.value.fields = {FIELDS}"
    rows = ("sources", "rows", "mice", "--result-of", "product-page")
    penstock.run(*rows, "--filter", complete, "--order-by", "result.value.price", "--columns", COLUMNS, "--limit", "6")


def main() -> int:
    began = time.monotonic()
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    source = Path(given).expanduser().absolute() if given else EXAMPLE / "mice.jsonl"
    if not source.is_file():
        give_up(f"DATA={given}: there is no such file")
    products = products_of(source)
    fresh_folder(PLACE)
    pages = [page_of(product) for product in products]
    write_pages(pages, PLACE / "pages")
    catalog = PLACE / "catalog.jsonl"
    write_catalog(products, pages, catalog)
    broken = sum(page.broken for page in pages)
    say(f"Products:  {len(products)} of {place_of(source)}. Their pages were made for this demo, and each says so:")
    say(f"           every price on them is made up. {broken} are broken on purpose. Look: {place_of(PLACE)}/pages/")
    with Shops(pages, answer_seconds=ANSWER_SECONDS) as shops:
        say(f"Shops:     {', '.join(SHOPS)}, all served by this demo on {shops.address}")
        with running(PLACE / "data", PLACE / "penstock.log") as penstock:
            say(f"Penstock:  {penstock.url} (for the time of the demo)")
            scan(penstock, catalog, shops, len(pages))
            items = penstock.ask_lines("items", "list", "1", "--limit", "1000000")
            rows = penstock.rows("mice", result_of="product-page")
        say()
        show_brands(rows)
        write_results(rows, PLACE / "results.csv")
        headline("what the shops saw")
        wrong = check(items, pages, shops.seen)
    if wrong:
        give_up("; ".join(wrong))
    say(f"\nDone in {time.monotonic() - began:.0f} s. Everything is stopped again.")
    say(f"  {place_of(PLACE)}/results.csv   one line a product")
    say(f"  {place_of(EXAMPLE)}/               the program and its declaration: what you would write")
    say(f"  .venv/bin/penstock up --data {place_of(PLACE)}/data     to look at the run yourself")
    return 0


if __name__ == "__main__":
    play(main)
