// The page: one item after the other. What is answered is kept here until the server says that it is on disk.

import { question } from "./answers.js";
import { keepCopy } from "./copy.js";
import { ACTIONS, keyOf, listen } from "./keys.js";
import * as panels from "./panels.js";
import { Queue, RETRY, ask, waitingHere } from "./queue.js";
import { element, key } from "./text.js";

const at = (id) => document.getElementById(id);
const fresh = () => crypto.randomUUID();
const AHEAD = Number(new URLSearchParams(location.search).get("ahead")) || 20;
const state = { todo: [], done: [], settled: [], judged: 0, total: 0, disputes: 0, mode: "judge", since: 0, sent: 0, saved: 0 };
let project, me, queue, current, made;

async function begin() {
  try {
    project = await ask("project", {});
  } catch (error) {
    if (error.status) return notice(error.message);
    setTimeout(begin, RETRY);
    const waits = waitingHere();
    return notice(`The server does not answer. Start \`tieout label\` again with the same file and port: this page then continues.${waits ? ` Answers that wait in this browser, and are saved then: ${waits}.` : ""}`);
  }
  notice("");
  keepCopy();
  const asked = new URLSearchParams(location.search).get("annotator") || project.annotator;
  if (asked) start(asked);
  else askName();
}

function askName() {
  at("done").hidden = true;
  panels.name((given) => {
    const address = new URL(location);
    address.searchParams.set("annotator", given);
    history.replaceState(null, "", address);
    start(given);
  }, () => {
    at("done").hidden = false;
    at("done").replaceChildren(element("h2", {}, "No name yet"), element("p", {}, "Each judgement carries the name of who made it."),
      element("button", { type: "button", onclick: askName }, "Enter your name"));
    at("done").querySelector("button").focus();
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

// One request at a time: two would be given the same items.
function refill(skipped = false) {
  return (state.filling ??= fill(skipped).finally(() => { state.filling = null; }));
}

async function fill(skipped) {
  const { sent, todo } = state, waits = queue.names.length;
  const have = [...todo, ...queue.waiting().filter((one) => one.what === "judge")].map((one) => [one.item, one.round]);
  try {
    const found = await ask("next", { annotator: me, count: Math.max(0, AHEAD - todo.length), have, skipped });
    todo.push(...found.items);
    if (!state.begun) state.done = found.recent;
    // What was answered meanwhile is counted here, and may or may not be counted there.
    if (!state.begun || (!waits && sent === state.sent)) Object.assign(state, { judged: found.judged + waits, skipped: found.skipped });
    state.none = !waits && !todo.length ? sent : null;  // after so many answers the server has nothing more
    Object.assign(state, { begun: true, away: false, total: found.total, disputes: found.disputes, everybody: found.everybody });
  } catch (error) {
    if (error.status) notice(error.message);
    state.away = true;
  }
  status();
}

const isAway = () => state.away || Boolean(queue.state);

function waitForMore() {
  clearTimeout(state.retry);
  state.retry = setTimeout(async () => {
    if (current || state.mode !== "judge") return;
    await refill();
    if (state.todo.length || !isAway()) show();
    else waitForMore();
  }, RETRY);
}

async function more() {
  if (!state.todo.length) await queue.flush();  // what is due again, the server knows once it has every answer
  await refill();
  if (!current || !state.todo.includes(current)) show();
}

function show() {
  current = state.todo[0];
  const settling = state.mode === "settle";
  for (const id of ["item", "footer"]) at(id).hidden = !current;
  at("done").hidden = Boolean(current);
  if (!current) return finished();
  const kept = settling ? null : local(current), answer = kept ?? current.draft ?? current.answer;
  const one = { pairs: "Pair", rankings: "Ranking", grades: "Completion", spans: "Completion" }[project.kind];
  at("title").textContent = settling ? `Dispute, ${state.todo.length} left` : `${one} ${state.judged + 1} of ${Math.max(state.total, state.judged + 1)}`;
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
  if (!settling && isAway()) {
    waitForMore();
    at("title").textContent = "Waiting for the server";
    return at("done").replaceChildren(element("h2", {}, at("title").textContent),
      element("p", {}, "All that was loaded here is judged. What is not saved yet waits in this browser; this page continues by itself."));
  }
  if (!settling && state.none !== state.sent) {
    at("title").textContent = "One moment";
    at("done").replaceChildren(element("p", {}, "Asking whether anything is left for you."));
    return more();
  }
  at("title").textContent = settling ? "No disputes" : "Nothing left for you";
  const offered = [];
  if (!settling && state.skipped) offered.push(element("button", { type: "button", onclick: async () => { await refill(true); show(); } }, `Show the ${state.skipped} skipped`));
  if (settling) offered.push(element("button", { type: "button", onclick: () => mode("judge") }, "Back to judging"));
  else if (state.disputes) offered.push(element("button", { type: "button", onclick: () => mode("settle") }, state.disputes === 1 ? "Settle the dispute" : `Settle ${state.disputes} disputes`));
  if (said().length) offered.push(element("button", { type: "button", onclick: () => run("undo") }, "Undo", key(keyOf("undo"))));
  at("done").replaceChildren(element("h2", {}, at("title").textContent),
    element("p", {}, `You gave ${state.judged} judgements; ${state.everybody ?? 0} of ${state.total} items are judged by somebody.`), element("div", { className: "row" }, ...offered),
    ...(project.gate ? [panels.gate()] : []));
}

async function mode(wanted) {
  if (state.mode === wanted) wanted = "judge";
  await queue.flush();
  if (wanted === "settle") {
    try {
      const { items, recent } = await ask("disputes", { annotator: me });
      Object.assign(state, { mode: wanted, todo: items, settled: recent });
    } catch (error) {
      return notice(error.status ? error.message : "No connection: disputes are shown once there is one.", true);
    }
  } else {
    Object.assign(state, { mode: wanted, todo: [] });
    await refill();
  }
  show();
}

// ------------------------------------------------------------ answers

const said = () => (state.mode === "settle" ? state.settled : state.done);

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
  said().push(current);
  if (state.mode === "judge") {
    state.judged += value === "skip" ? 0 : 1;
    state.skipped += value === "skip" ? 1 : 0;
    at("before").textContent = "";
  }
  state.sent += 1;
  queue.add(action);
  if (state.mode === "judge" && state.todo.length < AHEAD / 2 && !queue.state && !state.filling) more();
  show();
}

function onDisk(action, reply) {
  state.saved += 1;
  const item = [...state.done, ...state.settled, ...state.todo].find((one) => one.sent === action.id);
  if (item) item.base = reply.base;
  if (action.what === "judge" && action.value !== "skip" && !queue.names.length) judge(action);
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
  const { mode } = state, item = said().at(-1);
  if (!item) return notice("There is nothing to undo.", true);
  const waiting = queue.waiting().find((one) => one.id === item.sent);
  if (waiting && !queue.running) queue.remove(waiting.name);
  else {
    try {
      await queue.flush();
      item.base = (await ask(mode === "judge" ? "undo" : "unsettle", { id: fresh(), annotator: me, item: item.item, round: item.round, base: item.base })).base;
    } catch (error) {
      return notice(error.status ? error.message : "No connection: what is saved can be undone once there is one.", true);
    }
  }
  said().pop();
  if (mode === "judge") state[item.answer?.value === "skip" ? "skipped" : "judged"] -= 1;
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
  const waiting = queue.names.length, told = at("saved");
  told.className = queue.state ? (queue.state === "no connection" ? "waiting" : "failed") : waiting ? "waiting" : state.saved ? "saved" : "";
  told.textContent = queue.state ? `${waiting} not saved yet: ${queue.state}` : waiting ? "saving…" : state.saved ? "saved" : "";
  at("progress").max = state.total || 1;
  at("progress").value = state.judged;
}

function conflicts() {
  const [first] = queue.setAside();
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
  const shown = [...own, "submit", "skip", "undo"];
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
