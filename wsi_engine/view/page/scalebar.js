// A bar of a round length, and where the pointer is.

const LENGTHS_UM = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4];
const LONGEST_PX = 150;

export function showScale(line, text, frame, mpp) {
  const umPerPixel = (mpp.x * frame.ratio) / frame.scale;
  const length = LENGTHS_UM.filter((um) => um / umPerPixel <= LONGEST_PX).at(-1) ?? LENGTHS_UM[0];
  const width = `${(length / umPerPixel).toFixed(1)}px`;
  const label = length < 1000 ? `${length} µm` : `${length / 1000} mm`;
  if (line.style.width !== width) line.style.width = width;
  if (text.textContent !== label) text.textContent = label;
}
