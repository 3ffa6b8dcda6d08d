"use strict";
// One page for the network, its layers, channels and classes: which is shown stands behind the # of the address, so that
// back, forward and links to any place work from a disk too. A layer's facts are a script of their own, loaded when asked
// for: a page from a disk may load scripts and pictures, but not fetch data.
const network = JSON.parse(document.getElementById("data").textContent);
const byName = new Map(network.layers.map((layer, index) => [layer.name, index]));
const bar = document.getElementById("bar"), main = document.getElementById("main");

const microscope = { loaded: {}, waiting: {}, layer(index, channels) {
  this.loaded[index] = channels;
  this.waiting[index]?.done(channels);
} };
window.microscope = microscope;

function facts(index) {
  if (microscope.loaded[index]) return Promise.resolve(microscope.loaded[index]);
  const waiting = microscope.waiting[index] ??= (() => {
    const each = {};
    each.promise = new Promise((done, failed) => { each.done = done; each.failed = failed; });
    const script = document.createElement("script");
    script.src = `data/${index}.js`;
    script.onerror = () => { delete microscope.waiting[index]; each.failed(new Error(`data/${index}.js, beside this page, cannot be read: build the site again.`)); };
    document.head.append(script);
    return each;
  })();
  return waiting.promise;
}

// --- small parts

function el(tag, attributes = {}, ...children) {
  const node = tag === "svg" || el.svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.flat(9).filter((each) => each !== null && each !== undefined && each !== false));
  return node;
}
function svg(make) { el.svg = true; try { return make(); } finally { el.svg = false; } }
const number = (value) => value === null || value === undefined ? "–" : value === 0 ? "0" : Math.abs(value) < 1e-4 || Math.abs(value) >= 1e6 ? value.toExponential(1)
  : Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 10 ? value.toFixed(1) : Math.abs(value) >= 0.1 ? value.toFixed(2) : `${+value.toPrecision(2)}`;
const known = (value, words) => value === undefined || value === null ? null : words(value);
const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const at = { network: () => "#/", layer: (index) => `#/layer/${encodeURIComponent(network.layers[index].name)}`,
  channel: (index, channel) => `#/channel/${encodeURIComponent(network.layers[index].name)}/${channel}`, class: (index) => `#/class/${index}` };
const file = (index, channel, kind = "") => `pictures/${index}/${channel}${kind && `-${kind}`}.webp`;

function picture(index, channel, kind = "", dead = false, name = "") {
  if (dead) return el("div", { class: "blank" }, "never fires");
  const of = index === "classes" ? `class ${network.classes[channel]}` : `channel ${channel} of ${network.layers[index].name}`;
  return el("img", { src: file(index, channel, kind), loading: "lazy", decoding: "async", alt: name || `made picture of ${of}` });
}
function tile(index, channel, fact = {}) {
  return el("a", { class: "tile", href: at.channel(index, channel), "data-channel": channel, title: fact.label?.name ?? null },
    picture(index, channel, "", fact.dead), el("span", {}, el("b", {}, `${channel}`), fact.label ? ` ${fact.label.name}` : ""));
}
function classTile(index) {
  return el("a", { class: "tile", href: at.class(index), title: network.classes[index] },
    network.class_pictures ? picture("classes", index) : null, el("span", {}, network.classes[index]));
}
function section(title, note, ...children) {
  const shown = children.flat(9).filter(Boolean);
  return shown.length ? el("section", {}, el("h2", {}, title), note ? el("p", { class: "dim" }, note) : null, shown) : null;
}
function list(pairs) {
  return el("dl", {}, pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined).map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}
