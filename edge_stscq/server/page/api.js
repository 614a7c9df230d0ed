// Requests to this server with the operator's token.

// Where the page is, which is wherever a proxy shows it: every address is relative to it.
export const base = new URL(".", location.href);
base.hash = base.search = "";

const KEY = "edge-stscq-token";

export class Refused extends Error {
  constructor(status, message, after) {
    super(message);
    this.status = status;
    this.after = after;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => sessionStorage.setItem(KEY, text),
};

// A token in the fragment, which no browser sends, is taken over and out of the address and the history.
const given = new URLSearchParams(location.hash.slice(1));
if (given.get("token")) {
  token.set(given.get("token"));
  given.delete("token");
  history.replaceState(null, "", given.size ? `#${given}` : base);
}

const answered = new EventTarget();
export const onRefusedToken = (act) => answered.addEventListener("401", act);

// The answer to a request; Refused with the server's own words if it is not 2xx.
export async function ask(path, options = {}) {
  const sent = token.get();
  const headers = { ...options.headers, ...(sent && { Authorization: `Bearer ${sent}` }) };
  const answer = await fetch(new URL(path, base), { ...options, headers });
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: answer.statusText }));
  if (answer.status === 401 && sent === token.get()) answered.dispatchEvent(new Event("401"));
  throw new Refused(answer.status, error, Number(answer.headers.get("Retry-After")) || 1);
}

export const askJson = async (path, options) => (await ask(path, options)).json();

export const sendJson = (path, body) =>
  askJson(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
