"use strict";
// Sorting moves a claim's <tbody>; filtering hides it. Without this script the report is complete, in the run's order and unfolded.

function sortTable(button) {
  const heading = button.closest("th");
  const table = heading.closest("table");
  const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const value = (claim) => claim.querySelector(`[data-key="${button.dataset.key}"]`).dataset.value;
  const compare = (one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what was not measured stays last, either way
    const difference = Number(a) - Number(b);
    return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
  };
  table.append(...[...table.tBodies].sort(compare));
}

// What is filtered for stands in the address, as `#?verdict=refuted&basis=published&text=mover`: no anchor begins with `?`.
const GROUPS = ["verdict", "basis", "chapter"];
const claims = [...document.querySelectorAll(".claim")];
const chips = [...document.querySelectorAll(".chip[data-group]")];
const field = document.getElementById("filter_text");
const texts = new Map();
let linked = null; // the claim that a link led to: shown, whatever the filters say

function textOf(claim) {
  if (!texts.has(claim)) {
    const parts = claim.querySelectorAll(".name, .measure, .source, .more > td > .reason");
    texts.set(claim, [...parts].map((part) => part.textContent).join(" ").toLowerCase());
  }
  return texts.get(claim);
}

function chosen() {
  const state = { text: field.value.trim().toLowerCase().split(/\s+/).filter(Boolean) };
  for (const group of GROUPS) {
    state[group] = chips.filter((chip) => chip.dataset.group === group && pressed(chip)).map((chip) => chip.dataset.value);
  }
  return state;
}

function pressed(chip) {
  return chip.getAttribute("aria-pressed") === "true";
}

function matches(claim, state, but) {
  const one = (group) => group === but || !state[group].length || state[group].includes(claim.dataset[group]);
  return GROUPS.every(one) && state.text.every((word) => textOf(claim).includes(word));
}

function filterClaims() {
  const state = chosen();
  const filtered = state.text.length > 0 || GROUPS.some((group) => state[group].length > 0);
  for (const claim of claims) claim.hidden = claim !== linked && !matches(claim, state);
  const shown = claims.filter((claim) => !claim.hidden);
  const folded = shown.filter((claim) => claim.closest(".fold"));
  // Each chip counts what would be shown with it beside the other groups' filters.
  for (const chip of chips) {
    const { group, value } = chip.dataset;
    const n = claims.filter((claim) => claim.dataset[group] === value && matches(claim, state, group)).length;
    chip.querySelector("b").textContent = n;
    chip.classList.toggle("none", n === 0);
  }
  for (const why of document.querySelectorAll(".why")) {
    const n = why.querySelectorAll(".claim:not([hidden])").length;
    why.hidden = n === 0;
    why.querySelector("small").textContent = n;
  }
  for (const fold of document.querySelectorAll(".fold")) {
    const n = fold.querySelectorAll(".claim:not([hidden])").length;
    fold.hidden = n === 0;
    fold.querySelector(".folded").textContent = n;
    // Whoever asks for the untested, or for what only they match, sees them.
    fold.open = state.verdict.includes("untested") || (filtered && folded.length === shown.length) || fold.contains(linked);
  }
  for (const table of document.querySelectorAll("table.tested")) table.hidden = !table.querySelector(".claim:not([hidden])");
  for (const figure of document.querySelectorAll("figure[data-claims]")) {
    figure.hidden = !figure.dataset.claims.split(" ").some((id) => !document.getElementById(id).hidden);
  }
  for (const chapter of document.querySelectorAll(".chapter")) chapter.hidden = !chapter.querySelector(".claim:not([hidden])");
  document.querySelector(".nothing").hidden = shown.length > 0;
  document.querySelector(".clear").hidden = !filtered;
  const status = document.querySelector(".shown");
  const away = folded.filter((claim) => !claim.closest(".fold").open).length;
  status.textContent = `${filtered ? `${shown.length} of ${claims.length}` : claims.length} claims${away ? `, ${away} of them untested and folded away` : ""}`;
  status.classList.toggle("filtered", filtered);
}

function writeAddress() {
  const state = new URLSearchParams();
  for (const chip of chips) if (pressed(chip)) state.append(chip.dataset.group, chip.dataset.value);
  if (field.value.trim()) state.append("text", field.value.trim());
  const said = String(state);
  history.replaceState(null, "", location.href.split("#")[0] + (said ? `#?${said}` : ""));
}

function readAddress() {
  const state = new URLSearchParams(location.hash.slice(2));
  for (const chip of chips) chip.setAttribute("aria-pressed", String(state.getAll(chip.dataset.group).includes(chip.dataset.value)));
  field.value = state.get("text") || "";
  linked = null;
  filterClaims();
  document.querySelector(".filters").scrollIntoView(); // whoever follows such a link wants what it filters for
}

function changed() {
  linked = null;
  filterClaims();
  writeAddress();
}

// A link opens whatever was closed around what it leads to, and shows it though a filter hides it.
function openTarget() {
  let id = location.hash.slice(1);
  try {
    id = decodeURIComponent(id);
  } catch {} // no anchor of this page is percent-encoded wrongly
  const target = id && document.getElementById(id);
  if (!target) return;
  const claim = target.closest(".claim");
  if (claim && claims.length) {
    linked = claim;
    filterClaims();
  }
  const whole = target.querySelector(":scope > .whole");
  if (whole) whole.open = true;
  for (let around = target; around; around = around.parentElement) {
    around.hidden = false;
    if (around.tagName === "DETAILS") around.open = true;
  }
  target.scrollIntoView();
}

function followAddress() {
  if (location.hash.startsWith("#?") && claims.length) readAddress();
  else openTarget();
}

for (const button of document.querySelectorAll(".sort")) button.addEventListener("click", () => sortTable(button));
if (claims.length) {
  document.querySelector(".filters").hidden = false;
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      chip.setAttribute("aria-pressed", String(!pressed(chip)));
      changed();
    });
  }
  field.addEventListener("input", changed);
  document.querySelector(".clear").addEventListener("click", () => {
    for (const chip of chips) chip.setAttribute("aria-pressed", "false");
    field.value = "";
    changed();
    field.focus(); // the button that had the focus is gone
  });
  filterClaims();
}
window.addEventListener("hashchange", followAddress);
if (location.hash) followAddress();

// On paper nothing can be unfolded.
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
window.addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
