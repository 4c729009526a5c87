// Elements and numbers. All text gets in by textContent: names of models, prompts, sessions are anybody's words.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

export function element(name, { text, ...attributes } = {}, ...children) {
  return filled(document.createElement(name), text, attributes, children);
}

export function shape(name, { text, ...attributes } = {}, ...children) {
  return filled(document.createElementNS(SVG, name), text, attributes, children);
}

function filled(made, text, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  if (text !== undefined && text !== null) made.textContent = text;
  made.append(...children);
  return made;
}

// A list of terms and their values. Nothing is touched where nothing has changed: a reader's place stays.
export function list(into, pairs) {
  const told = JSON.stringify(pairs);
  if (into.dataset.told === told) return;
  into.dataset.told = told;
  into.replaceChildren(...pairs.flatMap(([term, value, small]) => {
    const shown = element("dd", { text: value });
    if (small) shown.append(" ", element("small", { text: small }));
    const named = element("dt", { text: term });
    return into.classList.contains("tiles") ? [element("div", {}, named, shown)] : [named, shown];
  }));
}

const whole = new Intl.NumberFormat("en");
export const count = (value) => whole.format(value);
export const plural = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
export const share = (part, all) => (all ? `${(100 * part / all).toFixed(part && part < all / 100 ? 1 : 0)} %` : "-");
export const score = (value) => (value === null || value === undefined ? "-" : value.toFixed(3));

// As many places as it takes to see something; in whatever money the prices are.
export function money(value) {
  if (value === null || value === undefined) return "-";
  return value === 0 || Math.abs(value) >= 0.1 ? value.toFixed(2) : value.toFixed(4);
}

export function bytes(value) {
  if (value === null || value === undefined) return "-";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; Math.abs(value) >= 1024 && at < units.length - 1; at += 1) value /= 1024;
  return `${value.toFixed(at > 2 ? 2 : 0)} ${units[at]}`;
}

export function span(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 3600 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
