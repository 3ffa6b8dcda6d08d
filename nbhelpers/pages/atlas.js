"use strict";
// One map under one or several grids, coarse to fine. `view` says which part of it is on the screen; the grid follows
// from how large a square would be there. Every square is a button, so that the keyboard and a screen reader find it.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const stage = byId("stage"), map = byId("map");
const SIDE = 1000; // of the map in its own units
const FINEST = 40; // zoom
const COMFORTABLE = 58; // pixels of a square from which a finer grid is shown
const NAMED = 96; // pixels of a square from which every one is named
const REGIONS = 14; // names on the whole map
const SPEAKS = 10; // percent from which a square is found under a class
const view = { x: 0, y: 0, scale: 1 };
let level = -1, chosen = -1, squares = [];

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
const place = (node, sheet, index) => {
  const [column, row] = [index % sheet.across, Math.floor(index / sheet.across)];
  sheet.url ||= URL.createObjectURL(new Blob([Uint8Array.from(atob(sheet.webp), (letter) => letter.charCodeAt(0))], { type: "image/webp" }));
  node.style.backgroundImage = `url(${sheet.url})`;
  node.style.backgroundSize = `${sheet.across * 100}% ${sheet.rows * 100}%`;
  const part = (at, all) => (all > 1 ? (100 * at) / (all - 1) : 0);
  node.style.backgroundPosition = `${part(column, sheet.across)}% ${part(row, sheet.rows)}%`;
};
const whole = () => Math.min(stage.clientWidth, stage.clientHeight) / SIDE;
const onScreen = (cells) => (SIDE / cells) * view.scale;

function fitting() {
  let found = 0;
  data.levels.forEach((each, i) => { if (i && onScreen(each.cells) >= COMFORTABLE) found = i; });
  return found;
}

function draw() {
  map.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
  map.style.setProperty("--scale", view.scale);
  const now = fitting();
  if (now !== level) build(now);
  map.classList.toggle("named", onScreen(data.levels[level].cells) >= NAMED);
}

function build(index) {
  const before = level >= 0 && chosen >= 0 ? data.levels[level].squares[chosen].at.map((at) => (at + 0.5) / data.levels[level].cells) : null;
  level = index;
  const { cells, squares: listed, pictures } = data.levels[level];
  map.replaceChildren();
  map.dataset.cells = cells;
  squares = listed.map((square, i) => {
    const button = make("button", "square"), side = SIDE / cells, length = side * square.side * 0.96 - (side * 0.05);
    button.type = "button";
    button.tabIndex = i ? -1 : 0;
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `${square.name}, ${square.count} places`);
    Object.assign(button.style, {
      left: `${square.at[0] * side + (side - length) / 2}px`, top: `${square.at[1] * side + (side - length) / 2}px`,
      width: `${length}px`, height: `${length}px`,
    });
    const picture = make("i");
    place(picture, pictures, i);
    const name = make("b", "", square.name);
    name.style.fontSize = `${side * 0.085}px`;
    button.append(picture, name);
    button.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse" && chosen < 0) show(i); });
    button.addEventListener("click", () => { if (!moved) choose(chosen === i ? -1 : i); });
    button.addEventListener("focus", () => show(i));
    map.append(button);
    return button;
  });
  for (const { name, x, y } of regions()) {
    const label = make("span", "region", name);
    Object.assign(label.style, { left: `${x * SIDE}px`, top: `${y * SIDE}px` });
    map.append(label);
  }
  chosen = -1;
  if (before) choose(nearest(before[0], before[1]), false);
  find();
}

// --- regions: squares of one name that touch, the largest first

function regions() {
  const { cells, squares: listed } = data.levels[level];
  const at = new Map(listed.map((square, i) => [square.at.join(), i]));
  const seen = new Set(), found = [];
  listed.forEach((square, start) => {
    if (seen.has(start)) return;
    const members = [start];
    seen.add(start);
    for (const i of members)
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]]) {
        const next = at.get([listed[i].at[0] + dx, listed[i].at[1] + dy].join());
        if (next !== undefined && !seen.has(next) && listed[next].name === square.name) { seen.add(next); members.push(next); }
      }
    const mean = (axis) => members.reduce((sum, i) => sum + listed[i].at[axis] + 0.5, 0) / members.length / cells;
    found.push({ name: square.name, size: members.reduce((sum, i) => sum + listed[i].count, 0), x: mean(0), y: mean(1) + 0.5 / cells });
  });
  const kept = [];
  for (const region of found.sort((a, b) => b.size - a.size)) {
    const apart = kept.every((other) => other.name !== region.name && (Math.abs(other.x - region.x) > 0.17 || Math.abs(other.y - region.y) > 0.06));
    if (apart && kept.length < REGIONS) kept.push(region);
  }
  return kept;
}

// --- one square

function nearest(x, y) {
  const { cells, squares: listed } = data.levels[level];
  const far = (square) => ((square.at[0] + 0.5) / cells - x) ** 2 + ((square.at[1] + 0.5) / cells - y) ** 2;
  return listed.reduce((best, square, i) => (far(square) < far(listed[best]) ? i : best), 0);
}

function bars(id, title, entries) {
  const node = byId(id);
  node.replaceChildren(...(entries.length ? [make("h3", "", title)] : []));
  for (const [name, share] of entries) {
    const bar = make("div", "bar");
    bar.style.setProperty("--share", `${share}%`);
    bar.append(make("span", "", name), make("span", "", `${share} %`));
    node.append(bar);
  }
}

