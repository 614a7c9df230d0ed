// Decoded faces as object URLs: fetched when their place comes into view, a few at a time, the last asked for first; those
// out of view longest are given back when there are many.

import { ask } from "./api.js";

const AT_ONCE = 6;
const KEPT = 200;
const SIDE = 256;

// By image: which face it shows from how many layers, and what it has of it.
const wanted = new Map();
const waiting = new Set();
const unseen = new Set();
let running = 0;

const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const place = wanted.get(target);
    if (!place) continue;
    place.visible = isIntersecting;
    unseen.delete(target);
    if (isIntersecting) queue(target);
    else if (place.url) unseen.add(target);
  }
  while (unseen.size > KEPT) release(unseen.values().next().value);
}, { rootMargin: "200px" });

// Show a face, decoded from its first `layers` layers, in an image; the element behind the image is a sign for trouble.
export function show(image, id, layers) {
  const place = wanted.get(image) ?? { visible: false, shown: "", url: "" };
  if (place.id !== undefined && place.id !== id) image.classList.remove("there");
  place.id = id;
  place.layers = layers;
  if (!wanted.has(image)) inView.observe(image);
  wanted.set(image, place);
  if (place.visible) queue(image);
}

export function forget(image) {
  const place = wanted.get(image);
  inView.unobserve(image);
  wanted.delete(image);
  waiting.delete(image);
  unseen.delete(image);
  if (place?.url) URL.revokeObjectURL(place.url);
}

function release(image) {
  const place = wanted.get(image);
  URL.revokeObjectURL(place.url);
  unseen.delete(image);
  place.url = place.shown = "";
  image.classList.remove("there", "sharper");
  image.removeAttribute("src");
}

function queue(image) {
  waiting.delete(image);
  waiting.add(image);
  while (running < AT_ONCE && waiting.size) {
    const next = [...waiting].at(-1);
    waiting.delete(next);
    const place = wanted.get(next);
    if (!place.visible || place.shown === `${place.id}/${place.layers}`) continue;
    running += 1;
    load(next, place).finally(() => {
      running -= 1;
      const more = [...waiting].at(-1);
      if (more) queue(more);
    });
  }
}

async function load(image, place) {
  const { id, layers, shown } = place;
  const sign = image.nextElementSibling;
  try {
    const url = URL.createObjectURL(await pictureOf(id, layers));
    if (wanted.get(image) !== place) return URL.revokeObjectURL(url);
    if (place.url) URL.revokeObjectURL(place.url);
    place.url = image.src = url;
    place.shown = `${id}/${layers}`;
    sign.textContent = "";
    image.classList.add("there");
    image.classList.toggle("sharper", shown.startsWith(`${id}/`) && Number(shown.split("/").at(-1)) < layers);
    image.dataset.layers = layers;
    if (place.id !== id || place.layers !== layers) queue(image);
  } catch (error) {
    if (wanted.get(image) !== place) return;
    if (error.status === 503 || error.status === 429 || !error.status) {
      setTimeout(() => wanted.get(image) === place && queue(image), (error.after ?? 3) * 1000 * (1 + Math.random()));
    } else if (error.status !== 401) {
      sign.textContent = error.status === 409 ? "of another model" : "cannot be shown";
      sign.title = error.message;
    }
  }
}

// The part of a picture file around a face, whose box the server has found in the upright picture.
export async function cutOut(file, [left, top, width, height]) {
  const side = 1.7 * Math.max(width, height);
  const picture = await createImageBitmap(file);
  const canvas = Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const [x, y] = [left + (width - side) / 2, top + (height - side) / 2];
  canvas.getContext("2d").drawImage(picture, x, y, side, side, 0, 0, SIDE, SIDE);
  return new Promise((done) => canvas.toBlob(done));
}

// A decoded face as a PNG file; a busy decoder is asked again `tries` times.
export async function pictureOf(id, layers, tries = 0) {
  try {
    return await (await ask(`v1/faces/${encodeURIComponent(id)}.png?layers=${layers}`)).blob();
  } catch (error) {
    if (!tries || error.status !== 503) throw error;
    await new Promise((next) => setTimeout(next, 1000 * error.after));
    return pictureOf(id, layers, tries - 1);
  }
}

export const retryPictures = () => wanted.forEach((place, image) => place.visible && queue(image));
