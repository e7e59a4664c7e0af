/** A WebSocket client of realtime: answers by id, events in the order in which they came. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';

const PATIENCE_MS = 15_000;

export class Listener {
  #next = 1;
  #answers = new Map();
  events = [];
  messages = [];
  code = null;
  reason = '';

  static async connect(server, { token, tenant, options = {} } = {}) {
    const listener = new Listener();
    const headers = {};
    if (token) headers.authorization = token;
    if (tenant) headers['x-bakend-tenant'] = tenant;
    const url = `${server.url.replace('http', 'ws')}/api/realtime`;
    const socket = new WebSocket(url, { headers, perMessageDeflate: false, ...options });
    listener.socket = socket;
    socket.on('message', (data) => listener.#take(JSON.parse(data.toString())));
    listener.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => {
        listener.code = code;
        listener.reason = reason.toString();
        resolve(code);
      });
    });
    await new Promise((resolve, reject) => {
      socket.on('open', resolve);
      socket.on('error', reject);
    });
    return listener;
  }

  #take(message) {
    this.messages.push(message);
    if (message.op === 'event') this.events.push(message);
    else this.#answers.get(message.id)?.(message);
  }

  /** Sends a message and resolves with the answer of its id. */
  ask(message) {
    const id = this.#next++;
    const answer = new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${message.op}`)), PATIENCE_MS);
      this.#answers.set(id, (each) => {
        clearTimeout(timer);
        resolve(each);
      });
    });
    this.socket.send(JSON.stringify({ id, ...message }));
    return answer;
  }

  async subscribe(wish) {
    const answer = await this.ask({ op: 'subscribe', ...wish });
    assert.equal(answer.ok, true, JSON.stringify(answer));
    return answer;
  }

  /** Waits until so many events have come, and a little for one too many. */
  async until(count) {
    for (let waited = 0; waited < PATIENCE_MS && this.events.length < count; waited += 10)
      await sleep(10);
    await sleep(50);
    assert.equal(this.events.length, count, `${this.events.length} of ${count} events`);
    return this.events;
  }

  get sequences() {
    return this.events.map(({ event }) => event.sequence);
  }

  async close() {
    this.socket.close();
    await this.closed;
  }
}
