"use strict";
// The address's fragment is the page's whole state: what is filtered, sorted and open. Every control writes it, and
// the page is drawn from it, so the browser's back button, bookmarks and copied addresses do what one expects.

const data = JSON.parse(document.getElementById("data").textContent);
const count = data.src.length;
const MANY = 12; // values from which a filter offers a search, and numbers a range
const LISTED = 300; // values that a filter lists at a time
const IN_CELL = 9; // pictures that a cell of the contact sheet shows
const byId = (id) => document.getElementById(id);

// --- columns: distinct values as JSON text, and for each picture which one

const constant = { values: [], of: [] };
const column = (group, name) => (Object.hasOwn(data[group], name) ? data[group][name] : constant);
const at = (col, i) => (col.of ? (i < col.of.length ? col.of[i] : -1) : 0);
const plain = (json) => (json[0] === '"' ? JSON.parse(json) : json);
const label = (col, k) => (k < 0 ? "–" : col.labels ? col.labels[k] : plain(col.values[k]));
const number = (json) => Number(json);

const facets = data.facets.map(([group, name]) => ({ group, name, col: column(group, name) }));
const parameters = facets.filter((facet) => facet.group === "parameters");
const facetNamed = (name) => facets.find((facet) => facet.name === name);
const measures = [
  ...Object.keys(data.results).map((name) => ({ name, col: column("results", name) })),
  ...["seconds", "peak_mb", "finished"].map((name) => ({ name, col: column("job", name) })),
].filter(({ col }) => col.of && col.of.length && col.values.length > 1);
const sortable = [...facets, ...measures];
const placeOf = new Map(data.src.map((source, i) => [decodeURIComponent(source), i]));

// --- state and address

