// Lets Node.js find test/host.js where the component finds its host.
export function resolve(specifier, context, next) {
  if (!specifier.startsWith('countersign:provider/')) return next(specifier, context);
  return { url: new URL('host.js', import.meta.url).href, shortCircuit: true };
}