/* Bars from `from` to `to`; each row: name (a node), value, text, and maybe an interval and a mark. */
function bars(rows, low, high) {
  const place = (value) => 100 * (Math.min(high, Math.max(low, value)) - low) / ((high - low) || 1);
  return el("div", { class: "bars" }, rows.map(({ name, value, text, interval, mark }) => {
    const [left, right] = [place(Math.min(value, Math.max(low, 0))), place(Math.max(value, Math.max(low, 0)))];
    return [el("div", {}, name), el("div", { class: "track", "aria-hidden": "true" },
      el("i", { style: `left:${left}%;width:${right - left}%`, class: value < 0 ? "less" : null }),
      interval ? el("s", { style: `left:${place(interval[0])}%;width:${place(interval[1]) - place(interval[0])}%` }) : null,
      mark !== undefined ? el("u", { style: `left:${place(mark)}%` }) : null), el("div", {}, text)];
  }));
}
function histogram(counts, low, high) {
  const most = Math.max(...counts, 1), wide = 440 / counts.length;
  const words = `Histogram of its strongest answer in each photo, from ${number(low)} to ${number(high)}: ${counts.join(", ")}`;
  return svg(() => el("svg", { viewBox: "0 0 460 130", role: "img", "aria-label": words },
    counts.map((count, index) => el("rect", { class: "fill", x: 10 + index * wide, width: Math.max(wide - 1, 1), y: 105 - 96 * count / most, height: 96 * count / most })),
    el("line", { class: "axis", x1: 10, x2: 450, y1: 105.5, y2: 105.5 }),
    el("text", { x: 10, y: 121 }, number(low)), el("text", { x: 450, y: 121, "text-anchor": "end" }, number(high)),
    el("text", { x: 450, y: 12, "text-anchor": "end" }, plural(most, "photo"))));
}
function curve({ name, unit, x, y }) {
  const [low, high] = [Math.min(0, ...y), Math.max(0, ...y)], place = (value) => 100 - 88 * (value - low) / ((high - low) || 1);
  const points = y.map((value, index) => `${(30 + 400 * index / Math.max(1, y.length - 1)).toFixed(1)},${place(value).toFixed(1)}`);
  const label = (value) => typeof value === "number" ? `${+value.toFixed(2)}${unit ?? ""}` : `${value}`;
  return el("figure", {}, svg(() => el("svg", { viewBox: "0 0 460 122", role: "img", "aria-label": `${name}: ${y.map(number).join(", ")}` },
    el("line", { class: "axis", x1: 30, x2: 430, y1: place(0) + 0.5, y2: place(0) + 0.5 }), el("polyline", { class: "curve", points: points.join(" ") }),
    el("text", { x: 30, y: 118 }, label(x[0])), el("text", { x: 430, y: 118, "text-anchor": "end" }, label(x[x.length - 1])),
    el("text", { x: 30, y: 8 }, `${number(low)} to ${number(high)}`))), el("figcaption", {}, name));
}
function kernel(rows) {
  const most = Math.max(...rows.flat().map(Math.abs)) || 1, canvas = el("canvas", { class: "kernel", width: rows[0].length, height: rows.length,
    role: "img", "aria-label": `kernel: ${rows.map((row) => row.map(number).join(" ")).join("; ")}` });
  const drawing = canvas.getContext("2d");
  rows.forEach((row, y) => row.forEach((value, x) => {
    const share = Math.abs(value) / most, towards = value > 0 ? [196, 70, 28] : [40, 104, 160];
    drawing.fillStyle = `rgb(${towards.map((each) => Math.round(245 + (each - 245) * share)).join(",")})`;
    drawing.fillRect(x, y, 1, 1);
  }));
  return canvas;
}

// --- pages

