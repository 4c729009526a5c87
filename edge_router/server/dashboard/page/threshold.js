// Scores as bars, and a threshold over them: what share would go away from there on, and what that would cost.

import { post } from "./api.js";
import { count, find, list, money, plural, score, shape, share } from "./dom.js";

const BARS = 40;

export class Threshold {
  constructor(problem) {
    this.told = null;
    this.moved = false; // by hand; else it follows the server's
    this.saved = null;
    find("at").addEventListener("input", () => {
      this.moved = true;
      this.draw();
    });
    find("reset").addEventListener("click", () => {
      this.moved = false;
      this.place();
    });
    find("save").addEventListener("click", () => this.save(problem));
  }

  update(told) {
    this.told = told;
    this.place();
  }

  // Bars count what is between their edges, which are steps of the scores, too; one step in two was cut.
  place() {
    const { threshold, bins } = this.told;
    const slider = find("at");
    slider.disabled = false;
    if (!this.moved) slider.value = threshold ?? 0.5;
    const width = 100 / BARS;
    const heights = new Array(BARS).fill(0);
    for (const bin of bins) heights[Math.min(Math.floor(bin.start * BARS + 1e-9), BARS - 1)] += bin.answers;
    const most = Math.max(1, ...heights);
    const svg = find("bars");
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.querySelectorAll("rect").forEach((each) => each.remove());
    heights.forEach((answers, at) => {
      if (!answers) return;
      const height = Math.max(1, 96 * answers / most);
      const place = { x: at * width + 0.15, y: 100 - height, width: width - 0.3, height };
      svg.append(shape("rect", { ...place, "data-start": at / BARS }));
    });
    const scored = bins.reduce((sum, bin) => sum + bin.answers, 0);
    find("bars-title").textContent = scored
      ? `${plural(scored, "answer")} that a score decided; the highest bar has ${count(most)}.`
      : "No answer was decided by a score yet.";
    this.draw();
  }

  // The slider has steps; where it was not moved the threshold is exactly the server's.
  get at() {
    return this.moved || this.told.threshold === null ? Number(find("at").value) : this.told.threshold;
  }

  draw() {
    const { at, told } = this;
    for (const bar of find("bars").querySelectorAll("rect")) {
      bar.setAttribute("class", Number(bar.dataset.start) + 1 / (2 * BARS) < at ? "weak" : "strong");
    }
    const from = told.bins.filter((bin) => bin.start >= at - 1e-9);
    const away = told.fixed.away + from.reduce((sum, bin) => sum + bin.answers, 0);
    const cost = told.cost === null ? null : told.fixed.cost + from.reduce((sum, bin) => sum + bin.worth, 0);
    const priced = cost === null ? [] : [["would cost", money(cost), `now ${money(told.cost)}`]];
    const now = `now ${share(told.away, told.answers)}`;
    list(find("would"), [
      ["threshold", score(at), told.threshold === null ? "none is known yet" : `now ${score(told.threshold)}`],
      ["would go away", share(away, told.answers), now],
      ...priced,
    ]);
    const words = `${at.toFixed(3)}: ${share(away, told.answers)} would go to the strong model`;
    find("at").setAttribute("aria-valuetext", cost === null ? words : `${words}, for ${money(cost)}`);
    const changed = this.moved && at !== told.threshold && at !== this.saved;
    find("save").disabled = !changed || told.fixed_by !== null;
    find("reset").disabled = !this.moved;
    if (told.fixed_by !== null && this.moved) find("saved").textContent = told.fixed_by;
  }

  async save(problem) {
    const value = this.at;
    find("save").disabled = true;
    try {
      const { file, notes } = await post("threshold", { threshold: value });
      this.saved = value;
      const where = `router.threshold = ${value} is written in ${file}. It counts from the next start of the server.`;
      find("saved").textContent = [where, ...notes].join(" ");
      problem(null);
    } catch (error) {
      problem(error);
    }
    this.draw();
  }
}
