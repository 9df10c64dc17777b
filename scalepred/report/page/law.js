"use strict";
/* Functions of plain values, for the page's script and for tests that run it by node:
   numbers, the law read from its table, sentences. */

// ---- Numbers, written as scalepred/report/format.py writes them

const FACTORS = { k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12 };
const SUFFIX = /^(k|thousand|m|mn|mio|millions?|b|bn|g|billions?|t|tn|trillions?)$/;
const COUNTED =
  /\s*(tokens?|toks?|params?|parameters?|examples?|samples?|images?|words?|flops?)$/;

/** A number as people type it: 1e21, 70B, 1.4T tokens, 85,002, 5%; NaN for no number. */
function parse(text) {
  const trimmed = text.trim().toLowerCase().replace(COUNTED, "");
  const match = /^([+-]?[\d.,_'\s]*\d\.?(?:e[+-]?\d+)?)\s*(%|[a-z]+)?$/.exec(trimmed);
  if (!match || (match[2] && match[2] !== "%" && !SUFFIX.test(match[2]))) return NaN;
  const digits = match[1].replace(/[\s_']/g, "");
  if (digits.includes(",") && !/^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$/.test(digits)) return NaN;
  const letter = match[2] === "thousand" ? "k" : (match[2] || "")[0];
  const factor = letter === "%" ? 0.01 : FACTORS[letter] || 1;
  return Number(digits.replaceAll(",", "")) * factor;
}

/** To so many significant digits; a half goes to the even digit, as in Python. */
function round(x, digits) {
  if (!x || !Number.isFinite(x)) return x;
  const [mantissa, exponent] = Math.abs(x).toExponential(40).split("e");
  const kept = mantissa.slice(0, digits + 1);
  const isHalf = /^\.?50*$/.test(mantissa.slice(digits + 1));
  if (isHalf && Number(kept.replace(".", "").slice(-1)) % 2 === 0)
    return Math.sign(x) * Number(`${kept}e${exponent}`);
  return Number(x.toPrecision(digits));
}

const group = (x) => x.toLocaleString("en-US", { maximumFractionDigits: 0 });
const signed = (x, text) => (x < 0 && /[1-9]/.test(text) ? "\u2212" : "") + text;

const power = (x) => x.toExponential().replace("e+", "e");

/** Compute: 5.8e23. */
function flops(x) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "n/a" : "never";
  const size = Math.abs(round(x, 3));
  const isPlain = (size >= 1e-3 && size < 1e3) || !size;
  return signed(x, isPlain ? String(size) : power(size));
}

/** A size or a count: 85,002; 57.2M; 1.4T. */
function count(x) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "n/a" : "never";
  const isExact = Number.isInteger(x) && Math.abs(x) < 1e6;
  const size = isExact ? Math.abs(x) : Math.abs(round(x, 3));
  if (size >= 1e15 || (size > 0 && size < 1e-3)) return flops(x);
  for (const letter of ["T", "B", "M"]) {
    const factor = FACTORS[letter.toLowerCase()];
    if (size >= factor) return signed(x, round(size / factor, 3) + letter);
  }
  return signed(x, size >= 100 ? group(size) : String(round(size, 3)));
}

/** How many times: 0.31, 3.9, 52, 1,200, 3.1 million. */
function ratio(x) {
  const times = round(x, 2);
  if (times >= 1e6 && times < 1e9) return `${round(times / 1e6, 6)} million`;
  return times >= 1e9 ? flops(times) : count(times);
}

/** A relative error: −4.5%. */
function percent(share) {
  const x = 100 * share;
  const size = Math.abs(x);
  if (!Number.isFinite(x)) return "n/a";
  if (size >= 100) return `${count(round(x, 3))}%`;
  // To a tenth: toFixed alone rounds halves up.
  const digits = size >= 10 ? 3 : size >= 1 ? 2 : 1;
  if (size >= 0.1) return `${signed(x, round(size, digits).toFixed(1))}%`;
  return `${signed(x, size >= 1e-3 ? String(round(size, 1)) : "0")}%`;
}

function digitsOf(x, digits) {
  const value = Math.abs(round(x, digits));
  if (value && (value < 1e-4 || value >= 1e6)) return signed(x, power(value));
  if (value >= 10 ** digits) return signed(x, group(value));
  return signed(x, value.toPrecision(digits));
}

/** A value of the metric: 4.73%, 2.006 nats. */
function measured(x, metric, withUnit = true) {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "n/a" : "never";
  if (metric.bounded) return `${digitsOf(100 * x, 3)}%`;
  return digitsOf(x, 4) + (withUnit && metric.unit ? ` ${metric.unit}` : "");
}

/** The ends of an interval of the metric: 1.92 to 2.09. */
function ends(lower, upper, metric) {
  if (Number.isNaN(lower) || Number.isNaN(upper) || lower === upper) return "";
  if (metric.bounded) return `${measured(lower, metric)} to ${measured(upper, metric)}`;
  const digits = Math.abs(upper - lower) > 0.02 * Math.abs(lower) ? 3 : 4;
  const say = (x) => (Number.isFinite(x) ? digitsOf(x, digits) : "no end");
  return `${say(lower)} to ${say(upper)}`;
}

/** The ends of an interval of a size: 360 to perhaps never. */
function span(lower, upper, form) {
  if (Number.isNaN(lower) || Number.isNaN(upper) || lower === upper) return "";
  return `${form(lower)} to ${Number.isFinite(upper) ? form(upper) : "perhaps never"}`;
}

const within = (text) => (text ? ` (90% interval ${text})` : "");

// ---- The law, read from its table (law_table.py)

/** Numbers that packed.py wrote: floats, or else shares of `most` in 16 bits. */
function decode(text, most = 0) {
  if (!text) return null;
  const isDouble = text[0] === "~";
  const bytes = Uint8Array.from(atob(text.replace("~", "")), (char) => char.charCodeAt(0));
  if (isDouble) return new Float64Array(bytes.buffer);
  if (!most) return new Float32Array(bytes.buffer);
  return Float32Array.from(new Uint16Array(bytes.buffer), (share) => (share / 65535) * most);
}

/** ln of an upper end over its value that stands for no end at all. */
const NO_END = 9;

/** First node and weights of the cubic through the four nodes about a place. */
function weigh(axis, log) {
  const last = axis.count - 1;
  const place = ((log - axis.low) / (axis.high - axis.low)) * last;
  const t = Math.min(Math.max(place, 0), last);
  const i = Math.min(Math.floor(t), last - 1);
  const u = t - i;
  const a = (((2 - u) * u - 1) * u) / 2;
  const b = ((3 * u - 5) * u * u) / 2 + 1;
  const c = (((4 - 3 * u) * u + 1) * u) / 2;
  const d = ((u - 1) * u * u) / 2;
  // Beyond its ends the table goes on as a parabola.
  if (i === 0) return [0, [b + 3 * a, c - 3 * a, d + a]];
  if (i === last - 1) return [i - 1, [a + d, b - 3 * d, c + 3 * d]];
  return [i - 1, [a, b, c, d]];
}

function interpolate(table, axes, logs) {
  let nodes = [[0, 1]];
  axes.forEach((axis, k) => {
    const [first, weights] = weigh(axis, logs[k]);
    nodes = nodes.flatMap(([at, weight]) =>
      weights.map((own, j) => [at * axis.count + first + j, weight * own]),
    );
  });
  return nodes.reduce((sum, [at, weight]) => sum + weight * table[at], 0);
}

/** The logarithm in [low, high] at which `isReached` turns true; Infinity if it never does. */
function bisect(isReached, low, high) {
  if (!isReached(high)) return Infinity;
  let [below, above] = [low, high];
  for (let i = 0; i < 50; i++) {
    const middle = (below + above) / 2;
    if (isReached(middle)) above = middle;
    else below = middle;
  }
  return above;
}

/** The law of a page's data block; sizes are {params, data, epochs}. */
class Law {
  constructor(table) {
    const { axes, fixed, ends } = table;
    this.axes = axes;
    this.fixed = fixed;
    this.budgets = table.budgets;
    this.axis = Object.fromEntries(axes.map((axis) => [axis.name, axis]));
    this.value = decode(table.value);
    this.apart = ends && ["lower", "upper"].map((end) => decode(ends[end], ends.most));
    this.cost = table.cost && ["params", "data"].map((name) => decode(table.cost[name]));
    this.splits = decode(table.best);
    const { data, epochs } = this.axis;
    const most = epochs ? epochs.high : Math.log(fixed.epochs || 1);
    this.seen = data && { ...data, high: data.high + most };
    this.hasCost = Boolean(this.cost);
    this.hasBest = Boolean(this.splits);
    /** The size that is asked for where a value is wanted. */
    this.asked = data ? "data" : "params";
  }

  logEpochs(sizes) {
    return Math.log((this.axis.epochs ? sizes.epochs : this.fixed.epochs) || 1);
  }

  /** ln of the value (0), or of an end of its interval: lower (1), upper (2). */
  logValue(sizes, end) {
    const log = (name) => (name === "epochs" ? this.logEpochs(sizes) : Math.log(sizes[name]));
    const logs = this.axes.map(({ name }) => log(name));
    const center = interpolate(this.value, this.axes, logs);
    if (end === 0) return center;
    if (!this.apart) return NaN;
    const far = Math.max(interpolate(this.apart[end - 1], this.axes, logs), 0);
    return end === 1 ? center - far : center + (far > NO_END ? Infinity : far);
  }

  /** What one new run should reach, with the 90% interval for it. */
  at(sizes) {
    const [value, lower, upper] = [0, 1, 2].map((end) => Math.exp(this.logValue(sizes, end)));
    return { value, lower, upper };
  }

  logFlops(sizes) {
    const seen = Math.log(sizes.data) + this.logEpochs(sizes);
    const ofParams = interpolate(this.cost[0], [this.axis.params], [Math.log(sizes.params)]);
    return ofParams + interpolate(this.cost[1], [this.seen], [seen]);
  }

  /** Compute of a run; NaN where nothing is known of it. */
  flops(sizes) {
    return this.cost ? Math.exp(this.logFlops(sizes)) : NaN;
  }

  /** Data that a budget buys for a model of this size, no fewer or more than the table's. */
  dataFor(budget, sizes) {
    const { low, high } = this.axis.data;
    const isDear = (log) =>
      this.logFlops({ ...sizes, data: Math.exp(log) }) >= Math.log(budget);
    return Math.exp(Math.min(bisect(isDear, low, high), high));
  }

  logBest(which, logBudget, sizes) {
    const size = this.splits.length / 9;
    const table = this.splits.subarray(which * size, (which + 1) * size);
    if (!this.axis.epochs) return interpolate(table, [this.budgets], [logBudget]);
    const axes = [this.axis.epochs, this.budgets];
    return interpolate(table, axes, [this.logEpochs(sizes), logBudget]);
  }

  /** The best split: value, params and data, each [best guess, lower, upper]. */
  best(budget, sizes = {}) {
    const of = (first) =>
      [0, 1, 2].map((end) => Math.exp(this.logBest(first + end, Math.log(budget), sizes)));
    return { value: of(0), params: of(3), data: of(6) };
  }

  /** The size with which a value is reached [best guess, lower, upper]; it may be infinite. */
  needed(value, sizes) {
    const { low, high } = this.axis[this.asked];
    const at = (end) => {
      const isReached = (log) =>
        this.logValue({ ...sizes, [this.asked]: Math.exp(log) }, end) <= Math.log(value);
      return Math.exp(bisect(isReached, low, high));
    };
    return this.apart ? [at(0), at(1), at(2)] : [at(0), NaN, NaN];
  }

  /** The least budget that reaches a value [best guess, lower, upper]. */
  cheapest(value, sizes) {
    const { low, high } = this.budgets;
    return [0, 1, 2].map((end) =>
      Math.exp(bisect((log) => this.logBest(end, log, sizes) <= Math.log(value), low, high)),
    );
  }
}

// ---- Sentences, worded as scalepred/report/words.py words them

const passes = (epochs) =>
  epochs ? `, data seen ${epochs === 1 ? "once" : `${count(epochs)} times`}` : "";

function sayPlace(block, sizes) {
  if (block.dataUnit === "FLOPs") return `${flops(sizes.data)} FLOPs`;
  const nouns = { params: "parameters", data: block.dataUnit };
  const told = Object.keys(nouns).filter((name) => !(block.untold || []).includes(name));
  return told.map((name) => `${count(sizes[name])} ${nouns[name]}`).join(" and ");
}

const sayPasses = (law, sizes) => (law.axis.epochs ? passes(sizes.epochs) : "");

/** What a run of these sizes should reach. */
function sayValue(block, law, sizes) {
  const { metric } = block;
  const { value, lower, upper } = law.at(sizes);
  const cost = law.hasCost ? `, for ${flops(law.flops(sizes))} FLOPs` : "";
  const said = `${measured(value, metric)}${within(ends(lower, upper, metric))}`;
  const place = `${sayPlace(block, sizes)}${sayPasses(law, sizes)}`;
  return `${place} should reach ${metric.thing} of ${said}${cost}.`;
}

/** What a budget reaches at best: the terminal's sentence for --budget. */
function sayBest(block, law, budget, sizes) {
  const { metric } = block;
  const { value, params, data } = law.best(budget, sizes);
  const part = ([x, lower, upper], noun) => {
    const range = span(lower, upper, count);
    return `${count(x)} ${noun}${range ? ` (${range})` : ""}`;
  };
  const said = `${measured(value[0], metric)}${within(ends(value[1], value[2], metric))}`;
  const split = `${part(params, "parameters")} and ${part(data, block.dataUnit)}`;
  const reach = `${flops(budget)} FLOPs reach ${metric.thing} of ${said} at best`;
  return `${reach}, with ${split}${sayPasses(law, sizes)}.`;
}

/** What reaches a value: data (or parameters) needed, and the cheapest way. */
function sayNeeded(block, law, value, sizes) {
  const { asked } = law;
  const isBoth = law.axis.params && law.axis.data;
  const noun = asked === "data" ? block.dataUnit : "parameters";
  const given = isBoth ? ` with ${count(sizes.params)} parameters` : "";
  const most = (axis) => Math.exp(axis.high);
  const say = (x, axis, form) => (x < Infinity ? form(x) : `more than ${form(most(axis))}`);
  const range = ([, lower, upper], axis, form) =>
    lower === upper || Number.isNaN(lower)
      ? ""
      : within(`${say(lower, axis, form)} to ${say(upper, axis, form)}`);

  const goal = `${block.metric.thing} of ${measured(value, block.metric)}`;
  const axis = law.axis[asked];
  const size = law.needed(value, sizes);
  const needs = `${say(size[0], axis, count)} ${noun}${range(size, axis, count)}`;
  const first = `${goal}${given}${sayPasses(law, sizes)} takes ${needs}.`;
  if (!law.hasBest) return [first];
  const cost = law.cheapest(value, sizes);
  const least = `${say(cost[0], law.budgets, flops)} FLOPs${range(cost, law.budgets, flops)}`;
  if (cost[0] === Infinity) return [first, `Its cheapest way takes ${least}.`];
  const { params, data } = law.best(cost[0], sizes);
  const split = `${count(params[0])} parameters and ${count(data[0])} ${block.dataUnit}`;
  return [first, `Its cheapest way takes ${least}, with ${split}.`];
}

/** How far a run lies beyond what was fitted and what was checked. */
function sayDistance(block, law, sizes) {
  const { of, fitted, checked } = block.reach;
  const size = of === "compute" ? law.flops(sizes) : sizes[of];
  if (!size) return "";
  const noun = { compute: "compute", params: "model size", data: "data" }[of];
  const isWithin = (limit) => size <= limit * 1.005;
  if (isWithin(fitted)) return `No larger in ${noun} than the largest fitted run.`;
  const far = `${ratio(size / fitted)} times the largest fitted run in ${noun}`;
  if (!checked) return `${far}; nothing was held out, so nothing checks it.`;
  const only = isWithin(checked) ? "" : "only ";
  return `${far}; predictions were checked ${only}up to ${ratio(checked / fitted)} times.`;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

if (typeof module !== "undefined")
  module.exports = {
    ...{ parse, round, count, flops, percent, measured, ends, span, ratio, Law },
    ...{ decode, sayValue, sayBest, sayNeeded, sayDistance },
  };
