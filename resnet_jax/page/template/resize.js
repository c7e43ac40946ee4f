// Resizing as Pillow 13 does it, with the same values: weights of 22 bits, along the rows and then along the columns, or
// the other way round. Older versions always begin with the rows, so that their values differ a little in high images.
// Source: Pillow, src/libImaging/Resample.c
const BITS = 2 ** 22;
const sinc = (x) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));
const FILTERS = { // half of the width, and the weight at a distance, in pixels of the result
  box: [0.5, (x) => Number(-0.5 < x && x <= 0.5)],
  bilinear: [1, (x) => Math.max(0, 1 - Math.abs(x))],
  hamming: [1, (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(Math.PI * x)) : 0)],
  bicubic: [2, (x) => cubic(Math.abs(x))],
  lanczos: [3, (x) => (-3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

// Of each of `count` pixels from `start` in a line of `length` that becomes `resized`: its first source and its weights.
function weightsOf(length, resized, start, count, interpolation) {
  const scale = length / resized, pixels = [];
  for (let index = start; index < start + count; index++) {
    const center = (index + 0.5) * scale;
    if (index < 0 || index >= resized) {
      pixels.push({ first: 0, weights: [] }); // black, as a crop beyond the border
    } else if (interpolation === "nearest") {
      let sum = scale / 2; // not `center`: Pillow adds up here, with other rounding
      for (let before = 0; before < index; before++) sum += scale;
      pixels.push({ first: Math.floor(sum), weights: [BITS] });
    } else {
      const [half, filter] = FILTERS[interpolation], stretch = Math.max(1, scale), reach = half * stretch;
      const first = Math.max(0, Math.trunc(center - reach + 0.5)), end = Math.min(length, Math.trunc(center + reach + 0.5));
      const shares = Array.from({ length: end - first }, (_, x) => filter((x + first - center + 0.5) / stretch));
      const sum = shares.reduce((total, share) => total + share, 0);
      const rounded = shares.map((share) => (share / sum) * BITS).map((it) => Math.trunc(it + (it < 0 ? -0.5 : 0.5)));
      pixels.push({ first, weights: rounded });
    }
  }
  return pixels;
}

// Sum up weighted values, `step` apart, and round to 0..255.
function weighted(values, offset, step, weights) {
  let sum = BITS / 2;
  for (let index = 0; index < weights.length; index++) sum += weights[index] * values[offset + index * step];
  return Math.min(255, Math.max(0, Math.floor(sum / BITS)));
}

// Python's rounding of half a whole number: to even.
const halved = (whole) => Math.floor(whole / 2) + (whole % 2 && Math.floor(whole / 2) % 2 ? 1 : 0);

// Resample an image of [height, width, channels] along its columns (axis 0) or rows (axis 1), and keep three channels.
function resampled({ data, shape }, axis, pixels) {
  const [height, width] = axis ? [shape[0], pixels.length] : [pixels.length, shape[1]];
  const values = new Uint8Array(height * width * 3), step = axis ? shape[2] : shape[1] * shape[2];
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const { first, weights } = pixels[axis ? x : y], offset = shape[2] * (axis ? y * shape[1] + first : first * shape[1] + x);
      for (let channel = 0; channel < 3; channel++) values[at++] = weighted(data, offset + channel, step, weights);
    }
  return { data: values, shape: [height, width, 3] };
}

// Resize the shorter side, and crop the square in the center: RGBA pixels of any size to RGB pixels of the square.
function cropOf({ data, width, height }, { image_size: size, resize, interpolation }) {
  const lengths = [height, width], resized = lengths.map((length) => Math.trunc((resize * length) / Math.min(width, height)));
  const pixels = lengths.map((length, axis) =>
    weightsOf(length, resized[axis], halved(resized[axis] - size), size, interpolation));
  const columnsFirst = height > resized[0] && height - resized[0] > 2 * (width - resized[1]); // in Pillow 13
  const order = columnsFirst ? [0, 1] : [1, 0];
  return order.reduce((image, axis) => resampled(image, axis, pixels[axis]), { data, shape: [height, width, 4] }).data;
}
