// The live feed: one WebSocket, resumed after the last revision that came, for as long as the page is open.

import { ask, base, token } from "./api.js";

const SHORTEST = 1000;
const LONGEST = 15000;
const LAST = 240;
const LAST_OF_DEVICE = 1000;

export class Feed {
  // onFace(face) or onErased(id) for each message; onState("live" | "waiting" | "lost", text) for people.
  constructor(onFace, onErased, onState) {
    Object.assign(this, { onFace, onErased, onState, device: null, revision: null, pause: SHORTEST });
  }

  // Begin anew with the latest changes, of one device or of all.
  open(device = null) {
    this.device = device;
    this.revision = null;
    this.connect();
  }

  connect() {
    this.close();
    const query = new URLSearchParams();
    if (this.device) query.set("device", this.device);
    if (this.revision === null) query.set("last", this.device ? LAST_OF_DEVICE : LAST);
    else query.set("after", this.revision);
    const offered = ["edge-stscq.v1"];
    if (token.get()) offered.push(`bearer.${token.get()}`);
    const address = new URL(`v1/live?${query}`, base);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address, offered);
    this.socket = socket;
    this.onState("waiting", "connecting");
    socket.onopen = () => {
      this.opened = true;
      this.pause = SHORTEST;
      this.onState("live", "live");
    };
    socket.onmessage = ({ data }) => {
      const change = JSON.parse(data);
      this.revision = change.revision;
      if (change.erased) this.onErased(change.erased);
      else this.onFace(change);
    };
    socket.onclose = ({ reason }) => this.socket === socket && this.again(reason);
  }

  close() {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  // A browser does not say why a WebSocket was refused, so an ordinary request finds out: its answer is always a reason.
  async again(reason) {
    this.close();
    const wait = this.pause * (0.5 + Math.random() / 2);
    this.pause = Math.min(this.pause * 2, LONGEST);
    this.onState("lost", reason || "connection lost");
    this.timer = setTimeout(() => this.connect(), wait);
    try {
      await ask(`v1/live?${new URLSearchParams({ origin: location.origin })}`);
    } catch (error) {
      if (error.status === 401) this.close();
      if (error.status === 426 && this.opened) return;
      this.onState("lost", error.status ? error.message : "the server does not answer");
    }
  }
}
