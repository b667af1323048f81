// Dialogs: guidelines, agreement, keys, a name, conflicts.

import { ACTIONS, keyOf, pressed, remap } from "./keys.js";
import { ask } from "./queue.js";
import { element, key } from "./text.js";

const dialog = () => document.getElementById("dialog");

export function open(title, ...body) {
  document.getElementById("dialog-title").textContent = title;
  document.getElementById("dialog-body").replaceChildren(...body);
  if (!dialog().open) dialog().showModal();
}

export function guidelines(scheme) {
  const { text, version, sha256 } = scheme.guidelines;
  open("Guidelines", element("pre", { className: "guidelines", tabindex: "0" }, text),
    element("p", { className: "fine" }, `Version ${version}, SHA-256 ${sha256.slice(0, 16)}; every judgement names it.`));
}

export function keys(changed) {
  const told = element("p", { className: "fine", role: "status" }, "Choose a key, then press the new one.");
  const rows = ACTIONS.map(([id, name]) => {
    const button = element("button", { type: "button", "aria-label": `${name}: ${keyOf(id)}. Change` }, key(keyOf(id)));
    button.onclick = () => {
      told.textContent = `Press the new key of ${name}`;
      button.onkeydown = (event) => {
        if (["Shift", "Control", "Meta", "Alt", "Tab"].includes(event.key)) return;
        event.preventDefault();
        event.stopPropagation();
        button.onkeydown = null;
        told.textContent = (event.key === "Escape" ? "nothing changed" : remap(id, pressed(event))) || `${name} is now ${keyOf(id)}`;
        button.replaceChildren(key(keyOf(id)));
        button.setAttribute("aria-label", `${name}: ${keyOf(id)}. Change`);
        changed();
      };
    };
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, button));
  });
  open("Keys", told, element("table", {}, element("tbody", {}, ...rows)),
    element("p", { className: "fine" }, "Digits pick places, levels and labels; Backspace takes the last one back; Esc leaves the comment. No key acts while you type, other than Submit."));
}

const figure = (one, scale = (value) => value.toFixed(2)) => (one.value === null ? ["–", ""] : [scale(one.value), `${scale(one.low)} to ${scale(one.high)}`]);
const share = (value) => `${Math.round(100 * value)}%`;

export async function figures(project) {
  open("Agreement", element("p", { className: "fine" }, "Computing…"));
  let found;
  try {
    found = await ask("figures", {}, 120_000);
  } catch (error) {
    return open("Agreement", element("p", {}, error.message));
  }
  const cell = (parts) => [element("td", {}, parts[0]), element("td", { className: "range" }, parts[1])];
  const both = [["Krippendorff's alpha", found.alpha], ["Gwet's AC1", found.ac1]].map(([name, one]) =>
    element("tr", {}, element("th", { scope: "row" }, name), ...cell(figure(one)), element("td", { className: "range" }, `${one.n} items judged by several`)));
  const people = Object.entries(found.people).map(([name, one]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, String(one.judged)),
    element("td", {}, one.seconds === null ? "–" : `${Math.round(one.seconds)} s`), ...[one.first, one.longer, one.itself].map((that) => element("td", {}, figure(that, share)[0], element("span", { className: "fine" }, ` ${figure(that, share)[1]}`)))));
  const head = ["Annotator", "Judged", "Median", "First shown wins", "Longer wins", "Agrees with itself"].map((name) => element("th", { scope: "col" }, name));
  const links = project.formats.map((name) => element("a", { href: `/export/${name}.jsonl`, download: `${name}.jsonl` }, name)).flatMap((link) => [link, " "]);
  open("Agreement", element("table", {}, element("tbody", {}, ...both)),
    element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...people))),
    element("p", { className: "fine" }, "95% intervals; those of alpha and AC1 by resampling items. Without bias, half of the decided pairs are won by the completion shown first. Whether longer ones should win, the guidelines say."),
    element("p", {}, "Export: ", ...links), ...(project.gate ? [gate()] : []));
}

export function gate() {
  const told = element("div", { role: "status" });
  const button = element("button", { type: "button", id: "gate" }, "Gate this run");
  button.onclick = async () => {
    button.disabled = true;
    try {
      const { verdict, reasons } = await ask("judge_run", {}, 1_200_000);  // many models take minutes
      told.replaceChildren(element("p", {}, element("strong", {}, verdict)), ...reasons.map((reason) => element("p", { className: "fine" }, reason)));
    } catch (error) {
      told.replaceChildren(element("p", {}, error.message));
    }
    button.disabled = false;
  };
  return element("div", {}, button, told);
}

export function name(then, without) {
  const input = element("input", { id: "name", "aria-label": "Your name", maxlength: "60", autocomplete: "off" });
  const form = element("form", {}, input, " ", element("button", {}, "Start"));
  form.onsubmit = (event) => { event.preventDefault(); if (input.value.trim()) dialog().close("named"); };
  dialog().returnValue = "";
  dialog().addEventListener("close", () => (dialog().returnValue === "named" ? then(input.value.trim()) : without()), { once: true });
  open("Who judges?", element("p", { className: "fine" }, "The name stands on each judgement."), form);
  input.focus();
}
