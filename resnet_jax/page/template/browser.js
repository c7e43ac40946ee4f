// The browser classifies, with the model beside this page.
import * as ort from "./{{ runtime }}";
{% include "resize.js" %}
{% include "picture.js" %}
const loading = load();
tell("Loading the network …");
loading.then(() => current || tell("Ready."), (error) => tell(`The network can't be loaded: ${error.message}`));

async function load() {
  const description = await (await fetch("model.json")).json(), { shape } = description.images;
  const dry = new ort.Tensor("uint8", new Uint8Array(shape.reduce((product, length) => product * length)), shape);
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  for (const provider of adapter ? ["webgpu", "wasm"] : ["wasm"]) {
    try {
      const session = await ort.InferenceSession.create("model.onnx", { executionProviders: [provider] });
      await session.run({ images: dry }); // the first one compiles
      return { description, session, provider };
    } catch (error) {
      if (provider === "wasm") throw error;
      console.info(`WebGPU can't run this network: ${error.message}`);
    }
  }
}

// Decode an image, upright, to RGBA.
async function pixelsOf(image) {
  const bitmap = await createImageBitmap(image, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const canvas = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

function best(logits, names, count) {
  const highest = Math.max(...logits), powers = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  const guesses = powers.map((power, index) => ({ class: names[index], index, probability: power / sum }));
  return guesses.sort((one, other) => other.probability - one.probability).slice(0, count);
}

async function ask(image) {
  const { description, session, provider } = await loading, start = performance.now();
  const square = cropOf(await pixelsOf(image), description.preprocessing), prepared = performance.now();
  const { logits, heat } = await session.run({ images: new ort.Tensor("uint8", square, description.images.shape) });
  const end = performance.now(), [all, network] = [end - start, end - prepared].map((time) => time.toFixed(0));
  const size = description.preprocessing.image_size, where = { webgpu: "WebGPU", wasm: "WebAssembly" }[provider];
  return {
    predictions: best(logits.data, description.class_names, 5),
    image: pictureOf(size, size, (index) => [...square.subarray(3 * index, 3 * index + 3), 255]),
    overlay: heat && overlayOf(heat.data, ...heat.dims.slice(1), size),
    latency: `Classified in ${all} ms, of which ${network} ms in the network (${where}).`,
  };
}