function parse(fragment) {
  const state = { is: new Map(), from: new Map(), to: new Map(), view: "pictures", sort: "", down: false, picture: -1 };
  [state.rows, state.columns] = data.sheet;
  for (const [key, value] of new URLSearchParams(fragment.replace(/^#/, ""))) {
    const [kind, name] = [key.slice(0, key.indexOf(".")), key.slice(key.indexOf(".") + 1)];
    const facet = facetNamed(name);
    if (kind === "is" && facet && facet.col.values.includes(value)) state.is.set(name, [...(state.is.get(name) || []), value]);
    else if ((kind === "from" || kind === "to") && facet && facet.col.numeric && Number.isFinite(Number(value)))
      state[kind].set(name, Number(value));
    else if (key === "view" && value === "sheet" && data.sheet.length) state.view = "sheet";
    else if ((key === "rows" || key === "columns") && parameters.some((each) => each.name === value)) state[key] = value;
    else if (key === "sort" && sortable.some((each) => each.name === value)) state.sort = value;
    else if (key === "down") state.down = true;
    else if (key === "picture" && placeOf.has(value)) state.picture = placeOf.get(value);
  }
  return state;
}

function address(state) {
  const said = new URLSearchParams();
  if (state.view === "sheet") {
    said.append("view", "sheet");
    if (state.rows !== data.sheet[0]) said.append("rows", state.rows);
    if (state.columns !== data.sheet[1]) said.append("columns", state.columns);
  }
  for (const { name } of facets) {
    for (const value of state.is.get(name) || []) said.append("is." + name, value);
    if (state.from.has(name)) said.append("from." + name, state.from.get(name));
    if (state.to.has(name)) said.append("to." + name, state.to.get(name));
  }
  if (state.sort) said.append("sort", state.sort);
  if (state.down) said.append("down", "");
  if (state.picture >= 0) said.append("picture", decodeURIComponent(data.src[state.picture]));
  return "#" + (said.toString() || "all"); // a bare # would scroll to the top
}

let state = parse(location.hash);
let opened = false; // whether the open picture has an entry of its own in the history

function go(change, replace = false) {
  const next = address({ ...state, ...change });
  if (next === address(state)) return;
  if (replace) location.replace(next);
  else location.hash = next;
  follow();
}

// --- which pictures, in which order

const filtered = ({ name }) => state.is.has(name) || state.from.has(name) || state.to.has(name);

function passes(facet, place) {
  const wanted = state.is.get(facet.name);
  if (wanted && !wanted.includes(facet.col.values[place])) return false;
  const [low, high] = [state.from.get(facet.name), state.to.get(facet.name)];
  if (low === undefined && high === undefined) return true;
  const value = place < 0 ? NaN : number(facet.col.values[place]);
  return (low === undefined || value >= low) && (high === undefined || value <= high);
}

let shown = []; // indices, in order
let counts = new Map(); // for each facet, how many pictures each value would show beside the other filters

function select() {
  const fails = new Uint8Array(count);
  const failing = new Int16Array(count).fill(-1);
  facets.forEach((facet, f) => {
    if (!filtered(facet)) return;
    const ok = facet.col.values.map((_, place) => passes(facet, place));
    for (let i = 0; i < count; i++) {
      const place = at(facet.col, i);
      if (place >= 0 && ok[place]) continue;
      fails[i] = Math.min(fails[i] + 1, 2);
      failing[i] = f;
    }
  });
  shown = [];
  for (let i = 0; i < count; i++) if (!fails[i]) shown.push(i);
  counts = new Map(facets.map((facet, f) => {
    const tally = new Array(facet.col.values.length).fill(0);
    for (let i = 0; i < count; i++) {
      const place = at(facet.col, i);
      if (place >= 0 && (!fails[i] || (fails[i] === 1 && failing[i] === f))) tally[place]++;
    }
    return [facet.name, tally];
  }));
  const by = sortable.find((each) => each.name === state.sort);
  if (by) {
    const [missing, way] = [by.col.values.length, state.down ? -1 : 1];
    shown.sort((a, b) => {
      const [x, y] = [at(by.col, a), at(by.col, b)];
      if (x < 0 || y < 0) return (x < 0 ? missing : x) - (y < 0 ? missing : y) || a - b;
      return way * (x - y) || a - b;
    });
  } else if (state.down) shown.reverse();
}

// --- small builders; text is only ever set as text

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const told = facets.slice(0, 3); // what a card says of its picture
const fileName = (i) => decodeURIComponent(data.src[i].slice(data.src[i].lastIndexOf("/") + 1));

function caption(i) {
  const words = told.map(({ name, col }) => {
    const place = at(col, i);
    if (place < 0) return "";
    return col.values[place][0] === '"' ? label(col, place) : `${name} ${label(col, place)}`; // a bare number says little
  });
  return words.filter(Boolean).join(" · ") || fileName(i);
}

function picture(i, alt) {
  const image = make("img", { alt, loading: "lazy", decoding: "async", width: data.width[i], height: data.height[i] });
  image.src = "thumbnails/" + data.small[i];
  return image;
}

function link(i, ...children) {
  const attributes = { href: address({ ...state, picture: i }), title: caption(i), "data-i": i };
  return make("a", attributes, picture(i, children.length ? "" : caption(i)), ...children); // words once, not twice
}

// --- the grid

const cards = [];

function card(i) {
  if (!cards[i]) {
    cards[i] = link(i, make("span", {}, caption(i)), make("span", { hidden: true }));
    cards[i].className = "card";
  }
  const by = sortable.find((each) => each.name === state.sort && !told.some(({ name }) => name === each.name));
  const second = cards[i].lastChild;
  second.hidden = !by;
  if (by) second.textContent = `${by.name} ${short(label(by.col, at(by.col, i)))}`;
  return cards[i];
}

const short = (text) => (/^-?\d+\.\d{4,}(e-?\d+)?$/.test(text) ? String(Number(Number(text).toPrecision(4))) : text);

function drawGrid() {
  fitSide(0);
  byId("grid").replaceChildren(...shown.map(card));
}

// --- the contact sheet

function drawSheet() {
  const [rows, columns] = [facetNamed(state.rows), facetNamed(state.columns)];
  const cells = new Map();
  const [usedRows, usedColumns] = [new Set(), new Set()];
  const put = (r, c, what) => {
    const key = r * columns.col.values.length + c;
    if (!cells.has(key)) cells.set(key, { pictures: [], failed: [] });
    cells.get(key)[typeof what === "number" ? "pictures" : "failed"].push(what);
    usedRows.add(r);
    usedColumns.add(c);
  };
  for (const i of shown) {
    const [r, c] = [at(rows.col, i), at(columns.col, i)];
    if (r >= 0 && c >= 0) put(r, c, i);
  }
  for (const job of data.failed) {
    const [r, c] = [rows, columns].map(({ name, col }) => col.values.indexOf(new Map(Object.entries(job.parameters)).get(name)));
    if (r >= 0 && c >= 0 && passes(rows, r) && passes(columns, c)) put(r, c, job);
  }
  const order = (used) => [...used].sort((a, b) => a - b);
  const across = order(usedColumns);
  fitSide(across.length);
  const head = make("tr", {},
    make("th", { scope: "col" }, `${rows.name} ↓  ${columns.name} →`),
    ...across.map((c) => make("th", { scope: "col" }, label(columns.col, c))));
  const body = order(usedRows).map((r) => make("tr", {},
    make("th", { scope: "row" }, label(rows.col, r)),
    ...across.map((c) => make("td", {}, cell(cells.get(r * columns.col.values.length + c), rows, r, columns, c)))));
  byId("sheet").replaceChildren(
    make("table", { class: "sheet", "aria-label": `${rows.name} by ${columns.name}` },
      make("thead", {}, head), make("tbody", {}, ...body)));
}

function cell(content, rows, r, columns, c) {
  const box = make("div", { class: "cell" });
  const { pictures, failed } = content || { pictures: [], failed: [] };
  const few = pictures.length > IN_CELL ? pictures.slice(0, IN_CELL - 1) : pictures;
  const side = Math.ceil(Math.sqrt(Math.min(pictures.length, IN_CELL)));
  if (side > 1) box.style.gridTemplateColumns = `repeat(${side}, 1fr)`;
  box.append(...few.map((i) => link(i)));
  if (few.length < pictures.length) {
    const is = new Map(state.is).set(rows.name, [rows.col.values[r]]).set(columns.name, [columns.col.values[c]]);
    const href = address({ ...state, is, view: "pictures" });
    box.append(make("a", { class: "more", href, title: "all of them" }, `+${pictures.length - few.length}`));
  }
  if (!pictures.length) {
    box.append(make("div", { class: "missing" }, failed.length ? make("a", { href: failed[0].link }, "failed") : "–"));
  }
  return box;
}

// --- how large pictures are: as the reader wants them; until then the contact sheet's fit the window, if they can

const SIDE = 168;
let sized = false;

function setSide(side) {
  byId("side").value = side;
  document.documentElement.style.setProperty("--side", `${side}px`);
}

function fitSide(across) {
  if (sized) return;
  setSide(across ? Math.max(72, Math.min(SIDE, Math.floor((innerWidth - 260) / across) - 10)) : SIDE);
}

// --- filters

function filter(facet, open) {
  const { name, col } = facet;
  const summary = make("summary", {}, name);
  const choices = make("div", { class: "choices" });
  const box = make("details", { class: "filter", name: "filter", "data-name": name, open }, summary, choices);
  const list = make("div");
  const search = make("input", { type: "search", placeholder: "find", "aria-label": `find a value of ${name}`, oninput: fill });
  if (col.values.length > MANY) choices.append(make("div", { class: "search" }, search));
  const ends = ["from", "to"].map((end) => make("input", {
    type: "number", step: "any", "aria-label": `${name} ${end}`, placeholder: plain(col.values[end === "from" ? 0 : col.values.length - 1]),
    onchange: (event) => {
      const changed = new Map(state[end]);
      if (event.target.value === "") changed.delete(name);
      else changed.set(name, Number(event.target.value));
      go({ [end]: changed });
    },
  }));
  if (col.numeric && col.values.length > MANY) {
    choices.prepend(make("div", { class: "range" }, "from", ends[0], "to", ends[1]));
  }
  choices.append(list);

  function fill() {
    const words = search.value.toLowerCase();
    const fitting = [];
    for (let place = 0; place < col.values.length && fitting.length <= LISTED; place++) {
      if (!words || label(col, place).toLowerCase().includes(words)) fitting.push(place);
    }
    const tally = counts.get(name);
    const wanted = state.is.get(name) || [];
    list.replaceChildren(...fitting.slice(0, LISTED).map((place) => {
      const value = col.values[place];
      const tick = make("input", { type: "checkbox", onchange: () => toggle(value) });
      tick.checked = wanted.includes(value);
      return make("label", { class: tally[place] ? "" : "none", "data-value": value },
        tick, make("span", {}, label(col, place)), make("span", {}, tally[place].toLocaleString("en")));
    }));
    if (fitting.length > LISTED) list.append(make("div", { class: "search" }, "… more: find them by name"));
  }

  function toggle(value) {
    const wanted = state.is.get(name) || [];
    const next = wanted.includes(value) ? wanted.filter((each) => each !== value) : [...wanted, value];
    const is = new Map(state.is).set(name, next);
    if (!next.length) is.delete(name);
    go({ is });
  }

  function update() {
    const wanted = state.is.get(name) || [];
    const parts = wanted.map((value) => label(col, col.values.indexOf(value)));
    const [low, high] = [state.from.get(name), state.to.get(name)];
    if (low !== undefined || high !== undefined) parts.unshift(`${low ?? ""} … ${high ?? ""}`.trim());
    box.classList.toggle("active", parts.length > 0);
    summary.textContent = parts.length ? `${name}: ${parts.slice(0, 2).join(", ")}${parts.length > 2 ? `, +${parts.length - 2}` : ""}` : name;
    ends[0].value = low ?? "";
    ends[1].value = high ?? "";
    if (!box.open) return;
    // Redrawing would take the focus from the box that was just ticked.
    const focused = document.activeElement?.closest?.("label[data-value]")?.dataset.value;
    fill();
    if (focused !== undefined) {
      [...list.children].find((each) => each.dataset.value === focused)?.querySelector("input").focus();
    }
  }

  box.addEventListener("toggle", () => box.open && fill());
  return { box, update, facet };
}

const AT_FIRST = 6; // filters in the bar; the others come from a menu
const filters = [];

function addFilter(facet, open = false) {
  const made = filter(facet, open);
  filters.push(made);
  byId("filters").insertBefore(made.box, byId("filters").querySelector("select"));
  return made;
}

function startFilters() {
  facets.slice(0, AT_FIRST).forEach((facet) => addFilter(facet));
  const others = facets.slice(AT_FIRST);
  if (!others.length) return;
  const menu = make("select", { "aria-label": "another filter" }, make("option", { value: "" }, "+ filter"),
    ...others.map(({ name }) => make("option", { value: name }, name)));
  menu.addEventListener("change", () => {
    const made = addFilter(facetNamed(menu.value), true);
    menu.selectedOptions[0].remove();
    menu.value = "";
    made.update();
    made.box.querySelector("summary").focus();
  });
  byId("filters").append(menu);
}

function filtersForState() { // an address may filter by what is still in the menu
  const menu = byId("filters").querySelector("select");
  for (const facet of facets) {
    if (!filtered(facet) || filters.some((each) => each.facet === facet)) continue;
    [...menu.options].find((option) => option.value === facet.name)?.remove();
    addFilter(facet);
  }
}

// --- the open picture

const ownRows = (i, cols) => cols
  .filter(([, col]) => at(col, i) >= 0)
  .map(([name, col]) => make("tr", {}, make("td", {}, name), written(plain(col.values[at(col, i)]))));
const written = (text) => make("td", { title: short(text) === text ? null : text }, short(text));

function recipeText(i) {
  const entries = (group) => Object.entries(data[group])
    .filter(([, col]) => at(col, i) >= 0).map(([name, col]) => [name, col.values[at(col, i)]]);
  const fields = entries("document").map(([name, json]) => `  ${JSON.stringify(name)}: ${json}`);
  if (!fields.length) return "";
  const inner = entries("recipe").map(([name, json]) => `    ${JSON.stringify(name)}: ${json}`).join(",\n");
  fields.splice(1, 0, `  "parameters": {\n${inner}\n  }`);
  return `{\n${fields.join(",\n")}\n}`;
}

function copyable(heading, text) {
  const button = make("button", { type: "button", onclick: () => copy(text, button) }, "copy");
  return [make("div", { class: "row" }, make("h3", {}, heading), button), make("pre", {}, text)];
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that is not served from a safe address may not use the clipboard's own door
    const area = make("textarea", { style: "position: fixed; opacity: 0" });
    area.value = text;
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
}

const shellWord = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);

function drawOpen() {
  const dialog = byId("open");
  const i = state.picture;
  if (i < 0) {
    if (dialog.open) dialog.close();
    return;
  }
  const source = decodeURIComponent(data.src[i]);
  byId("open-title").textContent = caption(i);
  byId("place").textContent = `${source} · ${data.width[i]} × ${data.height[i]}`;
  const large = byId("large");
  large.alt = caption(i);
  large.src = data.src[i];
  // Small pictures are enlarged, to look at, up to four times.
  large.style.width = `${Math.max(data.width[i], Math.min(4 * data.width[i], 720))}px`;
  byId("full").href = data.src[i];
  const varied = facets.map(({ name, col }) => [name, col]);
  const told = [...varied, ...Object.entries(data.results), ["seconds", column("job", "seconds")]];
  byId("varied").replaceChildren(...ownRows(i, told));
  const known = new Set(facets.map(({ name }) => name));
  const rest = ownRows(i, Object.entries(data.parameters).filter(([name]) => !known.has(name)));
  byId("others").hidden = !rest.length;
  byId("others").firstElementChild.textContent = `${rest.length} more parameter${rest.length === 1 ? "" : "s"}`;
  byId("others").lastElementChild.replaceChildren(...rest);
  const executed = column("job", "executed");
  const here = data.src[i].slice(0, data.src[i].lastIndexOf("/") + 1);
  const notebook = at(executed, i) >= 0 ? here + plain(executed.values[at(executed, i)]) : "";
  byId("links").replaceChildren(
    ...(notebook ? [make("a", { href: notebook, id: "notebook" }, "executed notebook")] : []),
    make("a", { href: data.src[i] }, "picture file"));
  const recipe = recipeText(i);
  const command = Object.values(data.command).filter((col) => at(col, i) >= 0).map((col) => plain(col.values[at(col, i)])).join("");
  // a figure that only its notebook draws says none of these
  const remade = recipe && ["index", "sheet", "drawn_by"].some(
    (name) => Object.hasOwn(data.document, name) && at(data.document[name], i) >= 0);
  byId("again").replaceChildren(
    ...(command ? copyable("make it again", command) : []),
    ...(remade && data.folder !== null ? copyable("check it against its recipe", `nbhelpers replay ${shellWord(data.folder + source)}`) : []));
  byId("recipe").hidden = !recipe;
  byId("recipe").lastElementChild.replaceChildren(...(recipe ? copyable("as it stands in the file", recipe) : []));
  const place = shown.indexOf(i);
  byId("before").disabled = place < 1;
  byId("after").disabled = place < 0 || place === shown.length - 1;
  if (!dialog.open) {
    dialog.showModal();
    dialog.scrollTop = 0;
    byId("close").focus();
  }
}

function step(by) {
  const next = shown[shown.indexOf(state.picture) + by];
  if (next !== undefined && shown.includes(state.picture)) go({ picture: next }, true);
}

function close() {
  if (opened) history.back();
  else go({ picture: -1 }, true);
}

// --- everything together

let drawn = "";

function draw() {
  select();
  filtersForState();
  const listed = address({ ...state, picture: -1 });
  const sheet = state.view === "sheet";
  if (drawn !== listed) {
    drawn = listed;
    byId("grid").hidden = sheet;
    byId("sheet").hidden = !sheet;
    if (sheet) drawSheet();
    else drawGrid();
    byId("nothing").hidden = shown.length > 0;
    byId("axes").hidden = !sheet;
    byId("order").hidden = sheet;
    byId("sort").value = state.sort;
    byId("down").setAttribute("aria-pressed", state.down);
    byId("rows").value = state.rows;
    byId("columns").value = state.columns;
    document.querySelectorAll("[data-view]").forEach((button) => {
      button.setAttribute("aria-pressed", button.dataset.view === state.view);
    });
    const all = count.toLocaleString("en");
    byId("count").textContent = shown.length === count ? all : `${shown.length.toLocaleString("en")} of ${all}`;
    byId("clear").hidden = !filters.some(({ box }) => box.classList.contains("active"));
  }
  filters.forEach((each) => each.update());
  byId("clear").hidden = !filters.some(({ box }) => box.classList.contains("active"));
  drawOpen();
}

let followed = location.hash;

function follow() { // the address, wherever it went
  if (location.hash === followed) return;
  followed = location.hash;
  const was = state;
  state = parse(location.hash);
  opened = state.picture >= 0 && (was.picture >= 0 ? opened : true);
  draw();
  if (was.picture >= 0 && state.picture < 0) document.querySelector(`main [data-i="${was.picture}"]`)?.focus();
}

addEventListener("hashchange", follow);

document.querySelector("main").addEventListener("click", (event) => {
  const card = event.target.closest("[data-i]");
  if (!card || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go({ picture: Number(card.dataset.i) });
});

document.querySelector("main").addEventListener("keydown", (event) => {
  const card = event.target.closest("[data-i]");
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!card || !way || event.altKey || event.ctrlKey || event.metaKey) return;
  const all = [...document.querySelectorAll("main [data-i]")];
  const here = card.getBoundingClientRect();
  let next = way[0] ? all[all.indexOf(card) + way[0]] : null;
  if (way[1]) { // the nearest one above or below
    let least = Infinity;
    for (const each of all) {
      const there = each.getBoundingClientRect();
      const apart = way[1] * (there.top - here.top);
      const cost = apart + 3 * Math.abs(there.left - here.left);
      if (apart > 4 && there.width && cost < least) [least, next] = [cost, each];
    }
  }
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest", inline: "nearest" });
});

addEventListener("click", (event) => {
  for (const { box } of filters) if (box.open && !box.contains(event.target)) box.open = false;
});
addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = filters.find(({ box }) => box.open);
  if (!open || byId("open").open) return;
  open.box.open = false;
  open.box.querySelector("summary").focus();
});

