/* What reacts on the page: controls, the chosen run in every chart, a run under the
   pointer, tables. It follows law.js in one script. All data stand in
   <script type="application/json">; text is set as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";
const REGIONS = { fit: "fitted", held_out: "held out", target: "target" };
const find = (selector) => document.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

/** A direction of a chart, as its data-x or data-y tells it. */
function readAxis(svg, name) {
  const [low, high, from, to, kind] = (svg.dataset[name] || "").split(" ");
  const form = kind === "log" ? Math.log : (x) => x;
  const [first, last] = [form(Number(low)), form(Number(high))];
  return {
    shows: svg.dataset[`${name}Shows`],
    from: Number(from),
    to: Number(to),
    /** Units of the picture; NaN where the number lies outside. */
    at(number) {
      const share = (form(number) - first) / (last - first);
      return share >= -1e-3 && share <= 1.001 ? Number(from) + share * (to - from) : NaN;
    },
    /** Likewise, but the nearer end where it lies outside. */
    clip(number) {
      const share = (form(number) - first) / (last - first);
      return Number(from) + Math.min(Math.max(share, 0), 1) * (to - from);
    },
  };
}

const readCharts = () =>
  findAll("svg[data-chart]").map((svg) => ({
    svg,
    marker: svg.querySelector(".marker"),
    x: readAxis(svg, "x"),
    y: readAxis(svg, "y"),
  }));

/** The chosen run in every chart: a diamond with its 90% bar. */
function drawMarker({ marker, x, y }, numbers) {
  const across = x.at(numbers[x.shows]);
  const [down, low, high] = ["", "Lower", "Upper"].map((end) => numbers[y.shows + end]);
  const draw = [];
  if (!Number.isNaN(across)) {
    // Where the chart shows what a new run does not have, a line says how far it lies.
    if (down === undefined) draw.push(`M${across} ${y.from}V${y.to}`);
    else if (low < high) draw.push(`M${across} ${y.clip(low)}V${y.clip(high)}`);
    if (!Number.isNaN(y.at(down))) draw.push(`M${across} ${y.at(down) - 7}l7 7-7 7-7-7z`);
  }
  const path = marker.firstChild || marker.appendChild(document.createElementNS(SVG, "path"));
  path.setAttribute("d", draw.join(""));
  path.setAttribute("stroke-width", 2);
  path.setAttribute("stroke", "currentColor");
  path.setAttribute("fill", "currentColor");
}

