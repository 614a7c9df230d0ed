// A list of cards, under headings of their days or as they were given; walked through with the arrow keys.

import { titleOf } from "./entries.js";
import { forget, show } from "./pictures.js";
import { ago, clockOf, dayOf, dayTitle, fullTime } from "./times.js";

const template = document.getElementById("card");
const WATCH = {
  known: "on the watch list", perhaps: "perhaps on the watch list", unknown: "not on the watch list",
};
const VERDICTS = { "same person": "same person", perhaps: "perhaps", "nobody here": "a stranger" };

export class List {
  // onOpen(entry) and onDelete(entry) when an operator asks for it; `byDay`: newest first, under the days.
  constructor(place, { byDay = true, label, onOpen, onDelete = () => {} }) {
    Object.assign(this, { place, byDay, label, onOpen, onDelete, cards: new Map(), order: [], days: new Map() });
    place.addEventListener("keydown", (event) => this.move(event));
    place.addEventListener("focusin", ({ target }) => target.matches(".open") && this.stopAt(target));
  }

  get size() {
    return this.order.length;
  }

  entry = (key) => this.cards.get(key)?.entry;

  // The entry before (-1) or behind (1) another.
  beside = (key, step) => this.entry(this.order[this.order.indexOf(key) + step]);

  focus = (key) => this.cards.get(key)?.open.focus();

  // Bring the list up to date with the server's newest entries; those that it did not name among them are gone. The new
  // ones, which are left out unless `fresh`.
  merge(entries, isAll, fresh = true) {
    const named = new Set(entries.map(({ key }) => key));
    const last = entries.at(-1);
    const kept = [];
    for (const key of [...this.order]) {
      if (named.has(key)) continue;
      if (isAll || this.entry(key).at > last.at) this.drop(key);
      else kept.push(key);
    }
    const added = entries.filter(({ key }) => !this.cards.has(key));
    const shown = fresh ? entries : entries.filter(({ key }) => this.cards.has(key));
    const lively = this.size > 0 && added.length < 12;
    shown.forEach((entry) => this.put(entry, lively));
    this.order = [...shown.map(({ key }) => key), ...kept];
    this.arrange();
    return added;
  }

  append(entries) {
    const added = entries.filter(({ key }) => !this.cards.has(key));
    added.forEach((entry) => this.put(entry, false));
    this.order.push(...added.map(({ key }) => key));
    this.arrange();
  }

  put(entry, lively) {
    const known = this.cards.get(entry.key);
    const card = known ?? this.make(entry.key, lively);
    card.entry = entry;
    this.cards.set(entry.key, card);
    this.fill(card);
  }

  make(key, lively) {
    const item = template.content.firstElementChild.cloneNode(true);
    const card = { item, image: item.querySelector("img"), open: item.querySelector(".open") };
    item.dataset.key = key;
    item.classList.toggle("new", lively);
    card.open.onclick = () => this.onOpen(card.entry);
    return card;
  }

  fill({ item, image, entry }) {
    const part = (name) => item.querySelector(`.${name}`);
    part("who").textContent = titleOf(entry);
    part("who").classList.toggle("unnamed", entry.person !== null && entry.name === null);
    part("where").textContent = entry.person === null ? "" : entry.device;
    part("time").dateTime = new Date(entry.at).toISOString();
    part("time").title = fullTime(entry.at);
    this.tell(item, entry);
    const marks = [
      entry.count > 1 && `${entry.count} pictures`, entry.hidden && "hidden", WATCH[entry.watch],
    ];
    part("marks").textContent = marks.filter(Boolean).join(" · ");
    part("verdict").hidden = entry.score === undefined;
    if (entry.score !== undefined) {
      part("verdict").textContent = VERDICTS[entry.verdict] ?? `likeness ${entry.score.toFixed(2)}`;
      part("verdict").dataset.verdict = entry.verdict ?? "";
    }
    show(image, entry.face, entry.layers);
  }

