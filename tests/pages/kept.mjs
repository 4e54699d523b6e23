// What an oidc-provider keeps of one kind. It outlives a change of its keys.
export class Kept {
  static all = new Map();

  constructor(kind) {
    this.kind = kind;
  }

  key(id) {
    return `${this.kind}:${id}`;
  }

  async upsert(id, payload) {
    Kept.all.set(this.key(id), payload);
  }

  async find(id) {
    return Kept.all.get(this.key(id));
  }

  async findByUid(uid) {
    return [...Kept.all].find(([key, { uid: found }]) => key.startsWith(`${this.kind}:`) && found === uid)?.[1];
  }

  async consume(id) {
    (await this.find(id)).consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    Kept.all.delete(this.key(id));
  }

  async revokeByGrantId(grant) {
    for (const [key, { grantId }] of Kept.all) if (grantId === grant) Kept.all.delete(key);
  }

  // Takes back all tokens that were given for this account.
  static revoke(accountId) {
    const isToken = (key) => /^(Access|Refresh)Token:/.test(key);
    for (const [key, kept] of Kept.all) if (kept.accountId === accountId && isToken(key)) Kept.all.delete(key);
  }
}