function networkPage() {
  const title = el("h1", {}, network.name);
  return [title, el("p", { class: "dim" }, network.summary.join(" · ")),
    network.changed.length ? el("p", { class: "note" }, `Since the site was last built: ${network.changed.join("; ")}.`) : null,
    section("Layers", "In the order in which they run; a few channels of each, the strongest first. Every picture was made by climbing until the channel answers as strongly as it can." + (
      network.layers.some((layer) => layer.two?.groups) ? " Pictures tell: shown a channel's picture alone, another network finds the photo that excites it so often, where guessing gives 50 %." : ""),
      network.layers.map((layer, index) => el("article", { class: "layer" },
        el("div", {}, el("h2", {}, el("a", { href: at.layer(index) }, layer.name)), el("div", { class: "dim" }, plural(layer.channels, "channel"), el("br"),
          `${layer.height} × ${layer.width}, ${layer.field === null ? "sees the whole picture" : `sees ${layer.field} pixels`}`,
          layer.dead ? [el("br"), `${layer.dead} never ${layer.dead === 1 ? "fires" : "fire"}`] : null,
          layer.two?.groups ? [el("br"), `pictures tell ${percent(layer.two.groups[0].rows[0].share)}`] : null)),
        el("div", { class: "strip" }, layer.strip.map((channel) => el("a", { href: at.channel(index, channel), "aria-label": `channel ${channel} of ${layer.name}` }, picture(index, channel))))))),
    section("Classes", network.class_pictures ? "What drives each class's logit." : null, network.classes.length ? el("div", { class: "grid" }, network.classes.map((_, index) => classTile(index))) : null)];
}

const ORDERS = { number: ["number", (fact) => fact.n], strength: ["strength", (fact) => -(fact.strength ?? -Infinity)],
  selectivity: ["selectivity", (fact) => -(fact.selectivity ?? -Infinity)], label: ["label", (fact) => fact.label?.name ?? "\uffff"],
  likeness: ["likeness", (fact) => fact.likeness ?? 0] };
const FILTERS = { all: ["all", () => true], labelled: ["with a label", (fact) => fact.label], fires: ["that fire", (fact) => !fact.dead], dead: ["that never fire", (fact) => fact.dead] };
const compare = (a, b) => typeof a === "string" ? a.localeCompare(b, "en") : a - b;

function ordered(channels, view) {
  const key = (ORDERS[view.sort] ?? ORDERS.number)[1], keep = (FILTERS[view.show] ?? FILTERS.all)[1], wanted = view.find.trim().toLowerCase();
  return channels.filter((fact) => keep(fact) && (!wanted || `${fact.n}` === wanted || (fact.label?.name ?? "").toLowerCase().includes(wanted)))
    .sort((a, b) => compare(key(a), key(b)) || a.n - b.n);
}
const viewOf = (query) => ({ sort: query.get("sort") ?? "number", show: query.get("show") ?? "all", find: query.get("find") ?? "" });
const last = {}; // how each layer was last sorted, which the arrows between its channels follow

async function layerPage(index, query) {
  const layer = network.layers[index], channels = await facts(index), view = last[index] = viewOf(query);
  const grid = el("div", { class: "grid", id: "grid" }), told = el("output", { "aria-live": "polite" });
  const has = { strength: "strength", selectivity: "selectivity", likeness: "likeness", label: "label" };
  const choose = (name, options, words) => el("label", {}, `${words} `, el("select", { name }, Object.entries(options)
    .filter(([key]) => !has[key] || channels.some((fact) => fact[has[key]] !== undefined && fact[has[key]] !== null))
    .filter(([key]) => key !== "labelled" || channels.some((fact) => fact.label))
    .map(([key, [text]]) => el("option", { value: key, ...(view[name] === key ? { selected: "" } : {}) }, text))));
  const find = el("input", { type: "search", name: "find", placeholder: "a label or a number", "aria-label": "find channels", value: view.find });
  const tools = el("form", { class: "tools" }, choose("sort", ORDERS, "sorted by"), choose("show", FILTERS, "show"), find, told);
  function fill() {
    const shown = ordered(channels, view);
    grid.replaceChildren(...shown.map((fact) => tile(index, fact.n, fact)));
    told.textContent = shown.length === channels.length ? plural(shown.length, "channel") : `${shown.length} of ${plural(channels.length, "channel")}`;
  }
  tools.addEventListener("input", () => {
    Object.assign(view, Object.fromEntries(new FormData(tools)));
    const changed = new URLSearchParams(Object.entries(view).filter(([name, value]) => value !== viewOf(new URLSearchParams())[name]));
    history.replaceState(null, "", at.layer(index) + (changed.size ? `?${changed}` : ""));
    fill();
  });
  tools.addEventListener("submit", (event) => event.preventDefault());
  fill();
  return [el("h1", {}, layer.name), el("p", { class: "dim" }, [`${plural(layer.channels, "channel")} of ${layer.height} × ${layer.width}`, layer.kind,
    `stride ${layer.stride}`, layer.field === null ? "every unit sees the whole picture" : `a unit sees ${layer.field} pixels`,
    layer.dead ? `${layer.dead} never ${layer.dead === 1 ? "fires" : "fire"}` : null].filter(Boolean).join(" · ")), tools, grid, twoChoice(layer.two)];
}

