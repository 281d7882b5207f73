// The distribution of a measurement: a legend of its colours, and two handles that filter.

import { css, onRamp } from "./colours.js";

const BINS = 72;
const HEIGHT = 88;
const TICKS = 18;
const INSET = 4;

/** Numbers as a person reads them. */
export function readable(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "—";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 6 : 4 });
}

/** The range that colours and bins span: all but two thousandths of the values. */
export function rangeOf(values, known) {
  const step = Math.max(1, Math.floor(known / 50_000));
  const some = [];
  for (let k = 0; k < known; k += step) if (Number.isFinite(values[k])) some.push(values[k]);
  if (!some.length) return [0, 1];
  const sorted = Float64Array.from(some).sort();
  const at = (share) => sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)];
  const [low, high] = [at(0.001), at(0.999)];
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

export class Histogram {
  constructor(element, changed) {
    this.changed = changed;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = -1;
    this.context = this.canvas.getContext("2d");
    const ends = document.createElement("div");
    ends.className = "ends";
    [this.from, this.to] = ["from", "to"].map((name) => {
      const input = document.createElement("input");
      input.type = "number";
      input.step = "any";
      input.setAttribute("aria-label", name === "from" ? "Smallest value shown" : "Largest value shown");
      input.addEventListener("change", () => this.typed());
      return input;
    });
    this.unit = document.createElement("span");
    ends.append(this.from, this.unit, this.to);
    element.append(this.canvas, ends);
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    this.canvas.addEventListener("pointerup", () => { this.held = null; });
    this.canvas.addEventListener("dblclick", () => this.choose(-Infinity, Infinity));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Takes the values of a measurement; `range` is what is filtered, `places` who is shown. */
  set({ values, known, domain, range, ramp, unit, places }) {
    Object.assign(this, { domain, ramp, range: range ?? [-Infinity, Infinity] });
    this.unit.textContent = unit;
    const [low, high] = domain;
    const scale = BINS / (high - low);
    this.all = new Float64Array(BINS);
    this.shown = new Float64Array(BINS);
    for (let k = 0; k < known; k++) {
      const bin = (values[k] - low) * scale;
      if (bin !== bin) continue;
      const b = Math.min(Math.max(Math.floor(bin), 0), BINS - 1);
      this.all[b]++;
      if (places[k]) this.shown[b]++;
    }
    this.showEnds();
    this.draw();
  }

  showEnds() {
    const [low, high] = this.ends();
    this.from.value = Number(low.toPrecision(4));
    this.to.value = Number(high.toPrecision(4));
  }

  /** The ends of the range within the domain: beyond it lies what the outermost bins hold. */
  ends() {
    const [low, high] = this.domain;
    return [Math.max(this.range[0], low), Math.min(this.range[1], high)];
  }

  draw() {
    if (!this.all) return;
    const ratio = globalThis.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = (HEIGHT + TICKS) * ratio;
    const { context } = this;
    context.scale(ratio, ratio);
    const top = Math.max(...this.all, 1);
    const bar = (width - 2 * INSET) / BINS;
    for (let b = 0; b < BINS; b++) {
      // By the square root, so that tails are seen.
      const [all, shown] = [this.all[b], this.shown[b]].map((n) => Math.sqrt(n / top) * (HEIGHT - 6));
      context.fillStyle = "#2b313a";
      context.fillRect(INSET + b * bar, HEIGHT - all, bar - 0.5, all);
      context.fillStyle = css(onRamp(this.ramp, (b + 0.5) / BINS));
      context.fillRect(INSET + b * bar, HEIGHT - shown, bar - 0.5, shown);
    }
    this.drawTicks(width);
    const [low, high] = this.ends().map((value) => this.toX(value));
    context.fillStyle = "rgb(13 15 18 / 0.62)";
    context.fillRect(0, 0, low, HEIGHT);
    context.fillRect(high, 0, width - high, HEIGHT);
    for (const at of [low, high]) {
      context.fillStyle = "#e8ebef";
      context.fillRect(at - 0.75, 0, 1.5, HEIGHT);
      context.beginPath();
      context.roundRect(at - 3.5, HEIGHT / 2 - 9, 7, 18, 3.5);
      context.fill();
    }
  }

  drawTicks(width) {
    const { context, domain: [low, high] } = this;
    const rough = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? rough;
    context.fillStyle = "#8a929d";
    context.font = "11px system-ui, sans-serif";
    context.textBaseline = "bottom";
    for (let value = Math.ceil(low / step) * step; value <= high + 1e-9 * step; value += step) {
      const text = readable(Math.abs(value) < step * 1e-6 ? 0 : Number(value.toPrecision(6)));
      const half = context.measureText(text).width / 2;
      const x = Math.min(Math.max(this.toX(value), half), width - half);
      context.fillText(text, x - half, HEIGHT + TICKS);
    }
  }

  toX(value) {
    const [low, high] = this.domain;
    return INSET + ((value - low) / (high - low)) * (this.canvas.clientWidth - 2 * INSET);
  }

  toValue(event) {
    const [low, high] = this.domain;
    const share = (event.offsetX - INSET) / (this.canvas.clientWidth - 2 * INSET);
    return low + Math.min(Math.max(share, 0), 1) * (high - low);
  }

  grab(event) {
    const [low, high] = this.ends();
    const value = this.toValue(event);
    this.held = Math.abs(value - low) <= Math.abs(value - high) ? 0 : 1;
    if (low === high) this.held = value < low ? 0 : 1;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drag(event) {
    if (this.held === null || this.held === undefined) return;
    const value = this.toValue(event);
    const [low, high] = this.range;
    if (this.held === 0) this.choose(Math.min(value, high), high);
    else this.choose(low, Math.max(value, low));
  }

  typed() {
    const [low, high] = [this.from, this.to].map((input) => Number.parseFloat(input.value));
    if (!(low <= high)) {
      this.showEnds();
      return;
    }
    this.choose(low, high);
  }

  /** What lies at an end of the axis is no limit: values beyond it are shown, too. */
  choose(low, high) {
    const [first, last] = this.domain;
    const slack = (last - first) * 1e-3;
    this.range = [low <= first + slack ? -Infinity : low, high >= last - slack ? Infinity : high];
    this.showEnds();
    this.draw();
    this.changed(this.range);
  }
}
