// An image that dots and outlines are written into, pixel by pixel: fast without any GPU.
//
// Where two meet in a pixel, the one that covers more of it has it.

export class Pixels {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  begin() {
    const { width, height } = this.canvas;
    if (width !== this.width || height !== this.height) {
      Object.assign(this, { width, height });
      this.image = this.context.createImageData(width, height);
      this.data = new Uint32Array(this.image.data.buffer);
    }
    this.data.fill(0);
  }

  end() {
    this.context.putImageData(this.image, 0, 0);
  }
}
