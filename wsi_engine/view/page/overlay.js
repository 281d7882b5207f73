// What is drawn over the slide, in step with it: dots or outlines of nuclei, and regions.

import { drawDots } from "./dots.js";
import { OutlineLayer } from "./outlines.js";
import { Pixels } from "./pixels.js";
import { RegionLayer } from "./regions.js";

/** Outlines are drawn from so many pixels per nucleus on, and while no more are in view. */
const OUTLINED_FROM = 8;
const MOST_OUTLINED = 9000;

/** While the slide moves, no more dots are drawn than took so long before: the slide needs time, too. */
const DOTS_MS = 12;
const FEWEST = 20_000;

export class Overlay {
  constructor(viewer, view, nuclei, shading) {
    Object.assign(this, { viewer, view, nuclei, shading });
    const canvases = ["nuclei", "regions"].map((name) => {
      const canvas = document.createElement("canvas");
      canvas.className = `layer ${name}`;
      viewer.canvas.appendChild(canvas);
      return canvas;
    });
    this.canvases = canvases;
    this.pixels = new Pixels(canvases[0]);
    this.outlines = new OutlineLayer(view, () => this.request());
    this.regions = new RegionLayer(canvases[1]);
    this.visible = true;
    this.moving = false;
    this.cost = 0;
    this.drawn = { mode: "none", nuclei: 0, share: 1, ms: 0, frames: 0 };
    this.told = () => {};
    viewer.addHandler("update-viewport", () => this.draw());
    viewer.addHandler("animation-start", () => { this.moving = true; });
    viewer.addHandler("animation-finish", () => {
      this.moving = false;
      this.request();
    });
    viewer.addHandler("resize", () => this.request());
  }

  /** Draws before the next picture, once, however often it is asked for. */
  request() {
    if (this.requested) return;
    this.requested = requestAnimationFrame(() => this.draw());
  }

  /** Where the slide stands: device pixels per pixel of the slide, and the upper left corner. */
  frame() {
    const { viewer, view } = this;
    const ratio = globalThis.devicePixelRatio || 1;
    const size = viewer.viewport.getContainerSize();
    const bounds = viewer.viewport.getBoundsNoRotate(true);
    const scale = (size.x * ratio) / (bounds.width * view.width);
    return {
      ratio,
      scale,
      left: bounds.x * view.width,
      top: bounds.y * view.width,
      width: Math.round(size.x * ratio),
      height: Math.round(size.y * ratio),
    };
  }

  box(frame, margin) {
    return {
      left: frame.left - margin,
      top: frame.top - margin,
      right: frame.left + frame.width / frame.scale + margin,
      bottom: frame.top + frame.height / frame.scale + margin,
    };
  }

  draw() {
    cancelAnimationFrame(this.requested);
    this.requested = 0;
    if (!this.viewer.viewport || !this.viewer.world.getItemCount()) return;
    const began = performance.now();
    const frame = this.frame();
    for (const canvas of this.canvases) {
      if (canvas.width !== frame.width || canvas.height !== frame.height) {
        canvas.width = frame.width;
        canvas.height = frame.height;
      }
    }
    this.regions.draw(frame);
    this.pixels.begin();
    if (this.visible) this.drawNuclei(frame);
    else Object.assign(this.drawn, { mode: "none", nuclei: 0, share: 1 });
    this.pixels.end();
    this.drawn.ms = performance.now() - began;
    this.drawn.frames++;
    this.told(this.drawn, frame);
  }

  drawNuclei(frame) {
    const { view } = this;
    const diameter = (view.nuclei.diameter_um / view.mpp.x) * frame.scale;
    const margin = 24 / view.mpp.x;
    if (diameter >= OUTLINED_FROM * frame.ratio) {
      const { tiles, missing, nuclei } = this.outlines.within(this.box(frame, margin));
      if (nuclei <= MOST_OUTLINED && missing === 0) {
        this.outlines.draw(this.pixels, frame, this.shading, tiles);
        Object.assign(this.drawn, { mode: "outlines", nuclei, share: 1 });
        return;
      }
    }
    this.drawDots(frame, diameter, margin);
  }

  drawDots(frame, diameter, margin) {
    const began = performance.now();
    const levels = this.nuclei.ranges(this.box(frame, margin));
    const { ranges, share } = this.moving ? thinned(levels, Math.max(FEWEST, DOTS_MS / this.cost)) : { ranges: levels.flat(), share: 1 };
    const size = Math.max(diameter, this.smallestDot(frame));
    const looked = drawDots(this.pixels, frame, this.nuclei, this.shading, ranges, size);
    const ms = performance.now() - began;
    if (looked > 1000) this.cost += (ms / looked - this.cost) * 0.2; // one slow frame is none yet
    Object.assign(this.drawn, { mode: "points", nuclei: looked, share });
  }

  /** Few nuclei on a large slide are drawn larger than they are, to be seen at all. */
  smallestDot(frame) {
    const spacing = Math.sqrt((frame.width * frame.height) / Math.max(this.shading.shown, 1));
    return Math.min(Math.max(0.45 * spacing, 1), 3 * frame.ratio);
  }
}

/** Of the ranges of all levels, the coarser ones, and the beginnings of those that are too many. */
function thinned(levels, budget) {
  const sizes = levels.map((ranges) => ranges.reduce((sum, [start, stop]) => sum + stop - start, 0));
  const total = sizes.reduce((a, b) => a + b, 0);
  if (total <= budget) return { ranges: levels.flat(), share: 1 };
  const ranges = [];
  let left = budget;
  for (const [level, size] of sizes.entries()) {
    const share = Math.min(1, left / Math.max(size, 1));
    for (const [start, stop] of levels[level]) ranges.push([start, start + Math.round((stop - start) * share)]);
    left -= Math.min(size, left);
    if (left <= 0) break;
  }
  return { ranges, share: budget / total };
}
