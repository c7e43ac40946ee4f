// What is shown of an image: the classes, where the first one is seen, and how long it took.
const element = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const tell = (text) => (element("status").textContent = text);
let current; // the image that is shown
let heat = 100; // strength of the heat maps, percent
let started = 0; // classifications so far: the answer of an earlier one is not shown

function barOf({ class: name, probability }) {
  const row = document.createElement("tr"), bar = document.createElement("div");
  row.insertCell().append(name, bar);
  row.insertCell().append(percent(probability));
  bar.className = "bar";
  bar.style.inlineSize = percent(probability);
  return row;
}

function sectionOf(model, { predictions, image, overlay, latency }) {
  const section = element("result").content.cloneNode(true).firstElementChild, find = (query) => section.querySelector(query);
  section.ariaLabel = find("h2").textContent = model;
  find("tbody").replaceChildren(...predictions.map(barOf));
  find(".image").src = image;
  find(".overlay").hidden = find(".heat").hidden = !overlay;
  if (overlay) find(".overlay").src = overlay;
  find(".latency").textContent = latency;
  return section;
}

// Show the heat maps of all models in the same strength.
function setHeat(strength) {
  element("results").style.setProperty("--heat", strength / 100);
  for (const slider of document.querySelectorAll(".heat input")) slider.value = strength;
  heat = strength;
}

async function classify(image) {
  if (!image) return;
  current = image;
  const round = ++started, models = new Set([element("model").value, element("other")?.value || element("model").value]);
  const told = [];
  tell("Classifying …");
  element("results").replaceChildren();
  for (const model of models) { // one after the other: together they would only wait for each other
    let result;
    try {
      result = await ask(image, model);
    } catch (error) {
      if (round === started) tell(`${image.name} is not classified: ${error.message}`);
      return;
    }
    if (round !== started) return;
    element("results").append(sectionOf(model, result));
    setHeat(heat);
    const [first] = result.predictions;
    told.push(`${models.size > 1 ? `${model}: ` : ""}${first.class}, ${percent(first.probability)}`);
  }
  tell(`${image.name}: ${told.join("; ")}`);
}

element("results").addEventListener("input", ({ target }) => setHeat(target.value));
for (const id of ["model", "other", "token"]) element(id)?.addEventListener("change", () => classify(current));
