// The prompt box: where a prompt would go, and why.

import { post } from "./api.js";
import { element, find, list, score } from "./dom.js";

export function explains() {
  const form = find("explain");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      show(await post("explain", { prompt: find("prompt").value, private: find("private").checked }));
    } catch (error) {
      find("explained").replaceChildren(element("p", { class: "error", text: error.message }));
    }
    button.disabled = false;
  });
  // Ctrl+Enter asks, as in other boxes of many lines; Enter alone is a line of the prompt.
  find("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
}

function show(told) {
  const stays = told.model === "weak";
  const to = element("span", { class: `to ${stays ? "weak" : "strong"}`, text: stays ? "stays here" : "goes to the strong model" });
  const facts = element("dl", { class: "pairs" });
  const pairs = [
    ["score", score(told.score)],
    ["threshold", score(told.threshold)],
    ["reason", told.reason],
    ["router", told.router ?? "not asked"],
    ["rule", told.rule],
    ["found by the guard", told.found?.join(", ")],
    ["model chosen by the score", told.tier_model],
    ["decided in", `${told.ms.toFixed(1)} ms`],
  ];
  list(facts, pairs.filter(([, value]) => value !== undefined && value !== null));
  find("explained").replaceChildren(element("p", {}, to, ` ${told.why}.`), facts);
}
