// The live feed: one WebSocket, resumed after the last revision that came, for as long as the page is open.

import { ask, base, token } from "./api.js";

const SHORTEST = 1000;
const LONGEST = 15000;

export class Feed {
  // onChange(face or { erased }) for each message, onChange(null) when it begins; onState("live" | "waiting" | "lost",
  // text) for people.
  constructor(onChange, onState) {
    Object.assign(this, { onChange, onState, revision: null, pause: SHORTEST });
  }

  // Follow what comes from now on.
  open() {
    this.revision = null;
    this.connect();
  }

  connect() {
    this.close();
    const query = new URLSearchParams(this.revision === null ? {} : { after: this.revision });
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
      this.onChange(null);
    };
    socket.onmessage = ({ data }) => {
      const change = JSON.parse(data);
      this.revision = change.revision;
      this.onChange(change);
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
