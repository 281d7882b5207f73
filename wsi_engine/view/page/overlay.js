// What is drawn over the slide, in step with it: dots or outlines of nuclei, and regions.

import { OutlineLayer } from "./outlines.js";
import { PointLayer } from "./points.js";
import { RegionLayer } from "./regions.js";

/** Outlines are drawn from so many pixels per nucleus on, and while no more are in view. */
const OUTLINED_FROM = 10;
const MOST_OUTLINED = 9000;

/** A frame that takes longer, while the slide moves, is thinned or drawn as dots. */
const FRAME_MS = 24;

export class Overlay {
  constructor(viewer, view, nuclei, shading) {
    Object.assign(this, { viewer, view, nuclei, shading });
    const canvases = ["points", "outlines", "regions"].map((name) => {
      const canvas = document.createElement("canvas");
      canvas.className = `layer ${name}`;
      viewer.canvas.appendChild(canvas);
      return canvas;
    });
    this.canvases = canvases;
    this.points = new PointLayer(canvases[0]);
    this.outlines = new OutlineLayer(canvases[1], view, () => this.request());
    this.regions = new RegionLayer(canvases[2]);
    this.visible = true;
    this.opacity = 1;
    this.moving = false;
    this.budget = Infinity;
    this.costOfOutlines = 0;
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
    if (this.visible) this.drawNuclei(frame);
    else this.clear("none");
    this.drawn.ms = performance.now() - began;
    this.drawn.frames++;
    this.told(this.drawn, frame);
  }

  clear(mode) {
    this.points.clear();
    this.outlines.clear();
    Object.assign(this.drawn, { mode, nuclei: 0, share: 1 });
  }

  drawNuclei(frame) {
    const { view } = this;
    const diameter = (view.nuclei.diameter_um / view.mpp.x) * frame.scale;
    const margin = 24 / view.mpp.x;
    if (diameter >= OUTLINED_FROM * frame.ratio && !(this.moving && this.costOfOutlines > FRAME_MS)) {
      const { tiles, missing, nuclei } = this.outlines.within(this.box(frame, margin));
      if (nuclei <= MOST_OUTLINED && missing === 0) {
        this.drawOutlines(frame, tiles, nuclei);
        return;
      }
    }
    this.drawPoints(frame, diameter, margin);
  }

  drawOutlines(frame, tiles, nuclei) {
    if (this.drawn.mode !== "outlines") this.points.clear();
    const began = performance.now();
    const { version } = this.shading;
    const isNew = tiles.some((tile) => tile.version !== version);
    this.outlines.draw(frame, this.shading, tiles, this.opacity);
    if (!isNew) this.costOfOutlines = performance.now() - began;
    Object.assign(this.drawn, { mode: "outlines", nuclei, share: 1 });
  }

  drawPoints(frame, diameter, margin) {
    if (this.drawn.mode !== "points") this.outlines.clear();
    const began = performance.now();
    const levels = this.nuclei.ranges(this.box(frame, margin));
    const { ranges, share } = this.moving ? thinned(levels, this.budget) : { ranges: levels.flat(), share: 1 };
    const size = Math.max(diameter, this.smallestDot(frame));
    const looked = this.points.draw(frame, this.nuclei, this.shading, ranges, size);
    const ms = performance.now() - began;
    // So many as the last frame shows to fit: the next one while the slide moves has no more.
    if (looked > 1000) this.budget = Math.max(20_000, (looked * FRAME_MS) / Math.max(ms, 1));
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
