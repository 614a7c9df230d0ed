// Persons changed by hand, each change with an undo; and what is deleted for good.

import { ask, sendJson } from "./api.js";
import { complain, say, sure } from "./notices.js";

// Carry an edit out and offer its undo; the person whom it left, or null if the server refused.
export async function edit(person, what, body, done, onChange) {
  try {
    const { edit: number, person: left } = await sendJson(`v1/persons/${person}/${what}`, body);
    const undo = async () => {
      try {
        await sendJson("v1/persons/undo", { edit: number });
        say("Undone.");
        onChange();
      } catch (error) {
        complain(error);
      }
    };
    say(done(left), { undo });
    onChange();
    return left;
  } catch (error) {
    complain(error);
    return null;
  }
}

const pictures = (count) => (count === 1 ? "1 picture" : `${count} pictures`);

// Delete faces for good, after a question; true if it was done.
export async function deleteFaces(faces, title) {
  const text = `${pictures(faces.length)} will be erased for good. This cannot be undone.`;
  if (!(await sure(title, text, "Delete for good"))) return false;
  try {
    // The best, which comes first and stands for a visit, goes last.
    for (const face of faces.toReversed()) {
      // Somebody else may have deleted it first.
      await ask(`v1/faces/${encodeURIComponent(face)}`, { method: "DELETE" }).catch((error) => {
        if (error.status !== 404) throw error;
      });
    }
    say(`Deleted ${pictures(faces.length)}.`);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

// Forget a person with everything that is kept of them, after a question; true if it was done.
export async function forgetPerson({ id, faces }, title) {
  const text = `All ${pictures(faces)} of this person, the name and the edits will be erased for good, and photographs on `
    + "the watch list too. This cannot be undone.";
  if (!(await sure(`Forget ${title}?`, text, "Forget for good"))) return false;
  try {
    const { faces: erased } = await (await ask(`v1/persons/${id}`, { method: "DELETE" })).json();
    say(`Forgot ${title}: ${pictures(erased)} erased.`);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}
