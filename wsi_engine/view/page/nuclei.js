// All nuclei: where they are, of which class, and the columns that were asked for.
//
// They come in the drawing order: the first of them are a sample of the whole slide.

import { bytes, inOrder } from "./data.js";

export class Nuclei {
  constructor(view, changed) {
    const { count, block, levels, side } = view.nuclei;
    Object.assign(this, { count, block, levels, side, changed });
    this.blocks = Math.ceil(count / block);
    this.x = new Float32Array(count);
    this.y = new Float32Array(count);
    this.row = new Uint32Array(count);
    this.label = new Int16Array(count).fill(-1);
    this.placed = 0;
    this.columns = new Map();
  }

  /** Loads places and classes, the coarsest level of detail first. */
  load() {
    return inOrder(this.blocks, (k) => this.loadBlock(k), (whole) => {
      this.placed = Math.min(whole * this.block, this.count);
      this.changed();
    });
  }

  async loadBlock(k) {
    const first = k * this.block;
    const n = Math.min(this.block, this.count - first);
    const [points, labels] = await Promise.all([bytes(`points/${k}.bin`), bytes(`classes/${k}.bin`)]);
    this.x.set(new Float32Array(points, 0, n), first);
    this.y.set(new Float32Array(points, 4 * n, n), first);
    this.row.set(new Uint32Array(points, 8 * n, n), first);
    this.label.set(new Int16Array(labels), first);
  }

  /** A column that is there or on its way: its values, and how many of the first are known. */
  column(k) {
    let column = this.columns.get(k);
    if (!column) {
      column = { values: new Float32Array(this.count).fill(NaN), known: 0 };
      this.columns.set(k, column);
      column.ready = inOrder(
        this.blocks,
        async (b) => column.values.set(new Float32Array(await bytes(`columns/${k}/${b}.bin`)), b * this.block),
        (whole) => {
          column.known = Math.min(whole * this.block, this.count);
          this.changed();
        },
      );
    }
    return column;
  }

  /** Ranges [start, stop) of places in a box of the slide, by level of detail, coarsest first. */
  ranges(box) {
    return this.levels.map((starts, level) => {
      const across = 2 ** level;
      const cell = this.side / across;
      const clamp = (value) => Math.min(Math.max(Math.floor(value / cell), 0), across - 1);
      const [left, right] = [clamp(box.left), clamp(box.right)];
      const [top, bottom] = [clamp(box.top), clamp(box.bottom)];
      const found = [];
      for (let row = top; row <= bottom; row++) {
        for (let column = left; column <= right; column++) found.push(zNumber(column, row));
      }
      found.sort((a, b) => a - b);
      const ranges = [];
      for (const z of found) {
        const last = ranges.at(-1);
        if (last && last[1] === starts[z]) last[1] = starts[z + 1];
        else ranges.push([starts[z], starts[z + 1]]);
      }
      return ranges;
    });
  }

  /** The place of the nucleus whose anchor is nearest, no farther than a distance; -1 for none. */
  nearest(x, y, reach, shade) {
    let best = -1;
    let least = reach * reach;
    for (let k = 0; k < this.placed; k++) {
      if (!shade[k]) continue;
      const across = this.x[k] - x;
      const down = this.y[k] - y;
      const distance = across * across + down * down;
      if (distance < least) {
        least = distance;
        best = k;
      }
    }
    return best;
  }
}

function zNumber(column, row) {
  let number = 0;
  for (let bit = 0; bit < 16; bit++) {
    number |= ((column >> bit) & 1) << (2 * bit);
    number |= ((row >> bit) & 1) << (2 * bit + 1);
  }
  return number;
}
