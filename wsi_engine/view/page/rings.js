// Outlines of nuclei as smooth lines, and lightly filled, written into pixels.

/** Vertices nearer to each other than this on screen are one. */
const NEAREST = 0.6;
const CROSSINGS = 16;

let px = new Float64Array(1024);
let py = new Float64Array(1024);
let crossings = new Float64Array(1024 * CROSSINGS);
let counts = new Int32Array(1024);

/**
 * Draws one ring.
 *
 * Vertex v is (xy[2v], xy[2v + 1]) times `scale`, plus (x, y), from `start` to `stop`; `colour` is
 * a number without alpha, `fill` is 0 to 255, `width` that of the line in pixels.
 */
export function drawRing(pixels, xy, start, stop, scale, x, y, colour, fill, width) {
  const count = placed(xy, start, stop, scale, x, y);
  let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let v = 0; v < count; v++) {
    if (px[v] < left) left = px[v];
    if (px[v] > right) right = px[v];
    if (py[v] < top) top = py[v];
    if (py[v] > bottom) bottom = py[v];
  }
  if (right < -2 || bottom < -2 || left > pixels.width + 2 || top > pixels.height + 2) return;
  if (fill > 0) fillRing(pixels, count, top, bottom, ((fill << 24) | colour) >>> 0);
  for (let v = 0, w = count - 1; v < count; w = v++) {
    drawLine(pixels, px[w], py[w], px[v], py[v], colour, width / 2);
  }
}

/** Puts the vertices on screen, but for those that would be as good as one; returns how many. */
function placed(xy, start, stop, scale, x, y) {
  if (stop - start > px.length) {
    px = new Float64Array(2 * (stop - start));
    py = new Float64Array(2 * (stop - start));
  }
  let count = 0;
  for (let v = start; v < stop; v++) {
    const column = xy[2 * v] * scale + x;
    const row = xy[2 * v + 1] * scale + y;
    if (
      count === 0 ||
      Math.abs(column - px[count - 1]) + Math.abs(row - py[count - 1]) >= NEAREST
    ) {
      px[count] = column;
      py[count++] = row;
    }
  }
  return count;
}

/** Fills what is inside by the even-odd rule, at the middle of each row. */
function fillRing({ data, width, height }, count, top, bottom, colour) {
  const first = Math.max(Math.floor(top), 0);
  const last = Math.min(Math.ceil(bottom), height - 1);
  const rows = last - first + 1;
  if (rows <= 0) return;
  if (rows > counts.length) {
    counts = new Int32Array(2 * rows);
    crossings = new Float64Array(2 * rows * CROSSINGS);
  }
  counts.fill(0, 0, rows);
  for (let v = 0, w = count - 1; v < count; w = v++) {
    let [ax, ay, bx, by] = [px[w], py[w], px[v], py[v]];
    if (ay > by) [ax, ay, bx, by] = [bx, by, ax, ay];
    const begin = Math.max(Math.ceil(ay - 0.5), first);
    const end = Math.min(Math.ceil(by - 0.5) - 1, last);
    const slope = (bx - ax) / (by - ay);
    for (let row = begin; row <= end; row++) {
      const r = row - first;
      if (counts[r] < CROSSINGS) crossings[r * CROSSINGS + counts[r]++] = ax + (row + 0.5 - ay) * slope;
    }
  }
  for (let r = 0; r < rows; r++) {
    const n = counts[r];
    if (n < 2) continue;
    const from = r * CROSSINGS;
    sort(from, n);
    const line = (first + r) * width;
    for (let k = 0; k + 1 < n; k += 2) {
      const start = Math.max(Math.ceil(crossings[from + k] - 0.5), 0);
      const stop = Math.min(Math.ceil(crossings[from + k + 1] - 0.5), width);
      for (let c = start; c < stop; c++) if (data[line + c] === 0) data[line + c] = colour;
    }
  }
}

/** Sorts a few crossings in place. */
function sort(from, n) {
  for (let k = from + 1; k < from + n; k++) {
    const value = crossings[k];
    let at = k;
    while (at > from && crossings[at - 1] > value) {
      crossings[at] = crossings[at - 1];
      at--;
    }
    crossings[at] = value;
  }
}

/** Draws a line that is `half` a width to both sides, along its longer axis. */
function drawLine({ data, width, height }, ax, ay, bx, by, colour, half) {
  const steep = Math.abs(by - ay) > Math.abs(bx - ax);
  if (steep) [ax, ay, bx, by] = [ay, ax, by, bx];
  if (ax > bx) [ax, ay, bx, by] = [bx, by, ax, ay];
  const slope = bx > ax ? (by - ay) / (bx - ax) : 0;
  const reach = half * Math.sqrt(1 + slope * slope);
  const [along, across] = steep ? [height, width] : [width, height];
  const begin = Math.max(Math.floor(ax), 0);
  const end = Math.min(Math.floor(bx), along - 1);
  for (let a = begin; a <= end; a++) {
    // Of the part of this line that lies in the column of pixels.
    const middle = Math.min(Math.max(a + 0.5, ax), bx);
    const centre = ay + (middle - ax) * slope;
    const low = Math.max(Math.floor(centre - reach), 0);
    const high = Math.min(Math.floor(centre + reach), across - 1);
    for (let c = low; c <= high; c++) {
      const cover = Math.min(reach + 0.5 - Math.abs(c + 0.5 - centre), 1);
      if (cover <= 0.05) continue;
      const alpha = (cover * 255) | 0;
      const at = steep ? a * width + c : c * width + a;
      if (alpha > data[at] >>> 24) data[at] = ((alpha << 24) | colour) >>> 0;
    }
  }
}
