// Makes the component of src/provider.js and what it imports: {{name}}.wasm.
import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { name } = JSON.parse(await readFile('package.json', 'utf8'));
const { component } = await componentize({
  sourcePath: 'src/provider.js',
  witPath: 'wit',
  worldName: 'provider',
  // Providers have the `http` interface of their own world and no `wasi:http`.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(`${name}.wasm`, component);
console.log(`${name}.wasm: ${(component.length / 2 ** 20).toFixed(1)} MiB`);
