// Makes the Parquet files beside it from the JSON lines beside it, by three writers that
// have nothing to do with ours: DuckDB (C++), Apache Arrow (Rust), hyparquet (JavaScript).
//
//	npm install --prefix DIR @duckdb/node-api@1.5.6-r.1 parquet-wasm@0.8.0 apache-arrow@21.2.0 hyparquet-writer@0.17.0
//	node testdata/parquet.mjs DIR
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const { resolve } = createRequire(join(process.argv[2], 'x.js'));
const load = async name => import(pathToFileURL(resolve(name)));
const lines = name => readFileSync(join(here, name + '.jsonl'), 'utf8').trim().split('\n').map(line => JSON.parse(line));
const save = (name, bytes) => writeFileSync(join(here, name + '.parquet'), bytes);

const { DuckDBInstance } = await load('@duckdb/node-api');
const db = await (await DuckDBInstance.create()).connect();
const turns = 'STRUCT("role" VARCHAR, content VARCHAR)[]';
for (const [name, codec, columns, options] of [
  ['questions', 'snappy', "question: 'VARCHAR', answer: 'VARCHAR', family: 'VARCHAR', n: 'BIGINT', score: 'DOUBLE', sure: 'BOOLEAN', chains: 'VARCHAR[]', origin: 'STRUCT(page INTEGER, book VARCHAR)', note: 'VARCHAR'", ''],
  ['messages', 'zstd', `messages: '${turns}', source: 'VARCHAR'`, ''],
  ['prompts', 'gzip', `prompt: '${turns}', completion: '${turns}'`, ''],
  ['texts', 'snappy', "text: 'VARCHAR'", ', ROW_GROUP_SIZE 2048'],
]) {
  await db.run(`COPY (SELECT * FROM read_json('${join(here, name)}.jsonl', format = 'newline_delimited', columns = {${columns}}))
    TO '${join(here, name)}.duckdb.parquet' (FORMAT parquet, CODEC ${codec}${options})`);
}

const arrow = await load('apache-arrow');
const wasm = await load('parquet-wasm');
const { Utf8, Int64, Float64, Bool, List, Struct, Field, Int32 } = arrow;
const messages = new List(new Field('item', new Struct([new Field('role', new Utf8(), true), new Field('content', new Utf8(), true)]), true));
for (const [name, version, codec, types] of [
  ['questions', 'V2', 'ZSTD', { question: new Utf8(), answer: new Utf8(), family: new Utf8(), n: new Int64(), score: new Float64(), sure: new Bool(), chains: new List(new Field('item', new Utf8(), true)), origin: new Struct([new Field('page', new Int32(), true), new Field('book', new Utf8(), true)]), note: new Utf8() }],
  ['messages', 'V2', 'SNAPPY', { messages, source: new Utf8() }],
  ['prompts', 'V1', 'GZIP', { prompt: messages, completion: messages }],
  ['texts', 'V1', 'UNCOMPRESSED', { text: new Utf8() }],
]) {
  const rows = lines(name);
  const columns = Object.fromEntries(Object.entries(types).map(([field, type]) => [field,
    arrow.vectorFromArray(rows.map(row => field === 'n' && row[field] !== null ? BigInt(row[field]) : row[field]), type)]));
  const table = wasm.Table.fromIPCStream(arrow.tableToIPC(new arrow.Table(columns), 'stream'));
  const options = new wasm.WriterPropertiesBuilder().setCompression(wasm.Compression[codec]).setDataPageSizeLimit(256).setWriteBatchSize(4).setMaxRowGroupSize(5).setWriterVersion(wasm.WriterVersion[version]).build();
  save(name + '.arrow', wasm.writeParquet(table, options));
}

// odd has the columns of which JSON has no word, or several; parquet_test.go says what is read.
const { parquetWriteBuffer } = await load('hyparquet-writer');
const bytes = text => new TextEncoder().encode(text);
const column = (name, type, data, rest) => ({ name, type, data, ...rest });
save('texts.hyparquet', new Uint8Array(parquetWriteBuffer({ columnData: [column('text', 'STRING', lines('texts').map(row => row.text))] })));
const odd = [
  column('question', 'BYTE_ARRAY', [bytes('not said to be text: ä'), bytes('b')]), column('answer', 'STRING', ['1', '2']),
  column('image', 'BYTE_ARRAY', [new Uint8Array([0xff, 0xd8, 0xff]), bytes('png')]), column('nan', 'DOUBLE', [NaN, -0.1]), column('half', 'FLOAT', [0.1, Infinity]),
  column('day', 'INT32', [20000, 20001]), column('price', undefined, [12.5, -1]), column('unsigned', undefined, [4294967295, 1]), column('id', 'UUID', ['00112233-4455-6677-8899-aabbccddeeff', '00112233-4455-6677-8899-aabbccddeeff']), column('a "b" \u00df', 'BOOLEAN', [true, false]),
];
const element = { price: { type: 'INT32', converted_type: 'DECIMAL', scale: 2, precision: 6 }, unsigned: { type: 'INT32', converted_type: 'UINT_32' }, day: { type: 'INT32', converted_type: 'DATE' } };
const types = { UUID: { type: 'FIXED_LEN_BYTE_ARRAY', type_length: 16, logical_type: { type: 'UUID' } }, STRING: { type: 'BYTE_ARRAY', converted_type: 'UTF8' } };
save('odd.hyparquet', new Uint8Array(parquetWriteBuffer({ columnData: odd.map(({ name, data }) => ({ name, data })), schema: [{ name: 'root', num_children: odd.length },
  ...odd.map(({ name, type }) => ({ name, repetition_type: 'REQUIRED', ...(element[name] ?? types[type] ?? { type }) }))] })));
