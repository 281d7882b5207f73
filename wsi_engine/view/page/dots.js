// Nuclei as dots, when the slide is seen from afar.

const LARGEST_DISC = 40;

/** Dots from this size on have a thin dark rim, by which they are seen on tissue of their colour. */
const RIMMED_FROM = 4;
const RIM_ALPHA = 90;

const discs = new Map();

/**
 * The pixels of a disc around (0, 0): columns, rows, how much of each is covered, 0 to 255, and
 * what of the colour is seen there: all of it, or nothing in the rim.
 */
function disc(diameter) {
  const size = Math.round(Math.min(diameter, LARGEST_DISC) * 2) / 2;
  if (!discs.has(size)) {
    const rim = size >= RIMMED_FROM ? 1 : 0;
    const reach = Math.ceil(size / 2) + rim;
    const found = [];
    for (let y = -reach; y <= reach; y++) {
      for (let x = -reach; x <= reach; x++) {
        const within = size / 2 + 0.5 - Math.hypot(x, y);
        const cover = Math.min(within, 1) * 255;
        const dark = rim * Math.min(within + 1, 1) * RIM_ALPHA;
        if (cover > 15 && cover >= dark) found.push([x, y, Math.round(cover), 0xffffff]);
        else if (dark > 15) found.push([x, y, Math.round(dark), 0]);
      }
    }
    discs.set(size, {
      reach,
      x: Int16Array.from(found, (p) => p[0]),
      y: Int16Array.from(found, (p) => p[1]),
      alpha: Uint8Array.from(found, (p) => p[2]),
      seen: Uint32Array.from(found, (p) => p[3]),
    });
  }
  return discs.get(size);
}

/** Draws the nuclei of some ranges; returns how many of them were looked at. */
export function drawDots(pixels, frame, nuclei, shading, ranges, diameter) {
  let looked = 0;
  for (const [start, stop] of ranges) {
    const end = Math.min(stop, nuclei.placed);
    if (end <= start) continue;
    looked += end - start;
    if (diameter < 1.5) drawSquares(pixels, frame, nuclei, shading, start, end, 1);
    else if (diameter < 2.75) drawSquares(pixels, frame, nuclei, shading, start, end, 2);
    else drawDiscs(pixels, frame, nuclei, shading, start, end, disc(diameter));
  }
  return looked;
}

function drawSquares({ data, width, height }, frame, { x, y }, shading, start, end, side) {
  const { places } = shading;
  const { packed } = shading.palette;
  const { scale, left, top } = frame;
  for (let k = start; k < end; k++) {
    const place = places[k];
    if (place === 0) continue;
    const column = Math.floor((x[k] - left) * scale);
    const row = Math.floor((y[k] - top) * scale);
    if (column < 0 || row < 0 || column > width - side || row > height - side) continue;
    const at = row * width + column;
    const colour = packed[place];
    data[at] = colour;
    if (side === 2) {
      data[at + 1] = colour;
      data[at + width] = colour;
      data[at + width + 1] = colour;
    }
  }
}

function drawDiscs({ data, width, height }, frame, { x, y }, shading, start, end, shape) {
  const { places } = shading;
  const { packed } = shading.palette;
  const { scale, left, top } = frame;
  const { reach } = shape;
  const count = shape.x.length;
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
      if (alpha >= data[at] >>> 24) data[at] = ((alpha << 24) | (colour & shape.seen[p])) >>> 0;
    }
  }
}
