// The panel beside the slide: colours, filters, layers, quality.

import { NAMES, RAMPS, css } from "./colours.js";
import { Histogram, rangeOf, readable } from "./histogram.js";
import { BY_CLASS } from "./shading.js";

const $ = (id) => document.getElementById(id);
const whole = (n) => n.toLocaleString("en");
const LAYERS = { tissue: "Tissue", annotation: "Regions of interest", quality: "Doubtful places" };

function make(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

export class Panel {
  constructor(view, nuclei, shading, overlay) {
    Object.assign(this, { view, nuclei, shading, overlay });
    this.histogram = new Histogram($("histogram"), (range) => this.filter(shading.by, range));
    $("name").textContent = view.name;
    $("facts").textContent =
      `${whole(view.nuclei.count)} nuclei · ${view.model} · ${readable(view.mpp.x)} µm/px`;
    $("made").textContent = `wsi-engine ${view.version} · ${view.finished.slice(0, 10)}`;
    this.showColumns();
    this.showClasses();
    this.showLayers();
    this.colourBy(this.firstChoice());
  }

  firstChoice() {
    if (this.view.classes.length) return BY_CLASS;
    const area = this.view.columns.findIndex(({ name }) => name.startsWith("Area"));
    return Math.max(area, 0);
  }

  showColumns() {
    const select = $("colour-by");
    if (this.view.classes.length) select.append(new Option("Class", BY_CLASS));
    const groups = { Main: make("optgroup", { label: "Main" }), All: make("optgroup", { label: "All" }) };
    this.view.columns.forEach(({ name, essential }, k) => {
      groups[essential || name === "score" ? "Main" : "All"].append(new Option(name, k));
    });
    select.append(...Object.values(groups).filter((group) => group.children.length));
    select.addEventListener("change", () => this.colourBy(Number(select.value)));
  }

  colourBy(k) {
    $("colour-by").value = String(k);
    this.shading.by = k;
    this.domainOf = null;
    $("classes").hidden = k !== BY_CLASS;
    $("histogram").hidden = k === BY_CLASS;
    $("formula").textContent = k === BY_CLASS ? "" : this.view.columns[k].formula;
    if (k !== BY_CLASS) this.nuclei.column(k).ready.catch((error) => { $("formula").textContent = error.message; });
    this.refresh();
  }

  filter(column, [low, high]) {
    if (low === -Infinity && high === Infinity) this.shading.filters.delete(column);
    else this.shading.filters.set(column, [low, high]);
    this.later();
  }

  /** Shades anew before the next picture, however often a handle has moved until then. */
  later() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.refresh();
    });
  }

  refresh() {
    const { shading } = this;
    if (shading.by !== BY_CLASS) {
      const column = this.nuclei.column(shading.by);
      // The first nuclei are a sample of all: what they span is spanned by all, nearly.
      if (column.known && this.domainOf !== column.known) {
        shading.domain = rangeOf(column.values, column.known);
        this.domainOf = column.known;
      }
    }
    shading.update();
    if (shading.by !== BY_CLASS) this.showHistogram();
    this.showFilters();
    this.countClasses();
    this.tellShown();
    this.overlay.request();
  }

  showHistogram() {
    const { shading } = this;
    const { values, known } = this.nuclei.column(shading.by);
    this.histogram.set({
      values,
      known: Math.min(known, this.nuclei.placed),
      domain: shading.domain,
      range: shading.filters.get(shading.by),
      ramp: shading.ramp,
      unit: this.view.columns[shading.by].unit,
      places: shading.places,
    });
  }

  showFilters() {
    const chips = [...this.shading.filters].map(([k, [low, high]]) => {
      const { name } = this.view.columns[k];
      const limits = [
        low === -Infinity ? "" : `from ${readable(low)}`,
        high === Infinity ? "" : `to ${readable(high)}`,
      ].filter(Boolean).join(" ");
      const chip = make("li");
      const remove = make("button", { type: "button", className: "small", textContent: "×" });
      remove.setAttribute("aria-label", `Remove the filter of ${name}`);
      remove.addEventListener("click", () => {
        this.shading.filters.delete(k);
        this.refresh();
      });
      chip.append(make("span", { textContent: `${name} ${limits}` }), remove);
      return chip;
    });
    $("filters").replaceChildren(...chips);
  }

  showClasses() {
    const entries = [...this.view.classes.map(({ name, colour }, k) => [name, colour, k]), ["no class", [148, 154, 163], -1]];
    this.classCounts = new Map();
    $("classes").replaceChildren(...entries.map(([name, colour, k]) => {
      const entry = make("li");
      const label = make("label");
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        if (box.checked) this.shading.hiddenClasses.delete(k);
        else this.shading.hiddenClasses.add(k);
        this.later();
      });
      const swatch = make("i");
      swatch.style.background = css(colour);
      const count = make("output");
      this.classCounts.set(k, [entry, count]);
      label.append(box, swatch, make("span", { textContent: name }), count);
      entry.append(label);
      return entry;
    }));
  }

  countClasses() {
    if (this.shading.by !== BY_CLASS) return;
    const { label, placed } = this.nuclei;
    const counts = new Map();
    for (let k = 0; k < placed; k++) counts.set(label[k], (counts.get(label[k]) ?? 0) + 1);
    for (const [k, [entry, output]] of this.classCounts) {
      output.textContent = whole(counts.get(k) ?? 0);
      entry.hidden = k === -1 && !counts.get(k);
    }
  }

  showLayers() {
    const layers = $("layers");
    layers.append(
      this.slider("Slide", 1, (value) => this.overlay.viewer.world.getItemAt(0)?.setOpacity(value), this.view.slide !== null),
      this.slider("Nuclei", 1, (value) => { this.overlay.canvases[0].style.opacity = value; }),
    );
    this.nucleiBox = this.box("Nuclei (n)", true, (on) => {
      this.overlay.visible = on;
      this.overlay.request();
    });
    layers.append(this.nucleiBox.label);
    layers.append(this.box("Filled outlines", true, (on) => {
      this.overlay.outlines.filled = on;
      this.overlay.request();
    }).label);
    const ramps = make("label", { className: "row" });
    const select = make("select");
    select.append(...Object.keys(RAMPS).map((name) => new Option(NAMES[name], name)));
    select.value = this.shading.ramp;
    select.addEventListener("change", () => {
      this.shading.ramp = select.value;
      this.refresh();
    });
    ramps.append(make("span", { textContent: "Colours" }), select);
    layers.append(ramps);
  }

  toggleNuclei() {
    this.nucleiBox.input.click();
  }

  slider(name, value, changed, isThere = true) {
    const label = make("label", { className: "row", hidden: !isThere });
    const input = make("input", { type: "range", min: 0, max: 1, step: 0.01 });
    input.value = value;
    input.addEventListener("input", () => changed(Number(input.value)));
    label.append(make("span", { textContent: name }), input);
    return label;
  }

  box(name, checked, changed) {
    const label = make("label", { className: "check" });
    const input = make("input", { type: "checkbox", checked });
    input.addEventListener("change", () => changed(input.checked));
    label.append(input, make("span", { textContent: name }));
    return { label, input };
  }

  showRegions({ flags }) {
    const { regions } = this.overlay;
    for (const [kind, name] of Object.entries(LAYERS)) {
      if (!regions.has(kind)) continue;
      const { label } = this.box(name, true, (on) => {
        regions.shown[kind] = on;
        this.overlay.request();
      });
      label.append(make("i", { className: `mark ${kind}` }));
      $("layers").append(label);
    }
    this.showFlags(flags);
  }

  /** What is doubtful in full, and what is well in one line. */
  showFlags(flags) {
    $("quality").hidden = !flags.length;
    const well = flags.filter(({ level }) => level === "ok").map(({ name }) => name);
    const told = flags.filter(({ level }) => level !== "ok");
    if (well.length) told.push({ name: "ok", level: "ok", sentence: well.join(", ") });
    $("flags").replaceChildren(...told.map(({ name, level, sentence }) => {
      const entry = make("li", { className: level.replace(" ", "-") });
      entry.append(make("b", { textContent: name }), make("span", { textContent: sentence }));
      return entry;
    }));
  }

  /** Says so while fewer nuclei are drawn than there are, because the slide moves. */
  tellShare(share) {
    const isPart = share < 1;
    if (isPart === this.isPart) return; // what changes the page at each frame costs more than all dots
    this.isPart = isPart;
    this.tellShown();
  }

  tellShown() {
    const note = this.isPart ? ", a part drawn while it moves" : "";
    $("shown").textContent = `${whole(this.shading.shown)} of ${whole(this.view.nuclei.count)}${note}`;
  }
}
