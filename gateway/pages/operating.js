"use strict";

// What holds runs back, and what a person does about it: gates, caps, closed limits, stopped retries, failed items.
// Loaded before app.js, whose names (ask, find, tell, show, …) it uses once everything is there, and after amounts.js.
const LOOK_MS = 6000;

function moneyTold(money) {
  if (money.budget_micros === null && !money.spent_micros && !money.reserved_micros) return "";
  const cap = money.budget_micros === null ? "" : ` of ${dollars(money.budget_micros)}`;
  const reserved = money.reserved_micros ? ` and ${dollars(money.reserved_micros)} reserved` : "";
  return `${dollars(money.spent_micros)} spent${reserved}${cap}`;
}

// What items of the stages that run wait for, where it is not their turn alone.
function waitingTold(run) {
  const live = run.stages.filter((stage) => stage.state === "running");
  const sum = (name) => live.reduce((total, stage) => total + stage.counts[name], 0);
  const parts = [];
  if (sum("retry")) parts.push(`${number(sum("retry"))} to be tried again`);
  if (sum("deferred")) parts.push(`${number(sum("deferred"))} deferred`);
  return parts.join(" · ");
}

function left(eta) {
  const seconds = (time) => Math.max((Date.parse(time) - Date.now()) / 1000, 0);
  return `${timeRange(seconds(eta.early_time), seconds(eta.late_time))} left`;
}

function speedTold(summary) {
  if (!summary || summary.run.state !== "running") return "";
  const parts = [];
  const rate = summary.throughput.items_per_second;
  if (rate >= 0.05) parts.push(`${rate.toLocaleString("en", { maximumSignificantDigits: 3 })} a second`);
  else if (summary.throughput.last_hour) parts.push(`${number(summary.throughput.last_hour)} in the last hour`);
  if (summary.eta.known) parts.push(left(summary.eta));
  else if ((summary.eta.reason || "").startsWith("not known: ")) parts.push(`its end is ${summary.eta.reason}`);
  return parts.join(" · ");
}

function heldTold(run) {
  if (run.state !== "waiting") return "";
  const gate = /^gate (.*)$/s.exec(run.waiting || "");
  if (gate) return `Waits for your answer at the gate “${gate[1]}”`;
  return `Waits for ${(run.waiting || "something").replace(/^budget(: )?/, (_, more) => (more ? "money: " : "money"))}`;
}

// ---- commands

async function change(what, path, method, body) {
  try {
    const answer = await ask(path, {
      method,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    if (answer.run) show(answer.run);
    return answer;
  } catch (error) {
    tell(`${what}: ${error.message}`);
    return null;
  } finally {
    look();
  }
}

function gateActions(run) {
  const [, gate] = /^gate (.*)$/s.exec(run.waiting || "") || [];
  if (!gate) return [];
  const path = `/api/v1/runs/${run.run_id}/gates/${encodeURIComponent(gate)}`;
  const answer = (word) => change(`gate ${gate} of run ${run.number}`, `${path}/${word}`, "POST", {});
  const approve = button("Approve", () => answer("approve"));
  approve.className = "button main";
  return [approve, button("Reject", () => answer("reject"))];
}

function budgetActions(run) {
  const waiting = run.waiting || "";
  // Where no price is known no cap helps.
  if (run.state !== "waiting" || !waiting.startsWith("budget") || waiting.includes("nobody knows")) return [];
  const [, stage] = /of the cap of stage (\d+)$/.exec(waiting) || [];
  const form = document.createElement("form");
  form.className = "cap";
  const field = document.createElement("input");
  Object.assign(field, { type: "number", step: "any", min: "0", required: true });
  const of = (stage === undefined ? "" : `stage ${stage} of `) + `run ${run.number}`;
  field.setAttribute("aria-label", `Cap of ${of} in dollars`);
  const cap = (stage === undefined ? run : run.stages[stage]).money.budget_micros;
  field.value = cap === null ? "" : (cap * 2) / 1e6;
  const raise = button(stage === undefined ? "Raise the cap to $" : `Raise the cap of stage ${stage} to $`, () => {});
  raise.type = "submit";
  form.append(raise, field);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const micros = Math.round(Number(field.value) * 1e6);
    const set = { budget_micros: micros };
    const body = stage === undefined ? set : { stages: [{ stage: Number(stage), ...set }] };
    change(`cap of ${of}`, `/api/v1/runs/${run.run_id}`, "PATCH", body);
  });
  return [form];
}

function retryActions(run) {
  const stage = run.stages.findIndex(({ counts }) => counts.failed);
  if (stage < 0 || run.archived || run.plan_removed || run.state === "stopping") return [];
  return [button("Retry failed", () => retryFailed(run, stage))];
}

