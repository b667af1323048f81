// The page: one item after the other. What is answered is kept here until the server says that it is on disk.

import { question } from "./answers.js";
import { ACTIONS, keyOf, listen } from "./keys.js";
import * as panels from "./panels.js";
import { Queue, ask } from "./queue.js";
import { element, key } from "./text.js";

const at = (id) => document.getElementById(id);
const fresh = () => crypto.randomUUID();
const AHEAD = Number(new URLSearchParams(location.search).get("ahead")) || 20;
const state = { todo: [], done: [], judged: 0, total: 0, disputes: 0, mode: "judge", since: 0, sent: 0, saved: 0 };
let project, me, queue, current, made;

async function begin() {
  try {
    project = await ask("project", {});
  } catch (error) {
    return notice(error.status ? error.message : "The server does not answer. Start `tieout label` again, and open the address that it prints.");
  }
  const asked = new URLSearchParams(location.search).get("annotator") || project.annotator;
  if (asked) return start(asked);
  panels.name((given) => {
    const address = new URL(location);
    address.searchParams.set("annotator", given);
    history.replaceState(null, "", address);
    start(given);
  });
}

async function start(given) {
  me = given;
  at("who").textContent = me;
  queue = new Queue(project.project, me, { changed: status, refused: conflicts, done: onDisk });
  buttons();
  listen(run);
  at("comment").addEventListener("input", () => keep());
  await queue.flush();
  await refill();
  conflicts();
  show();
}

// ------------------------------------------------------------ items

async function refill(skipped = false) {
  state.filling = true;
  const sent = state.sent, waits = queue.names().length;
  const have = [...state.todo, ...queue.waiting().filter((one) => one.what === "judge")].map((one) => [one.item, one.round]);
  try {
    const found = await ask("next", { annotator: me, count: Math.max(0, AHEAD - state.todo.length), have, skipped });
    state.todo.push(...found.items);
    if (!state.begun) state.done = found.recent;
    // What was answered meanwhile is counted here, and may or may not be counted there.
    if (!state.begun || (!waits && sent === state.sent)) Object.assign(state, { judged: found.judged + waits, skipped: found.skipped });
    Object.assign(state, { begun: true, total: found.total, disputes: found.disputes, everybody: found.everybody });
  } catch (error) {
    if (error.status) notice(error.message);
  }
  state.filling = false;
  status();
}

