// Accounts with passwords, and what a browser's cookie stands for. In memory: a real application keeps the accounts in
// its database.

import { randomBytes, randomUUID, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

const derive = promisify(scrypt);
// OWASP, "Password Storage Cheat Sheet", scrypt: 32 MiB for each password that is being checked.
const COST = { N: 2 ** 15, r: 8, p: 3, maxmem: 64 * 1024 * 1024 };
const HASH_BYTES = 32;

/** Accounts by name. */
export class Accounts {
  #all = new Map();
  // Checked where there is no such name, so that the time of an answer does not tell which names there are.
  #nobody = hash(randomBytes(32));

  /** A new account `{id, name}`; nothing if the name is taken. */
  async register(name, password) {
    const passwordHash = await hash(password);
    if (this.#all.has(name)) return undefined;
    // The id is what countersign knows the user by: it stays when the name changes, and says nothing.
    const account = { id: randomUUID(), name };
    this.#all.set(name, { account, passwordHash });
    return account;
  }

  /** The account of that name and password. */
  async find(name, password) {
    const found = this.#all.get(name);
    const { salt, key } = found?.passwordHash ?? (await this.#nobody);
    const right = timingSafeEqual(key, await derive(password, salt, HASH_BYTES, COST));
    return right ? found?.account : undefined;
  }
}

async function hash(password) {
  const salt = randomBytes(16);
  return { salt, key: await derive(password, salt, HASH_BYTES, COST) };
}

/** Values that are found by a random id, for so many seconds. */
export class Sessions {
  #all = new Map();

  constructor(seconds) {
    this.seconds = seconds;
  }

  /** Keeps a value, and returns its id: 256 random bits. */
  begin(value) {
    const now = Date.now();
    // All are kept for equally long, so the oldest come first.
    for (const [id, { ends }] of this.#all) {
      if (ends > now) break;
      this.#all.delete(id);
    }
    const id = randomBytes(32).toString('base64url');
    this.#all.set(id, { value, ends: now + 1000 * this.seconds });
    return id;
  }

  /** The value of an id that is not over. */
  find(id) {
    const found = this.#all.get(id);
    return found && found.ends > Date.now() ? found.value : undefined;
  }

  /** Ends one. */
  end(id) {
    this.#all.delete(id);
  }

  /** Ends the others that stand for the same value as this one. */
  endOthers(id) {
    const same = this.find(id);
    for (const [other, { value }] of this.#all) if (other !== id && value === same) this.#all.delete(other);
  }
}
