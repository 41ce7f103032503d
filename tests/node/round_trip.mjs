// Encodes a raw picture by a server, decodes it again, and prints as JSON how that went.
//
//     node round_trip.mjs HOST:PORT PATH_OF_THE_CONTRACT FOLDER_OF_GOOGLE_API
//
// Knows of the service only what the contract says: the code of its messages is made from it here.
// Exits with 1 where a call fails or the picture that comes back is not the one that was sent.

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";
import path from "node:path";

const SIZE = 64;
const LEAST_PSNR_DB = 25;
const SECONDS = 60;

const [target, contract, shared] = process.argv.slice(2);
if (!target || !contract || !shared) {
  console.error("usage: node round_trip.mjs HOST:PORT PATH_OF_THE_CONTRACT FOLDER_OF_GOOGLE_API");
  process.exit(2);
}

const definition = protoLoader.loadSync(path.basename(contract), {
  includeDirs: [path.dirname(contract), shared],
  enums: String,
  longs: Number,
  defaults: true,
  oneofs: true,
});
const { CodecService } = grpc.loadPackageDefinition(definition).hvae_codec.v1;
const client = new CodecService(target, grpc.credentials.createInsecure());

function deadline() {
  return { deadline: Date.now() + 1000 * SECONDS };
}

function call(method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, deadline(), (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

// The answers of a stream, one for each of the requests.
function stream(method, requests) {
  return new Promise((resolve, reject) => {
    const answers = [];
    const both = client[method](deadline());
    both.on("data", (answer) => answers.push(answer));
    both.on("error", reject);
    both.on("end", () => resolve(answers));
    for (const request of requests) both.write({ request });
    both.end();
  });
}

// Slow waves, which a model of pictures codes without effort.
function picture() {
  const data = Buffer.alloc(SIZE * SIZE * 3);
  for (let y = 0; y < SIZE; y++)
    for (let x = 0; x < SIZE; x++)
      for (let c = 0; c < 3; c++)
        data[(y * SIZE + x) * 3 + c] = Math.round(127.5 + 100 * Math.sin(x / 15 + y / 21 + c));
  return { raw: { height: SIZE, width: SIZE, channels: 3, data } };
}

function psnr(one, other) {
  let squares = 0;
  for (let at = 0; at < one.length; at++) squares += (one[at] - other[at]) ** 2;
  return 10 * Math.log10(255 ** 2 / (squares / one.length));
}

try {
  const model = { name: "cifar10", quality: 3 };
  const image = picture();
  const { models, limits } = await call("ListModels", {});
  const encoded = await call("Encode", { model, images: [image, { file: Buffer.from("none") }] });
  const [file, bad] = encoded.results;
  const decode = { encoded: [file.encoded], format: "IMAGE_FORMAT_RAW" };
  const decoded = await call("Decode", decode);
  const streamed = await stream("StreamDecode", [decode, decode, decode]);
  const samples = decoded.results[0].image.raw;
  const result = {
    models: models.length,
    limits,
    encoded: file.encoded.toString("hex"),
    bad: bad.status,
    size: [samples.height, samples.width, samples.channels],
    psnr_db: psnr(image.raw.data, samples.data),
    stream_answers: streamed.length,
    stream_equal: streamed.every((answer) =>
      answer.response.results[0].image.raw.data.equals(samples.data),
    ),
  };
  console.log(JSON.stringify(result, null, 2));
  process.exitCode = result.psnr_db >= LEAST_PSNR_DB && result.stream_equal ? 0 : 1;
} catch (error) {
  console.error(`${error}`);
  process.exitCode = 1;
} finally {
  client.close();
}