function show(i) {
  const { squares: listed, pictures, photos } = data.levels[level], square = listed[i];
  byId("hint").hidden = true;
  byId("shown").hidden = false;
  place(byId("large"), pictures, i);
  byId("large").setAttribute("aria-label", `Picture of the square ${square.name}`);
  byId("name").textContent = square.name;
  byId("count").textContent = `${square.count} place${square.count === 1 ? "" : "s"}`;
  bars("said", "The network would answer", square.said);
  bars("labels", "Its photos are of", square.labels);
  const [first, count] = square.photos;
  byId("photos").replaceChildren(...(count ? [make("h3", "", "Photos it is the mean of")] : []));
  for (let k = 0; k < count; k++) {
    const node = make("span", "photo");
    place(node, photos, first + k);
    byId("photos").append(node);
  }
}

function choose(i, focus = true) {
  if (chosen >= 0 && squares[chosen]) squares[chosen].setAttribute("aria-pressed", "false");
  chosen = i;
  if (i < 0) return;
  squares[i].setAttribute("aria-pressed", "true");
  squares.forEach((each, k) => { each.tabIndex = k === i ? 0 : -1; });
  show(i);
  if (focus) { squares[i].focus({ preventScroll: true }); intoView(i); }
}

function intoView(i) {
  const box = squares[i].getBoundingClientRect(), frame = stage.getBoundingClientRect();
  const by = (low, high, from, to) => (low < from ? from - low : high > to ? to - high : 0);
  view.x += by(box.left - 8, box.right + 8, frame.left, frame.right);
  view.y += by(box.top - 8, box.bottom + 8, frame.top, frame.bottom);
  draw();
}

function step(dx, dy) {
  const { squares: listed } = data.levels[level];
  const from = chosen >= 0 ? chosen : Math.max(0, squares.indexOf(document.activeElement));
  if (chosen < 0 && !squares.includes(document.activeElement)) return choose(nearest(0.5, 0.5));
  let best = -1, least = Infinity;
  listed.forEach((square, i) => {
    const [x, y] = [square.at[0] - listed[from].at[0], square.at[1] - listed[from].at[1]];
    const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (along > 0 && along + 2 * aside < least) { least = along + 2 * aside; best = i; }
  });
  if (best >= 0) choose(best);
}

// --- where a class lives

function find() {
  const wanted = [byId("find").value, byId("other").value].map((text) => text.trim().toLowerCase());
  const { squares: listed } = data.levels[level];
  const has = (square, text) => text && 
    square.said.concat(square.labels).some(([name, share]) => share >= SPEAKS && name.toLowerCase().includes(text));
  let count = 0;
  listed.forEach((square, i) => {
    const [first, second] = wanted.map((text) => has(square, text));
    squares[i].classList.toggle("first", Boolean(first));
    squares[i].classList.toggle("second", Boolean(second));
    const faint = wanted.some(Boolean) && !first && !second;
    squares[i].style.opacity = faint ? 0.16 : 1;
    if (wanted.some(Boolean) && !faint) count++;
  });
  map.querySelectorAll(".region").forEach((each) => { each.hidden = wanted.some(Boolean); });
  byId("told").textContent = wanted.some(Boolean) ? `${count} of ${listed.length} squares` : "";
}

// --- moving

function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const scale = Math.min(FINEST * whole(), Math.max(whole() * 0.9, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  draw();
}

function reset() {
  view.scale = whole() * 0.97;
  view.x = (stage.clientWidth - SIDE * view.scale) / 2;
  view.y = (stage.clientHeight - SIDE * view.scale) / 2;
  draw();
}

const pointers = new Map();
let moved = false;
stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  if (pointers.size === 1) moved = false;
});
window.addEventListener("pointermove", (event) => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const now = [event.clientX, event.clientY], box = stage.getBoundingClientRect();
  const others = [...pointers.entries()].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
  if (!moved && Math.hypot(now[0] - last[0], now[1] - last[1]) < 4 && !others.length) return;
  moved = true;
  stage.classList.add("moving");
  if (others.length) {
    const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    zoom(far(now, others[0]) / Math.max(1, far(last, others[0])), (now[0] + others[0][0]) / 2 - box.left, (now[1] + others[0][1]) / 2 - box.top);
  } else {
    view.x += now[0] - last[0];
    view.y += now[1] - last[1];
    draw();
  }
  pointers.set(event.pointerId, now);
});
for (const kind of ["pointerup", "pointercancel"])
  window.addEventListener(kind, (event) => { pointers.delete(event.pointerId); stage.classList.remove("moving"); });
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
}, { passive: false });
stage.addEventListener("dblclick", (event) => {
  const box = stage.getBoundingClientRect();
  zoom(2, event.clientX - box.left, event.clientY - box.top);
});
window.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (moves[event.key]) step(...moves[event.key]);
  else if (event.key === "+" || event.key === "=") zoomKeyed(1.5);
  else if (event.key === "-") zoomKeyed(1 / 1.5);
  else if (event.key === "0") reset();
  else if (event.key === "Escape") { choose(-1); byId("shown").hidden = true; byId("hint").hidden = false; }
  else return;
  event.preventDefault();
});
function zoomKeyed(factor) {
  if (chosen < 0) return zoom(factor);
  const box = squares[chosen].getBoundingClientRect(), frame = stage.getBoundingClientRect();
  zoom(factor, (box.left + box.right) / 2 - frame.left, (box.top + box.bottom) / 2 - frame.top);
}
byId("in").addEventListener("click", () => zoomKeyed(1.5));
byId("out").addEventListener("click", () => zoomKeyed(1 / 1.5));
byId("whole").addEventListener("click", reset);
byId("find").addEventListener("input", find);
byId("other").addEventListener("input", find);
window.addEventListener("resize", reset);
reset();