function show() {
  current = state.todo[0];
  const settling = state.mode === "settle";
  for (const id of ["item", "footer"]) at(id).hidden = !current;
  at("done").hidden = Boolean(current);
  if (!current) return finished();
  const kept = settling ? null : local(current), answer = kept ?? current.draft ?? current.answer;
  const one = { pairs: "Pair", rankings: "Ranking", grades: "Completion", spans: "Completion" }[project.kind];
  at("title").textContent = settling ? `Dispute, ${state.todo.length} left` : `${one} ${state.judged + 1} of ${state.total}`;
  at("comment").value = answer?.comment ?? "";
  made = question(project, current, answer?.value ?? null, () => { keep(); pressed(); });
  for (const said of current.said ?? []) {
    at("answers").append(element("p", { className: "said" }, `${said.annotator}: ${made.words(said.value)}${said.comment ? ` (${said.comment})` : ""}`));
  }
  state.since = performance.now();
  pressed();
  if (document.activeElement !== document.body) document.activeElement.blur();
  at("title").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function finished() {
  const settling = state.mode === "settle";
  at("title").textContent = settling ? "No disputes" : "Nothing left for you";
  const more = [];
  if (!settling && state.skipped) more.push(element("button", { type: "button", onclick: async () => { await refill(true); show(); } }, `Show the ${state.skipped} skipped`));
  if (settling) more.push(element("button", { type: "button", onclick: () => mode("judge") }, "Back to judging"));
  else if (state.disputes) more.push(element("button", { type: "button", onclick: () => mode("settle") }, `Settle ${state.disputes} disputes`));
  at("done").replaceChildren(element("h2", {}, at("title").textContent),
    element("p", {}, `You judged ${state.judged}; ${state.everybody ?? 0} of ${state.total} items are judged by somebody.`), element("div", { className: "row" }, ...more),
    ...(project.gate ? [panels.gate()] : []));
}

async function mode(wanted) {
  if (state.mode === wanted) wanted = "judge";
  await queue.flush();
  Object.assign(state, { mode: wanted, todo: [] });
  if (wanted === "settle") {
    try {
      state.todo = (await ask("disputes", { annotator: me })).items;
    } catch (error) {
      notice(error.message);
    }
  } else await refill();
  buttons();
  show();
}

// ------------------------------------------------------------ answers

function submit(value) {
  const seconds = Math.min(86400, (performance.now() - state.since) / 1000);
  const { item, round, base } = current;
  const action = { what: state.mode, id: fresh(), annotator: me, item, round, base, value, comment: at("comment").value, seconds };
  if (state.mode === "settle" && value === "skip") {
    state.todo.shift();
    return show();
  }
  clearTimeout(state.drafting);
  localStorage.removeItem(draftName(current));
  Object.assign(current, { answer: { value, comment: action.comment }, draft: null, sent: action.id });
  state.todo.shift();
  if (state.mode === "judge") {
    state.done.push(current);
    state.judged += value === "skip" ? 0 : 1;
    state.skipped += value === "skip" ? 1 : 0;
    at("before").textContent = "";
  }
  state.sent += 1;
  queue.add(action);
  if (state.mode === "judge" && state.todo.length < AHEAD / 2 && !queue.state && !state.filling) refill().then(() => { if (!current || !state.todo.includes(current)) show(); });
  show();
}

function onDisk(action, reply) {
  state.saved += 1;
  const item = [...state.done, ...state.todo].find((one) => one.sent === action.id);
  if (item) item.base = reply.base;
  if (action.what === "judge" && action.value !== "skip") judge(action);
}

async function judge(action) {
  try {
    const { scores } = await ask("prelabel", action);
    if (!scores) return;
    const said = scores.map((score) => (score === null ? "–" : Number(score.toPrecision(3)))).join(scores.length === 2 ? " against " : ", ");
    at("before").textContent = `Before, you: ${made ? made.words(action.value) : ""}. The judge: ${said}`;
  } catch { /* it is only told */ }
}

async function undo() {
  const item = state.done.at(-1);
  if (!item || state.mode !== "judge") return notice(item ? "A settled dispute is settled again from the list." : "There is nothing to undo.", true);
  const waiting = queue.waiting().find((one) => one.id === item.sent);
  if (waiting && !queue.busy) queue.remove(waiting.name);
  else {
    try {
      await queue.flush();
      item.base = (await ask("undo", { id: fresh(), annotator: me, item: item.item, round: item.round, base: item.base })).base;
    } catch (error) {
      return notice(error.status ? error.message : "No connection: what is saved can be undone once there is one.", true);
    }
  }
  state.done.pop();
  state[item.answer?.value === "skip" ? "skipped" : "judged"] -= 1;
  state.todo = [item, ...state.todo.filter((one) => one.item !== item.item || one.round !== item.round)];
  status();
  show();
}

// ------------------------------------------------------------ drafts

const draftName = (item) => `tieout/${project.project}/${me}/draft/${item.item}/${item.round}`;

function local(item) {
  const kept = JSON.parse(localStorage.getItem(draftName(item)) ?? "null");
  return kept && kept.base === item.base ? kept : null;
}

function keep() {
  if (state.mode !== "judge") return;
  const draft = { value: made.value, comment: at("comment").value, base: current.base };
  try {
    localStorage.setItem(draftName(current), JSON.stringify(draft));
  } catch { /* the server has it in a moment */ }
  clearTimeout(state.drafting);
  const { item, round } = current;
  state.drafting = setTimeout(() => ask("draft", { id: fresh(), annotator: me, item, round, ...draft }).catch(() => {}), 500);
}

// ------------------------------------------------------------ what is said around the item

function status() {
  const waiting = queue.names().length, told = at("saved");
  told.className = queue.state ? (queue.state === "no connection" ? "waiting" : "failed") : waiting ? "waiting" : state.saved ? "saved" : "";
  told.textContent = queue.state ? `${waiting} not saved yet: ${queue.state}` : waiting ? "saving…" : state.saved ? "saved" : "";
  at("progress").max = state.total || 1;
  at("progress").value = state.judged;
}

function conflicts() {
  const [first] = queue.waiting(queue.aside);
  if (!first) return notice("");
  const words = (value) => (value === null || value === undefined ? "nothing" : value === "skip" ? "skipped" : made ? made.words(value) : JSON.stringify(value));
  const settle = (mine) => () => {
    queue.remove(first.name);
    const { name, error, current: saved, ...action } = first;
    if (mine) queue.add({ ...action, id: fresh(), base: saved.base });
    conflicts();
  };
  if (!first.current) return notice(`An answer was refused: ${first.error}`, false, element("button", { type: "button", onclick: settle(false) }, "Dismiss"));
  notice(`An item was judged in another tab. Saved: ${words(first.current.value)}. Here: ${words(first.value)}.`, false,
    element("button", { type: "button", onclick: settle(false) }, "Keep what is saved"), element("button", { type: "button", onclick: settle(true) }, "Replace it"));
}

function notice(text, brief = false, ...more) {
  at("notice").replaceChildren(text, ...more);
  at("notice").hidden = !text;
  if (brief) setTimeout(() => { if (at("notice").textContent === text) conflicts(); }, 4000);
}

// ------------------------------------------------------------ buttons and keys

function button(id, name) {
  return element("button", { type: "button", id: `do-${id}`, "aria-keyshortcuts": keyOf(id).replace("Ctrl", "Control"), onclick: () => run(id) }, name, key(keyOf(id)));
}

function buttons() {
  const own = { pairs: ["a", "b", "tie", "bad"], rankings: ["tie"], grades: [], spans: [] }[project.kind];
  const shown = [...own, "submit", "skip", ...(state.mode === "judge" ? ["undo"] : [])];
  const names = new Map(ACTIONS);
  if (project.kind === "rankings") names.set("tie", "Tie with the next");
  at("actions").replaceChildren(...shown.map((id) => button(id, names.get(id))));
  at("nav").replaceChildren(...["guidelines", "figures", "disputes", "keys"].map((id) => button(id, names.get(id))));
  at("comment-key").textContent = keyOf("comment");
  pressed();
}

function pressed() {
  for (const id of ["a", "b", "tie", "bad"]) at(`do-${id}`)?.setAttribute("aria-pressed", String(project.kind === "pairs" ? made?.value === id : Boolean(id === "tie" && made?.join)));
  at("do-submit").hidden = project.kind === "pairs" && !made?.whole;  // after an undo: the same answer again
}

function run(id, pressedKey = "", event = null) {
  if (state.undoing) return state.undoing.then(() => run(id, pressedKey, event)), true;  // it is meant for what comes back
  if (id === "guidelines") panels.guidelines(project);
  else if (id === "figures") panels.figures(project);
  else if (id === "keys") panels.keys(() => { buttons(); });
  else if (id === "disputes") mode("settle");
  else if (id === "undo") state.undoing = undo().finally(() => { state.undoing = null; });
  else if (!current || at("item").hidden) return false;
  else if (["a", "b", "bad"].includes(id) && project.kind === "pairs") submit(id);
  else if (id === "tie") project.kind === "pairs" ? submit("tie") : made.tie?.();
  else if (id === "skip") submit("skip");
  else if (id === "comment") at("comment").focus();
  else if (id === "submit") made.whole ? submit(made.value) : notice("The answer is not whole yet.", true);
  else if (/^[1-9]$/.test(pressedKey) && made.digit) return made.digit(Number(pressedKey));
  else if (pressedKey === "Backspace" && made.back) made.back();
  else if (pressedKey.startsWith("Arrow") && made.arrow && !event.target.closest("button")) return made.arrow(pressedKey, event.shiftKey);
  else return false;
  return true;
}

begin();
