// Nuclei as dots, written into the pixels of an image: a million take some milliseconds, and no GPU.

/** Dots are discs of these numbers of pixels; smaller ones are squares. */
const LARGEST_DISC = 40;

const discs = new Map();

/** The pixels of a disc around (0, 0): columns, rows, and how much of each is covered, 0 to 255. */
function disc(diameter) {
  const size = Math.round(Math.min(diameter, LARGEST_DISC) * 2) / 2;
  if (!discs.has(size)) {
    const reach = Math.ceil(size / 2);
    const found = [];
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const inside = Math.min(Math.max(size / 2 + 0.5 - Math.hypot(x, y), 0), 1);
        if (inside > 0.06) found.push([x, y, Math.round(inside * 255)]);
      }
    }
    discs.set(size, {
      x: Int16Array.from(found, (p) => p[0]),
      y: Int16Array.from(found, (p) => p[1]),
      alpha: Uint8Array.from(found, (p) => p[2]),
    });
  }
  return discs.get(size);
}

export class PointLayer {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  /** Draws the nuclei of some ranges; returns how many of them were looked at. */
  draw(frame, nuclei, shading, ranges, diameter) {
    const { width, height } = this.canvas;
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill(0);
    let looked = 0;
    for (const [start, stop] of ranges) {
      const end = Math.min(stop, nuclei.placed);
      if (end <= start) continue;
      looked += end - start;
      if (diameter < 1.5) this.drawPixels(frame, nuclei, shading, start, end, 1);
      else if (diameter < 2.75) this.drawPixels(frame, nuclei, shading, start, end, 2);
      else this.drawDiscs(frame, nuclei, shading, start, end, disc(diameter));
    }
    this.context.putImageData(this.image, 0, 0);
    return looked;
  }

  drawPixels(frame, { x, y }, shading, start, end, side) {
    const { pixels } = this;
    const { width, height } = this.image;
    const { places } = shading;
    const { packed } = shading.palette;
    const { scale, left, top } = frame;
    for (let k = start; k < end; k++) {
      const place = places[k];
      if (place === 0) continue;
      const column = ((x[k] - left) * scale) | 0;
      const row = ((y[k] - top) * scale) | 0;
      if (column < 0 || row < 0 || column > width - side || row > height - side) continue;
      const at = row * width + column;
      const colour = packed[place];
      pixels[at] = colour;
      if (side === 2) {
        pixels[at + 1] = colour;
        pixels[at + width] = colour;
        pixels[at + width + 1] = colour;
      }
    }
  }

  drawDiscs(frame, { x, y }, shading, start, end, shape) {
    const { pixels } = this;
    const { width, height } = this.image;
    const { places } = shading;
    const { packed } = shading.palette;
    const { scale, left, top } = frame;
    const count = shape.x.length;
    const reach = shape.x[count - 1] + LARGEST_DISC / 2;
    for (let k = start; k < end; k++) {
      const place = places[k];
      if (place === 0) continue;
      const column = Math.floor((x[k] - left) * scale);
      const row = Math.floor((y[k] - top) * scale);
      if (column < -reach || row < -reach || column >= width + reach || row >= height + reach) continue;
      const colour = packed[place] & 0xffffff;
      for (let p = 0; p < count; p++) {
        const c = column + shape.x[p];
        const r = row + shape.y[p];
        if (c < 0 || r < 0 || c >= width || r >= height) continue;
        const at = r * width + c;
        const alpha = shape.alpha[p];
        // Of overlapping dots the one that covers more of a pixel has it.
        if (alpha >= pixels[at] >>> 24) pixels[at] = ((alpha << 24) | colour) >>> 0;
      }
    }
  }
}
