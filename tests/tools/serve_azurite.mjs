// usage: node serve_azurite.mjs AZURITE_FOLDER DATA_FOLDER CONTAINER
// Serves Azurite's Blob service on a free port, makes a container in it, prints the port, and goes with its standard input.
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { join } from "node:path";

const [folder, data, container] = process.argv.slice(2);
const account = "devstoreaccount1";
const key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const program = join(folder, "node_modules/azurite/dist/src/blob/main.js");
const server = spawn(process.execPath, [program, "--blobPort", "0", "--location", data, "--skipApiVersionCheck"], {
  stdio: ["ignore", "pipe", "inherit"],
});
// Not asked to end: it would wait for connections that are kept open.
process.stdin.resume().on("end", () => server.kill("SIGKILL"));
server.on("exit", (code) => process.exit(code ?? 0));

let said = "";
let found = false;
server.stdout.on("data", async (text) => {
  said += text;
  const port = said.match(/listens on http:\/\/127\.0\.0\.1:(\d+)/)?.[1];
  if (!port || found) return;
  found = true;
  const date = new Date().toUTCString();
  const version = "2021-12-02";
  const resource = `/${account}/${account}/${container}\nrestype:container`;
  const text_to_sign = `PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:${date}\nx-ms-version:${version}\n${resource}`;
  const signature = createHmac("sha256", Buffer.from(key, "base64")).update(text_to_sign).digest("base64");
  const answer = await fetch(`http://127.0.0.1:${port}/${account}/${container}?restype=container`, {
    method: "PUT",
    headers: { "x-ms-date": date, "x-ms-version": version, authorization: `SharedKey ${account}:${signature}` },
  });
  if (answer.status !== 201) {
    console.error(answer.status, await answer.text());
    server.kill();
    process.exit(1);
  }
  console.log(port);
});
