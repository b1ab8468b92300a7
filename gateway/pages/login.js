"use strict";

// Exchanges a token for a session cookie, which no script can read, then asks for the same address again.
const form = document.querySelector("#login");
const told = document.querySelector("#message");

function tell(text) {
  told.textContent = text;
  told.hidden = false;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  told.hidden = true;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const answer = await fetch("/api/v1/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: form.elements.token.value.trim() }),
    });
    if (answer.ok) return location.reload();
    const body = await answer.json().catch(() => ({}));
    tell(body.detail || `${answer.status} ${answer.statusText}`);
    form.elements.token.select();
  } catch {
    tell("Penstock does not answer just now: try again in a moment.");
  } finally {
    button.disabled = false;
  }
});
