// Answers wait in the browser's storage until the server has them on disk, whatever happens to the network or the tab.

export const RETRY = 1500;
const MOST = 100, LARGEST = 300_000;  // actions, and characters, of a request

export async function ask(name, body, patience = 20_000) {
  const reply = await fetch(`/api/${name}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(patience),
  }).catch(() => { throw new Error("The server does not answer."); });
  const said = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(said.error), { status: reply.status, current: said.current });
  return said;
}

// How many answers wait in this browser, of any project of this address.
export function waitingHere() {
  return Object.keys(localStorage).filter((name) => /^tieout\/.*\/answer\/[^/]*$/.test(name)).length;
}

export class Queue {
  // changed(): something waits, or no longer does; done(action, reply); refused(action, error).
  constructor(project, annotator, { changed, done, refused }) {
    this.prefix = `tieout/${project}/${annotator}/answer/`;
    this.aside = `tieout/${project}/${annotator}/aside/`;
    Object.assign(this, { changed, done, refused, memory: new Map(), state: "", running: null, timer: 0 });
    this.names = this.stored(this.prefix);  // of what waits, the first one first
    addEventListener("storage", (event) => this.heard(event));
    addEventListener("online", () => this.flush());
    addEventListener("beforeunload", (event) => { if (this.memory.size) event.preventDefault(); });
  }

  stored(prefix) {
    return Object.keys(localStorage).filter((name) => name.startsWith(prefix)).sort();
  }

  // Another tab of the same name has added or sent something.
  heard({ key, newValue }) {
    if (!key?.startsWith(this.prefix)) return;
    this.names = this.names.filter((name) => name !== key);
    if (newValue !== null) this.names = [...this.names, key].sort();
    this.changed();
  }

  // null: another tab has sent it.
  read(name) {
    const kept = this.memory.get(name) ?? JSON.parse(localStorage.getItem(name));
    return kept && { ...kept, name };
  }

  waiting() {
    return this.names.map((name) => this.read(name)).filter(Boolean);
  }

  setAside() {
    return this.stored(this.aside).map((name) => this.read(name));
  }

  add(action) {
    const last = this.names.at(-1)?.slice(this.prefix.length).split("-")[0] ?? 0;
    const name = `${this.prefix}${String(Number(last) + 1).padStart(9, "0")}-${action.id}`;
    try {
      localStorage.setItem(name, JSON.stringify(action));
    } catch {
      this.memory.set(name, action);  // the browser's storage is full: leaving the page asks first
    }
    this.names.push(name);
    this.changed();
    if (!this.timer) this.flush();
  }

  remove(name) {
    localStorage.removeItem(name);
    this.memory.delete(name);
    this.names = this.names.filter((one) => one !== name);
  }

  next(most) {
    const taken = [];
    let size = 0;
    for (const name of this.names) {
      if (taken.length === most) break;
      const action = this.read(name);
      if (!action) this.remove(name);
      else if ((size += JSON.stringify(action).length) > LARGEST && taken.length) break;
      else taken.push(action);
    }
    return taken;
  }

  // Resolves when nothing waits any longer, or nothing more can be sent now.
  flush() {
    return (this.running ??= this.send().finally(() => { this.running = null; this.changed(); }));
  }

  async send() {
    clearTimeout(this.timer);
    this.timer = 0;
    for (let most = MOST, actions; (actions = this.next(most)).length; ) {
      let replies;
      try {
        ({ replies } = await ask("save", { actions }));
      } catch (error) {
        if (![400, 413].includes(error.status)) {
          this.state = error.status === 507 ? error.message : error.status ? `refused: ${error.message}` : "no connection";
          this.timer = setTimeout(() => this.flush(), RETRY);
          return;
        }
        if (actions.length > 1) {
          most = 1;  // to find the one
          continue;
        }
        replies = [{ status: error.status, error: error.message }];
      }
      this.state = "";
      replies.forEach((reply, i) => this.replied(actions[i], reply));
    }
    this.state = "";
  }

  replied(action, reply) {
    const { error, current } = reply;
    if (reply.status) localStorage.setItem(action.name.replace(this.prefix, this.aside), JSON.stringify({ ...action, error, current }));
    this.remove(action.name);
    if (reply.status) this.refused();
    else this.done(action, reply);
  }
}
