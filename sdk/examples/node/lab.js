// A client of a jsnats lab in one file: plain NATS, JSON bodies, nothing of jsnats installed.
// It follows schemas/README.md; the section names in the comments are from there.
"use strict";

const { randomBytes } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { connect, createInbox, headers, nkeyAuthenticator } = require("@nats-io/transport-node");

const WINDOW = 1024; // items that the exporter may be ahead of us
const TELL_BYTES = 4 << 20; // it also waits when 16 MiB are stored that it does not know to be used
const RESULTS = "JSNATS_RESULTS";

// "Names": bytes outside the alphabet become =XX.
const escapeUser = (name) =>
  [...Buffer.from(name)].map((byte) => {
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9_-]/.test(char) ? char : `=${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }).join("");

const withHeaders = (fields) => {
  const made = headers();
  for (const [name, value] of Object.entries(fields)) made.set(name, value);
  return made;
};

const control = (verb) => withHeaders({ "Jsnats-Version": "1", "Jsnats-Ctl": verb });
const parse = (bytes) => (bytes.length ? JSON.parse(Buffer.from(bytes).toString()) : null);

/** What an exporter refused or a driver raised. `code` and `type` are those of the table "Errors". */
class CallError extends Error {
  constructor(code, body) {
    super([body.path, body.method].filter(Boolean).join(".") + `: ${body.message}`);
    Object.assign(this, { code, type: body.type, path: body.path, method: body.method });
  }
}

const offline = (exporter) =>
  new CallError(503, { type: "ExporterOffline", path: exporter, message: "is offline" });

// A reply that is an error, as an Error; undefined for any other. The broker says "nobody listens" by status 503.
const errorOf = (message, exporter) => {
  if (message.headers?.code === 503) return offline(exporter);
  if (!message.headers?.has("Nats-Service-Error")) return undefined;
  return new CallError(Number(message.headers.get("Nats-Service-Error-Code")), parse(message.data));
};

/** Puts messages of results in order, each once ("Results in messages"). `take` returns the items that are due. */
class Assembler {
  constructor() {
    Object.assign(this, { index: 0, part: 0, ended: false, error: undefined, held: new Map(), fragments: [] });
  }

  take(message) {
    const [index, part] = [Number(message.headers.get("Jsnats-Index")), parseInt(message.headers.get("Jsnats-Part") || "0", 10)];
    if (this.ended || index < this.index || (index === this.index && part < this.part)) return [];
    this.held.set(`${index}/${part}`, message);
    const items = [];
    for (let due; !this.ended && (due = this.held.get(`${this.index}/${this.part}`)); ) {
      this.held.delete(`${this.index}/${this.part}`);
      items.push(...this.accept(due));
    }
    return items;
  }

  accept(message) {
    const end = message.headers.get("Jsnats-End");
    if (end) {
      this.ended = true;
      if (end !== "ok") this.error = new CallError(Number(message.headers.get("Nats-Service-Error-Code")), parse(message.data));
      return [];
    }
    this.fragments.push(message.data);
    const count = Number((message.headers.get("Jsnats-Part") || "0/1").split("/")[1]);
    if (this.fragments.length < count) {
      this.part += 1;
      return [];
    }
    const items = parse(Buffer.concat(this.fragments.splice(0)));
    [this.index, this.part] = [this.index + items.length, 0];
    return items;
  }
}

/** A connection to a lab as the principal of a context file. */
class Lab {
  static async connect(file) {
    const context = JSON.parse(readFileSync(file, "utf8"));
    const lab = new Lab();
    lab.user = escapeUser(context.name);
    lab.inboxes = `jsnats.reply.${lab.user}`; // replies anywhere else are ignored ("Inbound checks")
    lab.nc = await connect({
      servers: context.url.split(","),
      inboxPrefix: lab.inboxes,
      authenticator: context.seed ? nkeyAuthenticator(Buffer.from(context.seed)) : undefined,
    });
    return lab;
  }

  close() {
    return this.nc.close();
  }

  /** All exporters that are there, with their methods ("Discovery"). */
  async exporters() {
    const found = [];
    for await (const answer of await this.nc.requestMany("$SRV.INFO.jsnats-exporter", "", { maxWait: 1000, jitter: 250 })) {
      const { metadata, id, endpoints } = answer.json();
      found.push({ exporter: metadata.exporter, instance: id, methods: endpoints.map((each) => each.metadata) });
    }
    return found;
  }

  /** What happens from now on, in the lab or to one exporter: CloudEvents ("Events"). One may come twice, with its id. */
  async *events(exporter = "*") {
    for await (const message of this.nc.subscribe(`jsnats.event.${exporter}.>`)) yield parse(message.data);
  }

  /** Call `method` ("dut.power.on"). `args` is an array (by position), an object (by name) or undefined. */
  async call(exporter, method, args, timeout = 10_000) {
    const id = randomBytes(16).toString("hex");
    const options = { timeout, headers: withHeaders({ "Jsnats-Version": "1", "Jsnats-Call": id }) };
    const body = args === undefined ? "" : JSON.stringify(args);
    let message;
    try {
      message = await this.nc.request(`jsnats.call.${exporter}.${this.user}.${method}`, body, options);
    } catch (error) {
      if (/no responders/i.test(error.message)) throw offline(exporter);
      this.nc.publish(`jsnats.ctl.${exporter}.${this.user}.${id}`, "", { headers: control("cancel") });
      throw error;
    }
    const failed = errorOf(message, exporter);
    if (failed) throw failed;
    if (message.headers?.has("Jsnats-Interim")) throw new Error(`${method} gives a stream: use stream()`);
    if (!message.headers?.has("Jsnats-Parts")) return parse(message.data);
    return await this.#bigResult(exporter, id);
  }

  /**
   * Call a generator and yield its items, each once and in order; of any other method its result.
   * The exporter waits when we do not read.
   */
  async *stream(exporter, method, args) {
    const id = randomBytes(16).toString("hex");
    const ctl = `jsnats.ctl.${exporter}.${this.user}.${id}`;
    const assembler = new Assembler();
    const queue = [];
    let [used, granted, bytes, failure, wake] = [0, 1, 0, undefined, () => {}];
    const finish = (error) => { failure ??= error; wake(); };
    const take = (message) => {
      bytes += message.data.length;
      queue.push(...assembler.take(message));
      wake();
    };
    const credit = () => JSON.stringify({ used, credit: granted });

    const live = this.nc.subscribe(`jsnats.live.${this.user}.${exporter}.${id}`, {
      callback: (error, message) => { if (!error && isOurs(message)) take(message); },
    });
    const replies = this.nc.subscribe(createInbox(this.inboxes), {
      callback: (error, message) => {
        const failed = error || errorOf(message, exporter);
        if (failed) finish(failed);
        else settle(message).catch(finish);
      },
    });
    // "Keepalive": a reader that is silent for 4 s is taken for dead. The answer also tells what we have missed.
    const look = async () => {
      const answer = await this.nc.request(ctl, credit(), { timeout: 10_000, headers: control("probe") });
      const { state, stored } = parse(answer.data);
      if (state === "unknown") throw new CallError(409, { type: "OutcomeUnknown", method, message: "the exporter was restarted" });
      const behind = stored && (stored[0] > assembler.index || (stored[0] === assembler.index && stored[1] > assembler.part));
      if (behind) await readStored();
    };
    const readStored = async () => { for await (const message of this.#stored(exporter, id)) take(message); };
    // A method that is no generator answers with its result: the only item. A big one is stored as that.
    const settle = async (message) => {
      if (message.headers?.has("Jsnats-Interim") || assembler.ended) return;
      if (message.headers?.has("Jsnats-Parts")) return readStored();
      queue.push(parse(message.data));
      assembler.ended = true;
      wake();
    };
    // Nobody serves the call any more: what is stored is all there is, and without an end it is an error.
    const lost = async (error) => {
      await readStored();
      finish(/no responders/i.test(error.message) ? offline(exporter) : error);
    };
    const keepalive = setInterval(() => look().catch(lost).catch(finish), 1000);
    try {
      this.nc.publish(`jsnats.call.${exporter}.${this.user}.${method}`, args === undefined ? "" : JSON.stringify(args), {
        reply: replies.getSubject(),
        headers: withHeaders({ "Jsnats-Version": "1", "Jsnats-Call": id }),
      });
      while (true) {
        while (queue.length) {
          used += 1;
          // Slow start: the first item opens the window, then it is renewed when half of it is used.
          if (used + WINDOW - granted >= WINDOW / 2 || (bytes > TELL_BYTES && queue.length === 1)) {
            [granted, bytes] = [used + WINDOW, 0];
            this.nc.publish(ctl, credit(), { headers: control("credit") });
          }
          yield queue.shift();
        }
        if (assembler.error) throw assembler.error;
        if (assembler.ended) return;
        if (failure) throw failure;
        await new Promise((resolve) => { wake = resolve; });
      }
    } finally {
      clearInterval(keepalive);
      if (!assembler.ended && !failure) this.nc.publish(ctl, "", { headers: control("cancel") });
      live.unsubscribe();
      replies.unsubscribe();
    }
  }

  async #bigResult(exporter, id) {
    const assembler = new Assembler();
    const items = [];
    for await (const message of this.#stored(exporter, id)) items.push(...assembler.take(message));
    if (!assembler.ended || !items.length) throw new Error("the stored result is incomplete: it may have expired");
    return items[0];
  }

  // "Reading what is stored": a pull consumer with a random name; it goes away by itself.
  async *#stored(exporter, id) {
    const name = randomBytes(16).toString("hex");
    const filter = `jsnats.result.${this.user}.${exporter}.${id}`;
    const config = { name, ack_policy: "none", deliver_policy: "all", filter_subject: filter, mem_storage: true, inactive_threshold: 10e9 };
    const create = JSON.stringify({ stream_name: RESULTS, config });
    const created = (await this.nc.request(`$JS.API.CONSUMER.CREATE.${RESULTS}.${name}.${filter}`, create)).json();
    if (created.error) throw new Error(created.error.description);
    const pulled = this.nc.subscribe(createInbox(this.inboxes), { timeout: 5000 });
    const next = () => this.nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${RESULTS}.${name}`, '{"batch":512,"no_wait":true}', { reply: pulled.getSubject() });
    let [pending, taken] = [created.num_pending, 0];
    try {
      if (!pending) return;
      next();
      for await (const message of pulled) {
        if (message.headers?.code) return; // a status: there is no more
        yield message;
        // $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<time>.<pending>
        pending = Number(message.reply.split(".")[8]);
        if (!pending) return;
        if (++taken % 512 === 0) next();
      }
    } finally {
      pulled.unsubscribe();
    }
  }
}

// "Inbound checks": stamped once by our stream, and stored under the twin of the subject it came on.
const isOurs = (message) => {
  const streams = message.headers?.values("Nats-Stream") || [];
  const twin = message.subject.replace(/^jsnats\.live\./, "jsnats.result.");
  return streams.length === 1 && streams[0] === RESULTS && message.headers.values("Nats-Subject").join() === twin;
};

module.exports = { CallError, Lab, escapeUser };
