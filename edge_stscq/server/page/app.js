// The gallery: a live grid of faces, devices, a search by example, and the token if the server asks for one.

import { ask, askJson, base, onRefusedToken, retryPictures, token } from "./api.js";
import { Devices, faces, size } from "./devices.js";
import { Feed } from "./feed.js";
import { Grid, timeOf } from "./grid.js";
import { added, allNames, learn } from "./layers.js";
import { Search } from "./search.js";

const HELD = 120;
const ANNOUNCE = 8000;
const at = (id) => document.getElementById(id);

// Faces that came since the last drawing, or since "Pause"; the latest of each, and no more than the grid can show.
const held = new Map();
let paused = false;
let drawing = false;

const search = new Search();
const grid = new Grid(at("grid"), (face) => search.find(face, devices.chosen), askToErase);
const feed = new Feed(hold, erase, connection);
const devices = new Devices(at("devices"), at("devices-more"), filter, (error) =>
  connection("lost", error.status ? error.message : "the server does not answer"));

function hold(face) {
  held.delete(face.id);
  held.set(face.id, face);
  if (held.size > HELD) held.delete(held.keys().next().value);
  if (paused) return drawHeld();
  if (!drawing) setTimeout(draw, document.hidden ? 1000 : 100);
  drawing = true;
}

function erase(id) {
  held.delete(id);
  grid.drop(id);
  drawHeld();
  drawTotals();
}

async function askToErase(face) {
  const when = timeOf(face.captured ?? face.received);
  if (!confirm(`Erase the face of ${face.device}, ${when}, for good? It cannot be brought back.`)) return;
  try {
    await ask(`v1/faces/${face.id}`, { method: "DELETE" });
    erase(face.id);
  } catch (error) {
    alert(error.status === 403 ? "This token may not erase faces; ask for one with the scope delete." : error.message);
  }
}

function draw() {
  drawing = false;
  if (paused) return;
  const lively = held.size < 12;
  let fresh = 0;
  held.forEach((face) => (fresh += grid.put(face, { lively })));
  const last = [...held.values()].at(-1);
  held.clear();
  drawHeld();
  drawTotals();
  if (fresh && lively) announce(fresh, last);
}

function drawHeld() {
  at("held").hidden = !paused || !held.size;
  at("held").textContent = `Show ${held.size} waiting`;
}

function drawTotals() {
  at("totals").textContent = grid.size ? `${faces(grid.size)} in ${size(grid.bytes)}` : "";
  at("empty").hidden = grid.size > 0;
  const device = devices.chosen;
  at("empty-title").textContent = device ? `No recent face of ${device}` : "No face yet";
  at("empty-text").textContent = device
    ? "None of the last 1,000 changes is of this device. What it sends next shows here:"
    : "Let a camera send its faces here:";
  at("command").textContent =
    `edge-stscq capture --source 0 --device ${device ?? "door-1"} --url ${String(base).replace(/[/]$/, "")}`;
}

let counted = 0;
let announcing = null;
function announce(fresh, face) {
  counted += fresh;
  announcing ??= setTimeout(() => {
    at("announcer").textContent = `${counted} new ${counted === 1 ? "face" : "faces"}, the latest of ${face.device}`;
    counted = 0;
    announcing = null;
  }, ANNOUNCE);
}

function connection(state, text) {
  at("connection").dataset.state = state;
  if (at("connection-text").textContent !== text) at("connection-text").textContent = text;
  if (state === "live") setTimeout(drawTotals, 300);
}

function filter(device) {
  held.clear();
  grid.clear();
  drawTotals();
  feed.open(device);
}

function pause(stop) {
  paused = stop;
  at("pause").ariaPressed = String(stop);
  at("pause").textContent = stop ? "Resume" : "Pause";
  drawHeld();
  if (!stop) draw();
}

// One choice for each layer, all of them chosen; it is drawn anew only when the server has other models.
function drawChoice(names) {
  const drawn = [...at("shown").querySelectorAll("span")].map(({ textContent }) => textContent);
  if (drawn.join("\n") === names.join("\n")) return;
  at("shown").querySelectorAll("label").forEach((label) => label.remove());
  names.forEach((name, number) => {
    const choice = document.createElement("input");
    const last = number === names.length - 1;
    Object.assign(choice, { type: "radio", name: "shown", value: number + 1, checked: last });
    const label = document.createElement("label");
    label.append(choice, Object.assign(document.createElement("span"), { textContent: name }));
    at("shown").append(label);
  });
  showLayers(Infinity);
}

function showLayers(layers) {
  grid.showLayers(layers);
  search.grid.showLayers(layers);
  search.others.showLayers(layers);
}

async function begin() {
  try {
    const { models } = await askJson("v1/models");
    learn(models);
    drawChoice(added(allNames()));
    at("model").textContent = models.map((model) => `${model.name} · ${model.model_id}`).join(", ");
  } catch (error) {
    if (error.status === 401) return;
    connection("lost", error.status ? error.message : "the server does not answer");
    setTimeout(begin, 3000);
    return;
  }
  retryPictures();
  devices.follow();
  feed.open(devices.chosen);
}

onRefusedToken(() => {
  feed.close();
  connection("waiting", "needs a token");
  if (at("token-dialog").open) return;
  if (token.get()) {
    at("token-note").textContent = "The server does not accept that token. Is it complete, and not revoked?";
    at("token-note").role = "alert";
  }
  at("token").value = "";
  at("token-dialog").showModal();
});

at("token-dialog").addEventListener("cancel", (event) => event.preventDefault());
at("token-dialog").querySelector("form").onsubmit = (event) => {
  event.preventDefault();
  token.set(at("token").value.trim());
  at("token-dialog").close();
  begin();
};
at("shown").onchange = ({ target }) => showLayers(Number(target.value));
at("pause").onclick = () => pause(!paused);
at("held").onclick = () => {
  pause(false);
  pause(true);
};

begin();
