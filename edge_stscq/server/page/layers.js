// What people call the layers, model by model, as the server lists them.

const models = new Map();

// Take in the answer of /v1/models.
export function learn(listed) {
  models.clear();
  listed.forEach(({ model_id, config }) => models.set(model_id, config.layers.map(({ name }) => name)));
}

// Names of all layers of the face's model; if the server does not hold it, numbers for those that the face has.
export const namesOf = (face) =>
  models.get(face.model_id) ?? Array.from({ length: face.layers }, (_, number) => `layer ${number + 1}`);

// "basic", "+ middle", ...: what each layer adds.
export const added = (names) => names.map((name, number) => (number ? `+ ${name}` : name));

// The same for all models together: where they differ, "fine / extra".
export function allNames() {
  const every = [...models.values()];
  const most = Math.max(0, ...every.map((names) => names.length));
  return Array.from({ length: most }, (_, number) =>
    [...new Set(every.map((names) => names[number]).filter(Boolean))].join(" / "));
}