/** Sliders and number fields; what they say is kept in the address. */
function startControls(block, law, charts) {
  const names = ["budget", "params", "data", "epochs", "value"].filter((name) => find(`#${name}`));
  const form = { budget: flops, params: count, data: count, epochs: count,
    value: (x) => measured(x, block.metric, false) };
  if (block.dataUnit === "FLOPs") form.data = flops;
  const state = { ...block.start };
  const wanted = find("#wanted");
  const isLinear = (name) => name === "epochs";
  const numberOf = (name) => (name === "budget" ? law.flops(state) : state[name]);

  function set(name, number) {
    const axis = name === "budget" ? law.budgets : law.axis[name];
    if (axis) number = Math.min(Math.max(number, Math.exp(axis.low)), Math.exp(axis.high));
    if (name === "budget") state.data = law.dataFor(number, state);
    else state[name] = number;
    if (name === "budget" || name === "data") wanted.checked = false;
    if (wanted.checked) reach();
  }
  /** Data (or parameters) that reach the wanted value, or as many as there are. */
  function reach() {
    const name = law.axis.data ? "data" : "params";
    state[name] = Math.min(law.needed(state.value, state, name)[0], Math.exp(law.axis[name].high));
  }
  function show() {
    if (!wanted.checked) state.value = law.law(state).value;
    find("#value-row").hidden = !wanted.checked;
    for (const name of names) {
      const number = numberOf(name);
      const text = form[name](number);
      const slider = find(`#${name}`);
      slider.value = isLinear(name) ? number : Math.log10(number);
      slider.setAttribute("aria-valuetext", text);
      find(`#${name}-number`).value = text;
    }
    const texts = wanted.checked ? [sayNeeded(block, law, state.value, state)] : [sayValue(block, law, state)];
    if (law.best && !wanted.checked) texts.push(sayBest(block, law, law.flops(state), state));
    texts.push(sayDistance(block, law, state));
    find("#answer").replaceChildren(...texts.filter(Boolean).map((text) => make("p", {}, capital(text))));
    const said = law.law(state);
    const compute = law.flops && law.flops(state);
    const ends = (name) => ({ [name]: said.value, [`${name}Lower`]: said.lower, [`${name}Upper`]: said.upper });
    const numbers = { ...state, ...ends("value"), ...ends("predicted"), measured: said.value,
      compute, distance: compute / block.reach.compute };
    for (const chart of charts) drawMarker(chart, numbers);
  }
  function keep() {
    const parts = { C: law.flops && law.flops(state), m: law.axis.params && state.params,
      n: !law.flops && state.data, e: law.axis.epochs && state.epochs, v: wanted.checked && state.value };
    const kept = Object.entries(parts).filter(([, number]) => number);
    const text = kept.map(([name, number]) => `${name}=${String(round(number, 6)).replace("+", "")}`);
    history.replaceState(null, "", `#${text.join("&")}`);
  }
  function restore() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const order = [["e", "epochs"], ["m", "params"], ["n", "data"], ["C", "budget"], ["v", "value"]];
    wanted.checked = asked.has("v");
    for (const [key, name] of order) {
      const number = parse(asked.get(key) || "");
      if (number > 0 && names.includes(name)) {
        set(name, number);
        if (key !== "v") wanted.checked = asked.has("v");
      }
    }
    show();
  }
  function listen(name) {
    const slider = find(`#${name}`);
    const field = find(`#${name}-number`);
    slider.addEventListener("input", () => {
      const number = Number(slider.value);
      // What is shown is what is computed with.
      set(name, isLinear(name) ? number : round(10 ** number, name === "value" ? 4 : 3));
      show();
      keep();
    });
    field.addEventListener("input", () => field.setCustomValidity(""));
    field.addEventListener("change", () => {
      let number = parse(field.value);
      if (name === "value" && block.metric.bounded && number >= 1) number /= 100;
      const isGood = number > 0;
      field.setCustomValidity(isGood ? "" : "Write a number such as 1e21, 70B, 1.4T or 5%.");
      if (!isGood) return field.reportValidity();
      set(name, number);
      show();
      return keep();
    });
  }
  names.forEach(listen);
  wanted.addEventListener("change", () => {
    if (wanted.checked) reach();
    show();
    keep();
  });
  find("#best")?.addEventListener("click", () => {
    const budget = round(law.flops(state), 6);
    state.params = law.best(budget, state).params[0];
    set("budget", budget);
    show();
    keep();
  });
  find("#controls").addEventListener("submit", (event) => event.preventDefault());
  find("#controls").hidden = false;
  addEventListener("hashchange", () => location.hash.includes("=") && restore());
  restore();
}

/** What a run is, in lines. */
function describe(block, i) {
  const of = (name) => block.points[name][i];
  const say = (x) => measured(x, block.metric);
  const lines = [capital(sayPlace(block, { params: of("params"), data: of("data") }) + passes(of("epochs")))];
  if (of("measured") !== null) lines.push(`Measured ${say(of("measured"))}`);
  const range = of("lower") === null ? "" : within(ends(of("lower"), of("upper") ?? Infinity, block.metric));
  lines.push(`Predicted ${say(of("predicted"))}${range}`);
  if (of("measured") !== null) lines.push(`Off by ${percent(of("predicted") / of("measured") - 1)}`);
  const seeds = of("seeds");
  lines.push(capital(REGIONS[of("region")]) + (seeds ? `, ${seeds} run${seeds > 1 ? "s" : ""}` : ""));
  return lines;
}

/** Numbers of a point by what an axis shows. */
function numbersOf(block, i) {
  const of = (name) => block.points[name][i] ?? NaN;
  const isTarget = block.points.region[i] === "target";
  return { params: of("params"), data: of("data"), compute: of("compute"), epochs: of("epochs"),
    measured: of("measured"), predicted: of("predicted"), value: isTarget ? of("predicted") : of("measured"),
    distance: of("compute") / block.reach.compute, error: Math.abs(of("predicted") / of("measured") - 1) };
}

