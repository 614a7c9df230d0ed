// "Find this person": the example as each of its layers decodes it, who of all that are kept is the same person, who may
// be, and, folded away, the faces that are only the most alike.

import { askJson, forget, show } from "./api.js";
import { Grid, timeOf } from "./grid.js";
import { added, namesOf } from "./layers.js";

const LIMIT = 24;
const at = (id) => document.getElementById(id);

export class Search {
  constructor() {
    this.section = at("search");
    this.grid = new Grid(at("results"), (face) => this.find(face));
    this.others = new Grid(at("others-list"), (face) => this.find(face));
    at("search-close").onclick = () => this.close();
    at("picture").onclick = () => at("picture-file").click();
    at("picture-file").onchange = ({ target }) => {
      const [file] = target.files;
      target.value = "";
      if (file) this.findInPicture(file);
    };
    document.addEventListener("keydown", ({ key }) => key === "Escape" && !this.section.hidden && this.close());
  }

  begin(device) {
    if (this.section.hidden) this.from = document.activeElement;
    this.device = device;
    this.clear();
    this.section.hidden = false;
    at("search-note").textContent = "searching…";
    at("search-title").focus();
    this.section.scrollIntoView({ block: "nearest" });
  }

  // The largest face of a picture, which the server codes as a camera would and does not keep.
  async findInPicture(file) {
    this.begin(null);
    const image = Object.assign(document.createElement("img"), { className: "there", alt: `The picture ${file.name}` });
    const item = document.createElement("li");
    item.append(Object.assign(document.createElement("div"), { className: "picture" }));
    item.firstChild.append(image);
    at("example-layers").append(item);
    image.onload = () => URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(file);
    at("example-facts").textContent = file.name;
    try {
      const found = await askJson(`v1/match/picture?limit=${LIMIT}`, { method: "POST", body: file });
      const count = found.faces_in_picture;
      at("example-facts").textContent += `\n${count > 1 ? `the largest of ${count} faces` : "one face"}`;
      this.tell(found, found.faces, [`the first ${found.layers} layers`]);
    } catch (error) {
      at("search-note").textContent = error.message;
    }
  }

  async find(face, device = this.device) {
    this.begin(device);
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
    try {
      const found = await this.match(face, face.layers);
      if (face.layers > 1) {
        const known = new Set(found.faces.map(({ id }) => id));
        const { faces } = await this.match(face, 1);
        found.faces.push(...faces.filter(({ id, layers }) => layers === 1 && !known.has(id)));
      }
      this.tell(found, found.faces.filter(({ id }) => id !== face.id).slice(0, LIMIT), parts.slice(0, found.layers));
    } catch (error) {
      at("search-note").textContent = error.message;
    }
  }

  // The faces most like this one by its first layers; those that have fewer are not compared.
  match(face, layers) {
    const query = new URLSearchParams({ limit: LIMIT + 1, layers });
    if (this.device) query.set("device", this.device);
    return askJson(`v1/match?${query}`, { method: "POST", body: JSON.stringify({ face: face.id }) });
  }

  // What was found, said as a verdict with its error; without measured thresholds, by likeness alone.
  tell({ searched, complete, thresholds }, faces, layers) {
    this.grid.clear();
    const alike = faces.filter(({ verdict }) => verdict !== "nobody here");
    const others = faces.filter(({ verdict }) => verdict === "nobody here");
    alike.forEach((face) => this.grid.put(face, { last: true, lively: false }));
    others.forEach((face) => this.others.put(face, { last: true, lively: false }));
    at("others").hidden = !others.length;
    at("others-title").textContent = `${others.length} faces of strangers, most alike first`;
    const much = `compared with ${searched} faces by ${layers.join(" ")}`;
    at("search-note").textContent = complete ? much : `${much}; the index is still being filled`;
    at("verdict").hidden = !thresholds;
    if (!thresholds) return;
    const sure = alike.filter(({ verdict }) => verdict === "same person").length;
    const perhaps = alike.length - sure;
    const parts = [
      sure && (sure === 1 ? "1 face of the same person" : `${sure} faces of the same person`),
      perhaps && `${perhaps} perhaps`,
    ];
    at("verdict-word").textContent = parts.filter(Boolean).join(", ") || "Nobody here";
    const { false_match_rate: rate } = sure || !perhaps ? thresholds.same_person : thresholds.perhaps;
    const strangers = rate * searched;
    const amount = strangers < 0.1 ? "fewer than 1 in 10 such searches finds one" : `about ${strangers.toFixed(1)} here`;
    const what = sure || !perhaps ? "the same person" : "“perhaps”";
    at("verdict-error").textContent =
      `1 stranger in ${Math.round(1 / rate).toLocaleString()} passes for ${what}: ${amount}.`;
  }

  clear() {
    at("verdict").hidden = at("others").hidden = true;
    this.others.clear();
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
