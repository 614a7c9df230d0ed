// "Find this person": the example as each of its layers decodes it, and the faces most like it.

import { askJson, forget, show } from "./api.js";
import { Grid, timeOf } from "./grid.js";
import { added, namesOf } from "./layers.js";

const LIMIT = 24;
const at = (id) => document.getElementById(id);

export class Search {
  constructor() {
    this.section = at("search");
    this.grid = new Grid(at("results"), (face) => this.find(face));
    at("search-close").onclick = () => this.close();
    document.addEventListener("keydown", ({ key }) => key === "Escape" && !this.section.hidden && this.close());
  }

  async find(face, device = this.device) {
    if (this.section.hidden) this.from = document.activeElement;
    this.device = device;
    this.clear();
    this.section.hidden = false;
    at("search-note").textContent = "searching…";
    at("example-facts").textContent = `${face.device}\n${timeOf(face.captured ?? face.received)}\n${face.bytes} bytes`;
    const names = namesOf(face);
    const parts = added(names);
    for (let layers = 1; layers <= face.layers; layers += 1) {
      const item = document.createElement("li");
      const picture = document.createElement("div");
      const image = document.createElement("img");
      const text = document.createElement("p");
      picture.className = "picture";
      image.alt = `Face ${face.id}, decoded from ${parts.slice(0, layers).join(" ")}`;
      text.textContent = parts[layers - 1];
      picture.append(image, Object.assign(document.createElement("span"), { className: "sign" }));
      item.append(picture, text);
      at("example-layers").append(item);
      show(image, face.id, layers);
    }
    at("search-title").focus();
    this.section.scrollIntoView({ block: "nearest" });
    try {
      const query = new URLSearchParams({ limit: LIMIT + 1 });
      if (device) query.set("device", device);
      const body = JSON.stringify({ face: face.id });
      const found = await askJson(`v1/match?${query}`, { method: "POST", body });
      const others = found.faces.filter(({ id }) => id !== face.id).slice(0, LIMIT);
      this.grid.clear();
      others.forEach((other) => this.grid.put(other, { last: true, lively: false }));
      const much = `compared with ${found.searched} faces by their ${names[found.layers - 1]} layer`;
      at("search-note").textContent = found.complete ? much : `${much}; the index is still being filled`;
    } catch (error) {
      at("search-note").textContent = error.message;
    }
  }

  clear() {
    at("example-layers").querySelectorAll("img").forEach(forget);
    at("example-layers").replaceChildren();
    this.grid.clear();
  }

  close() {
    this.clear();
    this.section.hidden = true;
    if (this.from?.isConnected) this.from.focus();
  }
}
