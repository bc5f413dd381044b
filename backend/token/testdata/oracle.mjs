// Makes the vectors in testdata/vectors with Hugging Face's own tokenizers
// (their Rust code, from npm):
//
//	npm install --prefix DIR tokenizers@0.23.2
//	node testdata/oracle.mjs DIR [family …]
//
// For each testdata/families/F.json it writes testdata/vectors/F.json: the ids of
// every text in testdata/texts.json, what decodes to something other than the
// text, the ids with the post-processor, and hashes over generated texts, which
// vectors_test.go generates alike.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const { Tokenizer } = createRequire(join(process.argv[2], 'x.js'))('tokenizers');

// Random numbers: mulberry32.
function rng(seed) {
  return n => {
    seed = (seed + 0x6d2b79f5) >>> 0;
    let t = seed;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t = (t ^ (t + Math.imul(t ^ (t >>> 7), t | 61))) >>> 0;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

const fragments = JSON.parse(readFileSync(join(here, 'fragments.json'), 'utf8'));

// A random character, from anywhere but the surrogates and the empty planes.
function anyRune(rand) {
  for (;;) {
    const c = [0x80, 0x800, 0x3000, 0x10000, 0x32000][rand(5)];
    const r = rand(c);
    if (r < 0xd800 || r > 0xdfff) return String.fromCodePoint(r);
  }
}

function randomText(rand, parts) {
  let s = '';
  for (let n = 1 + rand(parts); n > 0; n--) {
    s += rand(6) === 0 ? anyRune(rand) : fragments[rand(fragments.length)];
  }
  return s;
}

// Texts of about a megabyte.
const big = {
  words: rand => { let s = ''; while (s.length < 1000000) s += ['The', 'answer', 'river', 'is', 'not', 'chain', '42', 'élève', '答案'][rand(9)] + [' ', ' ', ' ', '\n', ', '][rand(5)]; return s; },
  letters: rand => { let s = ''; while (s.length < 1000000) s += 'abcdefghijklmnopqrstuvwxyzeeeeetttaaa'[rand(37)]; return s; },
  spaces: () => ' '.repeat(1000000) + 'x',
  same: () => 'a'.repeat(1000000),
  mixed: rand => { let s = ''; while (s.length < 400000) s += randomText(rand, 20); return s; },
};

const sha = h => h.digest('hex').slice(0, 16);

function hashIds(h, ids) {
  const b = Buffer.alloc(4 * ids.length + 4);
  ids.forEach((id, i) => b.writeUInt32LE(id, 4 * i));
  b.writeUInt32LE(0xffffffff, 4 * ids.length);
  h.update(b);
}

const texts = JSON.parse(readFileSync(join(here, 'texts.json'), 'utf8')).map(t =>
  typeof t === 'string' ? t : new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.from(t.base64, 'base64')));

mkdirSync(join(here, 'vectors'), { recursive: true });
const wanted = process.argv.slice(3);
for (const file of readdirSync(join(here, 'families'))) {
  const family = file.replace('.json', '');
  if (wanted.length && !wanted.includes(family)) continue;
  const tok = Tokenizer.fromString(readFileSync(join(here, 'families', file), 'utf8'));
  const enc = async (s, special) => (await tok.encode(s, null, { addSpecialTokens: special })).getIds();

  const ids = [], decoded = {}, skipped = {};
  for (const [i, s] of texts.entries()) {
    ids.push(await enc(s, false));
    const d = await tok.decode(ids[i], false);
    if (d !== s) decoded[i] = d;
    const k = await tok.decode(ids[i], true);
    if (k !== d) skipped[i] = k;
  }
  const size = tok.getVocabSize(true);
  const special = await enc(texts[20], true);
  const random = [], randomDecode = [], randomIds = [];
  for (let batch = 0; batch < 20; batch++) {
    const h = createHash('sha256'), hd = createHash('sha256'), hr = createHash('sha256');
    const rand = rng(1000 + batch);
    for (let i = 0; i < 100; i++) {
      const e = await enc(randomText(rand, 24), false);
      hashIds(h, e);
      hd.update((await tok.decode(e, false)) + '\0');
      // Random ids decode to what no text encodes to.
      const r = Array.from({ length: 1 + rand(12) }, () => rand(size));
      hr.update((await tok.decode(r, i % 2 === 1)) + '\0');
    }
    random.push(sha(h)); randomDecode.push(sha(hd)); randomIds.push(sha(hr));
  }
  const bigs = {};
  for (const name of Object.keys(big)) {
    const h = createHash('sha256');
    const e = await enc(big[name](rng(7)), false);
    hashIds(h, e);
    bigs[name] = [e.length, sha(h)];
  }
  const lines = [
    `"size": ${size}`, `"special": ${JSON.stringify(special)}`, `"random": ${JSON.stringify(random)}`,
    `"random_decode": ${JSON.stringify(randomDecode)}`, `"random_ids": ${JSON.stringify(randomIds)}`, `"big": ${JSON.stringify(bigs)}`,
    `"decoded": ${JSON.stringify(decoded)}`, `"skipped": ${JSON.stringify(skipped)}`,
    `"ids": [\n${ids.map(x => JSON.stringify(x)).join(',\n')}\n]`,
  ];
  writeFileSync(join(here, 'vectors', file), `{\n${lines.join(',\n')}\n}\n`);
  console.log(family, size);
}
