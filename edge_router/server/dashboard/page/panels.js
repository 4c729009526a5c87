// What the traffic amounts to, and how things stand.

import { bytes, count, element, find, list, money, plural, shape, share, span } from "./dom.js";

const PARTS = { parameters: "weights", kv_cache: "KV cache" };
const STATES = { ready: "ready", cooling: "asked to wait", failing: "failing" };

export function totals(told) {
  const { answers, here, away, again, errors, cost, saved, prices, unpriced } = told;
  const pairs = [
    ["answers", count(answers), errors ? `${count(errors)} ended badly` : ""],
    ["stayed here", share(here, answers), count(here)],
    ["went to the strong model", share(away, answers), count(away)],
  ];
  if (again) pairs.push(["given again", count(again)]);
  if (prices) pairs.push(["cost", money(cost)], ["saved, estimated", money(saved)]);
  list(find("totals"), pairs);
  const missing = unpriced && prices ? ` ${plural(unpriced, "answer")} without token counts ${unpriced === 1 ? "is" : "are"} not in it.` : "";
  find("prices").textContent = prices
    ? `Priced by ${prices.source}: ${prices.price_in} and ${prices.price_out} for a million tokens of prompt and answer. ` +
      `What stayed here is counted by its own tokens.${missing}`
    : "For money, set what a million tokens cost: edge-router config set strong.price_in=2 strong.price_out=8";
  const rules = told.rules.map(({ name, tier, answers: hits }) => [`${name} (${tier === "weak" ? "here" : "strong"})`, count(hits)]);
  list(find("rules"), rules.length ? rules : [["no rule had a say", ""]]);
  const reasons = told.reasons.map(({ reason, tier, answers: n }) =>
    [`${reason.replaceAll("_", " ")}, ${tier === "weak" ? "here" : "strong"}`, `${count(n)} (${share(n, answers)})`]);
  list(find("reasons"), reasons.length ? reasons : [["nothing was decided yet", ""]]);
}

export function facts(told) {
  const strong = told.offline ? "none, for the network is switched off" : told.strong ?? "none";
  find("models").textContent = `weak: ${told.weak.model}; strong: ${strong}`;
  memory(told);
  sessions(told.sessions);
  endpoints(told);
  cache(told.cache);
}

function memory({ memory: { planned, budget, resident, peak }, weak }) {
  const total = Object.values(planned).reduce((sum, part) => sum + part, 0);
  const pairs = [];
  const meters = [];
  if (total) {
    pairs.push(["planned, of a budget of " + bytes(budget), bytes(total)]);
    for (const [part, size] of Object.entries(planned)) {
      if (size) pairs.push([`- ${PARTS[part] ?? part.replaceAll("_", " ")}`, bytes(size)]);
    }
    if (!weak.on_gpu) meters.push(meter(resident / total, `measured: ${share(resident, total)} of the plan`));
  } else {
    pairs.push(["no plan: the weak model is not loaded, or another program's", ""]);
  }
  pairs.push([weak.on_gpu ? "measured beside the GPU, now" : "measured, now", bytes(resident)], ["at most", bytes(peak)]);
  if (total && !weak.on_gpu) pairs.push(["the most, less the plan", `${peak > total ? "+" : ""}${bytes(peak - total)}`]);
  const told = JSON.stringify(pairs);
  const into = find("memory");
  if (into.dataset.told === told) return;
  into.dataset.told = told;
  const shown = element("dl", { class: "pairs" });
  list(shown, pairs);
  into.replaceChildren(...meters, shown);
}

function meter(part, text) {
  const bar = shape("rect", { class: part > 1 ? "strong" : "weak", width: 100 * Math.min(part, 1), height: 10 });
  const svg = shape("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": text }, bar);
  return element("div", { class: "meter" }, svg);
}

function sessions({ enabled, fingerprints, held, tokens }) {
  const names = { tool_call: "the tool's result came", prompt: "its prompt was read" };
  const pairs = [["remembered turns", enabled ? count(fingerprints ?? 0) : "off"]];
  for (const each of held) {
    pairs.push([`stayed ${each.tier === "weak" ? "here" : "with the strong one"}: ${names[each.held] ?? each.held}`, count(each.answers)]);
  }
  const spared = Object.values(tokens).reduce((sum, value) => sum + value, 0);
  if (spared) pairs.push(["tokens not read again", count(spared)]);
  list(find("sessions"), pairs);
}

function endpoints({ weak, strong, endpoints: all, defects }) {
  const restarts = weak.restarts?.count ? `, started again ${plural(weak.restarts.count, "time")}` : "";
  const pairs = [[weak.model, (weak.loaded ? `loaded${weak.on_gpu ? " on the GPU" : ""}` : "not loaded") + restarts]];
  if (weak.context_window) pairs.push(["its context, tokens", count(weak.context_window)]);
  for (const each of all) {
    const again = each.again_s ? `, for ${span(each.again_s)}` : "";
    const busy = each.in_flight ? `, ${count(each.in_flight)} under way` : "";
    pairs.push([each.name, (STATES[each.state] ?? each.state) + again + busy]);
  }
  if (!all.length) pairs.push([strong ?? "strong model", strong ? "its only endpoint" : "none is set"]);
  for (const each of defects) pairs.push([`mistakes in ${each.component}: ${each.error}`, count(each.count)]);
  list(find("endpoints"), pairs);
}

function cache({ mode, lookups, answers, bytes: size }) {
  if (mode === "off") {
    list(find("cache"), [["response_cache.mode", "off"]]);
    return;
  }
  const looks = Object.entries(lookups).map(([result, times]) => [`looked up: ${result}`, count(times)]);
  list(find("cache"), [["kept", `${plural(answers ?? 0, "answer")}, ${bytes(size ?? 0)}`], ["where", mode], ...looks]);
}
