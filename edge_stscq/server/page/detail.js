// One visit or face, enlarged: its picture layer by layer, the other pictures of the visit, who it is, and what can be
// done about it.

import { askJson } from "./api.js";
import { ofFace, ofVisit, titleOf } from "./entries.js";
import { deleteFaces } from "./edits.js";
import { added, namesOf } from "./layers.js";
import { complain, hideNotice, say } from "./notices.js";
import { PersonPanel } from "./person.js";
import { forget, pictureOf, show } from "./pictures.js";
import { ago, clockOf, dayOf, dayTitle, fullTime } from "./times.js";

const TRIES = 10;
const at = (id) => document.getElementById(id);

export class Detail {
  // onFind(entry): find this face again; onPerson(person): list all visits of a person; onChange(): something was edited
  // or deleted.
  constructor({ onFind, onPerson, onChange }) {
    this.dialog = at("detail");
    this.onChange = onChange;
    this.person = new PersonPanel({
      onPerson: (person) => this.leave(() => onPerson(person)),
      onChange: () => this.changed(),
      onForgotten: () => this.dropped(),
    });
    at("detail-close").onclick = () => this.dialog.close();
    at("newer").onclick = () => this.step(-1);
    at("older").onclick = () => this.step(1);
    at("again").onclick = () => this.leave(() => onFind(this.shown()));
    at("download").onclick = () => this.download();
    at("delete").onclick = () => this.deleteAll();
    at("delete-picture").onclick = () => this.deleteFace();
    this.dialog.addEventListener("close", () => this.closed());
  }

  // Show an entry of a list, in which Newer and Older lead on; `more()` reads older ones into it.
  open(entry, list, more = async () => false) {
    Object.assign(this, { list, more });
    hideNotice();
    this.draw(entry);
    if (!this.dialog.open) this.dialog.showModal();
    this.dialog.scrollTop = 0;
    at("detail-who").focus();
  }

  draw(entry) {
    const isOther = entry.key !== this.entry?.key;
    this.entry = entry;
    if (isOther) this.members = [];
    at("detail-who").textContent = titleOf(entry);
    at("detail-where").textContent = entry.person === null ? "" : entry.device;
    const long = entry.until - entry.at >= 60000 ? `–${clockOf(entry.until)}` : "";
    at("detail-when").textContent = `${dayTitle(dayOf(entry.at))}, ${clockOf(entry.at)}${long} · ${ago(Date.now() - entry.at)}`;
    at("delete").textContent = entry.visit === null ? "Delete…" : "Delete this visit…";
    this.drawSteps();
    this.choose(this.members.find(({ face }) => face === this.face?.face) ?? entry);
    this.person.show(entry, isOther);
    if (entry.visit !== null) this.readMembers(entry);
    else this.drawMembers();
  }

  drawSteps() {
    at("newer").textContent = this.list.byDay ? "Newer" : "Previous";
    at("older").textContent = this.list.byDay ? "Older" : "Next";
    at("newer").disabled = !this.list.beside(this.entry.key, -1);
    at("older").disabled = !this.list.beside(this.entry.key, 1) && !this.list.isOpenEnded;
  }

  async readMembers(entry) {
    try {
      const { members, ...visit } = await askJson(`v1/visits/${entry.visit}`);
      if (entry.key !== this.entry?.key) return;
      this.members = members.map(ofFace);
      this.entry = { ...entry, ...ofVisit(visit), face: entry.face, layers: entry.layers };
      const chosen = this.members.find(({ face }) => face === this.face.face) ?? this.members[0];
      at("detail-who").textContent = titleOf(this.entry);
      this.choose(chosen);
      this.drawMembers();
      this.person.show(this.entry, false);
    } catch (error) {
      if (entry.key !== this.entry?.key || error.status === 401) return;
      if (error.status === 404) this.gone();
      else complain(error);
    }
  }

  // Show a picture of the visit.
  choose(face) {
    this.face = face;
    const { layers, model_id } = face;
    const names = added(namesOf({ layers, model_id }));
    at("detail-image").alt = `The face of ${titleOf(this.entry)}, from ${layers === 1 ? "one layer" : `${layers} layers`}`;
    show(at("detail-image"), face.face, layers);
    const list = at("detail-layers");
    list.querySelectorAll("img").forEach((image) => forget(image));
    list.replaceChildren(...names.map((name, number) => this.layer(face, name, number + 1)));
    for (const button of at("members-list").querySelectorAll("button")) {
      button.ariaPressed = String(button.dataset.face === face.face);
    }
    this.drawFacts();
  }

  layer(face, name, layers) {
    const item = document.createElement("li");
    const picture = Object.assign(document.createElement("div"), { className: "picture" });
    const image = Object.assign(document.createElement("img"), { alt: `Decoded from ${layers === 1 ? "one layer" : `${layers} layers`}` });
    const sign = Object.assign(document.createElement("span"), { className: "sign" });
    picture.append(image, sign);
    item.append(picture, Object.assign(document.createElement("p"), { textContent: name }));
    if (layers <= face.layers) show(image, face.face, layers);
    else Object.assign(image, { alt: "" }) && (sign.textContent = "has not come");
    return item;
  }