/** A run under the pointer, or chosen with the arrow keys, is told; a click keeps it. */
function startRuns(block, charts, isHidden) {
  const tip = find("#tip");
  let pinned = false;

  function startChart({ svg, x, y }) {
    const places = block.points.params
      .map((_, i) => [i, numbersOf(block, i)])
      .map(([i, numbers]) => ({ i, x: x.at(numbers[x.shows]), y: y.at(numbers[y.shows]) }))
      .filter((place) => !Number.isNaN(place.x + place.y))
      .sort((a, b) => a.x - b.x);
    if (!places.length) return;
    const ring = svg.appendChild(document.createElementNS(SVG, "circle"));
    for (const [name, value] of Object.entries({ r: 8, fill: "none", stroke: "currentColor", "stroke-width": 2, display: "none" }))
      ring.setAttribute(name, value);
    const seen = () => places.filter((place) => !isHidden(block.points, place.i));
    let shown = null;

    function show(place) {
      shown = place;
      for (const other of charts) other.ring?.setAttribute("display", "none");
      tip.hidden = !place;
      if (!place) return;
      ring.setAttribute("cx", place.x);
      ring.setAttribute("cy", place.y);
      ring.removeAttribute("display");
      tip.replaceChildren(...describe(block, place.i).map((line) => make("div", {}, line)));
      const at = new DOMPoint(place.x, place.y).matrixTransform(svg.getScreenCTM());
      const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(8, Math.min(at.x + 14, room))}px`;
      tip.style.top = `${at.y + 14}px`;
    }
    function nearest(event) {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const far = (place) => Math.hypot(place.x - at.x, place.y - at.y);
      const found = seen().reduce((best, place) => (best && far(best) <= far(place) ? best : place), null);
      return found && far(found) < 18 ? found : null;
    }
    svg.addEventListener("pointermove", (event) => pinned || show(nearest(event)));
    svg.addEventListener("pointerleave", () => pinned || show(null));
    svg.addEventListener("click", (event) => {
      const place = nearest(event);
      show(place);
      pinned = Boolean(place);
    });
    svg.addEventListener("blur", () => pinned || show(null));
    svg.addEventListener("keydown", (event) => {
      const all = seen();
      const at = all.indexOf(shown);
      const next = { ArrowRight: at + 1, ArrowLeft: at < 0 ? all.length - 1 : at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (event.key === "Enter" && shown) pinned = !pinned;
      if (event.key === "Escape") {
        pinned = false;
        show(null);
      }
      if (next === undefined) return;
      event.preventDefault();
      show(all[Math.min(Math.max(next, 0), all.length - 1)]);
    });
    svg.setAttribute("tabindex", "0");
    svg.setAttribute("aria-describedby", "tip");
    charts.find((chart) => chart.svg === svg).ring = ring;
  }
  charts.forEach(startChart);
  // The tip stands at a place of the window, the run at one of the page.
  addEventListener("scroll", () => (tip.hidden = true), { passive: true });
}

/** Which regions and families are left out of the charts; returns whether a run is. */
function startLegend(charts) {
  const hidden = new Set();
  const boxes = findAll("[data-toggle]");
  const nameOf = ({ dataset }, kind) => dataset[kind] && `${kind}:${dataset[kind]}`;

  function toggle(name, isShown) {
    if (isShown) hidden.delete(name);
    else hidden.add(name);
    for (const box of boxes) box.checked = !hidden.has(box.dataset.toggle);
    for (const { svg } of charts)
      for (const part of findAll("[data-region], [data-series]", svg)) {
        const isOut = ["region", "series"].some((kind) => hidden.has(nameOf(part, kind)));
        const isKey = part.classList.contains("key");
        part.setAttribute(isKey ? "opacity" : "display", isOut ? (isKey ? "0.4" : "none") : isKey ? "1" : "inline");
      }
  }
  for (const box of boxes) box.addEventListener("change", () => toggle(box.dataset.toggle, box.checked));
  for (const key of findAll("svg .key[data-region], svg .key[data-series]")) {
    const name = nameOf(key, "series") || nameOf(key, "region");
    key.addEventListener("click", () => toggle(name, hidden.has(name)));
    key.setAttribute("cursor", "pointer");
  }
  return (points, i) => hidden.has(`region:${points.region[i]}`);
}

/** The table of all points: sorted, filtered, fifty rows at a time. */
function startPoints(block) {
  const table = find("#points-table");
  if (!table) return;
  const { points, metric } = block;
  const say = (x) => (x === null ? "\u2013" : measured(x, metric, false));
  const off = (i) => (points.measured[i] === null ? null : points.predicted[i] / points.measured[i] - 1);
  const columns = [
    [(i) => points.params[i], count],
    [(i) => points.data[i], count],
    ...(points.epochs.some((times) => times !== null) ? [[(i) => points.epochs[i], count]] : []),
    [(i) => points.compute[i], flops],
    [(i) => REGIONS[points.region[i]], String],
    [(i) => points.measured[i], say],
    [(i) => points.predicted[i], say],
    [(i) => points.lower[i], (x, i) => (x === null ? "" : ends(x, points.upper[i] ?? Infinity, metric)) || "\u2013"],
    [off, (x) => (x === null ? "\u2013" : percent(x))],
  ];
  const headers = findAll("thead th", table);
  if (headers.length !== columns.length) return;
  const cells = (i) => columns.map(([of, form]) => form(of(i), i));
  const all = points.params.map((_, i) => i).sort((a, b) =>
    (points.region[b] === "target") - (points.region[a] === "target") || points.compute[b] - points.compute[a]);
  let [order, rising, most] = [null, true, 50];

  const filter = make("input", { type: "search", placeholder: "filter: held out, 70B", "aria-label": "Filter the points" });
  const more = make("button", { type: "button" });
  const told = make("span", { class: "faint", "aria-live": "polite" });
  const bar = make("p", { class: "bar" });
  bar.append(filter, " ", more, " ", told);
  (table.closest(".scroll") || table).before(bar);

  function chosen() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = words.length
      ? all.filter((i) => words.every((word) => cells(i).join(" ").toLowerCase().includes(word)))
      : [...all];
    if (order === null) return found;
    const of = columns[order][0];
    const compare = (a, b) => (a === null) - (b === null) || (a < b ? -1 : a > b ? 1 : 0) * (rising ? 1 : -1);
    return found.sort((a, b) => compare(of(a), of(b)));
  }
  function show() {
    const found = chosen();
    const rows = found.slice(0, most).map((i) => {
      const row = make("tr");
      row.append(...cells(i).map((text, k) => (k ? make("td", {}, text) : make("th", { scope: "row" }, text))));
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
    more.hidden = found.length <= most;
    more.textContent = `Show ${Math.min(200, found.length - most)} more`;
    told.textContent = `${rows.length} of ${found.length.toLocaleString("en-US")} rows`;
    headers.forEach((header, k) => header.setAttribute("aria-sort", k !== order ? "none" : rising ? "ascending" : "descending"));
  }
  headers.forEach((header, k) => {
    const button = make("button", { type: "button", class: "sort" }, header.textContent);
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      [rising, order] = [order === k ? !rising : true, k];
      show();
    });
  });
  filter.addEventListener("input", show);
  more.addEventListener("click", () => {
    most += 200;
    show();
  });
  table.copied = () => [headers.map((header) => header.textContent), ...chosen().map((i) =>
    columns.map(([of], k) => (k === columns.length - 2 ? cells(i)[k] : of(i) ?? "")))];
  show();
}

/** A button at every table and piece of code puts it on the clipboard. */
function startCopying() {
  async function copy(button, text) {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      said = "Select it and press Ctrl+C";
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = "Copy"), 1500);
  }
  for (const table of findAll("table")) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    const rows = () => findAll("tr", table).map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
    button.addEventListener("click", () =>
      copy(button, (table.copied || rows)().map((row) => row.join("\t")).join("\n")));
    (table.closest(".scroll") || table).before(button);
  }
  for (const button of findAll("button[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button, document.getElementById(button.dataset.copy).textContent));
  }
}

function start() {
  const block = JSON.parse(find('script[type="application/json"]').textContent);
  const charts = readCharts();
  const isHidden = startLegend(charts);
  if (block.law) startControls(block, makeLaw(block.law), charts);
  startRuns(block, charts, isHidden);
  startPoints(block);
  startCopying();
}

start();
