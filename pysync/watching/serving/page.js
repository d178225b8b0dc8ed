"use strict";
(() => {
const BY_NUMBERS = new Intl.Collator("en", { numeric: true });
const TOLD_AT_ONCE = 3;
const REQUEST_MILLISECONDS = 10000;

const $ = (id) => document.getElementById(id);
const cards = new Map(); // by course id: what is shown, and its elements
const lags = new Map(); // by course id: seconds by bucket
const asked = new Set(); // buckets in which a report was made
let data = JSON.parse($("data").textContent);
const SIGNS = new Map(data.states);
const ORDER = [...SIGNS.keys()]; // worst first; the last is what a course should be in
const TONES = ["busy", "warn", "bad"]; // by level
let gotAt = performance.now();
let unreachable = false;
let wake = () => {}; // ends the pause before the next refresh
let news = ""; // what a screen reader was told last
let wanted = ""; // the state that is shown alone

// Small helpers

function element(name, parent, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  parent.append(made);
  return made;
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function drawn(name, parent, className) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  if (className) made.setAttribute("class", className);
  parent.append(made);
  return made;
}

// Ids are any text: what isn't a visible character, or is a blank of another kind, is spelt out.
function visible(text) {
  return text.replace(/[\p{C}\p{Z}]/gu, (c) => {
    if (c === " ") return c;
    const code = c.codePointAt(0).toString(16);
    return code.length > 4 ? "\\U" + code.padStart(8, "0") : "\\u" + code.padStart(4, "0");
  });
}

// What is to be copied stands alone on its lines, without the quotes that it has in the text.
function fillRemedy(node, remedy, commands) {
  let rest = visible(remedy || "");
  if (node.dataset.text === rest) return;
  node.dataset.text = rest;
  node.replaceChildren();
  for (const command of commands) {
    const at = rest.indexOf(command);
    if (at < 0) break;
    node.append(rest.slice(0, at).replace(/[ :']+$/, "") + ":");
    element("code", node, "", command);
    rest = rest.slice(at + command.length).replace(/^[ ,;']+/, "");
  }
  node.append(rest);
}

function bytes(count) {
  if (count === null) return "\u2013";
  let size = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (size < 1024) return (unit === "B" ? size : size.toFixed(1)) + " " + unit;
    size /= 1024;
  }
  return size.toFixed(1) + " TiB";
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return "\u2013";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * size) return Math.round(seconds / size) + " " + unit;
  }
  return (seconds < 10 ? seconds.toFixed(2) : Math.round(seconds)) + " s";
}

function about(seconds) {
  return seconds < 120 ? Math.max(0, Math.round(seconds)) + " s" : duration(seconds);
}

// What is known

function age() {
  if (!data.report) return null;
  if (!data.live) return (Date.now() - Date.parse(data.report.at)) / 1000;
  return data.age_seconds + (performance.now() - gotAt) / 1000;
}

function remember(history) {
  if (!history) return;
  for (const number of asked) if (number > history.now) { asked.clear(); lags.clear(); break; }
  history.numbers.forEach((number) => asked.add(number));
  const first = history.now - history.length + 1;
  for (const number of asked) if (number < first) asked.delete(number);
  for (const [id, values] of Object.entries(history.lags)) {
    if (!lags.has(id)) lags.set(id, new Map());
    const mine = lags.get(id);
    values.forEach((value, i) => mine.set(history.numbers[i], value));
    for (const number of mine.keys()) if (number < first) mine.delete(number);
  }
  for (const id of lags.keys()) if (!Object.hasOwn(history.lags, id)) lags.delete(id);
}

// A course

function makeCard(id) {
  const root = element("li", document.createDocumentFragment(), "card course");
  const title = element("div", root, "title");
  const heading = element("h3", title);
  element("bdi", heading, "", visible(id));
  const state = element("span", title, "state");
  const what = element("div", root, "text");
  const cause = element("p", what, "cause");
  const remedy = element("p", what, "remedy");
  const details = element("details", what);
  const label = element("summary", details);
  const drift = element("ul", details);
  const figure = element("figure", root);
  const caption = element("figcaption", figure);
  const svg = drawn("svg", figure, "spark");
  svg.setAttribute("viewBox", "0 0 120 34");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  drawn("path", svg, "base").setAttribute("d", "M0 33.5H120");
  const area = drawn("path", svg, "area");
  const line = drawn("path", svg, "line");
  const gaps = drawn("path", svg, "gaps");
  const list = element("dl", root);
  const figures = {};
  for (const name of ["by way of", "lag", "behind", "WAL kept", "errors", "tables", "slot", "verified"]) {
    const pair = element("div", list);
    element("dt", pair, "", name);
    figures[name] = element("dd", pair);
  }
  return { root, what, state, cause, remedy, details, label, drift, figure, caption, svg, area, line, gaps, figures };
}

function fillCard(card, course) {
  const sign = SIGNS.get(course.state) || "?";
  card.root.dataset.tone = course.state === ORDER.at(-1) ? "good" : TONES[course.level] || "bad";
  card.root.dataset.state = course.state;
  const percent = course.copied_percent === null ? "" : " " + Math.round(course.copied_percent) + " %";
  set(card.state, sign + " " + course.state + percent);
  set(card.cause, visible(course.cause || ""));
  fillRemedy(card.remedy, course.remedy, course.commands);
  for (const key of ["cause", "remedy"]) card[key].hidden = !course[key];
  card.details.hidden = course.drift.length < 2;
  card.what.hidden = !course.cause && !course.remedy && card.details.hidden;
  if (!card.details.hidden) {
    set(card.label, course.drift.length + " objects aren't as they should be");
    card.drift.replaceChildren(...course.drift.map((each) => {
      const item = document.createElement("li");
      item.append(visible(each.object + " " + each.cause + "; "));
      fillRemedy(element("span", item), each.remedy, each.commands);
      return item;
    }));
  }
  const { figures } = card;
  set(figures["by way of"], course.relay || "");
  figures["by way of"].parentElement.hidden = !course.relay;
  set(figures.lag, duration(course.lag_seconds));
  set(figures.behind, bytes(course.lag_bytes));
  const loss = course.seconds_to_loss;
  set(figures["WAL kept"], bytes(course.retained_wal_bytes) + (loss === null ? "" : ", lost in " + about(loss)));
  const errors = course.apply_errors === null ? "\u2013" : String(course.apply_errors + (course.sync_errors || 0));
  set(figures.errors, errors + (course.conflicts ? ", " + course.conflicts + " conflicts" : ""));
  set(figures.tables, course.tables_total === null ? "\u2013" : course.tables_ready + " of " + course.tables_total);
  set(figures.slot, course.slot_active === null ? "missing" : course.slot_active ? "active" : "inactive");
  set(figures.verified, verified(course));
}

function verified(course) {
  if (!course.verified_at) return "never";
  const ago = (Date.parse(data.report.at) - Date.parse(course.verified_at)) / 1000;
  return about(ago) + " ago, " + (course.differences ? course.differences + " differ" : "clean");
}

function drawCard(card, course, history) {
  card.figure.hidden = !history;
  if (!history) return;
  const mine = lags.get(course.course_id) || new Map();
  let top = 1, worst = null; // a floor: hundredths of a second are no mountains
  for (const value of mine.values()) if (value !== null) worst = Math.max(worst ?? 0, value);
  top = Math.max(top, worst ?? 0);
  const first = history.now - history.length + 1, step = 120 / history.length;
  let line = "", area = "", gaps = "", begun = null, x = 0;
  const end = () => {
    if (begun !== null) {
      line += "h" + step.toFixed(1);
      area += "h" + step.toFixed(1) + "V34H" + begun + "Z";
    }
    begun = null;
  };
  for (let i = 0; i < history.length; i++) {
    const value = mine.get(first + i);
    x = (i * step).toFixed(1);
    if (value === null || value === undefined) {
      end();
      if (asked.has(first + i)) gaps += "M" + x + " 32.5h" + step.toFixed(1);
      continue;
    }
    const y = (32.5 - 30 * value / top).toFixed(1);
    line += (begun === null ? "M" : "L") + x + " " + y;
    area += (begun === null ? "M" + x + " 34V" + y : "L" + x + " " + y);
    begun ??= x;
  }
  end();
  for (const [name, path] of [["line", line], ["area", area], ["gaps", gaps]]) {
    if (card[name].getAttribute("d") !== path) card[name].setAttribute("d", path);
  }
  const says = worst === null ? "lag: unknown" : "lag, 1 h: max " + duration(worst);
  set(card.caption, says);
  card.svg.setAttribute("aria-label", "Lag over the last hour: " + (worst === null ? "unknown" :
    "now " + duration(course.lag_seconds).replace("\u2013", "unknown") + ", at most " + duration(worst)) +
    (gaps && worst !== null ? ", unknown at times" : ""));
}

// Everything

function show() {
  const courses = data.report ? data.report.courses : [];
  courses.sort((a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) ||
    BY_NUMBERS.compare(a.course_id, b.course_id) || (a.course_id < b.course_id ? -1 : 1));
  const list = $("courses"), present = new Set(), changes = [];
  let place = list.firstElementChild;
  for (const course of courses) {
    const id = course.course_id;
    present.add(id);
    let known = cards.get(id);
    if (!known) cards.set(id, known = { card: makeCard(id), course: null, text: "" });
    const text = JSON.stringify([course, data.report.at.slice(0, 16)]);
    if (known.text !== text) fillCard(known.card, course);
    known.text = text;
    if (known.course && known.course.state !== course.state) {
      changes.push(visible(id) + " is " + course.state);
    }
    known.course = course;
    known.search = visible([id, course.state, course.cause || "", course.slot_name, course.relay || ""].join(" ")).toLowerCase();
    drawCard(known.card, course, data.history);
    // Nothing is moved that stands where it should: focus and scroll position stay.
    if (known.card.root === place) place = place.nextElementSibling;
    else list.insertBefore(known.card.root, place);
  }
  for (const [id, known] of cards) {
    if (!present.has(id)) { known.card.root.remove(); cards.delete(id); }
  }
  showOrphans();
  showFailover();
  showSummary(courses, changes);
  filter();
}

function showOrphans() {
  const orphans = data.report ? data.report.orphans : [];
  const text = JSON.stringify(orphans);
  $("strays").hidden = !orphans.length;
  if ($("orphans").dataset.text === text) return;
  $("orphans").dataset.text = text;
  $("orphans").replaceChildren(...orphans.map((each) => {
    const root = element("li", document.createDocumentFragment(), "card");
    root.dataset.tone = "bad";
    const title = element("div", root, "title");
    element("bdi", element("h3", title), "", visible(each.name));
    element("span", title, "state", "\u2715 orphaned " + each.kind);
    const what = element("div", root, "text");
    element("p", what, "cause", visible(each.cause));
    fillRemedy(element("p", what, "remedy"), each.remedy, each.commands);
    if (each.retained_wal_bytes !== null) {
      element("p", what, "cause", bytes(each.retained_wal_bytes) + " of WAL are kept for it");
    }
    return root;
  }));
}

function showFailover() {
  const text = JSON.stringify(data.failover);
  if ($("failover").dataset.text === text) return;
  $("failover").dataset.text = text;
  $("failover").replaceChildren(...data.failover.map((each) => {
    const root = element("li", document.createDocumentFragment(), "card");
    root.dataset.tone = "warn";
    fillRemedy(element("p", root, "remedy"), each.text, each.commands);
    return root;
  }));
}

function showSummary(courses, changes) {
  const counts = new Map();
  for (const { state } of courses) counts.set(state, (counts.get(state) || 0) + 1);
  const wrong = courses.filter(({ level }) => level > 0).length;
  const relays = courses.filter(({ course_id }) => course_id.startsWith("relay:")).length;
  const counted = (count, what) => count + " " + what + (count === 1 ? "" : "s");
  const total = counted(courses.length - relays, "course") + (relays ? " and " + counted(relays, "relay") : "");
  let says = total + ", all well";
  if (wrong) says = wrong + " of " + total + (wrong === 1 ? " needs" : " need") + " attention";
  if (!courses.length) says = "No courses registered";
  if (!data.report) says = "No report yet";
  const strays = data.report ? data.report.orphans.length : 0;
  if (strays) says += "; " + strays + (strays === 1 ? " object belongs" : " objects belong") + " to none";
  set($("summary"), says);
  if (changes.length > TOLD_AT_ONCE) changes.splice(TOLD_AT_ONCE, changes.length, "and others changed");
  if (changes.length || !news.endsWith(says)) news = [...changes, says].join(". ");
  document.title = (wrong + strays ? "(" + (wrong + strays) + ") " : "") + "pysync";
  const bar = $("states");
  if (!bar.children.length) {
    for (const state of ["", ...ORDER]) {
      const button = element("button", bar);
      button.type = "button";
      button.dataset.state = state;
      button.append((state || "all") + " ");
      element("b", button);
      button.addEventListener("click", () => { wanted = state; filter(); });
    }
  }
  for (const button of bar.children) {
    const { state } = button.dataset;
    const count = state ? counts.get(state) || 0 : courses.length;
    set(button.lastChild, String(count));
    button.hidden = Boolean(state) && !count && wanted !== state;
  }
}

function filter() {
  const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { card, course, search } of cards.values()) {
    const fits = (!wanted || course.state === wanted) && words.every((word) => search.includes(word));
    card.root.hidden = !fits;
    shown += fits;
  }
  for (const button of $("states").children) {
    button.setAttribute("aria-pressed", String(button.dataset.state === wanted));
  }
  set($("shown"), shown === cards.size ? "" : shown + " of " + cards.size + " shown");
  $("none").hidden = shown > 0 || !data.report;
  const carried = data.report ? data.report.carried : [];
  $("carried").hidden = !carried.length;
  set($("carried"), "Columns of the portal's own: " + visible(carried.join(", ")));
  set($("none"), cards.size ? "No course fits the filter." : "Register one with: pysync course add");
}

// What changes while nothing arrives: age, and whether it is too old.
function tick() {
  const seconds = age();
  let notice = "";
  const old = seconds === null ? "" : " What is shown is " + about(seconds) + " old.";
  if (unreachable) notice = "This page can't reach pysync serve." + old;
  else if (data.error) {
    notice = [data.error.message, data.error.remedy].filter(Boolean).join("; ") + "." + old;
  } else if (data.report && data.report.unclaimed) {
    const { object, cause, remedy } = data.report.unclaimed;
    notice = object + " " + cause + "; " + remedy + ".";
  } else if (seconds !== null && seconds > data.old_seconds) notice = "This data is old." + old;
  notice = visible(notice);
  set($("notice"), notice);
  $("notice").hidden = !notice;
  document.body.classList.toggle("old", Boolean(notice));
  set($("fresh"), seconds === null ? "" : (data.live ? "Report " : "Snapshot of " +
    new Date(data.report.at).toLocaleString() + ", ") + about(seconds) + " old" +
    (data.live ? "" : "; it doesn't refresh itself"));
  // A screen reader hears of changes, not of every second.
  set($("news"), notice ? "The data is old." : news);
}

async function refresh() {
  const newest = asked.size ? Math.max(...asked) : 0;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), REQUEST_MILLISECONDS);
  try {
    const response = await fetch("/api/page?since=" + newest, { signal: abort.signal, cache: "no-store" });
    if (!response.ok) throw new Error(response.statusText);
    data = await response.json();
    gotAt = performance.now();
    unreachable = false;
    remember(data.history);
    show();
  } catch {
    unreachable = true;
  } finally {
    clearTimeout(timer);
  }
  tick();
}

async function refreshForEver() {
  for (;;) {
    await new Promise((done) => {
      wake = done;
      setTimeout(done, data.report ? data.interval_seconds * 1000 : 500);
    });
    if (!document.hidden) await refresh();
  }
}

$("words").addEventListener("input", filter);
document.addEventListener("visibilitychange", () => wake());
$("filter").addEventListener("submit", (event) => event.preventDefault());
$("links").hidden = !data.live;
remember(data.history);
show();
tick();
setInterval(tick, 1000);
if (data.live) refreshForEver();
})();