function twoChoice(two) {
  return two?.groups ? section("Two-choice test", `${two.judge} is shown pictures of a channel, and is to tell a photo that excites it from one that does not. ${
    two.channels ? `The mean of ${plural(two.channels, "channel")}; people were right in 82 % of such questions with made pictures, in 92 % with photos (Borowski, Zimmermann et al. 2021). ` : ""}The line is chance, the thin bar the 95 % interval.`, two.groups.map((group) => el("figure", {}, el("h3", {}, group.name),
    bars(group.rows.map((row) => ({ name: row.name, value: row.share, text: row.questions ? `${percent(row.share)} of ${row.questions}` : percent(row.share, 1),
      interval: [row.low, row.high], mark: 0.5 })), 0, 1)))) : null;
}

function patches(index, fact) {
  const rows = fact.patches;
  return rows.map((row, place) => el("figure", {}, el("h3", {}, row.name), el("div", { class: "patches" }, row.photos.map((photo, column) =>
    el("span", { title: photo.name ?? null }, el("i", { role: "img", "aria-label": `patch of ${photo.name ?? "a photo"}, ${number(photo.value)}`,
      style: `--rows:${100 * rows.length}%;background-image:url("${file(index, fact.n, "photos")}");background-position:${12.5 * column}% ${rows.length > 1 ? 100 * place / (rows.length - 1) : 0}%` }), number(photo.value))))));
}

function linked(entries, words) {
  return entries?.length ? el("figure", {}, el("h3", {}, words), el("div", { class: "links" }, entries.map((each) =>
    el("div", {}, byName.has(each.layer) ? tile(byName.get(each.layer), each.channel, { dead: each.dead }) : el("span", {}, `${each.layer} ${each.channel}`),
      el("div", { class: "dim", style: "font-size:13px" }, `${each.value > 0 ? "+" : ""}${number(each.value)}`), each.kernel ? kernel(each.kernel) : null)))) : null;
}
function classBars(entries) {
  const most = Math.max(...entries.map((each) => Math.abs(each.value)), 1e-9);
  return bars(entries.map((each) => ({ name: el("a", { href: at.class(each.class) }, network.classes[each.class] ?? `class ${each.class}`), value: each.value,
    text: each.text ?? `${each.value > 0 ? "+" : ""}${number(each.value)}` })), Math.min(0, ...entries.map((each) => each.value)), most);
}

