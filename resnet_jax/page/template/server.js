// The server classifies.
async function ask(image, model) {
  const token = element("token"), body = new FormData();
  body.append("image", image);
  const headers = token ? { Authorization: `Bearer ${token.value}` } : {};
  const start = performance.now();
  const response = await fetch(`predict?${new URLSearchParams({ model, explain: true })}`, { method: "POST", body, headers });
  const answer = await response.json(), result = answer.results?.[0] ?? answer;
  const milliseconds = performance.now() - start;
  if (result.error) throw new Error(result.error);
  const [seen, overlay] = [result.image, result.overlay].map((png) => `data:image/png;base64,${png}`);
  return { predictions: result.predictions, image: seen, overlay, latency: `Answered in ${milliseconds.toFixed(0)} ms.` };
}
