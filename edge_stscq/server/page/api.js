// Requests to this server with the operator's token, and decoded faces as object URLs.

// Where the page is, which is wherever a proxy shows it: every address is relative to it.
export const base = new URL(".", location.href);
base.hash = base.search = "";

const KEY = "edge-stscq-token";
const AT_ONCE = 6;

export class Refused extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
};

// A token in the fragment, which no browser sends, is taken over and out of the address and the history.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  token.set(given);
  history.replaceState(null, "", base);
}

const answered = new EventTarget();
export const onRefusedToken = (act) => answered.addEventListener("401", act);

// The answer to a request; Refused with the server's own words if it is not 2xx.
export async function ask(path, options = {}) {
  const sent = token.get();
  const headers = sent ? { Authorization: `Bearer ${sent}` } : {};
  const answer = await fetch(new URL(path, base), { ...options, headers });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: answer.statusText }));
  if (answer.status === 401 && sent === token.get()) answered.dispatchEvent(new Event("401"));
  throw new Refused(answer.status, error, Number(answer.headers.get("Retry-After")) || 1);
}

export const askJson = async (path, options) => (await ask(path, options)).json();

// Pictures are fetched when their place comes into view, a few at a time, the last asked for first, and given back when
// it goes.
const wanted = new Map();
const waiting = new Set();
let running = 0;

const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!wanted.has(target)) continue;
    wanted.get(target).visible = isIntersecting;
    if (isIntersecting) queue(target);
  }
}, { rootMargin: "200px" });

export function show(image, id, layers) {
  const place = wanted.get(image) ?? { visible: false, shown: "", url: "" };
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
  if (place?.url) URL.revokeObjectURL(place.url);
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
    const answer = await ask(`v1/faces/${encodeURIComponent(id)}.png?layers=${layers}`);
    const url = URL.createObjectURL(await answer.blob());
    if (wanted.get(image) !== place) return URL.revokeObjectURL(url);
    if (place.url) URL.revokeObjectURL(place.url);
    place.url = image.src = url;
    place.shown = `${id}/${layers}`;
    sign.textContent = "";
    image.classList.add("there");
    image.classList.toggle("sharper", shown.startsWith(`${id}/`) && Number(shown.split("/").at(-1)) < layers);
    image.dataset.layers = layers;
    if (place.layers !== layers) queue(image);
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

export const retryPictures = () => wanted.forEach((place, image) => place.visible && queue(image));