async function retryFailed(run, stage) {
  const path = `/api/v1/runs/${run.run_id}/actions`;
  const body = { verb: "retry", stage, filter: "state = failed" };
  const told = await change(`retry of run ${run.number}`, path, "POST", { ...body, validate_only: true });
  if (!told) return;
  const many = `${number(told.changed)} item${told.changed === 1 ? "" : "s"}`;
  if (!told.changed) return tell(`Run ${run.number}: nothing that failed can be tried again without being named.`);
  if (!confirm(`Try ${many} of run ${run.number} again?`)) return;
  await change(`retry of run ${run.number}`, path, "POST", body);
  refresh();
}

// Where many failed, equal failures are told together.
const GROUPED = 30;

async function groups(run) {
  const { failures, failure_groups } = await ask(`/api/v1/runs/${run.run_id}/summary`);
  const told = failures.map((group) => `${number(group.count)} × ${group.kind}: ${group.example_error} (as ${group.example_key})`);
  if (failure_groups > failures.length) told.push(`… and ${number(failure_groups - failures.length)} more kinds`);
  return told.map((text) => {
    const made = document.createElement("li");
    made.textContent = text;
    return made;
  });
}

// ---- why

async function explain(known) {
  const box = find(".why", known.element);
  if (box.hidden || !box.open) return;
  try {
    const told = await ask(`/api/v1/runs/${known.run.run_id}/explain`);
    const lines = told.reasons.map((reason) => {
      const made = document.createElement("li");
      made.textContent = reason.text + (reason.until_time ? ` (until ${when(reason.until_time)})` : "");
      if (reason.change) {
        const small = document.createElement("span");
        small.className = "change";
        small.textContent = reason.change;
        made.append(small);
      }
      return made;
    });
    if (!lines.length) {
      lines.push(document.createElement("li"));
      lines[0].textContent = "Nothing holds it: items start as workers ask for them.";
    }
    find("ul", box).replaceChildren(...lines);
  } catch (error) {
    tell(error.message);
  }
}

// Asked of a run that lives while nothing of it runs.
function asksWhy(run) {
  return !ENDED.has(run.state) && run.state !== "stopping" && run.counts.running === 0;
}

// ---- what all runs share

function limitTold(limit) {
  const until = limit.closed_until_time ? ` until ${when(limit.closed_until_time)}` : " until it is opened";
  const words = { closed: `closed${until}`, probing: "one is trying it again", ramping: `opening slowly, ${limit.cap} at once` };
  return (words[limit.state] || limit.state) + (limit.reason ? ` · ${limit.reason}` : "");
}

// Valves of stages, and of the lanes of a stage, have keys that no item names.
function limitName(key) {
  const [, run, stage, lane] = /^(?:stage|lane):(\d+):(\d+)(?::(.*))?$/s.exec(key) || [];
  return run ? `run ${run}, stage ${stage}${lane ? `: ${lane}` : ""}` : key;
}

function limitLine(limit) {
  const line = find("#limit").content.firstElementChild.cloneNode(true);
  line.classList.add(limit.state);
  find(".key", line).textContent = limitName(limit.key);
  find(".told", line).textContent = limitTold(limit);
  find(".actions", line).append(
    button("Open", () => change(limit.key, `/api/v1/limits/${encodeURIComponent(limit.key)}/open`, "POST", {})),
  );
  return line;
}

async function shared() {
  const [limits, retries] = await Promise.all([ask("/api/v1/limits?page_size=1000"), ask("/api/v1/retries")]);
  const held = limits.limits.filter((limit) => limit.state && limit.state !== "open");
  const text = JSON.stringify(held);
  if (find("#limits").dataset.told !== text) {
    find("#limits").dataset.told = text;
    find("#limits").replaceChildren(...held.slice(0, 50).map(limitLine));
    find("#limits-more").textContent = held.length > 50 ? `… and ${number(held.length - 50)} more` : "";
  }
  find("#held").hidden = !held.length;
  const why = [retries.actor && `by ${retries.actor}`, retries.reason].filter(Boolean).join(": ");
  find("#retries span").textContent = `Retries are stopped${why && ` ${why}`}. What failed waits.`;
  find("#retries").hidden = retries.allowed;
}

let looking = null;
async function look() {
  clearTimeout(looking);
  const active = [...runs.values()].filter(({ run }) => streams.has(run.run_id));
  const summaries = active.map(async (known) => {
    known.summary = await ask(`/api/v1/runs/${known.run.run_id}/summary`);
    count(known);
  });
  const open = [...runs.values()].map(explain);
  await Promise.allSettled([shared(), ...summaries, ...open]);
  clearTimeout(looking);
  looking = setTimeout(look, LOOK_MS);
}
addEventListener("load", () => {
  find("#retries button").addEventListener("click", () => change("retries", "/api/v1/retries", "PUT", { allowed: true }));
  look();
});
