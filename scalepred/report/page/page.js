/* What reacts on the page: controls, the chosen run in every chart, the legend, copying.
   It follows law.js, runs.js and zoom.js in one script. All data stand in
   <script type="application/json" id="block">; text is set as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";
const find = (selector, root = document) => root.querySelector(selector);
const findAll = (selector, root = document) => [...root.querySelectorAll(selector)];

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  set(element, attributes).textContent = text;
  return element;
}

function makeSvg(tag, attributes) {
  return set(document.createElementNS(SVG, tag), attributes);
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const tenth = (units) => Math.round(10 * units) / 10;

/** Where a pointer is, in the units of a picture. */
function toUnits(svg, event) {
  const there = new DOMPoint(event.clientX, event.clientY);
  return there.matrixTransform(svg.getScreenCTM().inverse());
}

/** One direction of a chart, as data-x or data-y tells it. */
class Direction {
  constructor(svg, name) {
    const ends = svg.dataset[name].split(" ");
    const [low, high, from, to] = ends.map(Number);
    this.shows = svg.dataset[`${name}Shows`];
    Object.assign(this, { from, to });
    this.look({ low, high, isLog: ends[4] === "log" });
  }

  /** Reaches from low to high. */
  look({ low, high, isLog }) {
    Object.assign(this, { low, high, isLog });
    const [form, back] = isLog ? [Math.log, Math.exp] : [Number, Number];
    const [first, scale] = [form(low), (this.to - this.from) / (form(high) - form(low))];
    this.place = (number) => this.from + (form(number) - first) * scale;
    this.number = (place) => back(first + (place - this.from) / scale);
  }

  /** The place, or the nearer end where it lies outside. */
  inside(place) {
    const [least, most] = [this.from, this.to].sort((a, b) => a - b);
    return Math.min(Math.max(place, least), most);
  }

  /** Units of the picture; NaN where the number lies outside. */
  at(number) {
    const place = this.place(number);
    return Math.abs(place - this.inside(place)) < 0.5 ? place : NaN;
  }

  /** Likewise, but the nearer end where it lies outside. */
  clip(number) {
    return this.inside(this.place(number));
  }
}

/** A chart, with the chosen run marked in it. */
class Chart {
  constructor(svg) {
    this.svg = svg;
    this.x = new Direction(svg, "x");
    this.y = new Direction(svg, "y");
    const ink = { stroke: "currentColor", fill: "currentColor", "stroke-width": 2 };
    this.mark = find(".marker", svg).appendChild(makeSvg("path", ink));
  }

  /** A diamond and its 90% bar; a line where the chart shows what a new run has not. */
  show(numbers) {
    const { x, y } = this;
    const across = x.at(numbers[x.shows]);
    const [down, low, high] = ["", "Lower", "Upper"].map((end) => numbers[y.shows + end]);
    const draw = [];
    if (!Number.isNaN(across)) {
      if (down === undefined) draw.push(`M${across} ${y.from}V${y.to}`);
      else if (low < high) draw.push(`M${across} ${y.clip(low)}V${y.clip(high)}`);
      if (y.at(down)) draw.push(`M${across} ${y.at(down) - 7}l7 7-7 7-7-7z`);
    }
    this.mark.setAttribute("d", draw.join(""));
  }
}

/** Sliders and number fields; what they say is kept in the address. */
class Controls {
  constructor(block, charts) {
    this.block = block;
    this.law = new Law(block.law);
    this.charts = charts;
    this.state = { ...block.start };
    this.wanted = find("#wanted");
    const all = ["epochs", "params", "data", "budget", "value"];
    this.names = all.filter((name) => find(`#${name}`));
    this.names.forEach((name) => this.listen(name));
    this.wanted.addEventListener("change", () => this.change("value", this.state.value));
    find("#best")?.addEventListener("click", () => this.takeBest());
    find("#controls").addEventListener("submit", (event) => event.preventDefault());
    addEventListener("hashchange", () => location.hash.includes("=") && this.restore());
    this.restore();
  }

  get(name) {
    return name === "budget" ? this.law.flops(this.state) : this.state[name];
  }

  write(name, number) {
    if (name === "value") return measured(number, this.block.metric, false);
    const isFlops = name === "budget" || (name === "data" && this.block.dataUnit === "FLOPs");
    return isFlops ? flops(number) : count(number);
  }

  /** Sets a number, as near as the table has it, and what follows from it. */
  set(name, number) {
    const { law, state } = this;
    const axis = name === "budget" ? law.budgets : law.axis[name];
    if (axis) number = Math.min(Math.max(number, Math.exp(axis.low)), Math.exp(axis.high));
    if (name === "budget") state.data = law.dataFor(number, state);
    else state[name] = number;
    if (name === "budget" || name === law.asked) this.wanted.checked = false;
    if (!this.wanted.checked) return;
    const most = Math.exp(law.axis[law.asked].high);
    state[law.asked] = Math.min(law.needed(state.value, state)[0], most);
  }

  change(name, number) {
    this.set(name, number);
    this.show();
    this.keep();
  }

  takeBest() {
    const budget = round(this.get("budget"), 6);
    this.state.params = round(this.law.best(budget, this.state).params[0], 3);
    this.change("budget", budget);
  }

  listen(name) {
    const slider = find(`#${name}`);
    const field = find(`#${name}-number`);
    slider.addEventListener("input", () => {
      const number = Number(slider.value);
      // What is shown is what is computed with.
      const digits = name === "value" ? 4 : 3;
      this.change(name, name === "epochs" ? number : round(10 ** number, digits));
    });
    field.addEventListener("input", () => field.setCustomValidity(""));
    field.addEventListener("change", () => {
      let number = parse(field.value);
      if (name === "value" && this.block.metric.bounded && number >= 1) number /= 100;
      const isGood = number > 0;
      field.setCustomValidity(isGood ? "" : "Write a number such as 1e21, 70B, 1.4T or 5%.");
      if (isGood) this.change(name, number);
      else field.reportValidity();
    });
  }

