// "Find again": who of all that are kept is the same person as the example, who may be, and, folded away, the faces that
// are only the most alike.

import { askJson, sendJson } from "./api.js";
import { found as entriesOf, titleOf } from "./entries.js";
import { List } from "./list.js";
import { added, namesOf } from "./layers.js";
import { complain } from "./notices.js";
import { cutOut, forget, show } from "./pictures.js";

const LIMIT = 24;
const at = (id) => document.getElementById(id);

export class Search {
  // onOpen(entry, list) when one of what was found is to be enlarged; onShown(isShown) when the search comes and goes.
  constructor({ onOpen, onDelete, onShown }) {
    this.section = at("search");
    this.onShown = onShown;
    this.list = new List(at("results"), {
      byDay: false, label: "Found, the most alike first", onOpen: (entry) => onOpen(entry, this.list), onDelete,
    });
    this.others = new List(at("others-list"), {
      byDay: false, label: "Strangers, the most alike first", onOpen: (entry) => onOpen(entry, this.others), onDelete,
    });
    at("search-close").onclick = () => this.close();
    at("picture").onclick = () => at("picture-file").click();
    at("picture-file").onchange = ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (file) this.findInPicture(file);
    };
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]")) this.close();
    });
  }

  begin(title, device) {
    if (this.section.hidden) this.from = document.activeElement;
    this.turn = (this.turn ?? 0) + 1;
    this.device = device;
    this.clear();
    this.section.hidden = false;
    this.onShown(true);
    at("search-title").textContent = title;
    at("search-note").textContent = "searching…";
    at("search-title").focus();
    scrollTo({ top: 0 });
    return this.turn;
  }

  // The largest face of a picture, which the server codes as a camera would and does not keep.
  async findInPicture(file) {
    const turn = this.begin(`Who is in ${file.name}`, null);
    const image = at("example");
    image.alt = `The picture ${file.name}`;
    image.onload = () => URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file);
    image.classList.add("there");
    try {
      const found = await askJson(`v1/match/picture?limit=${LIMIT}`, { method: "POST", body: file });
      const count = found.faces_in_picture;
      if (found.box) this.showExample(turn, file, found.box);
      await this.tell(turn, found, found.faces, count > 1 ? `The largest of ${count} faces in the picture` : "The face in the picture");
    } catch (error) {
      if (turn === this.turn) at("search-note").textContent = error.message;
    }
  }

  // The face that was looked for, as the picture has it.
  async showExample(turn, file, box) {
    const face = await cutOut(file, box).catch(() => null);
    if (face && turn === this.turn) at("example").src = URL.createObjectURL(face);
  }

  async find(entry, device, persons) {
    this.persons = persons;
    const turn = this.begin(entry.person === null ? "Find again" : `Find ${titleOf(entry)} again`, device);
    at("example").alt = `The face that is looked for, of ${titleOf(entry)}`;
    show(at("example"), entry.face, entry.layers);
    try {
      const found = await this.match(entry, entry.layers);
      if (entry.layers > 1) {
        const known = new Set(found.faces.map(({ id }) => id));
        const { faces } = await this.match(entry, 1);
        found.faces.push(...faces.filter(({ id, layers }) => layers === 1 && !known.has(id)));
      }
      const parts = added(namesOf(entry)).slice(0, found.layers);
      await this.tell(turn, found, found.faces.filter(({ id }) => id !== entry.face).slice(0, LIMIT),
        `Compared by ${parts.join(" ")}`, entry.visit);
    } catch (error) {
      if (turn === this.turn) at("search-note").textContent = error.message;
    }
  }

  // The faces most like this one by its first layers; those that have fewer are not compared.
  match(entry, layers) {
    const query = new URLSearchParams({ limit: LIMIT + 1, layers });
    if (this.device) query.set("device", this.device);
    return sendJson(`v1/match?${query}`, { face: entry.face });
  }

  // What was found, said as a verdict with its error; without measured thresholds, by likeness alone.
  async tell(turn, { searched, complete, thresholds }, faces, how, besides = null) {
    const entries = (await entriesOf(this.persons, faces)).filter(({ visit }) => visit === null || visit !== besides);
    if (turn !== this.turn) return;
    const alike = entries.filter(({ verdict }) => verdict !== "nobody here");
    this.found = { searched, thresholds };
    const others = entries.filter(({ verdict }) => verdict === "nobody here");
    this.list.append(alike);
    this.others.append(others);
    at("others").hidden = !others.length;
    at("others-title").textContent = `${others.length === 1 ? "1 stranger" : `${others.length} strangers`}, the most alike first`;
    const much = `${how}, with ${searched === 1 ? "1 face" : `${searched.toLocaleString()} faces`}`;
    at("search-note").textContent = complete ? `${much}.` : `${much}; the index is still being filled.`;
    this.drawVerdict();
  }

  drawVerdict() {
    const { searched, thresholds } = this.found;
    const alike = this.list.order.map((key) => this.list.entry(key));
    if (!thresholds) {
      at("verdict").textContent = alike.length ? "The most alike first" : "Nothing else is kept";
      at("verdict-error").textContent = "This model's false matches were never measured, so there is no verdict.";
      return;
    }
    const same = alike.filter(({ verdict }) => verdict === "same person");
    const [sure, perhaps] = [same.length, alike.length - same.length];
    const many = (count) => `${count} ${this.persons ? "visit" : "face"}${count === 1 ? "" : "s"}`;
    const [first] = same;
    const who = first?.name && same.every(({ person }) => person === first.person) ? first.name : "the same person";
    at("verdict").textContent = !sure ? (perhaps ? `Perhaps ${many(perhaps)}` : "Nobody here")
      : `${many(sure)} of ${who}${perhaps ? `, perhaps ${perhaps} more` : ""}`;
    const { false_match_rate: rate } = sure || !perhaps ? thresholds.same_person : thresholds.perhaps;
    const strangers = rate * searched;
    const amount = strangers < 0.1 ? "fewer than 1 in 10 such searches finds one" : `about ${strangers.toFixed(1)} here`;
    at("verdict-error").textContent = `1 stranger in ${Math.round(1 / rate).toLocaleString()} passes for ${
      sure || !perhaps ? "the same person" : "“perhaps”"}: ${amount}.`;
  }

  // Somebody was named, merged or split, or pictures were deleted: what was found says so, too.
  async refresh() {
    const turn = this.turn;
    if (this.section.hidden || !this.found || !this.persons) return;
    try {
      for (const list of [this.list, this.others]) {
        const entries = list.order.map((key) => list.entry(key)).filter(({ visit }) => visit !== null);
        const faces = entries.map(({ face, layers, score, verdict }) => ({ id: face, layers, score, verdict }));
        const now = new Map((await entriesOf(true, faces)).map((entry) => [entry.key, entry]));
        if (turn !== this.turn) return;
        for (const { key } of entries) now.has(key) ? list.put(now.get(key), false) : list.drop(key);
      }
      this.drawVerdict();
    } catch (error) {
      complain(error);
    }
  }

  clear() {
    this.found = null;
    const image = at("example");
    forget(image);
    image.removeAttribute("src");
    image.classList.remove("there");
    for (const id of ["verdict", "verdict-error", "search-note"]) at(id).textContent = "";
    at("others").hidden = true;
    this.list.clear();
    this.others.clear();
  }

  close() {
    if (this.section.hidden) return;
    this.turn += 1;
    this.clear();
    this.section.hidden = true;
    this.onShown(false);
    if (this.from?.isConnected) this.from.focus();
  }
}