async function channelPage(index, channel) {
  const channels = await facts(index), fact = channels.find((each) => each.n === channel), layer = network.layers[index];
  if (!fact) return missing(`${layer.name} has no channel ${channel}: it has ${layer.channels}, from 0 on.`);
  const kinds = fact.kinds ?? [];
  const kind = (name, words, css = "one") => kinds.includes(name) ? el("figure", {}, el("img", { class: css, src: file(index, channel, name), loading: "lazy", alt: words }), el("figcaption", {}, words)) : null;
  const others = [kind("diverse", "four that differ, and drive it as well", "four"), kind("negative", "what drives it down"),
    kind("untrained", "the same channel before the network learned anything")].filter(Boolean);
  const circuit = [linked(fact.excited, "Excited by"), linked(fact.inhibited, "Inhibited by"), linked(fact.feeds, "It feeds")].filter(Boolean);
  return [el("div", { class: "head" }, picture(index, channel, "", fact.dead), el("div", {}, el("h1", {}, `${layer.name}, channel ${channel}`),
      el("p", { class: "label" }, fact.label ? fact.label.name : el("span", { class: "dim" }, network.photos ? "no label" : "no photographs, so no label")),
      fact.dead ? el("p", {}, "It never fires: no picture could be made, and nothing here says what it is for.") : null,
      list([["mean answer", known(fact.strength, (value) => `${number(value)} to its picture${fact.best === undefined ? "" : `, ${number(fact.best)} to the best photograph`}`)],
        ["its picture", known(fact.percentile, (value) => `more exciting than ${value === 1 ? "all" : percent(value, 1) + " of the"} photographs`)],
        ["fires in", known(fact.fires, (value) => `${percent(value, 1)} of the photographs; ${number(fact.most)} where it answers most`)],
        ["selectivity", known(fact.selectivity, (value) => `${number(value)} deviations above its answer to the pictures of other channels`)],
        ...(fact.facts ?? [])]))),
    section("Other pictures of it", null, others.length ? el("div", { class: "row" }, others) : null),
    section("In photographs", "What it answers to most, and what it answers to across its whole range: the strongest alone flatter.", fact.patches ? patches(index, fact) : null),
    el("div", { class: "cards" },
      section("How often", "Its strongest answer in each photo.", fact.histogram ? histogram(fact.histogram.counts, fact.histogram.low, fact.histogram.high) : null),
      twoChoice(fact.two),
      section("Label", `The classes, or kinds of them, that its answer separates best from all others: area under the curve, chance 0.5${
        fact.labels?.tried ? `; p counts that ${fact.labels.tried} were tried` : ""}.`,
        fact.labels ? bars(fact.labels.rows.map((row) => ({ name: row.name, value: row.auc, text: `${row.auc.toFixed(3)}${row.p === undefined || row.p === null ? "" : `, p ${row.p < 0.001 ? "< 0.001" : row.p.toFixed(3)}`}`, mark: 0.5 })), 0, 1) : null),
      section("Speaks for", fact.speaks_note ?? null, fact.speaks?.length ? classBars(fact.speaks) : null),
      section("Without it", "The channel held at zero: how much lower these classes' logits are then, measured.", fact.lost?.length ? classBars(fact.lost) : null)),
    section("Tuning", fact.tuning?.note ?? null, fact.tuning?.label ? el("p", {}, fact.tuning.label) : null,
      fact.tuning ? el("div", { class: "curves" }, fact.tuning.curves.map(curve)) : null),
    section("Circuit", fact.circuit_note ?? null, circuit.length ? el("div", { class: "cards" }, circuit) : null),
    section("Nearest channels", "By correlation over the photographs.", fact.near?.length ? el("div", { class: "links" }, fact.near.map((each) =>
      el("div", {}, tile(index, each.channel), el("div", { class: "dim", style: "font-size:13px" }, number(each.value))))) : null),
    recipes(fact.recipes)];
}
function recipes(entries) {
  return section("Make them again", "The same pixels from the recipe; the command reads it from the picture in the folder of results, the lines need nothing but the package.",
    entries?.map((each) => el("details", {}, el("summary", {}, each.name), each.command ? el("pre", {}, each.command) : null, el("pre", {}, each.lines))));
}

function classPage(index) {
  const fact = network.class_facts[index] ?? {};
  return [el("div", { class: "head" }, network.class_pictures ? picture("classes", index) : el("div"), el("div", {}, el("h1", {}, network.classes[index]), list([["class", `${index}`], ...(fact.facts ?? [])]))),
    section("Speak for it", fact.note ?? "The channels that add most to its logit over the photographs.", fact.channels?.length ? el("div", { class: "links" }, fact.channels.map((each) =>
      el("div", {}, tile(byName.get(each.layer), each.channel), el("div", { class: "dim", style: "font-size:13px" }, `${each.layer} ${each.value > 0 ? "+" : ""}${number(each.value)}`)))) : null),
    section("Without them", fact.ablation_note ?? null, fact.ablation?.length ? bars(fact.ablation.map((each) => ({ ...each, text: number(each.value) })), Math.min(0, ...fact.ablation.map((each) => each.value)), Math.max(...fact.ablation.map((each) => each.value), 1e-9)) : null),
    recipes(fact.recipes)];
}

