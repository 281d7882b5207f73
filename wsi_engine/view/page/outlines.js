// Outlines of nuclei, by tiles of the slide that are fetched when they come into view.

import { bytes } from "./data.js";
import { drawRing } from "./rings.js";

const MOST_KEPT = 160;
const LINE_PX = 1.6;
const FILL = 44;

export class OutlineLayer {
  constructor(view, arrived) {
    Object.assign(this, view.outlines);
    this.arrived = arrived;
    this.tiles = new Map();
    this.filled = true;
  }

  async load() {
    this.counts = new Uint32Array(await bytes("outlines/counts.bin"));
    this.arrived();
  }

  /** The tiles with nuclei in a box of the slide; those that are not here yet are fetched. */
  within(box) {
    if (!this.counts) return { tiles: [], missing: 1, nuclei: 0 };
    const clamp = (value, count) => Math.min(Math.max(Math.floor(value / this.side), 0), count - 1);
    const found = { tiles: [], missing: 0, nuclei: 0 };
    for (let row = clamp(box.top, this.rows); row <= clamp(box.bottom, this.rows); row++) {
      for (let column = clamp(box.left, this.columns); column <= clamp(box.right, this.columns); column++) {
        const count = this.counts[row * this.columns + column];
        if (!count) continue;
        found.nuclei += count;
        const tile = this.tile(column, row);
        if (tile.starts) found.tiles.push(tile);
        else found.missing++;
      }
    }
    return found;
  }

  tile(column, row) {
    const name = `${column}_${row}`;
    let tile = this.tiles.get(name);
    if (tile) this.tiles.delete(name);
    else {
      tile = { column, row };
      bytes(`outlines/${name}.bin`).then(
        (buffer) => {
          this.read(tile, buffer);
          this.arrived();
        },
        () => this.tiles.delete(name),
      );
    }
    this.tiles.set(name, tile); // the last in use stand last
    while (this.tiles.size > MOST_KEPT) this.tiles.delete(this.tiles.keys().next().value);
    return tile;
  }

  read(tile, buffer) {
    const [count] = new Uint32Array(buffer, 0, 1);
    tile.places = new Uint32Array(buffer, 4, count);
    tile.starts = new Uint32Array(buffer, 4 + 4 * count, count + 1);
    tile.xy = new Int16Array(buffer, 8 + 8 * count);
  }

  draw(pixels, frame, shading, tiles) {
    const { places } = shading;
    const { packed } = shading.palette;
    const scale = frame.scale / this.steps;
    const fill = this.filled ? FILL : 0;
    const width = LINE_PX * frame.ratio;
    for (const tile of tiles) {
      const x = (tile.column * this.side - frame.left) * frame.scale;
      const y = (tile.row * this.side - frame.top) * frame.scale;
      const { starts, xy } = tile;
      for (let k = 0; k < tile.places.length; k++) {
        const place = places[tile.places[k]];
        if (place === 0) continue;
        drawRing(pixels, xy, starts[k], starts[k + 1], scale, x, y, packed[place] & 0xffffff, fill, width);
      }
    }
  }

  /** The nucleus whose outline holds a point of the slide, and its outline; undefined for none. */
  at(x, y, shading) {
    const reach = this.side / 8;
    const { tiles } = this.within({ left: x - reach, right: x + reach, top: y - reach, bottom: y + reach });
    for (const tile of tiles) {
      const [across, down] = [(x - tile.column * this.side) * this.steps, (y - tile.row * this.side) * this.steps];
      for (let k = 0; k < tile.places.length; k++) {
        if (shading.places[tile.places[k]] && holds(tile, k, across, down)) return tile.places[k];
      }
    }
    return undefined;
  }

  /** The outline of a place among the tiles that are here, in pixels of the slide. */
  outlineOf(place, x, y) {
    const tile = this.tiles.get(`${Math.floor(x / this.side)}_${Math.floor(y / this.side)}`);
    const k = tile?.places ? tile.places.indexOf(place) : -1;
    if (k < 0) return null;
    const points = [];
    for (let v = tile.starts[k]; v < tile.starts[k + 1]; v++) {
      points.push([
        tile.column * this.side + tile.xy[2 * v] / this.steps,
        tile.row * this.side + tile.xy[2 * v + 1] / this.steps,
      ]);
    }
    return points;
  }
}

/** Even-odd rule. */
function holds({ starts, xy }, k, x, y) {
  let inside = false;
  for (let v = starts[k], w = starts[k + 1] - 1; v < starts[k + 1]; w = v++) {
    const [ax, ay, bx, by] = [xy[2 * v], xy[2 * v + 1], xy[2 * w], xy[2 * w + 1]];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