  drawMembers() {
    const list = at("members-list");
    list.querySelectorAll("img").forEach((image) => forget(image));
    at("members").hidden = at("delete-picture").hidden = this.members.length < 2;
    at("members-title").textContent = `${this.members.length} pictures of this visit`;
    list.replaceChildren(...(this.members.length < 2 ? [] : this.members.map((face, number) => {
      const item = document.createElement("li");
      const button = Object.assign(document.createElement("button"), { type: "button", onclick: () => this.choose(face) });
      const image = Object.assign(document.createElement("img"), { alt: `Picture ${number + 1}, ${clockOf(face.at)}` });
      button.className = "picture";
      button.dataset.face = face.face;
      button.ariaPressed = String(face.face === this.face.face);
      button.append(image, Object.assign(document.createElement("span"), { className: "sign" }));
      item.append(button);
      show(image, face.face, face.layers);
      return item;
    })));
  }

  drawFacts() {
    const { face, captured, received, clock, bytes, quality, layers, model_id, device } = this.face;
    const facts = {
      Camera: device, Captured: captured && fullTime(captured), Received: received && fullTime(received),
      "Camera's clock": clock && clock !== "synchronized" && (clock === "none" ? "it has none" : "not set by the network"),
      Layers: namesOf({ layers, model_id }).slice(0, layers).join(", "), Size: bytes && `${bytes} bytes`,
      Quality: quality !== null && quality !== undefined && `${quality} of 100`, Name: face, Model: model_id,
    };
    at("facts-list").replaceChildren(...Object.entries(facts).filter(([, value]) => value).flatMap(([name, value]) => [
      Object.assign(document.createElement("dt"), { textContent: name }),
      Object.assign(document.createElement("dd"), { textContent: value }),
    ]));
  }

  // The picture that is shown, as an entry to be found again.
  shown = () => ({ ...this.entry, face: this.face.face, layers: this.face.layers });

  async step(by) {
    const { key } = this.entry;
    const list = this.list;
    let next = list.beside(key, by);
    if (!next && by > 0 && (await this.more())) next = list.beside(key, by);
    if (!next || key !== this.entry?.key) return;
    this.open(next, list, this.more);
  }

  // The list was read again; what is shown may have changed with it.
  listed() {
    if (!this.entry) return;
    const entry = this.list.entry(this.entry.key);
    if (entry && entry.revision !== this.entry.revision) this.draw({ ...entry, face: this.entry.face, layers: this.entry.layers });
    else this.drawSteps();
  }

  changed() {
    if (this.entry) this.readMembers(this.entry);
    this.onChange();
  }

  async download() {
    const { face, layers, device, at: time } = this.face;
    try {
      const url = URL.createObjectURL(await pictureOf(face, layers, TRIES));
      const clock = new Date(time).toTimeString().slice(0, 8).replaceAll(":", "-");
      Object.assign(document.createElement("a"), { href: url, download: `${device}-${dayOf(time)}-${clock}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
      say("Downloaded the picture.");
    } catch (error) {
      complain(error);
    }
  }

  async deleteAll() {
    const { entry } = this;
    if (entry.visit !== null && !this.members.length) await this.readMembers(entry);
    if (entry.key !== this.entry?.key) return;
    const faces = this.members.length ? this.members.map(({ face }) => face) : [entry.face];
    const title = entry.visit === null ? `Delete this face from ${entry.device}?` : `Delete this visit of ${titleOf(entry)}?`;
    if (await deleteFaces(faces, title)) this.dropped();
  }

  // What is shown was deleted: go back to the list, to what stands beside it.
  dropped() {
    const { entry, list } = this;
    this.after = list.beside(entry.key, 1) ?? list.beside(entry.key, -1);
    list.drop(entry.key);
    this.dialog.close();
    this.onChange();
  }

  async deleteFace() {
    if (await deleteFaces([this.face.face], "Delete this picture?")) this.changed();
  }

  // Somebody else deleted what is shown.
  gone() {
    this.dropped();
    say("This visit is gone: its pictures were erased.");
  }

  // Close, and go on somewhere else in the page.
  leave(act) {
    this.left = true;
    this.dialog.close();
    act();
  }

  closed() {
    const { entry, list, after, left } = this;
    this.person.close();
    for (const image of this.dialog.querySelectorAll("#detail-layers img, #members-list img")) forget(image);
    at("detail-layers").replaceChildren();
    at("members-list").replaceChildren();
    this.entry = this.after = this.face = null;
    this.left = false;
    const { parentElement, hidden } = at("notice");
    if (parentElement === this.dialog) document.body.append(at("notice"));
    at("notice").hidden = hidden;
    if (!left) list.focus((after ?? entry)?.key);
  }
}
