/** nginx in front of a server, as a reverse proxy that keeps its connections. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { temporaryFolder } from '../../support/program.mjs';
import { Wire } from '../../support/wire.mjs';

export const hasNginx = () => spawnSync('nginx', ['-v']).status === 0;

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

const configuration = (folder, port, to) => `
daemon off; worker_processes 1; pid ${folder}/pid; error_log /dev/null;
events { worker_connections 1024; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join(' ')}
  upstream server { server 127.0.0.1:${to}; keepalive 4; }
  server {
    listen 127.0.0.1:${port};
    ignore_invalid_headers off;
    underscores_in_headers on;
    location / {
      proxy_pass http://server;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_next_upstream off;
      proxy_ignore_client_abort on;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
    }
  }
}`;

/** Starts it before the port `to` and resolves with its port; ended after the test. */
export async function startNginx(t, to) {
  const folder = await temporaryFolder(t);
  const port = await freePort();
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'nginx.conf'), configuration(folder, port, to));
  const args = ['-c', join(folder, 'nginx.conf'), '-p', folder];
  const child = spawn('nginx', args, { stdio: 'ignore' });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  t.after(async () => {
    child.kill('SIGQUIT');
    const patience = setTimeout(() => child.kill('SIGKILL'), 5000);
    await gone;
    clearTimeout(patience);
  });
  for (let waited = 0; waited < 10_000; waited += 50) {
    const wire = await Wire.open(port).catch(() => null);
    if (wire) {
      wire.destroy();
      return port;
    }
    await sleep(50);
  }
  throw new Error('nginx does not accept connections');
}
