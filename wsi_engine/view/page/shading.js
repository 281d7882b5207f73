// Which nuclei are shown, and in which colour of a palette: one small number for each.

import { FIRST, HIDDEN, STEPS, UNKNOWN, palette, rampPalette } from "./colours.js";

export const BY_CLASS = -1;

export class Shading {
  constructor(view, nuclei) {
    this.classes = view.classes;
    this.nuclei = nuclei;
    this.places = new Uint8Array(view.nuclei.count);
    this.by = BY_CLASS;
    this.ramp = "bright";
    this.domain = [0, 1];
    this.filters = new Map();
    this.hiddenClasses = new Set();
    this.shown = 0;
    this.version = 0;
    this.update();
  }

  /** The first so many nuclei of which all that matters here is known. */
  get known() {
    const needed = [...this.filters.keys(), ...(this.by === BY_CLASS ? [] : [this.by])];
    return Math.min(this.nuclei.placed, ...needed.map((k) => this.nuclei.column(k).known));
  }

  update() {
    const known = this.known;
    const { places } = this;
    places.fill(HIDDEN, known);
    if (this.by === BY_CLASS) this.shadeByClass(known);
    else this.shadeByColumn(known);
    this.hide(known);
    let shown = 0;
    for (let k = 0; k < known; k++) shown += places[k] !== HIDDEN;
    this.shown = shown;
    this.version++;
  }

  shadeByClass(known) {
    this.palette = palette(this.classes.slice(0, 250).map(({ colour }) => colour));
    const { label } = this.nuclei;
    const last = Math.min(this.classes.length, 250);
    for (let k = 0; k < known; k++) {
      this.places[k] = label[k] >= 0 && label[k] < last ? FIRST + label[k] : UNKNOWN;
    }
  }

  shadeByColumn(known) {
    this.palette = rampPalette(this.ramp);
    const { values } = this.nuclei.column(this.by);
    const [low, high] = this.domain;
    const scale = high > low ? STEPS / (high - low) : 0;
    for (let k = 0; k < known; k++) {
      const step = (values[k] - low) * scale;
      this.places[k] = step === step ? FIRST + Math.min(Math.max(step | 0, 0), STEPS - 1) : UNKNOWN;
    }
  }

  hide(known) {
    const { places } = this;
    for (const [column, [low, high]] of this.filters) {
      const { values } = this.nuclei.column(column);
      // What is not defined is in no range.
      for (let k = 0; k < known; k++) if (!(values[k] >= low && values[k] <= high)) places[k] = HIDDEN;
    }
    if (this.hiddenClasses.size) {
      const { label } = this.nuclei;
      for (let k = 0; k < known; k++) if (this.hiddenClasses.has(label[k])) places[k] = HIDDEN;
    }
  }
}