const dialog = byId("open");
dialog.addEventListener("cancel", (event) => { event.preventDefault(); close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
byId("before").addEventListener("click", () => step(-1));
byId("after").addEventListener("click", () => step(1));
byId("close").addEventListener("click", close);

document.querySelectorAll("[data-view]").forEach((button) => {
  button.addEventListener("click", () => go({ view: button.dataset.view }));
});
byId("clear").addEventListener("click", () => go({ is: new Map(), from: new Map(), to: new Map() }));
byId("down").addEventListener("click", () => go({ down: !state.down }));
byId("sort").addEventListener("change", (event) => go({ sort: event.target.value }));
byId("rows").addEventListener("change", (event) => {
  go({ rows: event.target.value, columns: event.target.value === state.columns ? state.rows : state.columns });
});
byId("columns").addEventListener("change", (event) => {
  go({ columns: event.target.value, rows: event.target.value === state.rows ? state.columns : state.rows });
});
byId("swap").addEventListener("click", () => go({ rows: state.columns, columns: state.rows }));

byId("side").addEventListener("input", () => {
  sized = true;
  setSide(byId("side").value);
});

startFilters();
byId("sort").append(make("option", { value: "" }, "as listed"),
  ...sortable.map(({ name }) => make("option", { value: name }, name)));
for (const id of ["rows", "columns"]) byId(id).append(...parameters.map(({ name }) => make("option", { value: name }, name)));
document.querySelector(".views").hidden = !data.sheet.length;
document.querySelector("nav").hidden = count < 2;
if (count > 0) draw();
