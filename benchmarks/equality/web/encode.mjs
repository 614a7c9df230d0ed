// Answers of an .onnx to raw crops by onnxruntime-web: the same in Node and in a browser.

const SIDE = 128;
const CROP = SIDE * SIDE * 3;

/**
 * Open an artefact with the WebAssembly back end.
 *
 * @param {object} ort onnxruntime-web
 * @param {Uint8Array} model contents of the .onnx
 * @param {number} threads threads of one inference
 */
export async function open(ort, model, threads) {
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  if (ort.env.wasm.numThreads !== threads) {
    throw new Error(`onnxruntime-web took ${ort.env.wasm.numThreads} threads, not ${threads}`);
  }
  return session;
}

/**
 * Group and tokens of every crop, in the canonical form of ../answers.py.
 *
 * @param {Uint8Array} crops uint8 [N, 128, 128, 3]
 * @returns {Promise<Uint8Array>} int32 [N, 1 + T], little-endian
 */
export async function encode(ort, session, crops) {
  if (crops.length === 0 || crops.length % CROP !== 0) throw new Error("this is no shard of crops");
  const answers = [];
  for (let start = 0; start < crops.length; start += CROP) {
    const image = new ort.Tensor("uint8", crops.slice(start, start + CROP), [1, SIDE, SIDE, 3]);
    const { group, tokens } = await session.run({ image });
    answers.push(...group.data, ...tokens.data);
  }
  const view = new DataView(new ArrayBuffer(4 * answers.length));
  answers.forEach((value, index) => view.setInt32(4 * index, value, true));
  return new Uint8Array(view.buffer);
}
