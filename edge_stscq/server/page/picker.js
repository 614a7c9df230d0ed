// A field in which a person is looked up by name: a picture, the name and the last visit of each who was found.

import { askJson } from "./api.js";
import { forget, show } from "./pictures.js";
import { ago } from "./times.js";

const PAUSE = 200;
const MOST = 8;

export class Picker {
  // `box` holds an input, a status and a list; onPick(person) when one is chosen, who is never `besides()`.
  constructor(box, onPick, besides = () => null) {
    Object.assign(this, { box, onPick, besides, asked: 0 });
    this.input = box.querySelector("input");
    this.list = box.querySelector("ul");
    this.status = box.querySelector("[role=status]");
    this.input.oninput = () => this.askSoon(PAUSE);
    this.input.onfocus = () => this.askSoon(0);
    box.addEventListener("focusout", ({ relatedTarget }) => box.contains(relatedTarget) || this.close());
    box.addEventListener("keydown", (event) => this.move(event));
  }

  askSoon(wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.find(), wait);
  }

  async find() {
    const turn = (this.asked += 1);
    const text = this.input.value.trim();
    const query = new URLSearchParams({ named: true, hidden: true, limit: MOST + 1 });
    if (text) query.set("q", text);
    let said;
    let found = [];
    try {
      ({ persons: found } = await askJson(`v1/persons?${query}`));
      found = found.filter(({ id }) => id !== this.besides()).slice(0, MOST);
      said = found.length ? "" : text ? `Nobody is called “${text}”.` : "Nobody has a name yet.";
    } catch (error) {
      said = error.message;
    }
    if (turn !== this.asked || !this.box.contains(document.activeElement)) return;
    // Who is about to click on a row does not lose it.
    const drawn = found.map(({ id, revision }) => `${id}/${revision}`).join();
    if (drawn !== this.drawn) {
      this.clear();
      this.list.append(...found.map((person) => this.row(person)));
      this.drawn = drawn;
    }
    this.status.textContent = said || `${found.length} found; the arrow keys lead to them`;
    this.status.classList.toggle("unseen", !said);
    this.box.classList.add("unfolded");
  }

  row(person) {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const picture = Object.assign(document.createElement("span"), { className: "picture" });
    const text = document.createElement("span");
    const name = Object.assign(document.createElement("b"), { textContent: person.name });
    const last = person.last ? `${person.visits === 1 ? "1 visit" : `${person.visits} visits`}, ${
      ago(Date.now() - Date.parse(person.last))}` : "no visit";
    const facts = Object.assign(document.createElement("small"), { textContent: person.hidden ? `hidden, ${last}` : last });
    text.append(name, facts);
    picture.append(Object.assign(document.createElement("img"), { alt: "" }), document.createElement("span"));
    button.append(picture, text);
    button.onclick = () => {
      this.input.value = "";
      this.close();
      this.onPick(person);
    };
    item.append(button);
    if (person.feature) show(picture.firstChild, person.feature, 1);
    return item;
  }

  move(event) {
    const stops = [this.input, ...this.list.querySelectorAll("button")];
    const here = stops.indexOf(document.activeElement);
    const next = stops[here + { ArrowDown: 1, ArrowUp: -1 }[event.key]];
    if (event.key === "Enter" && here === 0) {
      event.preventDefault();
      if (stops.length === 2) stops[1].click();
      else stops[1]?.focus();
    }
    if (event.key === "Escape" && this.box.classList.contains("unfolded")) {
      event.preventDefault();
      event.stopPropagation();
      this.input.focus();
      this.close();
    }
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  clear() {
    this.list.querySelectorAll("img").forEach((image) => forget(image));
    this.list.replaceChildren();
    this.drawn = "";
    this.status.textContent = "";
  }

  close() {
    clearTimeout(this.timer);
    this.asked += 1;
    this.box.classList.remove("unfolded");
    this.clear();
  }
}