  show() {
    const { law, state } = this;
    if (!this.wanted.checked) state.value = law.at(state).value;
    find("#value-row").hidden = !this.wanted.checked;
    for (const name of this.names) {
      const number = this.get(name);
      const text = this.write(name, number);
      const slider = find(`#${name}`);
      slider.value = name === "epochs" ? number : Math.log10(number);
      slider.setAttribute("aria-valuetext", text);
      find(`#${name}-number`).value = text;
    }
    const lines = this.say().filter(Boolean);
    find("#answer").replaceChildren(...lines.map((text) => make("p", {}, capital(text))));
    for (const chart of this.charts) chart.show(this.numbers());
  }

  say() {
    const { block, law, state } = this;
    const far = sayDistance(block, law, state);
    if (this.wanted.checked) return [...sayNeeded(block, law, state.value, state), far];
    const best = law.hasBest ? sayBest(block, law, this.get("budget"), state) : "";
    return [sayValue(block, law, state), best, far];
  }

  /** Numbers of the chosen run by what an axis shows. */
  numbers() {
    const { value, lower, upper } = this.law.at(this.state);
    const compute = this.get("budget");
    return {
      ...this.state,
      ...{ compute, distance: compute / this.block.reach.compute, measured: value },
      ...{ value, valueLower: lower, valueUpper: upper },
      ...{ predicted: value, predictedLower: lower, predictedUpper: upper },
    };
  }

  /** Keeps the state in the address: C, m, n, e and, where it is wanted, the value v. */
  keep() {
    const { law, state } = this;
    const parts = {
      C: this.get("budget"),
      m: law.axis.params && state.params,
      n: !law.hasCost && state.data,
      e: law.axis.epochs && state.epochs,
      v: this.wanted.checked && state.value,
    };
    const say = (number) => (number < 1e6 ? String : power)(round(number, 6));
    const kept = Object.entries(parts).filter(([, number]) => number);
    const text = kept.map(([name, number]) => `${name}=${say(number)}`).join("&");
    history.replaceState(null, "", `#${text}`);
  }

  restore() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const order = { e: "epochs", m: "params", n: "data", C: "budget", v: "value" };
    this.wanted.checked = false;
    for (const [key, name] of Object.entries(order)) {
      const number = parse(asked.get(key) || "");
      if (!(number > 0) || !this.names.includes(name)) continue;
      if (key === "v") this.wanted.checked = true;
      this.set(name, number);
    }
    this.show();
  }
}

/** Which regions and families the charts show. */
class Legend {
  constructor() {
    this.hidden = new Set();
    this.boxes = findAll("[data-toggle]");
    for (const box of this.boxes)
      box.addEventListener("change", () => this.toggle(box.dataset.toggle, box.checked));
    for (const key of findAll("svg .key")) {
      const name = this.namesOf(key).pop();
      if (!name) continue;
      key.setAttribute("cursor", "pointer");
      key.addEventListener("click", () => this.toggle(name, this.hidden.has(name)));
    }
  }

  namesOf({ dataset }) {
    const kinds = ["region", "series"].filter((kind) => dataset[kind]);
    return kinds.map((kind) => `${kind}:${dataset[kind]}`);
  }

  hides(run) {
    return this.hidden.has(`region:${run.region}`);
  }

  toggle(name, isShown) {
    if (isShown) this.hidden.delete(name);
    else this.hidden.add(name);
    for (const box of this.boxes) box.checked = !this.hidden.has(box.dataset.toggle);
    for (const part of findAll("svg [data-region], svg [data-series]")) {
      const isOut = this.namesOf(part).some((own) => this.hidden.has(own));
      if (part.classList.contains("key")) part.setAttribute("opacity", isOut ? 0.4 : 1);
      else part.setAttribute("display", isOut ? "none" : "inline");
    }
  }
}

/** A button that puts a text on the clipboard. */
function makeCopying(button, getText) {
  button.addEventListener("click", async () => {
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(getText());
    } catch {
      said = "Not allowed here: select it and copy";
    }
    button.textContent = said;
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}

/** Copy buttons at every table, as tab-separated values, and at every piece of code. */
function startCopying(points) {
  const read = (table) =>
    findAll("tr", table).map((row) => [...row.cells].map((cell) => cell.textContent.trim()));
  for (const table of findAll("table")) {
    const button = make("button", { type: "button", class: "copy" }, "Copy");
    const rows = () => (points && table === points.table ? points.copied() : read(table));
    makeCopying(button, () => rows().map((row) => row.join("\t")).join("\n"));
    (table.closest(".scroll") || table).before(button);
  }
  for (const button of findAll("button[data-copy]")) {
    makeCopying(button, () => document.getElementById(button.dataset.copy).textContent);
  }
}

function start() {
  const block = JSON.parse(find("#block").textContent);
  const charts = findAll("svg[data-chart]").map((svg) => new Chart(svg));
  const legend = new Legend();
  let points = null;
  if (block.points) {
    const runs = new Runs(block);
    Pointing.tip = find("#tip");
    const pointing = charts.map((chart) => new Pointing(chart, runs, legend));
    const zoomed = charts.findIndex(({ svg }) => find(".plot", svg));
    if (zoomed >= 0)
      new Zoom(charts[zoomed], block.metric, pointing[zoomed], () => controls?.show());
    const table = find("#points-table");
    if (table) points = new PointsTable(block, runs, table);
  }
  const controls = block.law && new Controls(block, charts);
  for (const part of findAll(".live")) part.hidden = false;
  startCopying(points);
}

start();
