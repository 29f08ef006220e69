// Artillery, doing the same stamp check in a function of its processor, on the ws engine. Settings come from the environment, as for
// locustfile.py. With BENCH_STATISTICS=1 each message goes into Artillery's own metrics, as its ws engine does for messages it waits for.
'use strict';

const fs = require('node:fs');
const zlib = require('node:zlib');

const expected = Number(process.env.BENCH_EXPECTED);
const run = Number(process.env.BENCH_RUN);
const statistics = process.env.BENCH_STATISTICS === '1';

const MARKER = Buffer.from([0xf1, 0x00, 0x64, 0x4d]).readUInt32LE(0);
const HEAD_BYTES = 44;
const COVERED_OFFSET = 8;
const HIGH = 2 ** 32; // numbers are exact up to 2**53, enough for nanoseconds since boot; BigInt would be slower

function wide(data, at) {
  return data.readUInt32LE(at) + data.readUInt32LE(at + 4) * HIGH;
}

function now() {
  const [s, ns] = process.hrtime(); // the monotonic clock, as the stamps
  return s * 1e9 + ns;
}

function report(account) {
  const draft = `${process.env.BENCH_REPORT}.draft`;
  fs.writeFileSync(draft, JSON.stringify(account));
  fs.renameSync(draft, process.env.BENCH_REPORT);
}

function listen(context, events, done) {
  let received = 0;
  let bad = 0;
  let nextSeq = 0;
  let latencyNsMax = 0;
  context.ws.on('message', (data) => {
    received += 1;
    const latencyNs = now() - wide(data, 24);
    if (latencyNs > latencyNsMax) latencyNsMax = latencyNs;
    const seq = wide(data, 16);
    if (
      data.readUInt32LE(0) !== MARKER ||
      data.readUInt32LE(8) !== run ||
      data.readUInt32LE(12) !== 0 ||
      seq !== nextSeq ||
      zlib.crc32(data.subarray(COVERED_OFFSET, HEAD_BYTES + data.readUInt32LE(40))) !== data.readUInt32LE(4)
    ) {
      bad += 1;
    }
    nextSeq = seq + 1;
    if (statistics) {
      events.emit('counter', 'websocket.messages_received', 1);
      events.emit('rate', 'websocket.receive_rate');
      events.emit('histogram', 'websocket.latency', latencyNs / 1e6);
    }
    if (received === expected) report({ received, bad });
  });
  done();
}

module.exports = { listen };
