/* The main chart seen closer, or with a linear axis upwards. Marks are drawn again from
   the numbers of their runs; of other paths the places move, which capitals lead. */

const LEAST = 4; // units of the whole chart, which may fill the axes
const CLICK = 8; // units that a pointer may move in a click

/** Round numbers from low to high, about as many as are told at most. */
function roundNumbers(low, high, isLog, most) {
  const numbers = [];
  const decades = Math.log10(high / low);
  if (isLog && decades > 1) {
    const digits = 3 * decades < most ? [1, 2, 5] : 2 * decades < most ? [1, 3] : [1];
    const stride = Math.ceil(decades / most);
    for (let decade = Math.floor(Math.log10(low)); 10 ** decade <= high; decade++)
      if (decade % stride === 0) numbers.push(...digits.map((digit) => digit * 10 ** decade));
  } else {
    const size = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = size * [1, 2, 5, 10].find((digit) => high - low <= digit * size * most);
    for (let i = Math.ceil(low / step); i * step <= high; i++) numbers.push(i * step);
  }
  return numbers.map((x) => round(x, 9)).filter((x) => x >= low && x <= high);
}

/** Moves the places of a path, and leaves the form of a mark. */
function shift(path, x, y) {
  const moves = { M: [x, y], H: [x], V: [y] };
  return path.replace(/([MHV])([^A-Za-z]+)/g, (_, letter, places) => {
    const own = moves[letter];
    const moved = places.split(" ").map((at, i) => own[i % own.length](at));
    return letter + moved.join(" ");
  });
}

/** What a part of the picture was drawn with. */
function keep(part) {
  const path = part.getAttribute("d");
  const { region, keeps } = part.dataset;
  if (!path) return { keeps, at: ["x", "y"].map((name) => Number(part.getAttribute(name))) };
  // An open circle begins above its run.
  const [form] = /[a-z][^Mz]*z?/.exec(path) || [""];
  const [, radius] = /^a(\S+)/.exec(form) || [];
  return { path, region, form: radius ? `m0-${radius}${form}` : form };
}

const plain = (x) => (x >= 1e-4 && x < 1e6 ? String : power)(x);

/** A chart whose axes are chosen by a drag, by keys, or by what stands below it. */
class Zoom {
  constructor(chart, metric, pointing, redraw) {
    Object.assign(this, { metric, pointing, redraw, svg: chart.svg, axes: [chart.x, chart.y] });
    this.whole = ["x", "y"].map((name) => new Direction(this.svg, name));
    this.drawn = findAll(".plot [d], .plot text", this.svg).map((part) => [part, keep(part)]);
    const [x, y] = this.axes;
    const edge = `M${x.from - 6} ${y.from + 6}H${x.to + 6}V${y.to - 6}H${x.from - 6}z`;
    const inside = this.svg.appendChild(makeSvg("clipPath", { id: "inside" }));
    inside.append(makeSvg("path", { d: edge }));
    this.box = this.svg.appendChild(makeSvg("path", { class: "shade" }));
    this.listen();
  }

  listen() {
    const { svg } = this;
    svg.addEventListener("pointerdown", (event) => this.begin(event));
    svg.addEventListener("pointermove", (event) => this.begun && this.drag(event));
    svg.addEventListener("pointerup", () => this.end());
    // A drag is no click on a run.
    const stop = (event) => this.isDrag && event.stopImmediatePropagation();
    svg.addEventListener("click", stop, true);
    svg.addEventListener("dblclick", () => this.scale(0));
    svg.addEventListener("keydown", ({ key }) => {
      const times = { "+": 2, "=": 2, "-": 0.5, 0: 0 }[key];
      if (times !== undefined) this.scale(times);
    });
    find("#closer").addEventListener("click", () => this.scale(2));
    find("#whole").addEventListener("click", () => this.scale(0));
    find("#linear").addEventListener("change", ({ target }) => {
      this.axes[1].look({ ...this.axes[1], isLog: !target.checked });
      this.show();
    });
  }

