// The table of decisions, newest first: those that the ledger has, and each new one as it is made.

import { element, find, plural, score } from "./dom.js";

const SHOWN = 100;
const FEW = 12; // without a click; the style sheet hides the others
const TELL_MS = 10_000; // a screen reader is told how many came, and no more often
const COLUMNS = ["Time", "Went to", "Model", "Score", "Threshold", "Why", "First token", "All"];
const NUMBERS = new Set(["Score", "Threshold", "First token", "All"]);
const clock = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });

export class Decisions {
  constructor() {
    this.known = new Set();
    this.waiting = [];
    this.news = { weak: 0, strong: 0 };
    this.telling = null;
    find("columns").replaceChildren(...COLUMNS.map((name) => element("th", {
      text: name, scope: "col", role: "columnheader", class: NUMBERS.has(name) ? "number" : null,
    })));
    const button = find("pause");
    button.addEventListener("click", () => {
      this.paused = !this.paused;
      button.setAttribute("aria-pressed", String(this.paused));
      button.textContent = this.paused ? "Go on" : "Pause";
      if (!this.paused) this.show(this.waiting.splice(0));
    });
    this.paused = false;
    const more = find("more");
    more.addEventListener("click", () => {
      const few = find("rows").parentElement.classList.toggle("few");
      more.setAttribute("aria-pressed", String(!few));
    });
  }

  // All that the server has of them, newest first.
  fill(rows) {
    this.show(rows.toReversed());
  }

  add(row) {
    this.news[row.tier] += 1;
    this.telling ??= setTimeout(() => this.tell(), TELL_MS);
    if (this.paused) this.waiting = [...this.waiting.slice(1 - SHOWN), row];
    else this.show([row]);
  }

  tell() {
    const { weak, strong } = this.news;
    find("news").textContent = `${plural(weak + strong, "new decision")}: ${weak} stayed here, ${strong} went away.`;
    this.news = { weak: 0, strong: 0 };
    this.telling = null;
  }

  // Oldest first. What comes by the stream and by the list is shown once.
  show(rows) {
    const key = (row) => `${row.time} ${row.model}`;
    const fresh = rows.filter((row) => !this.known.has(key(row)));
    const body = find("rows");
    for (const row of fresh) {
      this.known.add(key(row));
      body.prepend(line(row));
    }
    while (body.childElementCount > SHOWN) body.lastElementChild.remove();
    if (this.known.size > 4 * SHOWN) this.known = new Set([...this.known].slice(-2 * SHOWN));
    find("more").hidden = body.childElementCount <= FEW;
    find("none").hidden = body.childElementCount > 0;
    body.parentElement.hidden = body.childElementCount === 0;
  }
}

function line(row) {
  const when = new Date(row.time * 1000);
  const to = element("span", { class: `to ${row.tier}`, text: row.tier === "strong" ? "strong" : "here" });
  const why = element("td", { class: "full", text: row.why });
  if (row.cause) why.append(element("span", { class: "prompt", text: `first tried: ${row.cause_message ?? row.cause}` }));
  if (row.error) why.append(element("span", { class: "prompt error", text: `ended in ${row.error}` }));
  if (row.prompt) why.append(element("span", { class: "prompt", text: row.prompt }));
  const model = [row.model || "-", row.endpoint && `at ${row.endpoint}`, row.caller && `for ${row.caller}`];
  const cells = [
    element("td", { class: "time", text: clock.format(when), title: day.format(when) }),
    element("td", {}, to),
    element("td", { text: model.filter(Boolean).join(" ") }),
    element("td", { class: "number", text: score(row.score) }),
    element("td", { class: "number", text: score(row.threshold) }),
    why,
    element("td", { class: "number", text: milliseconds(row.ttft_ms) }),
    element("td", { class: "number", text: milliseconds(row.total_ms) }),
  ];
  cells.forEach((cell, at) => {
    cell.setAttribute("role", "cell");
    cell.dataset.name = COLUMNS[at];
  });
  return element("tr", { role: "row" }, ...cells);
}

function milliseconds(value) {
  if (value === null) return "-";
  return value < 10_000 ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
