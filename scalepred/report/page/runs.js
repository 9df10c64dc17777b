/* The runs behind the charts: under the pointer or the arrow keys, and in the table of
   all points. */

const REGIONS = { fit: "fitted", held_out: "held out", target: "target" };

/** The runs of a data block, by number. */
class Runs {
  constructor(block) {
    const { points } = block;
    this.block = block;
    const names = ["params", "data", "compute", "measured", "predicted", "epochs"];
    this.columns = names.filter((name) => points[name]).map((name) => [name, decode(points[name])]);
    const { ends: apart } = points;
    this.apart = apart && ["lower", "upper"].map((end) => decode(apart[end], apart.most));
    this.all = [...points.region].map((region, i) => this.read(Number(region), i));
  }

  read(region, i) {
    const { points, reach } = this.block;
    // float32 has about seven digits.
    const run = Object.fromEntries(this.columns.map(([name, all]) => [name, round(all[i], 7)]));
    const [below, above] = this.apart ? this.apart.map((all) => all[i]) : [NaN, NaN];
    const isTarget = points.regions[region] === "target";
    return {
      ...run,
      region: points.regions[region],
      seeds: points.seeds[i] || 0,
      lower: run.predicted * Math.exp(-below),
      upper: above > NO_END ? Infinity : run.predicted * Math.exp(above),
      off: run.predicted / run.measured - 1,
      error: Math.abs(run.predicted / run.measured - 1),
      distance: run.compute / reach.compute,
      value: isTarget ? run.predicted : run.measured,
    };
  }

  /** What a run is, in lines. */
  describe(run) {
    const { metric } = this.block;
    const place = sayPlace(this.block, run) + (run.epochs ? passes(run.epochs) : "");
    const lines = [capital(place)];
    if (run.measured) lines.push(`Measured ${measured(run.measured, metric)}`);
    const range = within(ends(run.lower, run.upper, metric));
    lines.push(`Predicted ${measured(run.predicted, metric)}${range}`);
    if (run.measured) lines.push(`Off by ${percent(run.off)}`);
    const seeds = run.seeds ? `, ${run.seeds} run${run.seeds > 1 ? "s" : ""}` : "";
    lines.push(capital(REGIONS[run.region]) + seeds);
    return lines;
  }
}

/** In one chart: a run under the pointer, or chosen with the arrow keys, is told. */
class Pointing {
  static tip = null;
  static shown = null; // the chart whose run is told
  static isPinned = false; // it stays until a click, a key or another place has the focus

  constructor({ svg, x, y }, runs, legend) {
    this.svg = svg;
    this.runs = runs;
    this.legend = legend;
    this.axes = [x, y];
    this.place = null;
    this.locate();
    const ink = { stroke: "currentColor", fill: "none", "stroke-width": 2, r: 8 };
    this.ring = svg.appendChild(makeSvg("circle", { ...ink, display: "none" }));
    set(svg, { tabindex: 0, "aria-describedby": "tip" });
    svg.addEventListener("pointermove", (event) => this.follow(this.nearest(event)));
    svg.addEventListener("pointerleave", () => this.follow(null));
    svg.addEventListener("blur", () => Pointing.shown === this && this.tell(null));
    svg.addEventListener("click", (event) => this.tell(this.nearest(event), true));
    svg.addEventListener("keydown", (event) => this.press(event));
  }

  /** Finds the runs that lie between the ends of the axes. */
  locate() {
    const [x, y] = this.axes;
    const run = Pointing.shown === this && this.place?.run;
    this.places = this.runs.all
      .map((run) => ({ run, x: tenth(x.at(run[x.shows])), y: tenth(y.at(run[y.shows])) }))
      .filter((place) => !Number.isNaN(place.x + place.y))
      .sort((a, b) => a.x - b.x);
    if (run) this.tell(this.places.find((place) => place.run === run) || null, Pointing.isPinned);
  }

  seen() {
    return this.places.filter(({ run }) => !this.legend.hides(run));
  }

  follow(place) {
    if (!Pointing.isPinned) this.tell(place);
  }

  nearest(event) {
    const at = toUnits(this.svg, event);
    let [found, least] = [null, 18];
    for (const place of this.seen()) {
      const far = Math.hypot(place.x - at.x, place.y - at.y);
      if (far < least) [found, least] = [place, far];
    }
    return found;
  }

  press(event) {
    const all = this.seen();
    const at = all.indexOf(this.place);
    const last = all.length - 1;
    const keys = { ArrowRight: at + 1, ArrowLeft: at < 0 ? last : at - 1, Home: 0, End: last };
    if (event.key === "Escape") this.tell(null);
    if (event.key === "Enter") Pointing.isPinned = Boolean(this.place);
    if (!(event.key in keys) || last < 0) return;
    event.preventDefault();
    this.tell(all[Math.min(Math.max(keys[event.key], 0), last)], true);
  }