  /** So many times closer, about the run that is told or else the middle; 0: the whole. */
  scale(times) {
    const { place } = this.pointing;
    this.axes.forEach(({ from, to }, k) => {
      const middle = place ? place["xy"[k]] : (from + to) / 2;
      const half = Math.abs(to - from) / 2 / times;
      this.look(k, middle - half, middle + half);
    });
    this.show();
  }

  /** Makes an axis reach from one place to another, as far as there is anything. */
  look(k, one, other) {
    const [axis, whole] = [this.axes[k], this.whole[k]];
    const ends = [one, other].map((at) => whole.place(axis.number(at)));
    const inside = ends.map((at) => whole.number(whole.inside(at)));
    const [low, high] = inside.sort((a, b) => a - b);
    if (Math.abs(whole.place(high) - whole.place(low)) > LEAST) axis.look({ ...axis, low, high });
  }

  begin(event) {
    this.isDrag = false;
    // A finger scrolls the page.
    const isTouch = event.pointerType === "touch";
    this.begun = !event.button && !isTouch && toUnits(this.svg, event);
  }

  /** Where a drag is short along an axis, all of that is meant. */
  drag(event) {
    const now = toUnits(this.svg, event);
    this.ends = this.axes.map((axis, k) => {
      const ends = [this.begun, now].map((at) => axis.inside(at["xy"[k]]));
      return Math.abs(ends[0] - ends[1]) < CLICK ? [axis.from, axis.to] : ends;
    });
    this.isDrag = Math.hypot(now.x - this.begun.x, now.y - this.begun.y) > CLICK;
    if (this.isDrag) this.svg.setPointerCapture(event.pointerId);
    const [[x, x2], [y, y2]] = this.ends;
    this.box.setAttribute("d", this.isDrag ? `M${x} ${y}H${x2}V${y2}H${x}z` : "");
  }

  end() {
    if (this.begun && this.isDrag) {
      this.ends.forEach((ends, k) => this.look(k, ...ends));
      this.show();
    }
    this.begun = null;
    this.box.setAttribute("d", "");
  }

  show() {
    const { axes, svg, whole } = this;
    const [x, y] = axes.map((axis, k) => (at) => tenth(axis.place(whole[k].number(Number(at)))));
    set(find(".plot", svg), { "clip-path": "url(#inside)" });
    this.pointing.locate();
    for (const [part, { region, form, path, at, keeps }] of this.drawn) {
      const own = region && this.pointing.places.filter(({ run }) => run.region === region);
      if (own) set(part, { d: own.map((one) => `M${one.x} ${one.y}${form}`).join("") });
      else if (path) set(part, { d: shift(path, x, y) });
      else set(part, { x: keeps === "x" ? at[0] : x(at[0]), y: keeps === "y" ? at[1] : y(at[1]) });
      if (keeps === "y") this.turn(part, x(at[0]));
    }
    find(".ticks", svg).replaceChildren(...this.ticks());
    this.redraw();
  }

  /** Words stand left of their line where there is no room on its right. */
  turn(part, at) {
    const { from, to } = this.axes[0];
    const isLeft = at + part.getComputedTextLength() + 6 > to;
    set(part, { dx: isLeft ? -6 : 6, "text-anchor": isLeft ? "end" : "start" });
    part.style.visibility = at < from || at > to ? "hidden" : "";
  }

  ticks() {
    const [x, y] = this.axes;
    const lines = [];
    const words = this.axes.flatMap(({ low, high, isLog, shows }, k) =>
      roundNumbers(low, high, isLog, 8 - 2 * k).map((number) => {
        const at = tenth(this.axes[k].place(number));
        lines.push(k ? `M${x.from} ${at}H${x.to}` : `M${at} ${y.from}V${y.to}`);
        const text = makeSvg("text", {
          ...(k ? { x: x.from - 7, y: at + 5 } : { x: at, y: y.from + 20 }),
          "text-anchor": k ? "end" : "middle",
        });
        text.textContent = this.write(shows, number);
        return text;
      }),
    );
    return [makeSvg("path", { class: "grid", d: lines.join("") }), ...words];
  }

  write(shows, number) {
    if (shows !== "value") return (shows === "compute" ? flops : count)(number);
    return this.metric.bounded ? `${round(100 * number, 3)}%` : plain(round(number, 4));
  }
}
