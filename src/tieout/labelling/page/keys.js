// One key per action, kept in this browser; a held key counts once, and none fires while somebody types.

export const ACTIONS = [
  ["a", "A is better", "a"], ["b", "B is better", "b"], ["tie", "Tie", "t"], ["bad", "Both bad", "x"],
  ["skip", "Skip", "s"], ["undo", "Undo", "u"], ["submit", "Submit", "Ctrl+Enter"], ["comment", "Comment", "c"],
  ["guidelines", "Guidelines", "g"], ["figures", "Agreement", "f"], ["disputes", "Disputes", "d"], ["keys", "Keys", "?"],
];
const STORED = "tieout/keys";
const keys = Object.fromEntries(ACTIONS.map(([id, , key]) => [id, key]));
try {
  for (const [id, key] of Object.entries(JSON.parse(localStorage.getItem(STORED) ?? "{}"))) if (id in keys) keys[id] = String(key);
} catch { /* as delivered */ }

export const keyOf = (id) => keys[id];

// Returns why not; empty if it is done.
export function remap(id, key) {
  const other = ACTIONS.find(([one]) => one !== id && keys[one] === key);
  if (other) return `${key} is the key of ${other[1]}`;
  if (/^([0-9]|Tab|Escape|Enter|Space|Backspace|Arrow.*|Shift|Control|Alt|Meta|Dead)$/.test(key)) return `${key} cannot be a key of an action`;
  if (id !== "submit" && key.startsWith("Ctrl+")) return "only Submit may be a key with Ctrl: it works while typing";
  keys[id] = key;
  localStorage.setItem(STORED, JSON.stringify(keys));
  return "";
}

export function pressed(event) {
  const name = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + name;
}

export function listen(run) {
  document.addEventListener("keydown", (event) => {
    if (event.repeat || event.isComposing || event.altKey || document.querySelector("dialog[open]")) return;
    const key = pressed(event);
    const typing = event.target.closest("textarea, input, [contenteditable]");
    if (typing && key === "Escape") return typing.blur();
    if (typing && !(key === keys.submit && key.startsWith("Ctrl+"))) return;
    const found = ACTIONS.find(([id]) => keys[id] === key);
    if (run(found?.[0], key, event)) event.preventDefault();
  });
}
