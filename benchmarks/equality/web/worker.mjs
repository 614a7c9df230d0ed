// Worker of the protocol of ../worker.py in Node.
//
//   node worker.mjs ONNXRUNTIME_WEB ENCODER.onnx THREADS

import { readFile, writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

import { encode, open } from "./encode.mjs";

const [packageFolder, artefact, threads] = process.argv.slice(2);

try {
  const ort = await import(pathToFileURL(`${packageFolder}/dist/ort.node.min.mjs`));
  const { version } = JSON.parse(await readFile(`${packageFolder}/package.json`));
  const session = await open(ort, new Uint8Array(await readFile(artefact)), Number(threads));
  console.log(`@ ${JSON.stringify({ runtime: `onnxruntime-web ${version}, Node ${process.version}` })}`);
  for await (const line of createInterface({ input: process.stdin })) {
    const [shard, answers] = line.split("\t");
    await writeFile(answers, await encode(ort, session, new Uint8Array(await readFile(shard))));
    console.log("@ done");
  }
  process.exit(0);
} catch (error) {
  console.error(`error: ${error.message ?? error}`);
  process.exit(2);
}
