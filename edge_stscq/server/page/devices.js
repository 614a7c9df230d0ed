// Devices and their health; choosing one filters the feed.

import { askJson } from "./api.js";

const EVERY = 5000;
const FRESH = 120;
const MOST = 100;
const template = document.getElementById("device");

export const size = (bytes) =>
  bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

export const faces = (count) => `${count} ${count === 1 ? "face" : "faces"}`;

export function ago(seconds) {
  if (seconds < 5) return "now";
  const [many, unit] = seconds < 90 ? [seconds, "s"] : seconds < 5400 ? [seconds / 60, "min"]
    : seconds < 129600 ? [seconds / 3600, "h"] : [seconds / 86400, "d"];
  return `${Math.round(many)} ${unit} ago`;
}

export class Devices {
  // onChoose(device or null); onTrouble(error) when the server does not answer.
  constructor(list, more, onChoose, onTrouble) {
    Object.assign(this, { list, more, onChoose, onTrouble, chosen: null, rows: new Map() });
  }

  async follow() {
    clearTimeout(this.timer);
    try {
      this.draw(await askJson("v1/devices"));
    } catch (error) {
      if (error.status === 401) return;
      this.onTrouble(error);
    }
    this.timer = setTimeout(() => this.follow(), EVERY);
  }

  draw({ time, devices }) {
    const seconds = ({ last_received: last }) => (Date.parse(time) - Date.parse(last)) / 1000;
    const sum = (key) => devices.reduce((total, device) => total + device[key], 0);
    const all = { device: null, faces_last_hour: sum("faces_last_hour"), bytes_last_hour: sum("bytes_last_hour") };
    const latest = devices.toSorted((a, b) => seconds(a) - seconds(b)).slice(0, MOST);
    latest.sort((a, b) => (a.device < b.device ? -1 : 1));
    const shown = new Set([null, ...latest.map(({ device }) => device)]);
    for (const [device, row] of this.rows) {
      if (shown.has(device)) continue;
      row.remove();
      this.rows.delete(device);
    }
    [all, ...latest].forEach((device, place) => {
      const row = this.row(device.device);
      if (this.list.children[place] !== row) this.list.insertBefore(row, this.list.children[place] ?? null);
      const age = device.device === null ? Math.min(...devices.map(seconds)) : seconds(device);
      const known = Number.isFinite(age);
      row.firstElementChild.dataset.state = !known ? "never" : age < FRESH ? "fresh" : "late";
      row.querySelector(".seen").textContent = known ? ago(age) : "";
      row.querySelector(".rate").textContent = `last hour: ${faces(device.faces_last_hour)}, ${size(device.bytes_last_hour)}`;
    });
    this.more.hidden = devices.length <= MOST;
    this.more.textContent = `and ${devices.length - MOST} that were seen longer ago`;
  }

  row(device) {
    if (this.rows.has(device)) return this.rows.get(device);
    const row = template.content.firstElementChild.cloneNode(true);
    const button = row.firstElementChild;
    row.querySelector(".name").textContent = device ?? "All devices";
    button.ariaPressed = String(device === this.chosen);
    button.onclick = () => this.choose(device);
    this.rows.set(device, row);
    return row;
  }

  choose(device) {
    this.chosen = device;
    this.rows.forEach((row, name) => (row.firstElementChild.ariaPressed = String(name === device)));
    this.onChoose(device);
  }
}
