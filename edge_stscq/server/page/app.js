// The operator's page: visits as they come, newest first; who and where, enlarged, named, found again, deleted.

import { askJson, base, onRefusedToken, token } from "./api.js";
import { Cameras } from "./cameras.js";
import { Detail } from "./detail.js";
import { deleteFaces } from "./edits.js";
import { titleOf } from "./entries.js";
import { Feed } from "./feed.js";
import { Filters } from "./filters.js";
import { learn } from "./layers.js";
import { List } from "./list.js";
import { complain } from "./notices.js";
import { retryPictures } from "./pictures.js";
import { Search } from "./search.js";
import { Timeline } from "./timeline.js";

const ANNOUNCE = 8000;
const TICK = 20000;
const at = (id) => document.getElementById(id);
let persons = false;

const list = new List(at("days"), {
  label: "Visits", onOpen: (entry) => detail.open(entry, list, () => timeline.more()), onDelete: askToDelete,
});
const timeline = new Timeline(list, drawn, trouble);
const filters = new Filters((chosen) => reopen(chosen));
const detail = new Detail({
  onFind: (entry) => search.find(entry, filters.chosen.device, persons),
  onPerson: (person) => {
    search.close();
    filters.set({ device: null, day: null, person });
    at("list-title").focus();
  },
  onChange: () => {
    timeline.nudge(true);
    search.refresh();
    filters.refresh().then(drawTitle);
  },
});
const search = new Search({
  onOpen: (entry, found) => detail.open(entry, found), onDelete: askToDelete, onShown: (shown) => (at("timeline").hidden = shown),
});
const reach = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && timeline.more(), { rootMargin: "600px" });
const cameras = new Cameras((names) => filters.drawCameras(names), trouble);
const feed = new Feed(changed, connection);

function trouble(error) {
  connection("lost", error.status ? error.message : "the server does not answer");
}

// Something came or went; the list looks for itself.
function changed(face) {
  const device = filters.chosen.device;
  if (face?.device && device && face.device !== device) return;
  timeline.nudge(Boolean(face?.erased) || Boolean(face?.received && timeline.isOld(Date.parse(face.captured ?? face.received))));
}

async function reopen(chosen) {
  search.close();
  drawTitle();
  await timeline.open(persons, chosen);
}

function drawTitle() {
  const words = filters.words;
  const what = persons ? "visits" : "faces";
  at("list-title").textContent = words ? `${persons ? "Visits" : "Faces"} ${words}` : `All ${what}`;
}

function drawn({ fresh, waiting }) {
  detail.listed();
  if (waiting !== undefined) {
    at("held").hidden = !waiting;
    at("held").textContent = `Show ${waiting} new`;
  }
  list.isOpenEnded = !timeline.ended;
  at("more").hidden = timeline.ended || !list.size;
  at("end").hidden = !timeline.ended || list.size < 12;
  drawEmpty();
  // Looked at anew: while the end of the list is in view, there is room for more.
  reach.unobserve(at("more"));
  reach.observe(at("more"));
  if (fresh.length) announce(fresh);
}

function drawEmpty() {
  at("empty").hidden = list.size > 0;
  if (list.size) return;
  const what = persons ? "visit" : "face";
  const { device } = filters.chosen;
  const words = filters.words;
  at("empty-title").textContent = words ? `No ${what} ${words}` : `No ${what} yet`;
  at("empty-text").textContent = words
    ? `“Show everything” leads back to all ${what}s.` : "Let a camera send its faces here:";
  at("empty-command").hidden = Boolean(words);
  at("command").textContent =
    `edge-stscq capture --source 0 --device ${device ?? "door-1"} --url ${String(base).replace(/[/]$/, "")}`;
}

let counted = 0;
let announcing = null;
function announce(fresh) {
  counted += fresh.length;
  const [latest] = fresh;
  announcing ??= setTimeout(() => {
    const what = `${persons ? "visit" : "face"}${counted === 1 ? "" : "s"}`;
    const who = latest.person === null ? latest.device : `${titleOf(latest)} at ${latest.device}`;
    at("announcer").textContent = `${counted} new ${what}, the latest: ${who}`;
    counted = 0;
    announcing = null;
  }, ANNOUNCE);
}

async function askToDelete(entry) {
  try {
    const faces = entry.visit === null ? [entry.face]
      : (await askJson(`v1/visits/${entry.visit}`)).members.map(({ id }) => id);
    if (!(await deleteFaces(faces, `Delete ${persons ? "this visit of" : "this face from"} ${titleOf(entry)}?`))) return;
    for (const each of [list, search.list, search.others]) each.drop(entry.key);
    timeline.nudge(true);
  } catch (error) {
    complain(error);
  }
}

function connection(state, text) {
  at("connection").dataset.state = state;
  if (at("connection-text").textContent !== text) at("connection-text").textContent = text;
}

function pause(stop) {
  timeline.paused = stop;
  at("pause").ariaPressed = String(stop);
  at("pause").textContent = stop ? "Resume" : "Pause";
  timeline.look();
}

async function begin() {
  try {
    const server = await askJson("v1/models");
    learn(server.models);
    persons = server.persons;
    at("title").textContent = persons ? "Visits" : "Faces";
    document.title = `${at("title").textContent} – edge-stscq`;
    list.label = at("title").textContent;
    at("person-field").hidden = !persons;
    at("persons-off").hidden = persons;
    at("picture").hidden = !server.pictures;
    at("model").textContent = server.models.map(({ name, model_id }) => `${name} · ${model_id}`).join(", ");
    await filters.read(persons);
  } catch (error) {
    if (error.status === 401) return;
    trouble(error);
    setTimeout(begin, 3000);
    return;
  }
  retryPictures();
  search.persons = persons;
  await reopen(filters.chosen);
  feed.open();
  cameras.follow();
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
at("filters").onsubmit = (event) => event.preventDefault();
at("pause").onclick = () => pause(!timeline.paused);
at("held").onclick = () => timeline.look(true);
at("more").onclick = async () => {
  const last = list.order.at(-1);
  if (await timeline.more()) list.focus(list.beside(last, 1)?.key);
};
setInterval(() => list.tick(), TICK);

begin();
