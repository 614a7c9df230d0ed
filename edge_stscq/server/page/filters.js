// What the list is narrowed to: a camera, a day, a person; all of it also in the address, so that it can be kept.

import { askJson } from "./api.js";
import { Picker } from "./picker.js";
import { dateOf, beginOf } from "./times.js";

const at = (id) => document.getElementById(id);

export class Filters {
  constructor(onChange) {
    this.onChange = onChange;
    this.chosen = { device: null, day: null, person: null };
    at("camera").onchange = ({ target }) => this.set({ device: target.value || null });
    at("day").onchange = ({ target }) => this.set({ day: target.value || null });
    at("everything").onclick = () => {
      this.set({ device: null, day: null, person: null });
      at("camera").focus();
    };
    at("person-clear").onclick = () => {
      this.set({ person: null });
      at("person").focus();
    };
    this.picker = new Picker(at("person-box"), (person) => {
      this.set({ person });
      at("person-clear").focus();
    });
  }

  // Take over what the address says; a person's name is asked for.
  async read(persons) {
    const given = new URLSearchParams(location.hash.slice(1));
    const number = Number(given.get("person"));
    const day = given.get("day");
    this.chosen.device = given.get("camera") || null;
    this.chosen.day = /^\d{4}-\d\d-\d\d$/.test(day ?? "") ? day : null;
    this.chosen.person = persons && Number.isSafeInteger(number) && number > 0
      ? await askJson(`v1/persons/${number}`).catch(() => ({ id: number, name: null })) : null;
    this.draw();
  }

  // A person was edited: who is chosen may have another name.
  async refresh() {
    const { person } = this.chosen;
    const now = person && (await askJson(`v1/persons/${person.id}`).catch(() => null));
    if (!now || this.chosen.person?.id !== now.id) return;
    this.chosen.person = now;
    this.draw();
  }

  set(part) {
    this.chosen = { ...this.chosen, ...part };
    this.draw();
    const { device, day, person } = this.chosen;
    const kept = new URLSearchParams();
    if (device) kept.set("camera", device);
    if (day) kept.set("day", day);
    if (person) kept.set("person", person.id);
    history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
    this.onChange(this.chosen);
  }

  draw() {
    const { device, day, person } = this.chosen;
    this.drawCameras();
    at("camera").value = device ?? "";
    at("day").value = day ?? "";
    at("person-box").hidden = person !== null;
    at("person-chosen").hidden = person === null;
    at("person-name").textContent = person ? person.name ?? `Person ${person.id}` : "";
    at("everything").hidden = !(device || day || person);
  }

  // Offer these cameras, and the chosen one whether it has faces or not.
  drawCameras(names = this.cameras ?? []) {
    this.cameras = names;
    const offered = [...new Set([...names, ...(this.chosen.device ? [this.chosen.device] : [])])].sort();
    const options = [...at("camera").options].slice(1).map(({ value }) => value);
    if (offered.join("\n") === options.join("\n")) return;
    at("camera").replaceChildren(at("camera").options[0], ...offered.map((name) => new Option(name, name)));
    at("camera").value = this.chosen.device ?? "";
  }

  // "Ada at door-1 on 9 March 2026", or nothing where all is shown.
  get words() {
    const { device, day, person } = this.chosen;
    return [
      person && `of ${person.name ?? `person ${person.id}`}`, device && `at ${device}`, day && `on ${dateOf(beginOf(day))}`,
    ].filter(Boolean).join(" ");
  }
}
