// Texts as nodes: nothing that a model wrote is ever parsed as HTML.

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key === "className" ? "class" : key, value);
  }
  made.append(...children);
  return made;
}

export function key(name) {
  return element("kbd", { "aria-hidden": "true" }, name);
}

// Fill `into` with a text, in pieces that carry the classes of the marks over them: {start, end, className, title}.
export function fill(into, text, marks) {
  const hidden = [...text.matchAll(HIDDEN)].map((found) => ({
    start: found.index, end: found.index + 1, className: "hidden", shown: `\\u${found[0].charCodeAt(0).toString(16).padStart(4, "0")}`,
  }));
  const all = [...marks, ...hidden];
  const cuts = [...new Set([0, text.length, ...all.flatMap((mark) => [mark.start, mark.end])])].sort((a, b) => a - b);
  const pieces = [];
  for (let i = 0; i + 1 < cuts.length; i++) {
    const over = all.filter((mark) => mark.start <= cuts[i] && mark.end >= cuts[i + 1]);
    const piece = element(over.some((mark) => mark.className === "same") ? "mark" : "span",
      { className: over.map((mark) => mark.className).join(" ") }, over.find((mark) => mark.shown)?.shown ?? text.slice(cuts[i], cuts[i + 1]));
    if (piece.localName === "mark") piece.style.color = "inherit";
    const title = over.map((mark) => mark.title).filter(Boolean).join("; ");
    if (title) piece.title = title;
    piece.dataset.start = cuts[i];
    pieces.push(piece);
  }
  into.replaceChildren(...pieces);
}

export function figureMarks(figures, where) {
  return figures.map(([start, end, same]) => ({
    start, end, className: same ? "same" : where === "source" ? "" : "unlike", title: same ? "in both" : where === "source" ? "" : "not in the source",
  }));
}

// The stretch of text that is selected inside `pre`, as {start, end}; null if there is none.
export function selected(pre) {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return null;
  const range = selection.getRangeAt(0);
  if (!pre.contains(range.startContainer) || !pre.contains(range.endContainer)) return null;
  const place = (node, offset) => {
    const piece = (node.nodeType === Node.TEXT_NODE ? node.parentNode : node.childNodes[offset] ?? node.lastChild).closest("[data-start]");
    return Number(piece.dataset.start) + (node.nodeType === Node.TEXT_NODE ? offset : 0);
  };
  const start = place(range.startContainer, range.startOffset), end = place(range.endContainer, range.endOffset);
  return start < end ? { start, end } : null;
}
