// Colours as numbers that an image holds (alpha, blue, green, red), and the ramps of values.

/** The first is bright all along, so that it is seen on haematoxylin and eosin as on black. */
export const RAMPS = {
  bright: ["#4f8bff", "#2cb4f7", "#1cd6d6", "#3fe9a6", "#a6f061", "#f4e542", "#ffb733", "#ff7f3f", "#ff4a7d"],
  viridis: ["#472f7d", "#3f4f8e", "#33638d", "#287c8e", "#21928c", "#26ac81", "#52c569", "#9bd93c", "#fde725"],
  cividis: ["#213d6b", "#39486b", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"],
};

export const NAMES = { bright: "Bright", viridis: "Viridis", cividis: "Cividis" };

/** Places in the palette: what is hidden, what has no value, and the first of the others. */
export const HIDDEN = 0;
export const UNKNOWN = 1;
export const FIRST = 2;

/** So many colours of a ramp. */
export const STEPS = 48;

const GREY = [148, 154, 163];

const parsed = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16));

/** The colour of a share from 0 to 1. */
export function onRamp(name, share) {
  const stops = RAMPS[name];
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(place), stops.length - 2);
  const [low, high] = [parsed(stops[k]), parsed(stops[k + 1])];
  return low.map((value, c) => Math.round(value + (high[c] - value) * (place - k)));
}

export const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

/** A palette of [red, green, blue] by place, and the same as numbers. */
export function palette(colours) {
  const all = [[0, 0, 0], GREY, ...colours];
  const packed = new Uint32Array(256);
  all.forEach(([r, g, b], k) => { packed[k] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; });
  return { colours: all, packed };
}

export const rampPalette = (name) =>
  palette(Array.from({ length: STEPS }, (_, k) => onRamp(name, k / (STEPS - 1))));
