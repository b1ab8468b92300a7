"use strict";

// The page lists runs and keeps them current: the newest active ones by server-sent events, all by asking now and then.
// Browsers open six connections to one server; three streams leave room for everything else.
const STREAMS = 3;
const POLL_MS = 4000;
const PAGE = 30;
const ENDED = new Set(["completed", "completed_with_failures", "failed", "stopped"]);
const WORDS = { completed_with_failures: "completed, some failed", running: "running", stopping: "stopping" };

const find = (selector, within = document) => within.querySelector(selector);
const number = (value) => Number(value).toLocaleString("en");
const runs = new Map(); // run_id -> {run, element}
const streams = new Map(); // run_id -> EventSource
let wanted = PAGE;

function tell(text) {
  find("#message span").textContent = text;
  find("#message").hidden = false;
}
find("#message button").addEventListener("click", () => (find("#message").hidden = true));

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (answer.status === 401) location.reload(); // the session has ended: the same address asks to sign in again
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(body.detail || `${answer.status} ${answer.statusText}`);
  return body;
}

// ---- runs

function share(run) {
  const [first, second] = run.stages;
  const part = (stage) => (stage.counts.total ? (stage.counts.completed + stage.counts.failed) / stage.counts.total : 0);
  if (run.state.startsWith("completed")) return 1;
  if (run.kind !== "documents" || !second) return first ? part(first) : 0;
  return 0.9 * part(first) + 0.09 * (second.state === "completed" ? 1 : second.progress);
}

function told(run) {
  const [first, second] = run.stages;
  if (!first) return "";
  const counts = first.counts;
  const noun = (run.kind === "documents" ? "document" : "item") + (counts.total === 1 ? "" : "s");
  let text = `${number(counts.completed)} of ${number(counts.total)} ${noun}`;
  if (counts.failed) text += ` · ${number(counts.failed)} failed`;
  const waiting = waitingTold(run);
  if (waiting) text += ` · ${waiting}`;
  if (run.state === "running" && second && second.state === "running") {
    text += ` · ${second.phase || "collection"} ${Math.round(second.progress * 100)} %`;
  }
  if (run.state === "paused" && !run.quiesced) text += " · finishing what runs";
  const began = Date.parse(run.start_time);
  if (began && run.end_time && ENDED.has(run.state)) text += ` · ${timeText((Date.parse(run.end_time) - began) / 1000)}`;
  const money = moneyTold(run.money);
  if (money) text += ` · ${money}`;
  return text;
}

function why(run) {
  if (run.state === "stopped") return !run.error || run.error.startsWith("stopped") ? run.error || "" : `stopped: ${run.error}`;
  if (run.state !== "failed") return "";
  // That none completed is said by the numbers; what follows is the error that they have in common.
  const at = run.stages.findIndex((stage) => stage.state === "failed");
  const error = (run.stages[at]?.error || run.error || "").replace(/^none of \d+ items? completed(: )?/, "");
  return at > 0 ? `the documents could not be compared${error && `: ${error}`}` : error;
}

