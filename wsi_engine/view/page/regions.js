// Tissue, regions of interest and doubtful places, as outlines over the slide.

import { css } from "./colours.js";

const STYLES = {
  tissue: { colour: [94, 200, 184], width: 1.5, dash: [], fill: 0 },
  annotation: { colour: [250, 204, 92], width: 2, dash: [], fill: 0.05 },
  quality: { colour: [255, 122, 89], width: 1.5, dash: [6, 4], fill: 0.12 },
};

export class RegionLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.shown = { tissue: true, annotation: true, quality: true };
    this.regions = [];
    this.selected = null;
  }

  set(regions) {
    this.regions = regions.map((region) => ({ ...region, path: pathOf(region.polygons) }));
  }

  has(kind) {
    return this.regions.some((region) => region.kind === kind);
  }

  draw(frame) {
    const { context } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const { scale } = frame;
    context.setTransform(scale, 0, 0, scale, -frame.left * scale, -frame.top * scale);
    for (const region of this.regions) {
      if (!this.shown[region.kind]) continue;
      const style = STYLES[region.kind];
      const colour = region.kind === "annotation" ? region.colour ?? style.colour : style.colour;
      context.setLineDash(style.dash.map((length) => (length * frame.ratio) / scale));
      context.lineWidth = (style.width * frame.ratio) / scale;
      if (style.fill) {
        context.fillStyle = css(colour, style.fill);
        context.fill(region.path, "evenodd");
      }
      context.strokeStyle = css(colour, 0.95);
      context.stroke(region.path);
    }
    context.setLineDash([]);
    if (this.selected) this.drawSelected(frame);
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** Marks the nucleus that was clicked, white in black: seen on any ground. */
  drawSelected({ scale, ratio }) {
    const { context } = this;
    const { outline, x, y, radius } = this.selected;
    const path = new Path2D();
    if (outline) {
      outline.forEach(([a, b], k) => (k ? path.lineTo(a, b) : path.moveTo(a, b)));
      path.closePath();
    } else path.arc(x, y, Math.max(radius, (9 * ratio) / scale), 0, 2 * Math.PI);
    for (const [width, colour] of [[5, "rgb(0 0 0 / 0.7)"], [2.2, "#fff"]]) {
      context.lineWidth = (width * ratio) / scale;
      context.strokeStyle = colour;
      context.stroke(path);
    }
  }
}

function pathOf(polygons) {
  const path = new Path2D();
  for (const ring of polygons.flat()) {
    ring.forEach(([x, y], k) => (k ? path.lineTo(x, y) : path.moveTo(x, y)));
    path.closePath();
  }
  return path;
}