  // Say when it was: today, and where the day is the heading above, the clock is enough.
  tell(item, { at }) {
    const passed = Date.now() - at;
    const day = this.byDay || dayOf(at) === dayOf(Date.now()) ? "" : `${dayTitle(dayOf(at))}, `;
    const text = passed < 86400000 ? `${ago(passed)} · ${day}${clockOf(at)}` : `${day}${clockOf(at)}`;
    const time = item.querySelector(".time");
    if (time.textContent !== text) time.textContent = text;
  }

  // Times go by.
  tick() {
    this.cards.forEach(({ item, entry }) => this.tell(item, entry));
    this.days.forEach(({ title }, day) => (title.textContent = dayTitle(day)));
  }

  // Put the cards where they belong; who stands there already is not touched, and keeps the focus.
  arrange() {
    const filled = new Map();
    for (const key of this.order) {
      const { entry, item } = this.cards.get(key);
      const list = this.listOf(this.byDay ? dayOf(entry.at) : "");
      const place = filled.get(list) ?? 0;
      if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
      filled.set(list, place + 1);
    }
    this.days.forEach(({ section, list }, day) => {
      if (filled.has(list)) return;
      section.remove();
      this.days.delete(day);
    });
    if (!this.place.querySelector('.open[tabindex="0"]')) this.stopAt(this.place.querySelector(".open"));
  }

  listOf(day) {
    if (this.days.has(day)) return this.days.get(day).list;
    const section = document.createElement("section");
    const title = document.createElement("h3");
    const list = Object.assign(document.createElement("ul"), { className: "cards" });
    title.textContent = this.byDay ? dayTitle(day) : "";
    list.ariaLabel = this.byDay ? `${this.label}, ${dayTitle(day)}` : this.label;
    section.append(...(this.byDay ? [title] : []), list);
    const earlier = [...this.days.keys()].sort().reverse().find((other) => other < day);
    this.place.insertBefore(section, earlier === undefined ? null : this.days.get(earlier).section);
    this.days.set(day, { section, title, list });
    return list;
  }

  drop(key) {
    const card = this.cards.get(key);
    if (!card) return;
    const next = this.beside(key, 1) ?? this.beside(key, -1);
    const held = card.item.contains(document.activeElement);
    forget(card.image);
    card.item.remove();
    this.cards.delete(key);
    this.order = this.order.filter((other) => other !== key);
    if (held && next) this.focus(next.key);
    this.arrange();
  }

  clear() {
    this.cards.forEach(({ image }) => forget(image));
    this.cards.clear();
    this.days.clear();
    this.order = [];
    this.place.replaceChildren();
  }

  // The list is one stop of the Tab key; arrows lead on from there, and Delete deletes.
  stopAt(open) {
    this.place.querySelectorAll('.open[tabindex="0"]').forEach((other) => (other.tabIndex = -1));
    if (open) open.tabIndex = 0;
  }

  move(event) {
    const key = event.target.closest(".card")?.dataset.key;
    if (!key) return;
    if (event.key === "Delete") this.onDelete(this.entry(key));
    const here = this.order.indexOf(key);
    const steps = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: this.size - 1 };
    const rows = { ArrowUp: -1, ArrowDown: 1 };
    const next = this.order[steps[event.key] ?? (rows[event.key] ? this.above(here, rows[event.key]) : -1)];
    if (!next) return;
    event.preventDefault();
    this.focus(next);
    this.cards.get(next).item.scrollIntoView({ block: "nearest" });
  }

  // The nearest card of the row above (-1) or below (1).
  above(here, step) {
    const box = (number) => this.cards.get(this.order[number]).item.getBoundingClientRect();
    const { top, left } = box(here);
    let next = here;
    while (next in this.order && box(next).top === top) next += step;
    if (!(next in this.order)) return -1;
    const row = box(next).top;
    let best = next;
    for (; next in this.order && box(next).top === row; next += step) {
      if (Math.abs(box(next).left - left) < Math.abs(box(best).left - left)) best = next;
    }
    return best;
  }
}
