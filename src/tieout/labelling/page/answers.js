// The four kinds of question. Each shows the completions and an answer in the making, and says when it is whole.

import { element, figureMarks, fill, key, selected } from "./text.js";

const LETTERS = "ABCDEFGHI";

function completions(item, name, extra = () => []) {
  return item.texts.map((one, i) => {
    const pre = element("pre", { id: `text-${i}` });
    fill(pre, one.text, figureMarks(one.figures, "completion"));
    return element("article", { "aria-labelledby": `name-${i}` }, element("h2", { id: `name-${i}` }, name(i), ...extra(i)), pre);
  });
}

function choices(legend, levels, chosen, now, pick) {
  const buttons = levels.map(([id, name], i) => element("button", {
    type: "button", "aria-pressed": String(chosen === id), "aria-keyshortcuts": String(i + 1), onclick: () => pick(id) }, name, now ? key(String(i + 1)) : ""));
  return element("fieldset", { className: now ? "now" : "" }, element("legend", {}, legend), ...buttons);
}

class Pairs {
  articles() {
    return completions(this.item, (i) => LETTERS[i]);
  }
  draw() {
    this.shown.forEach((article, i) => article.classList.toggle("chosen", this.value === "ab"[i]));
  }
  words(value) {
    return { a: "A is better", b: "B is better", tie: "tie", bad: "both bad" }[value];
  }
  get whole() {
    return ["a", "b", "tie", "bad"].includes(this.value);
  }
}

class Rankings {
  start() {
    this.value = Array.isArray(this.value) ? this.value : [];
  }
  articles() {
    return completions(this.item, (i) => `Completion ${i + 1}`, (i) => [element("button", { type: "button", onclick: () => this.pick(i), "aria-keyshortcuts": String(i + 1) }, "Next best", key(String(i + 1)))]);
  }
  digit(number) {
    if (number > this.item.texts.length) return false;
    this.pick(number - 1);
    return true;
  }
  pick(i) {
    if (this.value.flat().includes(i)) return;
    if (this.join && this.value.length) this.value.at(-1).push(i);
    else this.value.push([i]);
    this.join = false;
    this.changed();
  }
  tie() {
    if (this.value.length && !this.whole) this.join = true;
    this.changed();
  }
  back() {
    this.join = false;
    this.value.at(-1)?.pop();
    if (!this.value.at(-1)?.length) this.value.pop();
    this.changed();
  }
  draw(question) {
    const order = this.words(this.value);
    const next = this.whole ? "all are placed" : this.join ? "next: shares that place" : "next: press the number of the best one left";
    question.replaceChildren(element("p", { className: "fine" }, order ? `${order} (${next})` : next[0].toUpperCase() + next.slice(1)));
    this.shown.forEach((article, i) => article.classList.toggle("chosen", this.value.flat().includes(i)));
  }
  words(value) {
    return value.map((place) => place.map((i) => i + 1).sort().join(" = ")).join(" > ");
  }
  get whole() {
    return this.value.flat().length === this.item.texts.length;
  }
}

class Grades {
  start() {
    // What a level that was removed since said is asked again.
    const levels = this.scheme.criteria.map((one) => [one.id, new Map(one.levels)]), given = Object(this.value);
    this.value = Object.fromEntries(levels.filter(([id, known]) => known.has(given[id])).map(([id]) => [id, given[id]]));
  }
  articles() {
    return completions(this.item, () => "Completion");
  }
  get open() {
    const left = this.scheme.criteria.find((one) => !(one.id in this.value));
    return this.at ?? left?.id;
  }
  digit(number) {
    const criterion = this.scheme.criteria.find((one) => one.id === this.open);
    if (!criterion || number > criterion.levels.length) return false;
    this.pick(criterion.id, criterion.levels[number - 1][0]);
    return true;
  }
  pick(criterion, level) {
    this.value[criterion] = level;
    this.at = undefined;
    this.changed();
  }
  back() {
    const last = this.scheme.criteria.filter((one) => one.id in this.value).at(-1);
    if (last) delete this.value[last.id];
    this.changed();
  }
  draw(question) {
    question.replaceChildren(...this.scheme.criteria.map((one) =>
      choices(one.name, one.levels, this.value[one.id], one.id === this.open, (level) => this.pick(one.id, level))));
  }
  words(value) {
    return this.scheme.criteria.map((one) => `${one.name}: ${new Map(one.levels).get(value[one.id]) ?? "–"}`).join(", ");
  }
  get whole() {
    return this.scheme.criteria.every((one) => one.id in this.value);
  }
}

