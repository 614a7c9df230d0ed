// What the page says of an action: a notice with an undo right after it, and a question before what cannot be undone.

const SHORT = 10000;
const at = (id) => document.getElementById(id);

let hiding = null;

// Say what was done, or what went wrong; an undo is offered until the next notice, and trouble stays as long.
export function say(text, { undo = null, bad = false } = {}) {
  clearTimeout(hiding);
  if (!undo && !bad) hiding = setTimeout(() => at("notice").contains(document.activeElement) || hideNotice(), SHORT);
  const notice = at("notice");
  // All but an open dialog is out of reach, so the notice goes where the operator is.
  const here = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  if (notice.parentElement !== here) here.append(notice);
  notice.hidden = false;
  notice.classList.toggle("bad", bad);
  at("notice-undo").hidden = !undo;
  at("notice-undo").onclick = undo;
  // A reader of the screen speaks what changes in an element that is there already.
  at("notice-text").textContent = "";
  setTimeout(() => (at("notice-text").textContent = text), 50);
}

export function hideNotice() {
  document.body.append(at("notice"));
  at("notice").hidden = true;
}

export const complain = (error) =>
  say(error.status ? error.message : "The server does not answer; try again in a moment.", { bad: true });

at("notice-close").onclick = hideNotice;

// Ask before something that cannot be undone; true if the operator wants it.
export function sure(title, text, verb) {
  const dialog = at("sure");
  at("sure-title").textContent = title;
  at("sure-text").textContent = text;
  at("sure-yes").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  at("sure-no").focus();
  return new Promise((answer) => (dialog.onclose = () => answer(dialog.returnValue === "yes")));
}

at("sure-yes").onclick = () => at("sure").close("yes");
at("sure-no").onclick = () => at("sure").close();
