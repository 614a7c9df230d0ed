// The cameras and what is kept of them: a table, and one line for who pays for the disk.

import { askJson } from "./api.js";
import { ago } from "./times.js";

const EVERY = 20000;
const FIRST = 2000;
const SAMPLE = 12;
const JPEG_QUALITY = 0.75;
const at = (id) => document.getElementById(id);

export const size = (bytes) =>
  bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : bytes < 1e9
    ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;

const faces = (count) => (count === 1 ? "1 face" : `${count.toLocaleString()} faces`);

export class Cameras {
  // onNames(names) with each look; onTrouble(error) when the server does not answer.
  constructor(onNames, onTrouble) {
    Object.assign(this, { onNames, onTrouble, measured: new Map() });
  }

  async follow() {
    clearTimeout(this.timer);
    try {
      const found = await askJson("v1/devices");
      this.draw(found);
      this.onNames(found.devices.map(({ device }) => device));
      await this.drawKept(found.devices);
    } catch (error) {
      if (error.status === 401) return;
      this.onTrouble(error);
    }
    this.timer = setTimeout(() => this.follow(), this.measured.size ? EVERY : FIRST);
  }

  draw({ time, devices }) {
    const passed = ({ last_received: last }) => Date.parse(time) - Date.parse(last);
    at("cameras").hidden = devices.length === 0;
    const count = devices.length === 1 ? "1 camera" : `${devices.length} cameras`;
    at("cameras-title").textContent = `${count}, the last face ${ago(Math.min(...devices.map(passed)))}`;
    at("cameras-rows").replaceChildren(...devices.map((device) => {
      const row = document.createElement("tr");
      const name = Object.assign(document.createElement("th"), { scope: "row", textContent: device.device });
      const cells = [ago(passed(device)), faces(device.faces_last_hour), `${faces(device.faces)}, ${size(device.bytes)}`];
      row.append(name, ...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return row;
    }));
  }

  // What the faces take here, and what they would take as JPEG: measured on pictures that are shown, not believed.
  async drawKept(devices) {
    const sum = (key) => devices.reduce((total, device) => total + device[key], 0);
    const [count, bytes] = [sum("faces"), sum("bytes")];
    for (const image of document.querySelectorAll("#days img.there")) {
      if (this.measured.size >= SAMPLE) break;
      if (!this.measured.has(image.src) && image.naturalWidth) this.measured.set(image.src, await jpegBytes(image));
    }
    const sizes = [...this.measured.values()];
    const mean = sizes.reduce((total, one) => total + one, 0) / sizes.length;
    const kept = `${faces(count)} ${count === 1 ? "is" : "are"} kept in ${size(bytes)}.`;
    at("kept").textContent = !count ? "" : !sizes.length ? kept
      : `${kept} As JPEG pictures, ${count === 1 ? "it" : "they"} would take about ${size(Math.round(mean * count))} `
        + `(quality ${JPEG_QUALITY * 100}, measured on ${sizes.length} shown here).`;
  }
}

async function jpegBytes(image) {
  const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
  canvas.getContext("2d").drawImage(image, 0, 0);
  return new Promise((answer) => canvas.toBlob(({ size: bytes }) => answer(bytes), "image/jpeg", JPEG_QUALITY));
}
