// The Lambda recipe of mongoose's "Change Streams" page, as a container that is told to run.
//
// One run: watch from the token in a global, race each next() against one timer, keep the stream's
// token in the global, close. Reads a line a run on standard input, answers a line.
// Arguments: node_modules, mongoose or mongodb, connection string, database, collection, file of
// deliveries. With mongoose it is the page's own; its stream has no resumeToken (9.12), so nothing
// is ever resumed. The driver's own stream has, so the recipe is measured on it too.
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [modules, library, uri, dbName, collection, deliveries] = process.argv.slice(2);
const mongoose = createRequire(`${modules}/`)('mongoose');
const RUN_MS = 1000;

await mongoose.connect(uri, { dbName });
const schema = new mongoose.Schema({ _id: Number }, { collection, strict: false });
const Model = mongoose.model('Change', schema);
const watched = library === 'mongoose' ? Model : mongoose.connection.db.collection(collection);
let token;

async function run() {
  const stream = await watched.watch([], { resumeAfter: token });
  const timer = new Promise(resolve => setTimeout(resolve, RUN_MS, null));
  let count = 0;
  for (;;) {
    const change = await Promise.race([stream.next(), timer]);
    if (change === null) break;
    appendFileSync(deliveries, `${change.documentKey._id}\n`);
    count += 1;
  }
  token = stream.resumeToken;
  await stream.close();
  return count;
}

for await (const _ of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const answer = await run().then(changes => ({ changes }), error => ({ error: `${error}` }));
  const peak_mb = process.resourceUsage().maxRSS * 1024 / 1e6;
  console.log(JSON.stringify({ ...answer, seconds: (performance.now() - began) / 1000, peak_mb }));
}
process.exit(0);
