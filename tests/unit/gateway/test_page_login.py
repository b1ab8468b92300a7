"""The page to sign in at: what it sends, and what it says when that is refused. Its script runs in node, on stubs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

from gateway.pages import text

NODE = shutil.which("node")

PAGE = """
const asked = [], state = { reloads: 0 };
const told = { hidden: true, textContent: "" };
const button = { disabled: false };
let submit;
const form = {
  addEventListener: (_, act) => (submit = act),
  querySelector: () => button,
  elements: { token: { value: "  pst_x \\n", select() {} } },
};
globalThis.document = { querySelector: (name) => (name === "#login" ? form : told) };
globalThis.location = { reload: () => (state.reloads += 1) };
const answer = JSON.parse(process.argv[1]);
globalThis.fetch = async (path, options) => {
  asked.push([path, options]);
  if (answer === null) throw new TypeError("no network");
  return { ok: answer.status === 200, status: answer.status, statusText: "?", json: async () => answer.body };
};
"""
END = """
submit({ preventDefault() {} }).then(() =>
  process.stdout.write(JSON.stringify({ asked, told, reloads: state.reloads, disabled: button.disabled })));
"""


def signing_in(answer: object) -> dict[str, Any]:
    assert NODE is not None
    script = f"{PAGE}\n{{{text('login.js')}}}\n{END}"
    done = subprocess.run([NODE, "-e", script, json.dumps(answer)], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(NODE is None, reason="needs node on PATH")
@pytest.mark.parametrize(
    ("answer", "words", "reloads"),
    [
        ({"status": 200, "body": {}}, "", 1),
        ({"status": 401, "body": {"detail": "nobody here knows this token"}}, "nobody here knows this token", 0),
        ({"status": 502, "body": {}}, "502 ?", 0),
        (None, "Penstock does not answer", 0),
    ],
)
def test_a_token_is_sent_once_and_a_refusal_is_told(answer: object, words: str, reloads: int) -> None:
    found = signing_in(answer)
    [[path, options]] = found["asked"]
    assert (path, options["method"]) == ("/api/v1/session", "POST")
    assert json.loads(options["body"]) == {"token": "pst_x"}
    assert words in found["told"]["textContent"]
    assert found["told"]["hidden"] is (not words)
    assert (found["reloads"], found["disabled"]) == (reloads, False)


def test_the_page_holds_what_its_script_asks_for_and_nothing_from_elsewhere() -> None:
    page = text("login.html")
    for name in re.findall(r'querySelector\("#(\w+)"\)', text("login.js")):
        assert f'id="{name}"' in page
    assert 'name="token"' in page
    assert "http" not in re.sub(r"<noscript>.*?</noscript>", "", page, flags=re.DOTALL)
    assert "localStorage" not in text("login.js") + text("app.js")