class Spans {
  start() {
    const labels = new Map(this.scheme.labels), given = Array.isArray(this.value) ? this.value : [];
    this.value = given.filter((span) => labels.has(span.label));
    this.removed = given.filter((span) => !labels.has(span.label));
    this.tokens = [...this.item.texts[0].text.matchAll(/\S+/gu)].map((found) => [found.index, found.index + found[0].length]);
    this.from = this.to = 0;
  }
  articles() {
    return completions(this.item, () => "Completion");
  }
  arrow(name, extend) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[name];
    this.to = Math.max(0, Math.min(this.tokens.length - 1, this.to + step));
    if (!extend) this.from = this.to;
    getSelection().removeAllRanges();
    this.changed();
    return true;
  }
  digit(number) {
    const label = this.scheme.labels[number - 1];
    if (!label) return false;
    this.mark(label[0]);
    return true;
  }
  mark(label) {
    const [first, last] = [Math.min(this.from, this.to), Math.max(this.from, this.to)];
    const stretch = selected(this.shown[0].querySelector("pre")) ?? (this.tokens.length ? { start: this.tokens[first][0], end: this.tokens[last][1] } : null);
    if (!stretch || this.value.some((one) => one.start === stretch.start && one.end === stretch.end && one.label === label)) return;
    this.value.push({ ...stretch, label });
    getSelection().removeAllRanges();
    this.changed();
  }
  back() {
    this.value.pop();
    this.changed();
  }
  draw(question) {
    const names = new Map(this.scheme.labels), one = this.item.texts[0];
    const spans = this.value.map((span) => ({ ...span, className: "span", title: names.get(span.label) }));
    const cursor = this.tokens.slice(Math.min(this.from, this.to), Math.max(this.from, this.to) + 1);
    const at = cursor.length ? [{ start: cursor[0][0], end: cursor.at(-1)[1], className: "cursor" }] : [];
    fill(this.shown[0].querySelector("pre"), one.text, [...figureMarks(one.figures, "completion"), ...spans, ...at]);
    const before = this.removed.map((span) => element("span", { className: "tag" }, `${one.text.slice(span.start, span.end)}: left out, there is no label ${span.label} now`));
    const found = spans.map((span) => element("span", { className: "tag" }, `${one.text.slice(span.start, span.end)}: ${span.title}`));
    question.replaceChildren(choices("Label the selection", this.scheme.labels, null, true, (label) => this.mark(label)),
      element("span", { className: "fine", role: "status" }, ...before, ...(found.length ? found : [`At: ${cursor.length ? one.text.slice(cursor[0][0], cursor.at(-1)[1]) : "nothing"}. Arrows move, with Shift they extend; Backspace takes the last span off.`])));
  }
  words(value) {
    return value.length ? `${value.length} spans` : "nothing wrong";
  }
  get whole() {
    return true;
  }
}

export const KINDS = { pairs: Pairs, rankings: Rankings, grades: Grades, spans: Spans };

// Show an item; `changed` is called whenever the answer in the making is another.
export function question(scheme, item, value, changed) {
  const made = new KINDS[scheme.kind]();
  Object.assign(made, { scheme, item, value: value === "skip" ? null : value });
  made.changed = () => { made.draw(document.getElementById("question")); changed(); };
  made.start?.();
  made.shown = made.articles();
  const source = document.getElementById("source");
  fill(source, item.source.text, figureMarks(item.source.figures, "source"));
  source.classList.toggle("aligned", / {3}/.test(item.source.text));  // a table set with spaces
  source.scrollTop = 0;
  document.getElementById("question").replaceChildren();
  document.getElementById("answers").replaceChildren(...made.shown);
  made.draw(document.getElementById("question"));
  return made;
}
