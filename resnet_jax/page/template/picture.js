// Pictures as PNG files in a URL.
const COLORS = {{ colors | tojson }}; // of heat, from none to the highest
const OPACITY = {{ opacity }}; // of the highest heat

// Draw a picture of which a function gives red, green, blue and alpha of each pixel, by its number.
function pictureOf(width, height, pixel) {
  const picture = new ImageData(width, height), canvas = Object.assign(document.createElement("canvas"), { width, height });
  for (let index = 0; index < width * height; index++) picture.data.set(pixel(index), 4 * index);
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return canvas.toDataURL();
}

// Draw a heat map, enlarged bilinearly; the higher, the more opaque.
function overlayOf(heat, rows, columns, size) {
  const side = size * Math.max(1, Math.ceil(224 / size)), highest = Math.max(...heat, Number.MIN_VALUE);
  const [down, across] = [rows, columns].map((length) => weightsOf(length, side, 0, side, "bilinear"));
  return pictureOf(side, side, (index) => {
    const y = down[Math.floor(index / side)], x = across[index % side];
    let strength = 0;
    y.weights.forEach((one, row) => x.weights.forEach((other, column) => {
      strength += one * other * heat[(y.first + row) * columns + x.first + column] / highest / BITS ** 2;
    }));
    return [...COLORS[Math.min(COLORS.length - 1, Math.floor(COLORS.length * strength))], 255 * OPACITY * strength];
  });
}
