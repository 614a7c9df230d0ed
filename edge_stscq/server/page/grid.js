// Cards of faces: newest first, at most MOST of them, moved through with the arrow keys.

import { forget, show } from "./api.js";
import { namesOf } from "./layers.js";

const MOST = 120;
const WORDS = { "same person": "same person", perhaps: "perhaps", "nobody here": "a stranger" };
const template = document.getElementById("card");

export function timeOf(text) {
  const time = new Date(text);
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : `${time.toLocaleDateString()} ${time.toLocaleTimeString()}`;
}

// Milliseconds at which a face was captured; a device whose clock runs ahead does not come first for ever.
function momentOf({ captured, received }) {
  return Math.min(Date.parse(captured ?? received), Date.parse(received));
}

export class Grid {
  // onFind(face) when an operator asks for this person, onErase(face) when it is to go for good.
  constructor(list, onFind, onErase) {
    Object.assign(this, { list, onFind, onErase, cards: new Map(), shown: Infinity });
    list.addEventListener("keydown", (event) => this.move(event));
    list.addEventListener("focusin", ({ target }) => this.stopAt(target));
  }

  get size() {
    return this.cards.size;
  }

  get bytes() {
    return [...this.cards.values()].reduce((sum, { face }) => sum + face.bytes, 0);
  }

  // Put a face first, or bring its card up to date where it is; true if it is new.
  put(face, { last = false, lively = true } = {}) {
    const known = this.cards.get(face.id);
    const card = known ?? this.make(face.id);
    if (known && face.revision < known.face.revision) return false;
    card.face = face;
    this.fill(card);
    if (known) return false;
    this.cards.set(face.id, card);
    card.item.classList.toggle("new", lively);
    this.list.insertBefore(card.item, last ? null : this.firstNotAfter(face));
    if (!this.list.contains(document.activeElement)) this.stopAt(this.list.querySelector(".find"));
    if (this.size > MOST) this.drop(this.list.lastElementChild.dataset.id);
    return true;
  }

  // The card before which a face stands: newest first, by capture.
  firstNotAfter(face) {
    const time = momentOf(face);
    const isOlder = (item) => momentOf(this.cards.get(item.dataset.id).face) <= time;
    return [...this.list.children].find((item) => item.dataset.id !== face.id && isOlder(item)) ?? null;
  }

  make(id) {
    const item = template.content.firstElementChild.cloneNode(true);
    const card = { item, image: item.querySelector("img"), find: item.querySelector(".find") };
    item.dataset.id = id;
    card.find.onclick = () => this.onFind(card.face);
    item.querySelector(".erase").onclick = () => this.onErase(card.face);
    return card;
  }

  fill({ item, image, find, face }) {
    const part = (name) => item.querySelector(`.${name}`);
    const time = item.querySelector("time");
    part("device").textContent = part("device").title = face.device;
    part("bytes").textContent = `${face.bytes} B`;
    time.dateTime = face.captured ?? face.received;
    time.textContent = timeOf(time.dateTime);
    time.title = face.captured ? `captured ${face.captured}, received ${face.received}` : `received ${face.received}`;
    const names = namesOf(face);
    const has = face.layers === names.length ? "all" : names.slice(0, face.layers).join(", ");
    part("layers").ariaLabel = part("layers").title = `layers: ${has}`;
    part("layers").style.setProperty("--count", names.length);
    part("layers").replaceChildren(...names.map((_, number) =>
      Object.assign(document.createElement("i"), { className: number < face.layers ? "has" : "" })));
    image.alt = `Face ${face.id}, decoded from ${Math.min(face.layers, this.shown)} of its ${face.layers} layers`;
    part("erase").ariaLabel = `Erase for good: ${face.id}, ${time.textContent}`;
    find.ariaLabel = `Find this person: ${face.id}, ${time.textContent}`;
    if (face.cosine !== undefined) {
      part("likeness").hidden = false;
      const likeness = face.score ?? face.cosine;
      part("likeness").title = `likeness ${likeness.toFixed(2)}`;
      part("likeness").dataset.verdict = face.verdict ?? "";
      part("likeness").querySelector("b").textContent = WORDS[face.verdict] ?? likeness.toFixed(2);
      part("likeness").querySelector("i").style.width = `${Math.min(1, Math.max(0, likeness)) * 100}%`;
    }
    show(image, face.id, Math.min(face.layers, this.shown));
  }

  // Decode every face from its first `layers` layers.
  showLayers(layers) {
    this.shown = layers;
    this.cards.forEach((card) => this.fill(card));
  }

  drop(id) {
    const card = this.cards.get(id);
    if (!card) return;
    this.cards.delete(id);
    forget(card.image);
    card.item.remove();
    if (card.find.tabIndex === 0 && this.size) this.stopAt(this.list.querySelector(".find"));
  }

  clear() {
    [...this.cards.keys()].forEach((id) => this.drop(id));
  }

  // The grid is one stop of the Tab key; arrows lead on from there, and Delete erases.
  stopAt(find) {
    if (!find.matches(".find")) return;
    this.list.querySelectorAll('.find[tabindex="0"]').forEach((other) => (other.tabIndex = -1));
    find.tabIndex = 0;
  }

  move(event) {
    const items = [...this.list.children];
    const here = items.indexOf(event.target.closest(".card"));
    const columns = items.findIndex((item) => item.offsetTop > items[0].offsetTop);
    const row = columns < 0 ? items.length : columns;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row, Home: -here, End: items.length - 1 - here };
    if (event.key === "Delete" && items[here]) this.onErase(this.cards.get(items[here].dataset.id).face);
    const next = items[here + steps[event.key]];
    if (!next) return;
    event.preventDefault();
    next.querySelector(".find").focus();
    next.scrollIntoView({ block: "nearest" });
  }
}
