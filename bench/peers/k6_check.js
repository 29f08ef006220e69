// k6, doing the same stamp check in its own JavaScript. It has no monotonic clock and no CRC-32 of its own: latencies are taken from
// Date.now(), for the same work, and mean nothing; the checksum is the usual table. What it saw goes out as one line for k6_listener.py.
import ws from 'k6/ws';

export const options = {
  scenarios: { listen: { executor: 'per-vu-iterations', vus: 1, iterations: 1, maxDuration: '10m', gracefulStop: '0s' } },
};

const expected = Number(__ENV.BENCH_EXPECTED);
const run = Number(__ENV.BENCH_RUN);
const MARKER = 0x4d6400f1;
const HEAD_BYTES = 44;
const COVERED_OFFSET = 8;
const HIGH = 4294967296;
const TABLE = Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes, begin, end) {
  let crc = -1;
  for (let at = begin; at < end; at += 1) crc = TABLE[(crc ^ bytes[at]) & 255] ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

export default function listen() {
  let received = 0;
  let bad = 0;
  let nextSeq = 0;
  let latencyMsMax = 0;
  ws.connect(__ENV.BENCH_URL, {}, (socket) => {
    socket.on('binaryMessage', (data) => {
      received += 1;
      const view = new DataView(data);
      const latencyMs = Date.now() - (view.getUint32(24, true) + view.getUint32(28, true) * HIGH) / 1e6;
      if (latencyMs > latencyMsMax) latencyMsMax = latencyMs;
      const seq = view.getUint32(16, true) + view.getUint32(20, true) * HIGH;
      if (
        view.getUint32(0, true) !== MARKER ||
        view.getUint32(8, true) !== run ||
        view.getUint32(12, true) !== 0 ||
        seq !== nextSeq ||
        crc32(new Uint8Array(data), COVERED_OFFSET, HEAD_BYTES + view.getUint32(40, true)) !== view.getUint32(4, true)
      ) {
        bad += 1;
      }
      nextSeq = seq + 1;
      if (received === expected) console.log(`BENCH ${received} ${bad}`);
    });
  });
}
