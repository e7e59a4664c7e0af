/** Mail servers on loopback: one that takes mails, and ones that do what mail servers do on bad days. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { simpleParser } from 'mailparser';
import { SMTPServer } from 'smtp-server';

const PATIENCE_MS = 12_000;

/** A reply of the server's choice: `refuse(550, 'no')` is to be thrown. */
export const refuse = (responseCode, text) => Object.assign(new Error(text), { responseCode });

/** Waits until it gives something. */
export async function eventually(what, look, patienceMs = PATIENCE_MS) {
  for (let waited = 0; waited < patienceMs; waited += 25) {
    const found = await look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`never came: ${what}`);
}

/** A certificate of our own for 127.0.0.1: its files, and texts for a server. */
export function certificate(t) {
  const folder = mkdtempSync(join(tmpdir(), 'bakend-certificate-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert], {
    stdio: 'ignore',
  });
  return { file: cert, key: readFileSync(key), cert: readFileSync(cert) };
}

/**
 * Takes mails and keeps them, parsed.
 * @param {object} [options] of smtp-server; without a key it offers no encryption
 * @param {{port?: number, logins?: Record<string, string>, on?: Record<string, Function>}} [own]
 *   logins: who may, with which password; on: mailFrom, rcptTo, data (see smtp-server), which may
 *   throw refuse(…) or return a promise
 */
export async function startMailServer(t, options = {}, { port = 0, logins, on = {} } = {}) {
  const server = { mails: [], logins: [], sessions: 0 };
  const ask = (name, args, callback) =>
    Promise.resolve()
      .then(() => on[name]?.(...args))
      .then(() => callback(), callback);
  const smtp = new SMTPServer({
    disabledCommands: options.key ? [] : ['STARTTLS'],
    authOptional: !logins,
    allowInsecureAuth: true,
    logger: false,
    closeTimeout: 100,
    ...options,
    onConnect: (session, callback) => {
      server.sessions++;
      callback();
    },
    onAuth: ({ method, username, password }, session, callback) => {
      server.logins.push({ method, username, secure: session.secure });
      const isRight = logins?.[username] === password;
      callback(isRight ? null : refuse(535, 'who are you?'), isRight && { user: username });
    },
    onMailFrom: (address, session, callback) => ask('mailFrom', [address, session], callback),
    onRcptTo: (address, session, callback) => ask('rcptTo', [address, session], callback),
    onData: async (stream, session, callback) => {
      const parts = [];
      for await (const part of stream) parts.push(part);
      const raw = Buffer.concat(parts);
      const mail = await simpleParser(raw, { skipTextLinks: true });
      mail.raw = raw.toString('latin1');
      mail.recipients = session.envelope.rcptTo.map(({ address }) => address);
      mail.secure = session.secure;
      ask('data', [mail, session], (error) => {
        if (!error) server.mails.push(mail);
        callback(error);
      });
    },
  });
  smtp.on('error', () => {});
  server.close = () => new Promise((resolve) => smtp.close(resolve));
  t.after(() => server.close());
  const listener = smtp.listen(port, '127.0.0.1');
  await once(listener, 'listening');
  server.port = listener.address().port;
  /** The next mail to that address. */
  server.take = (address, patienceMs) =>
    eventually(
      `a mail to ${address}`,
      () => {
        const index = server.mails.findIndex(({ recipients }) => recipients.includes(address));
        return index < 0 ? null : server.mails.splice(index, 1)[0];
      },
      patienceMs,
    );
  return server;
}

/** A server of few words: what `talk(socket)` says. Connections are cut after the test. */
export async function startRawServer(t, talk) {
  const sockets = new Set();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
    socket.setEncoding('latin1');
    talk(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () =>
    new Promise((resolve) => {
      for (const socket of sockets) socket.destroy();
      server.close(resolve);
    });
  t.after(close);
  return { port: server.address().port, sockets, close };
}
