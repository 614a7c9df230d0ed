// What the list shows, visits and faces alike, and the server's pages of them.

import { askJson } from "./api.js";
import { beginOf } from "./times.js";

export const ofVisit = (visit) => ({
  key: `visit-${visit.id}`, visit: visit.id, person: visit.person, name: visit.name, hidden: visit.hidden,
  watch: visit.watch, count: visit.faces, face: visit.feature, layers: visit.layers, device: visit.device,
  model_id: visit.model_id, at: Date.parse(visit.began), until: Date.parse(visit.ended), revision: visit.revision,
});

// A device whose clock runs ahead does not come first for ever.
export const ofFace = (face) => ({
  ...face, key: face.id, face: face.id, count: 1, visit: null, person: null, name: null,
  at: Math.min(Date.parse(face.captured ?? face.received), Date.parse(face.received)),
});

export const titleOf = (entry) => (entry.person === null ? entry.device : entry.name ?? `Person ${entry.person}`);

// The newest entries, or those before a cursor: { entries, next }.
export async function page(persons, { device, day, person }, limit, before = null) {
  const query = new URLSearchParams({ limit });
  if (device) query.set("device", device);
  if (day) query.set("since", beginOf(day).toISOString());
  if (day) query.set("until", beginOf(day, 1).toISOString());
  // Who asks for a person wants to see that person, hidden or not.
  if (person) query.set("person", person.id);
  if (person) query.set("hidden", true);
  if (before) query.set("before", before);
  const found = await askJson(`v1/${persons ? "visits" : "faces/newest"}?${query}`);
  return { entries: persons ? found.visits.map(ofVisit) : found.faces.map(ofFace), next: found.next };
}

// Faces that were found, the most alike first, as entries: each visit once, by the face that is most like the example.
export async function found(persons, faces) {
  const { visits, of } = persons && faces.length
    ? await askJson(`v1/visits/of?${new URLSearchParams(faces.map(({ id }) => ["face", id]))}`) : { visits: [], of: {} };
  const known = new Map(visits.map((visit) => [visit.id, visit]));
  const entries = faces.map((face) => {
    const visit = known.get(of[face.id]);
    const { score, verdict, layers } = face;
    return visit ? { ...ofVisit(visit), face: face.id, layers, score, verdict } : ofFace(face);
  });
  const seen = new Set();
  return entries.filter(({ key }) => !seen.has(key) && seen.add(key));
}
