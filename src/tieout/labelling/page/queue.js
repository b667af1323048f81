// Answers wait in the browser's storage until the server has them on disk, whatever happens to the network or the tab.

export async function ask(name, body) {
  const reply = await fetch(`/api/${name}`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal: AbortSignal.timeout(20000),
  });
  const said = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(said.error), { status: reply.status, current: said.current });
  return said;
}

export class Queue {
  // changed(): something waits, or no longer does; done(action, reply); refused(action, error).
  constructor(project, annotator, { changed, done, refused }) {
    this.prefix = `tieout/${project}/${annotator}/answer/`;
    this.aside = `tieout/${project}/${annotator}/aside/`;
    Object.assign(this, { changed, done, refused, memory: new Map(), state: "", busy: false });
    addEventListener("online", () => this.flush());
    addEventListener("beforeunload", (event) => { if (this.memory.size) event.preventDefault(); });
  }

  names(prefix = this.prefix) {
    const stored = Object.keys(localStorage).filter((name) => name.startsWith(prefix)).sort();
    return prefix === this.prefix ? [...stored, ...this.memory.keys()] : stored;
  }

  read(name) {
    return this.memory.get(name) ?? { ...JSON.parse(localStorage.getItem(name)), name };
  }

  waiting(prefix = this.prefix) {
    return this.names(prefix).map((name) => this.read(name));
  }

  add(action) {
    const last = this.names().at(-1)?.slice(this.prefix.length).split("-")[0] ?? 0;
    action.name = `${this.prefix}${String(Number(last) + 1).padStart(9, "0")}-${action.id}`;
    try {
      localStorage.setItem(action.name, JSON.stringify(action));
    } catch {
      this.memory.set(action.name, action);  // the browser's storage is full: leaving the page asks first
    }
    this.changed();
    this.flush();
  }

  remove(name) {
    localStorage.removeItem(name);
    this.memory.delete(name);
  }

  async flush() {
    if (this.busy) return;
    this.busy = true;
    clearTimeout(this.timer);
    try {
      for (let name; (name = this.names()[0]); ) {
        const action = this.read(name);
        let reply;
        try {
          reply = await ask(action.what, action);
        } catch (error) {
          if (![400, 409, 413].includes(error.status)) {
            this.state = error.status === 507 ? error.message : error.status ? `refused: ${error.message}` : "no connection";
            this.timer = setTimeout(() => this.flush(), 1500);
            return;
          }
          localStorage.setItem(action.name.replace(this.prefix, this.aside), JSON.stringify({ ...action, error: error.message, current: error.current }));
          this.remove(action.name);
          this.refused();
          continue;
        }
        this.state = "";
        this.remove(action.name);
        this.done(action, reply);
      }
      this.state = "";
    } finally {
      this.busy = false;
      this.changed();
    }
  }
}
