// An activation atlas to walk through: one map under one or several grids, coarse to fine. A notebook's widget and the
// page show it alike: `render` is anywidget's, and the page gives it a Map for a model (controls/atlas_view.py, atlas.html).
// `view` says which part of the map is on the screen; the grid follows from how large a square would be there. Every
// square is a button, so that the keyboard and a screen reader find it.

const SIDE = 1000; // of the map in its own units
const FINEST = 40; // zoom
const COMFORTABLE = 58; // pixels of a square from which a finer grid is shown
const NAMED = 96; // pixels of a square from which every one is named
const REGIONS = 14; // names on the whole map
const SPEAKS = 10; // percent from which a square is found under a class
const AROUND = [[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [1, -1], [-1, 1], [-1, -1]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const MARKUP = `<div class="atlas-frame">
<div class="atlas-tools" role="group" aria-label="Map">
<span role="group" aria-label="Zoom"><button type="button" class="atlas-out" aria-label="Zoom out" title="Zoom out (-)">−</button><button
 type="button" class="atlas-whole" title="The whole map (0)">whole</button><button type="button" class="atlas-in" aria-label="Zoom in"
 title="Zoom in (+)">+</button></span>
<label>find <input class="atlas-find" placeholder="a class" autocomplete="off"></label>
<label>and <input class="atlas-other" placeholder="another class" autocomplete="off"></label>
<datalist></datalist><output class="atlas-told atlas-dim" aria-live="polite"></output></div>
<div class="atlas-main">
<div class="atlas-stage" role="group" aria-label="Map of the layer. Arrow keys go from square to square, plus and minus zoom.">
<div class="atlas-map"></div></div>
<div class="atlas-panel" tabindex="0" role="region" aria-label="What is in the square" aria-live="polite">
<p class="atlas-hint atlas-dim">Every picture is what this layer means by a crowd of places in photos that it sees alike; neighbours
are alike. The larger, the more places. Point at one, click it, zoom into it.</p>
<div class="atlas-shown" hidden><div class="atlas-large" role="img"></div>
<h2 class="atlas-name"></h2><p class="atlas-count atlas-dim"></p>
<div class="atlas-said"></div><div class="atlas-labels"></div><div class="atlas-photos"></div></div>
<p class="atlas-dim atlas-small">A flat map shows neighbours, not distances: what lies far apart may be as like as what lies near, and
the gaps mean nothing.</p>
</div></div></div>`;

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};

// Squares of one name that touch, the largest first, named under the one in their middle; a name too near another is left out.
function regions({ cells, squares }) {
  const at = new Map(squares.map((square, i) => [square.at.join(), i]));
  const seen = new Set(), found = [];
  squares.forEach((square, start) => {
    if (seen.has(start)) return;
    const members = [start];
    seen.add(start);
    for (const i of members) // grows on the way
      for (const [dx, dy] of AROUND) {
        const next = at.get([squares[i].at[0] + dx, squares[i].at[1] + dy].join());
        if (next !== undefined && !seen.has(next) && squares[next].name === square.name) { seen.add(next); members.push(next); }
      }
    const mean = (axis) => members.reduce((sum, i) => sum + squares[i].at[axis], 0) / members.length;
    const off = (i) => Math.hypot(squares[i].at[0] - mean(0), squares[i].at[1] - mean(1));
    const [x, y] = squares[members.reduce((best, i) => (off(i) < off(best) ? i : best))].at;
    found.push({ name: square.name, size: members.reduce((sum, i) => sum + squares[i].count, 0), x: (x + 0.5) / cells, y: (y + 1) / cells });
  });
  const kept = [];
  for (const region of found.sort((a, b) => b.size - a.size)) {
    const apart = kept.every((other) => other.name !== region.name && (Math.abs(other.x - region.x) > 0.17 || Math.abs(other.y - region.y) > 0.06));
    if (apart && kept.length < REGIONS) kept.push(region);
  }
  return kept;
}

function render({ model, el }) {
  const { levels, classes } = model.get("atlas");
  const root = make("div", "nbhelpers-atlas");
  root.innerHTML = MARKUP;
  root.tabIndex = -1; // hears keys once it was clicked
  el.append(root);
  const part = (name) => root.querySelector(`.atlas-${name}`);
  const stage = part("stage"), map = part("map");
  const names = root.querySelector("datalist");
  names.id = `atlas-names-${Math.random().toString(36).slice(2)}`; // there may be several maps on a page
  names.append(...classes.map((name) => Object.assign(make("option"), { value: name })));
  for (const input of [part("find"), part("other")]) input.setAttribute("list", names.id);

  const view = { x: 0, y: 0, scale: 1 };
  const urls = new Map();
  let level = -1, chosen = -1, squares = [];

  const place = (node, sheet, index) => {
    if (!urls.has(sheet)) {
      const bytes = Uint8Array.from(atob(sheet.webp), (letter) => letter.charCodeAt(0));
      urls.set(sheet, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
    }
    node.style.backgroundImage = `url(${urls.get(sheet)})`;
    node.style.backgroundSize = `${sheet.across * 100}% ${sheet.rows * 100}%`;
    const share = (at, all) => (all > 1 ? (100 * at) / (all - 1) : 0);
    node.style.backgroundPosition = `${share(index % sheet.across, sheet.across)}% ${share(Math.floor(index / sheet.across), sheet.rows)}%`;
  };

  // --- the map on the screen

  const whole = () => (0.97 * Math.min(stage.clientWidth, stage.clientHeight)) / SIDE;
  const onScreen = (cells) => (SIDE / cells) * view.scale;

  function draw() {
    map.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    map.style.setProperty("--scale", view.scale);
    const now = levels.reduce((found, each, i) => (i && onScreen(each.cells) >= COMFORTABLE ? i : found), 0);
    if (now !== level) build(now);
    map.classList.toggle("atlas-named", onScreen(levels[level].cells) >= NAMED);
  }

  function build(index) {
    const before = chosen >= 0 ? levels[level].squares[chosen].at.map((at) => (at + 0.5) / levels[level].cells) : null;
    level = index;
    const { cells, squares: listed, pictures } = levels[level];
    map.replaceChildren();
    map.dataset.cells = cells;
    squares = listed.map((square, i) => {
      const button = make("button", "atlas-square"), side = SIDE / cells, length = side * square.side * 0.96 - side * 0.05;
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
    for (const { name, x, y } of regions(levels[level])) {
      const label = make("span", "atlas-region", name);
      Object.assign(label.style, { left: `${x * SIDE}px`, top: `${y * SIDE}px` });
      map.append(label);
    }
    chosen = -1;
    if (before) choose(nearest(before[0], before[1]), false);
    find();
  }

  // --- one square

  function nearest(x, y) {
    const { cells, squares: listed } = levels[level];
    const far = (square) => ((square.at[0] + 0.5) / cells - x) ** 2 + ((square.at[1] + 0.5) / cells - y) ** 2;
    return listed.reduce((best, square, i) => (far(square) < far(listed[best]) ? i : best), 0);
  }

  function bars(node, title, entries) {
    node.replaceChildren(...(entries.length ? [make("h3", "", title)] : []));
    for (const [name, share] of entries) {
      const bar = make("div", "atlas-bar");
      bar.style.setProperty("--share", `${share}%`);
      bar.append(make("span", "", name), make("span", "", `${share} %`));
      node.append(bar);
    }
  }

  function show(i) {
    const { squares: listed, pictures, photos } = levels[level], square = listed[i];
    part("hint").hidden = true;
    part("shown").hidden = false;
    place(part("large"), pictures, i);
    part("large").setAttribute("aria-label", `Picture of the square ${square.name}`);
    part("name").textContent = square.name;
    part("count").textContent = `${square.count} place${square.count === 1 ? "" : "s"}`;
    bars(part("said"), "The network would answer", square.said);
    bars(part("labels"), "Its photos are of", square.labels);
    const [first, count] = square.photos;
    part("photos").replaceChildren(...(count ? [make("h3", "", "Photos it is the mean of")] : []));
    for (let k = 0; k < count; k++) {
      const node = make("span", "atlas-photo");
      place(node, photos, first + k);
      part("photos").append(node);
    }
  }

  function choose(i, focus = true) {
    squares[chosen]?.setAttribute("aria-pressed", "false");
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
    const { squares: listed } = levels[level];
    const focused = squares.indexOf(document.activeElement), from = chosen >= 0 ? chosen : focused;
    if (from < 0) return choose(nearest(0.5, 0.5));
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
    const wanted = [part("find").value, part("other").value].map((text) => text.trim().toLowerCase());
    const { squares: listed } = levels[level], asked = wanted.some(Boolean);
    const has = (square, text) => Boolean(text) &&
      square.said.concat(square.labels).some(([name, share]) => share >= SPEAKS && name.toLowerCase().includes(text));
    let count = 0;
    listed.forEach((square, i) => {
      const [first, second] = wanted.map((text) => has(square, text));
      squares[i].classList.toggle("atlas-first", first);
      squares[i].classList.toggle("atlas-second", second);
      squares[i].style.opacity = asked && !first && !second ? 0.16 : 1;
      if (first || second) count++;
    });
    map.querySelectorAll(".atlas-region").forEach((each) => { each.hidden = asked; });
    part("told").textContent = asked ? `${count} of ${listed.length} squares` : "";
  }

  // --- moving

  function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const scale = Math.min(FINEST * whole(), Math.max(whole(), view.scale * factor));
    view.x = x - ((x - view.x) * scale) / view.scale;
    view.y = y - ((y - view.y) * scale) / view.scale;
    view.scale = scale;
    draw();
  }

  function zoomKeyed(factor) {
    if (chosen < 0) return zoom(factor);
    const box = squares[chosen].getBoundingClientRect(), frame = stage.getBoundingClientRect();
    zoom(factor, (box.left + box.right) / 2 - frame.left, (box.top + box.bottom) / 2 - frame.top);
  }

  function reset() {
    if (!whole()) return; // not on a page yet
    view.scale = whole();
    view.x = (stage.clientWidth - SIDE * view.scale) / 2;
    view.y = (stage.clientHeight - SIDE * view.scale) / 2;
    draw();
  }

  const pointers = new Map();
  const over = new AbortController(); // when this view of the map is gone
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
    stage.classList.add("atlas-moving");
    if (others.length) {
      const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
      zoom(far(now, others[0]) / Math.max(1, far(last, others[0])), (now[0] + others[0][0]) / 2 - box.left, (now[1] + others[0][1]) / 2 - box.top);
    } else {
      view.x += now[0] - last[0];
      view.y += now[1] - last[1];
      draw();
    }
    pointers.set(event.pointerId, now);
  }, { signal: over.signal });
  for (const kind of ["pointerup", "pointercancel"])
    window.addEventListener(kind, (event) => {
      pointers.delete(event.pointerId);
      stage.classList.remove("atlas-moving");
    }, { signal: over.signal });
  stage.addEventListener("wheel", (event) => {
    if (event.deltaY > 0 && view.scale <= whole()) return; // nothing to zoom out of: the page around may scroll on
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => {
    const box = stage.getBoundingClientRect();
    zoom(2, event.clientX - box.left, event.clientY - box.top);
  });
  root.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.target === part("panel") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (ARROWS[event.key]) step(...ARROWS[event.key]);
    else if (event.key === "+" || event.key === "=") zoomKeyed(1.5);
    else if (event.key === "-") zoomKeyed(1 / 1.5);
    else if (event.key === "0") reset();
    else if (event.key === "Escape") { choose(-1); part("shown").hidden = true; part("hint").hidden = false; }
    else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has a meaning for these keys, too
  });
  part("in").addEventListener("click", () => zoomKeyed(1.5));
  part("out").addEventListener("click", () => zoomKeyed(1 / 1.5));
  part("whole").addEventListener("click", reset);
  part("find").addEventListener("input", find);
  part("other").addEventListener("input", find);
  const watching = new ResizeObserver(reset);
  watching.observe(stage);
  reset();
  return () => {
    over.abort();
    watching.disconnect();
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
