// Where images come from: a file, a drop, the clipboard, an example, the camera.
const files = element("image"), viewfinder = element("viewfinder"), [video] = viewfinder.getElementsByTagName("video");

function classifyFile(list) {
  if (list.length) classify(list[0]);
  else tell("That is not a file: save the image first, and choose the file.");
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  classify(current);
});
files.addEventListener("change", () => files.files.length && classify(files.files[0]));
document.addEventListener("paste", ({ clipboardData, target }) => {
  if (clipboardData.files.length || !target.matches("input")) classifyFile(clipboardData.files);
});

const dragging = (is) => document.body.classList.toggle("dragging", is);
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // otherwise the browser opens the file
  dragging(true);
});
document.addEventListener("dragleave", (event) => event.relatedTarget || dragging(false));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragging(false);
  classifyFile(event.dataTransfer.files);
});

for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", async () => {
    const { src, alt: name } = example.firstElementChild;
    classify(new File([await (await fetch(src)).blob()], name));
  });
}

element("camera").hidden = !navigator.mediaDevices; // browsers have it on HTTPS and on this machine's own address
element("camera").addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    viewfinder.showModal();
  } catch (error) {
    tell(`The camera can't be used: ${error.message}`);
  }
});
element("shoot").addEventListener("click", () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => classify(new File([blob], "camera.png")));
  viewfinder.close();
});
element("close").addEventListener("click", () => viewfinder.close());
viewfinder.addEventListener("close", () => {
  for (const track of video.srcObject.getTracks()) track.stop();
});
