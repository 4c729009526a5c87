// The page: what it asks for when it opens, and again when something was decided while somebody looks.

import { get, Live } from "./api.js";
import { Decisions } from "./decisions.js";
import { find } from "./dom.js";
import { explains } from "./explain.js";
import { facts, totals } from "./panels.js";
import { Threshold } from "./threshold.js";

const SUMS_MS = 3000; // between two looks at the sums where much is decided
const FACTS_MS = 10_000; // memory moves without a decision, too

// The link's token is used up; it need not stand in the address, nor be copied from there.
if (location.search) history.replaceState(null, "", "/");

const decisions = new Decisions();
const problems = new Map();
const threshold = new Threshold((error) => problem("threshold", error));
explains();

// What keeps one thing from being shown stays told while the others are.
function problem(of, error) {
  if (error === null) problems.delete(of);
  else problems.set(of, error.message);
  const words = [...new Set(problems.values())].join(" ");
  find("problem").hidden = !words;
  if (find("problem").textContent !== words) find("problem").textContent = words;
}

function state(name, text) {
  find("state").className = name;
  if (find("state-text").textContent !== text) find("state-text").textContent = text;
}

async function sums() {
  const days = find("days").value;
  const told = await get(days ? `traffic?days=${days}` : "traffic");
  find("off").hidden = told.off === undefined;
  find("off").textContent = told.off ?? "";
  find("threshold").hidden = find("totals").hidden = told.off !== undefined;
  if (told.off !== undefined) return;
  totals(told);
  threshold.update(told);
}

const stand = async () => facts(await get("facts"));

// Runs `work` at once, and again at most once in `wait` however often it is asked for. What takes long, as sums
// over a million answers do, is asked for less often.
function spaced(work, wait) {
  let busy = false;
  let again = false;
  return async function run() {
    again = true;
    if (busy) return;
    busy = true;
    while (again) {
      again = false;
      const begun = performance.now();
      try {
        await work();
        problem(work, null);
      } catch (error) {
        // While the server is away the state says so, and a fetch has nothing to add.
        problem(work, error instanceof TypeError ? null : error);
      }
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, 5 * (performance.now() - begun))));
    }
    busy = false;
  };
}

const soonSums = spaced(sums, SUMS_MS);
const soonFacts = spaced(stand, SUMS_MS);
find("days").addEventListener("change", () => sums().catch((error) => problem(sums, error)));

let looking = null;

new Live({
  async opened() {
    state("live", "Live");
    soonSums();
    soonFacts();
    looking ??= setInterval(() => document.hidden || soonFacts(), FACTS_MS);
    try {
      decisions.fill((await get("decisions")).decisions);
      problem("decisions", null);
    } catch (error) {
      problem("decisions", error);
    }
  },
  lost(forGood) {
    clearInterval(looking);
    looking = null;
    if (!forGood) state("lost", "The server is away; trying again");
    else get("facts").then(
      () => state("lost", "Too many pages are open: close one, and load this one anew"),
      (error) => state("lost", error.message),
    );
  },
  decided(row) {
    decisions.add(row);
    soonSums();
    soonFacts();
  },
});