function missing(words) { return [el("h1", {}, "Nothing here"), el("p", {}, words), el("p", {}, el("a", { href: at.network() }, "To the network"))]; }

// --- the address, and what belongs to it

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  try { return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) }; }
  catch { return { parts: ["?"], query: new URLSearchParams() }; }
}
function neighbours(parts) {
  if (parts[0] === "layer") return [-1, 1].map((by) => network.layers[byName.get(parts[1]) + by] && at.layer(byName.get(parts[1]) + by));
  if (parts[0] === "class") return [-1, 1].map((by) => network.classes[+parts[1] + by] !== undefined && at.class(+parts[1] + by));
  if (parts[0] !== "channel") return [];
  const index = byName.get(parts[1]), channels = microscope.loaded[index];
  if (!channels) return [];
  const listed = ordered(channels, last[index] ?? viewOf(new URLSearchParams())), order = listed.some((fact) => fact.n === +parts[2]) ? listed : channels;
  const here = order.findIndex((fact) => fact.n === +parts[2]);
  return [-1, 1].map((by) => order[here + by] && at.channel(index, order[here + by].n));
}
function breadcrumbs(parts) {
  const trail = [[network.name, at.network()]];
  if (parts[0] === "layer" || parts[0] === "channel") trail.push([parts[1], byName.has(parts[1]) ? at.layer(byName.get(parts[1])) : null]);
  if (parts[0] === "channel" && byName.has(parts[1])) {
    const view = last[byName.get(parts[1])], query = view && new URLSearchParams(Object.entries(view).filter(([name, value]) => value !== viewOf(new URLSearchParams())[name]));
    if (query?.size) trail[1][1] += `?${query}`;
    trail.push([parts[2], null]);
  }
  if (parts[0] === "class") trail.push([network.classes[+parts[1]] ?? parts[1], null]);
  const [before, after] = neighbours(parts);
  return [trail.map(([text, href], index) => [index ? el("span", { class: "sep" }, "/") : null,
    el(href ? "a" : "span", { href, "aria-current": index === trail.length - 1 ? "page" : null }, text)]),
    el("span", { class: "turn" }, before ? el("a", { href: before, rel: "prev", title: "arrow left" }, "← before") : null, after ? el("a", { href: after, rel: "next", title: "arrow right" }, "next →") : null)];
}
async function content({ parts: [what, name, channel], query }) {
  if (what === undefined) return networkPage();
  if (what === "layer" && byName.has(name)) return layerPage(byName.get(name), query);
  if (what === "channel" && byName.has(name) && /^\d+$/.test(channel ?? "")) return channelPage(byName.get(name), +channel);
  if (what === "class" && network.classes[name] !== undefined) return classPage(+name);
  return missing("The address behind # names no layer, channel or class of this network.");
}
const scrolled = {};
let shown = null;
async function show() {
  const asked = location.hash, where = place();
  let nodes;
  try { nodes = await content(where); } catch (error) { nodes = [el("h1", {}, "Not shown"), el("p", { class: "wrong" }, error.message)]; }
  if (asked !== location.hash) return; // the reader has gone on
  main.replaceChildren(...nodes.flat(9).filter(Boolean));
  bar.replaceChildren(...breadcrumbs(where.parts).flat(9).filter(Boolean));
  document.title = [...where.parts.slice(1).reverse(), network.name].join(" · ");
  window.scrollTo(0, scrolled[asked] ?? 0);
  shown = asked;
  main.dataset.shown = asked || "#/";
}
window.addEventListener("scroll", () => { if (shown === location.hash) scrolled[shown] = window.scrollY; }, { passive: true });
window.addEventListener("hashchange", show);
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
  const turn = { ArrowLeft: "prev", ArrowRight: "next" }[event.key], link = turn && bar.querySelector(`[rel=${turn}]`);
  if (link) { event.preventDefault(); link.click(); }
  else if (event.key === "Escape") { const up = [...bar.querySelectorAll("a[href]:not([rel])")].pop(); up?.click(); }
});
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
show();