function when(time) {
  const date = new Date(time);
  const today = new Date().toDateString() === date.toDateString();
  return today
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleDateString([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function link(text, href, main) {
  const made = document.createElement("a");
  made.className = main ? "button main" : "button";
  made.textContent = text;
  made.href = href;
  return made;
}

async function command(run, name) {
  try {
    const answer = await ask(`/api/v1/runs/${run.run_id}/${name}`, { method: "POST" });
    show(answer.run);
    balance();
  } catch (error) {
    tell(`${name} of run ${run.number}: ${error.message}`);
  }
}

function actions(run) {
  const made = [];
  made.push(...gateActions(run), ...budgetActions(run), ...retryActions(run));
  if (["queued", "running", "waiting"].includes(run.state)) made.push(button("Pause", () => command(run, "pause")));
  if (["paused", "stopped"].includes(run.state)) made.push(button("Resume", () => command(run, "resume")));
  if (["queued", "running", "paused", "waiting"].includes(run.state)) {
    made.push(button("Stop", () => command(run, "stop")));
  }
  if (run.kind === "documents" && ENDED.has(run.state)) {
    const job = `/api/batch/${run.number}`;
    made.push(link("CSV", `${job}/export?format=csv`), link("JSON", `${job}/export?format=json`));
    made.push(link("Open report", `${job}/report`, true));
  }
  return made;
}

function show(run) {
  let known = runs.get(run.run_id);
  if (!known) {
    const element = find("#run").content.firstElementChild.cloneNode(true);
    known = { run: null, element };
    runs.set(run.run_id, known);
    find("details.failed", element).addEventListener("toggle", () => reasons(known));
    find(".why", element).addEventListener("toggle", () => explain(known));
  }
  const { element } = known;
  const before = known.run;
  known.run = run;
  if (before && JSON.stringify(before) === JSON.stringify(run)) return;
  const looks = { completed_with_failures: "warned", stopping: "paused", waiting: "paused" }[run.state] || run.state;
  element.className = `run ${looks}`;
  find(".number", element).textContent = run.number;
  find(".name", element).textContent = run.name || (run.kind === "documents" ? "Documents" : run.stages[0]?.processor || "Items");
  find(".state", element).textContent = WORDS[run.state] || run.state;
  find(".when", element).textContent = when(run.create_time);
  find(".when", element).title = run.create_time;
  count(known);
  const holds = heldTold(run);
  find(".holds", element).textContent = holds;
  find(".holds", element).hidden = !holds;
  find(".why", element).hidden = !asksWhy(run);
  const percent = Math.floor(share(run) * 100);
  const bar = find(".bar", element);
  bar.firstElementChild.style.width = `${percent}%`;
  bar.setAttribute("aria-valuenow", percent);
  bar.hidden = run.state === "completed";
  const error = why(run);
  find(".error", element).textContent = error;
  find(".error", element).hidden = !error;
  const failed = run.stages[0]?.counts.failed || 0;
  find("details.failed", element).hidden = !failed;
  find("details.failed summary", element).textContent = `Why ${number(failed)} failed`;
  // Buttons are made anew only when they change, so that a click or the focus is not lost between two updates.
  const offers = (one) => JSON.stringify([one.state, one.waiting, one.money.budget_micros, one.stages.findIndex(({ counts }) => counts.failed)]);
  if (!before || offers(before) !== offers(run)) find(".actions", element).replaceChildren(...actions(run));
}

function count(known) {
  const speed = speedTold(known.summary);
  find(".counts", known.element).textContent = told(known.run) + (speed && known.run.state === "running" ? ` · ${speed}` : "");
}

async function reasons(known) {
  const list = find("details.failed ul", known.element);
  if (!find("details.failed", known.element).open) return;
  try {
    if (known.run.counts.failed > GROUPED) return list.replaceChildren(...(await groups(known.run)));
    const page = await ask(`/api/v1/runs/${known.run.run_id}/items?state=failed&page_size=50`);
    list.replaceChildren(
      ...page.items.map((item) => {
        const made = document.createElement("li");
        made.textContent = `${item.key}: ${item.error}`;
        return made;
      }),
    );
    if (page.next_page_token) {
      const more = document.createElement("li");
      more.textContent = "… and more: the CSV export has them all";
      list.append(more);
    }
  } catch (error) {
    tell(error.message);
  }
}

function order() {
  const list = find("#runs");
  const sorted = [...runs.values()].sort((a, b) => b.run.number - a.run.number);
  sorted.forEach(({ element }, at) => {
    if (list.children[at] !== element) list.insertBefore(element, list.children[at] || null);
  });
  const active = sorted.filter(({ run }) => !ENDED.has(run.state)).length;
  find("#summary").textContent = active ? `${number(active)} active` : "";
  find("#empty").hidden = sorted.length > 0;
}

// ---- live

function balance() {
  const active = [...runs.values()].filter(({ run }) => !ENDED.has(run.state)).sort((a, b) => b.run.number - a.run.number);
  const chosen = new Set(active.slice(0, STREAMS).map(({ run }) => run.run_id));
  for (const [id, stream] of streams) {
    if (!chosen.has(id)) {
      stream.close();
      streams.delete(id);
    }
  }
  for (const id of chosen) {
    if (!streams.has(id)) follow(id);
  }
}

function follow(id) {
  const stream = new EventSource(`/api/v1/runs/${id}/events/stream?from=now`);
  streams.set(id, stream);
  const update = (message) => {
    show(JSON.parse(message.data));
    order();
  };
  stream.addEventListener("run", update);
  stream.addEventListener("end", (message) => {
    stream.close();
    streams.delete(id);
    update(message);
    balance();
  });
}

let asking = null;
async function refresh() {
  clearTimeout(asking);
  try {
    const page = await ask(`/api/v1/runs?page_size=${wanted}`);
    page.runs.filter((run) => !streams.has(run.run_id)).forEach(show);
    find("#more").hidden = !page.next_page_token;
    find("#away").hidden = true;
    order();
    balance();
  } catch {
    find("#away").hidden = false;
  }
  asking = setTimeout(refresh, POLL_MS);
}
find("#more").addEventListener("click", () => {
  wanted = Math.min(wanted + PAGE, 1000);
  refresh();
});

// ---- who asks

async function greet() {
  const session = await ask("/api/v1/session").catch(() => null);
  if (!session || session.auth === "none") return;
  document.body.dataset.role = session.role;
  find("#who span").textContent = `${session.actor} (${session.role})`;
  find("#who").hidden = false;
}
find("#who button").addEventListener("click", async () => {
  await fetch("/api/v1/session", { method: "DELETE" }).catch(() => {});
  location.reload();
});

// ---- upload

const isZip = (file) => /\.zip$/i.test(file.name);

function send(entries) {
  const files = entries.filter(({ name }) => !name.split("/").some((part) => part.startsWith(".") || part === "__MACOSX"));
  if (!files.length) return tell("There are no documents in that.");
  const zips = files.filter(({ file }) => isZip(file));
  if (zips.length && files.length > 1) return tell("Drop one zip alone, or files without a zip.");
  const form = new FormData();
  form.append("granularity", find("#granularity").value);
  form.append("name", label(files));
  for (const { file, name } of files) form.append(zips.length ? "zip_file" : "files", file, name);
  const request = new XMLHttpRequest();
  const box = find("#upload");
  const text = find("p", box);
  const bar = find(".bar i", box);
  bar.style.width = "0";
  box.hidden = false;
  find("#message").hidden = true;
  text.textContent = `Sending ${files.length === 1 ? files[0].name : `${number(files.length)} documents`} …`;
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) bar.style.width = `${(event.loaded / event.total) * 100}%`;
    if (event.loaded === event.total) text.textContent = "Checking and storing …";
  });
  request.addEventListener("loadend", () => {
    box.hidden = true;
    if (request.status === 401) return location.reload();
    if (request.status === 200) return refresh();
    let detail = "the upload broke off; nothing of it was kept";
    try {
      detail = JSON.parse(request.responseText).detail;
    } catch {
      // No answer of ours: the sentence above is all that is known.
    }
    tell(`Upload refused: ${detail}`);
  });
  request.open("POST", "/api/batch/upload");
  request.send(form);
}

function label(files) {
  if (files.length === 1) return files[0].name;
  const tops = new Set(files.map(({ name }) => (name.includes("/") ? name.split("/")[0] : "")));
  const [top] = tops;
  return tops.size === 1 && top ? top : `${number(files.length)} documents`;
}

for (const id of ["files", "folder", "zip"]) {
  find(`#${id}`).addEventListener("change", (event) => {
    send([...event.target.files].map((file) => ({ file, name: file.webkitRelativePath || file.name })));
    event.target.value = "";
  });
}

async function walk(entry, prefix, into) {
  const name = prefix + entry.name;
  if (entry.isFile) {
    into.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), name });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A folder is told in pieces of a hundred; an empty one is the end.
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return;
    for (const one of batch) await walk(one, `${name}/`, into);
  }
}

const drop = find("#drop");
for (const type of ["dragenter", "dragover"]) {
  addEventListener(type, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [];
  try {
    for (const entry of entries) await walk(entry, "", files);
    if (entries.length) send(files);
  } catch (error) {
    tell(`That can't be read: ${error.message}`);
  }
});

greet();
refresh();
