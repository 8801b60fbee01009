"use strict";
// The figures stand without this script. It names a trial under the pointer, rings it in every
// figure, and pages through the table of all trials.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const trials = read("trial-data");
const points = read("point-data");
const byNumber = new Map(trials.rows.map((row) => [row[0], row]));
const tip = document.getElementById("tip");
const SVG = "http://www.w3.org/2000/svg";
const REACH = 16; // pixels around a point that belong to it
const show = (value) => (value === null || value === undefined ? "-" : String(value));

function describe(number) {
  const row = byNumber.get(number);
  if (!row) return `trial ${number}`;
  const [, state, values, seconds, , params, worker, retryOf, reason] = row;
  const lines = [`trial ${number}, ${state}` + (retryOf === null ? "" : `, retry of ${retryOf}`)];
  trials.metrics.forEach((metric, at) => {
    if (values[at] !== undefined) lines.push(`${metric} ${values[at]}`);
  });
  trials.params.forEach((name, at) => {
    if (params[at] !== null) lines.push(`${name} = ${show(params[at])}`);
  });
  if (seconds !== null) lines.push(`${seconds} s` + (worker ? ` on ${worker}` : ""));
  if (reason) lines.push(reason);
  return lines.join("\n");
}

const drawings = Object.keys(points).map((key) => ({
  key,
  svg: document.getElementById(key).querySelector("svg"),
  ring: null,
}));

function ring(drawing, point) {
  if (!point) {
    if (drawing.ring) drawing.ring.remove();
    drawing.ring = null;
    return;
  }
  if (!drawing.ring) {
    // On a sheet of its own: ten thousand dots below it are not painted anew.
    if (!drawing.sheet) {
      drawing.sheet = document.createElementNS(SVG, "svg");
      drawing.sheet.setAttribute("class", "drawing sheet");
      drawing.sheet.setAttribute("viewBox", drawing.svg.getAttribute("viewBox"));
      drawing.sheet.setAttribute("aria-hidden", "true");
      drawing.svg.after(drawing.sheet);
    }
    drawing.ring = document.createElementNS(SVG, "circle");
    drawing.ring.setAttribute("class", "ring");
    drawing.ring.setAttribute("r", "7");
    drawing.sheet.append(drawing.ring);
  }
  drawing.ring.setAttribute("cx", point[0]);
  drawing.ring.setAttribute("cy", point[1]);
}

// A figure with several views shows one; without this script it is the first.
for (const label of document.querySelectorAll(".switch")) {
  const select = label.querySelector("select");
  const views = label.closest("figure").querySelectorAll(".view");
  const show = () => views.forEach((view, at) => { view.hidden = at !== select.selectedIndex; });
  select.addEventListener("change", show);
  label.hidden = false;
  show(); // a browser keeps the choice when the page is loaded again
}

let chosen = null;
function choose(number) {
  if (number === chosen) return;
  chosen = number;
  for (const drawing of drawings) {
    ring(drawing, number === null ? null : points[drawing.key].findLast((p) => p[2] === number));
  }
}

function nearest(drawing, event) {
  const box = drawing.svg.getBoundingClientRect();
  const scale = drawing.svg.viewBox.baseVal.width / box.width;
  const x = (event.clientX - box.left) * scale;
  const y = (event.clientY - box.top) * scale;
  let best = null;
  let least = (REACH * scale) ** 2;
  for (const point of points[drawing.key]) {
    const distance = (point[0] - x) ** 2 + (point[1] - y) ** 2;
    if (distance <= least) [best, least] = [point, distance];
  }
  return best;
}

for (const drawing of drawings) {
  let waiting = false;
  drawing.svg.addEventListener("pointermove", (event) => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      const point = nearest(drawing, event);
      choose(point ? point[2] : null);
      tip.hidden = !point;
      if (!point) return;
      tip.textContent = describe(point[2]);
      const right = window.scrollX + document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(8, Math.min(window.scrollX + event.clientX + 16, right))}px`;
      tip.style.top = `${window.scrollY + event.clientY + 16}px`;
    });
  });
  drawing.svg.addEventListener("pointerleave", () => {
    requestAnimationFrame(() => {
      tip.hidden = true;
      choose(null);
    });
  });
}

const table = document.getElementById("trials");
if (table) {
  const PAGE = 20;
  const columns = [
    ["trial", (row) => row[0]],
    ["state", (row) => row[1]],
    ...trials.metrics.map((metric, at) => [metric, (row) => row[2][at]]),
    ["seconds", (row) => row[3]],
    ["values", (row) => row[4]],
    ...trials.params.map((name, at) => [name, (row) => row[5][at]]),
    ["worker", (row) => row[6]],
    ["retry of", (row) => row[7]],
    ["reason", (row) => row[8]],
  ];
  const find = document.getElementById("find");
  const back = document.getElementById("back");
  const next = document.getElementById("next");
  let sorted = { at: 0, down: false };
  let first = 0;
  const texts = trials.rows.map((row) => columns.map(([, get]) => show(get(row))).join(" ").toLowerCase());

  const compare = (a, b) => {
    const empty = (value) => value === null || value === undefined || value === "";
    if (empty(a) || empty(b)) return empty(a) - empty(b) || 0;
    const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
    return sorted.down ? -order : order;
  };
  const cell = (tag, words, style) => {
    const made = document.createElement(tag);
    if (style) made.className = style;
    made.textContent = words;
    return made;
  };

  function draw() {
    const wanted = find.value.trim().toLowerCase();
    const rows = trials.rows.filter((row, at) => texts[at].includes(wanted));
    const get = columns[sorted.at][1];
    rows.sort((a, b) => compare(get(a), get(b)));
    first = Math.max(0, Math.min(first, rows.length - 1));
    const head = document.createElement("tr");
    columns.forEach(([title], at) => {
      const heading = cell("th", "", "");
      heading.scope = "col";
      if (at === sorted.at) heading.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      const mark = at === sorted.at ? (sorted.down ? " ↓" : " ↑") : "";
      const button = cell("button", title + mark, "");
      button.type = "button";
      button.addEventListener("click", () => {
        sorted = { at, down: at === sorted.at && !sorted.down };
        first = 0;
        draw();
      });
      heading.append(button);
      head.append(heading);
    });
    const body = document.createElement("tbody");
    for (const row of rows.slice(first, first + PAGE)) {
      const line = document.createElement("tr");
      columns.forEach(([title, value]) => {
        const found = value(row);
        line.append(cell("td", show(found), title === "reason" ? "reason" : typeof found === "number" ? "n" : ""));
      });
      body.append(line);
    }
    const thead = document.createElement("thead");
    thead.append(head);
    table.replaceChildren(thead, body);
    const last = Math.min(first + PAGE, rows.length);
    document.getElementById("count").textContent = rows.length ? `${first + 1} to ${last} of ${rows.length}` : "none";
    back.disabled = first === 0;
    next.disabled = last >= rows.length;
  }

  find.addEventListener("input", () => { first = 0; draw(); });
  back.addEventListener("click", () => { first -= PAGE; draw(); });
  next.addEventListener("click", () => { first += PAGE; draw(); });
  draw();
}