  /** Says what a run is beside it; null takes it away. */
  tell(place, isPinned = false) {
    const { tip, shown } = Pointing;
    if (shown && shown !== this) shown.ring.setAttribute("display", "none");
    Pointing.shown = this;
    this.place = place;
    Pointing.isPinned = Boolean(place) && isPinned;
    tip.hidden = !place;
    this.ring.setAttribute("display", place ? "inline" : "none");
    if (!place) return;
    set(this.ring, { cx: place.x, cy: place.y });
    tip.replaceChildren(...this.runs.describe(place.run).map((line) => make("div", {}, line)));
    const at = new DOMPoint(place.x, place.y).matrixTransform(this.svg.getScreenCTM());
    const room = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${scrollX + Math.max(8, Math.min(at.x + 14, room))}px`;
    tip.style.top = `${scrollY + at.y + 14}px`;
  }
}

/** The table of all points: sorted, filtered, and more rows at a time. */
class PointsTable {
  constructor(block, runs, table) {
    this.runs = runs.all; // in the order of the table
    this.columns = this.makeColumns(block);
    this.table = table;
    this.headers = findAll("thead th", table);
    this.sorted = null; // column
    this.isRising = true;
    this.most = table.tBodies[0].rows.length;
    this.filter = make("input", { type: "search", "aria-label": "Filter the points" });
    this.filter.placeholder = "filter: held out, 70B";
    this.more = make("button", { type: "button" });
    this.told = make("span", { class: "faint", "aria-live": "polite" });
    const bar = make("p", { class: "bar" });
    bar.append(this.filter, " ", this.more, " ", this.told);
    (table.closest(".scroll") || table).before(bar);
    this.filter.addEventListener("input", () => this.show());
    this.more.addEventListener("click", () => {
      this.most += 200;
      this.show();
    });
    this.headers.forEach((header, k) => this.sortBy(header, k));
    this.show();
  }

  /** [number or word, how it is written] of each column, as points.py has them. */
  makeColumns({ metric, points }) {
    const known = (form) => (x, run) => (Number.isNaN(x) ? "\u2013" : form(x, run));
    const value = known((x) => measured(x, metric, false));
    return [
      [(run) => run.params, count],
      [(run) => run.data, count],
      ...(points.epochs ? [[(run) => run.epochs, known(count)]] : []),
      [(run) => run.compute, flops],
      [(run) => REGIONS[run.region], String],
      [(run) => run.measured, value],
      [(run) => run.predicted, value],
      [(run) => run.lower, known((x, run) => ends(x, run.upper, metric) || "\u2013")],
      [(run) => run.off, known(percent)],
    ];
  }

  sortBy(header, k) {
    const button = make("button", { type: "button", class: "sort" }, header.textContent);
    header.replaceChildren(button);
    button.addEventListener("click", () => {
      this.isRising = this.sorted === k ? !this.isRising : true;
      this.sorted = k;
      this.show();
    });
  }

  cells(run) {
    return this.columns.map(([of, write]) => write(of(run), run));
  }

  chosen() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const holds = (run) => {
      const text = words.length ? this.cells(run).join(" ").toLowerCase() : "";
      return words.every((word) => text.includes(word));
    };
    const found = this.runs.filter(holds);
    if (this.sorted === null) return found;
    const of = this.columns[this.sorted][0];
    const sign = this.isRising ? 1 : -1;
    const isMissing = (x) => Number.isNaN(x);
    const compare = (a, b) => (a < b ? -sign : a > b ? sign : isMissing(a) - isMissing(b));
    return found.sort((a, b) => compare(of(a), of(b)));
  }

  show() {
    const found = this.chosen();
    const rows = found.slice(0, this.most).map((run) => {
      const [first, ...rest] = this.cells(run);
      const row = make("tr");
      const cells = rest.map((text) => make("td", {}, text));
      row.append(make("th", { scope: "row" }, first), ...cells);
      return row;
    });
    this.table.tBodies[0].replaceChildren(...rows);
    const left = found.length - rows.length;
    this.more.hidden = !left;
    this.more.textContent = `Show ${Math.min(200, left)} more`;
    this.told.textContent = `${group(rows.length)} of ${group(found.length)} rows`;
    const direction = this.isRising ? "ascending" : "descending";
    this.headers.forEach((header, k) =>
      header.setAttribute("aria-sort", k === this.sorted ? direction : "none"),
    );
  }

  /** All chosen rows, with the numbers as they are. */
  copied() {
    const say = (x, text) => (typeof x === "number" && !Number.isNaN(x) ? String(x) : text);
    const rows = this.chosen().map((run) => {
      const cells = this.cells(run);
      const isRange = (k) => k === cells.length - 2;
      return this.columns.map(([of], k) => (isRange(k) ? cells[k] : say(of(run), cells[k])));
    });
    return [this.headers.map((header) => header.textContent), ...rows];
  }
}
