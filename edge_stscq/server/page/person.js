// The person of the visit that is enlarged: named, seen how often, the same as somebody else or not.

import { askJson } from "./api.js";
import { edit, forgetPerson } from "./edits.js";
import { complain } from "./notices.js";
import { Picker } from "./picker.js";
import { forget, show } from "./pictures.js";
import { dateOf } from "./times.js";

const PERHAPS = 4;
const at = (id) => document.getElementById(id);
const called = ({ id, name }) => name ?? `Person ${id}`;

export class PersonPanel {
  // onPerson(person): list all visits; onChange(): something was edited; onForgotten(): the person is gone.
  constructor({ onPerson, onChange, onForgotten }) {
    Object.assign(this, { onChange, entry: null, person: null });
    at("name-form").onsubmit = (event) => {
      event.preventDefault();
      this.rename(at("name").value.trim());
    };
    at("who-all").onclick = () => onPerson(this.person);
    at("split").onclick = () => this.edit("split", { visits: [this.entry.visit] }, (left) => `This visit is of ${called(left)} now.`);
    at("feature").onclick = () => this.edit("feature", { face: this.face() }, (left) => `${called(left)} is shown by this picture.`);
    at("hide").onclick = () => this.edit("hide", { hidden: !this.person.hidden }, (left) =>
      left.hidden ? `${called(left)} is hidden from the list.` : `${called(left)} is in the list again.`);
    at("forget").onclick = async () => {
      if (await forgetPerson(this.person, called(this.person))) onForgotten();
    };
    this.picker = new Picker(at("merge-box"), (other) => this.join(other), () => this.person?.id);
    this.face = () => document.querySelector('#members-list [aria-pressed="true"]')?.dataset.face ?? this.entry.face;
  }

  // Show who an entry is of; the name is left as it is while it is being typed.
  async show(entry, isOther) {
    this.entry = entry;
    if (isOther) {
      this.forgetPerhaps();
      this.person = null;
      at("who-all").hidden = at("who-more").hidden = true;
    }
    at("who").hidden = entry.person === null;
    if (entry.person === null) return;
    if (isOther) at("who-facts").textContent = "";
    if (isOther || document.activeElement !== at("name")) at("name").value = entry.name ?? "";
    try {
      const person = await askJson(`v1/persons/${entry.person}`);
      if (this.entry?.key !== entry.key || this.entry.person !== person.id) return;
      this.person = person;
      this.draw(person);
      await this.drawPerhaps(person);
    } catch (error) {
      // A token of one camera may see no persons, and a person may just have become another's.
      if (this.entry?.key !== entry.key) return;
      if (error.status === 403) at("who").hidden = true;
      else if (![401, 404].includes(error.status)) complain(error);
    }
  }

  draw(person) {
    at("who-all").hidden = at("who-more").hidden = false;
    at("who-facts").textContent = person.visits > 1
      ? `${person.visits} visits since ${dateOf(person.first)}, at ${person.devices.join(", ")}` : "Seen once.";
    if (document.activeElement !== at("name")) at("name").value = person.name ?? "";
    at("who-all").textContent = `All ${person.visits} visits`;
    at("who-all").hidden = at("split").hidden = person.visits < 2;
    at("hide").textContent = person.hidden ? "Show in the list again" : "Hide from the list";
  }

  // Others who may be the same, each with a picture.
  async drawPerhaps({ id, perhaps }) {
    const others = await Promise.all(perhaps.slice(0, PERHAPS).map(({ person }) => askJson(`v1/persons/${person}`).catch(() => null)));
    if (this.person?.id !== id) return;
    this.forgetPerhaps();
    const found = others.filter((other) => other?.feature);
    at("perhaps").hidden = found.length === 0;
    at("perhaps-list").append(...found.map((other) => {
      const item = document.createElement("li");
      const picture = Object.assign(document.createElement("span"), { className: "picture" });
      const image = Object.assign(document.createElement("img"), { alt: `The face of ${called(other)}` });
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Same person" });
      button.ariaLabel = `Same person: ${called(other)}`;
      button.onclick = () => this.join(other);
      picture.append(image, Object.assign(document.createElement("span"), { className: "sign" }));
      item.append(picture, Object.assign(document.createElement("span"), { textContent: called(other) }), button);
      show(image, other.feature, 1);
      return item;
    }));
  }

  forgetPerhaps() {
    at("perhaps-list").querySelectorAll("img").forEach((image) => forget(image));
    at("perhaps-list").replaceChildren();
    at("perhaps").hidden = true;
  }

  // The entry says of whom it is at once; what else is known of the person may still be on its way.
  edit = (what, body, done) => edit(this.entry.person, what, body, done, this.onChange);

  rename(name) {
    if (name === ((this.person ?? this.entry).name ?? "")) return;
    this.edit("name", { name: name || null }, () => (name ? `This person is ${name} now.` : "The name is removed."));
  }

  // Two are the same person; who has a name keeps it, and its number with it.
  join(other) {
    const [kept, moved] = other.name ? [other, this.person] : [this.person, other];
    edit(kept.id, "merge", { others: [moved.id] }, (left) => `Now one person: ${called(left)}.`, this.onChange);
  }

  close() {
    this.forgetPerhaps();
    this.picker.close();
    this.entry = this.person = null;
  }
}
