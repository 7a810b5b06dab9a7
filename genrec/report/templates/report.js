"use strict";
// Users' words reach the page only as text nodes, never as markup.

const PAGE = 20;

for (const table of document.querySelectorAll("table[data-switch]")) {
  for (const button of document.querySelectorAll(`input[name="${table.dataset.switch}"]`)) {
    button.addEventListener("change", () => {
      for (const cell of table.querySelectorAll("[data-k]")) cell.hidden = cell.dataset.k !== button.value;
    });
  }
}

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    const pressed = [...document.querySelectorAll('.legend button[aria-pressed="true"]')];
    const names = new Set(pressed.map((each) => each.dataset.series));
    const charts = document.querySelector("#curves .charts");
    charts.classList.toggle("picked", names.size > 0);
    for (const line of charts.querySelectorAll("[data-series]")) line.classList.toggle("on", names.has(line.dataset.series));
  });
}

const data = document.getElementById("user-data");
if (data) showUsers(JSON.parse(data.textContent));

function showUsers(users) {
  const query = document.getElementById("query");
  const outcome = document.getElementById("outcome");
  const cards = document.getElementById("cards");
  const more = document.getElementById("more");
  const texts = users.map((user) => fold([
    user.user, user.target, ...user.history,
    ...user.recommendations.flatMap((item) => [item.title, item.generated, item.explanation]),
  ].join("\n")));
  let matches = users;
  let shown = 0;

  function search() {
    const words = fold(query.value).split(/\s+/).filter(Boolean);
    matches = users.filter((user, row) => words.every((word) => texts[row].includes(word)) && fits(user));
    cards.replaceChildren();
    shown = 0;
    show();
    document.getElementById("found").textContent =
      matches.length === users.length ? `${users.length} users` : `${matches.length} of ${users.length} users`;
  }

  function fits(user) {
    const hit = user.recommendations.some((item) => item.is_target);
    return outcome.value === "" || hit === (outcome.value === "hit");
  }

  function show() {
    const words = fold(query.value).split(/\s+/).filter(Boolean);
    const next = matches.slice(shown, shown + PAGE);
    cards.append(...next.map((user) => card(user, words)));
    shown += next.length;
    more.hidden = shown >= matches.length;
    more.textContent = `Show ${Math.min(PAGE, matches.length - shown)} more of ${matches.length - shown}`;
  }

  function fromAddress() {
    if (!location.hash.startsWith("#q=")) return;
    query.value = readable(location.hash.slice(3));
    search();
  }

  query.addEventListener("input", () => {
    history.replaceState(null, "", query.value ? `#q=${encodeURIComponent(query.value)}` : "#users");
    search();
  });
  outcome.addEventListener("change", search);
  document.getElementById("search").addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", show);
  window.addEventListener("hashchange", fromAddress);
  search();
  fromAddress();
}

function readable(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// Case and accents do not matter to a search.
function fold(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// The text with the searched words marked. Where folding changes the length, places would not fit, so nothing is marked.
function marked(text, words) {
  const plain = fold(text);
  const made = document.createDocumentFragment();
  if (!words.length || plain.length !== text.length) {
    made.append(text);
    return made;
  }
  let start = 0;
  while (start < text.length) {
    let at = -1;
    let length = 0;
    for (const word of words) {
      const place = plain.indexOf(word, start);
      if (place >= 0 && (at < 0 || place < at || (place === at && word.length > length))) [at, length] = [place, word.length];
    }
    if (at < 0) break;
    made.append(text.slice(start, at), element("mark", "", text.slice(at, at + length)));
    start = at + length;
  }
  made.append(text.slice(start));
  return made;
}

function card(user, words) {
  const hit = user.recommendations.find((item) => item.is_target);
  const badge = element("span", hit ? "badge hit" : "badge", hit ? `target at rank ${hit.rank}` : "target not in the list");
  const earlier = user.history_length - user.history.length;
  const past = element("p", "history", element("span", "label", earlier > 0 ? `Took ${earlier} earlier items, then` : "Took"));
  for (const title of user.history) past.append(" ", element("span", "", marked(title, words)));
  const next = element("p", "", element("span", "label", "Then took "), element("b", "", marked(user.target, words)));
  const items = element("ol", "items", ...user.recommendations.map((item) => recommendation(item, words)));
  const heading = element("h3", "", element("span", "", "User ", marked(user.user, words)), badge);
  return element("article", "card", heading, past, next, items);
}

function recommendation(item, words) {
  const body = element("div", "", element("span", "title", marked(item.title, words)));
  const facts = [];
  if (item.score !== null) facts.push(`score\u00A0${figure(item.score)}`);
  for (const [name, value] of Object.entries(item.signals)) facts.push(`${name}\u00A0${figure(value)}`);
  if (item.generated || item.how) {
    const said = element("small", "", item.generated ? "wrote \u201C" : "");
    if (item.generated) said.append(marked(item.generated, words), "\u201D");
    if (item.how) said.append(item.generated ? `, ${item.how}` : item.how);
    body.append(said);
  }
  if (facts.length) body.append(element("small", "", facts.join(" \u00B7 ")));
  if (item.parts) body.append(element("small", "parts", item.parts));
  if (item.explanation) body.append(element("div", "why", marked(item.explanation, words)));
  return element("li", item.is_target ? "target" : "", element("span", "rank", String(item.rank)), body);
}

function figure(value) {
  return Math.abs(value) >= 1000 ? Math.round(value).toString() : String(Number(value.toPrecision(3)));
}
