// What the server is asked: its data, and the decisions as they are made.

const PREFIX = "/dashboard/";

export const get = (name) => asked(name, {});

export const post = (name, body) =>
  asked(name, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

async function asked(name, options) {
  const reply = await fetch(PREFIX + name, options);
  const told = await reply.json();
  if (!reply.ok) throw new Error(told.error?.message ?? `The server answered with ${reply.status}.`);
  return told;
}

// One stream while the page is seen. A browser opens few connections to a server, and a hidden page needs none.
export class Live {
  constructor({ opened, lost, decided }) {
    Object.assign(this, { opened, lost, decided, source: null });
    document.addEventListener("visibilitychange", () => this.look());
    addEventListener("pagehide", () => this.close());
    addEventListener("pageshow", () => this.look());
    this.look();
  }

  look() {
    if (document.hidden) this.close();
    else if (this.source === null) this.open();
  }

  open() {
    const source = this.source = new EventSource(`${PREFIX}events`);
    source.onopen = () => this.opened();
    source.onerror = () => this.lost(source.readyState === EventSource.CLOSED);
    source.addEventListener("decision", (event) => this.decided(JSON.parse(event.data)));
  }

  close() {
    this.source?.close();
    this.source = null;
  }
}
