import { existsSync, lstatSync, readlinkSync, realpathSync } from 'node:fs'
import { dirname } from 'node:path'
import type { JailedCommand, JailLimits, JailMount } from './command.ts'
import type { JailFiles } from './jail-files.ts'

export const WORKSPACE = '/workspace'
const HOME = '/home/agent'
const NODE = '/opt/node'
const PROXY_SOCKET = '/run/agentgate/proxy.sock'
const FORWARDER = '/run/agentgate/forward.mjs'
const PROXY_PORT = 3128
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'

/** Host files that programs expect and that say nothing about the host. */
const HOST_FILES = [
  '/etc/alternatives',
  '/etc/ld.so.cache',
  '/etc/localtime',
  '/etc/mime.types',
  '/etc/ssl/certs',
  '/etc/ssl/openssl.cnf',
]

const ETC_FILES = ['passwd', 'group', 'hosts', 'nsswitch.conf']

export interface View {
  files: JailFiles
  limits: JailLimits
  /** Whether the kernel can be told to refuse user namespaces inside. */
  disableUserns: boolean
}

/** bwrap's options for one command: everything the command will see. */
export function bwrapOptions(view: View, command: JailedCommand): string[] {
  const { files, limits } = view
  const tmpfs = (path: string): string[] => ['--size', String(limits.tmpBytes), '--tmpfs', path]
  return [
    ['--unshare-all', '--unshare-user', ...(view.disableUserns ? ['--disable-userns'] : [])],
    ['--die-with-parent', '--new-session', '--cap-drop', 'ALL', '--json-status-fd', '3'],
    ['--uid', '1000', '--gid', '1000', '--hostname', 'agentgate'],
    ['--ro-bind', '/usr', '/usr', ...systemLinks()],
    ['--proc', '/proc', '--dev', '/dev', ...tmpfs('/dev/shm'), ...tmpfs('/tmp'), ...tmpfs(HOME)],
    ['--symlink', '../tmp', '/var/tmp'],
    ...HOST_FILES.map((path) => ['--ro-bind-try', path, path]),
    ...ETC_FILES.map((name) => ['--ro-bind', `${files.folder}/etc/${name}`, `/etc/${name}`]),
    nodeMounts(files),
    ['--bind', command.workspace, WORKSPACE],
    ...(command.mounts ?? []).map(({ source, target, readOnly }) => [
      readOnly ? '--ro-bind' : '--bind',
      source,
      target,
    ]),
    networkMounts(files, command),
    // Last, because mounting inside them needs them writable.
    ['--remount-ro', '/dev', '--remount-ro', '/', '--chdir', command.cwd ?? WORKSPACE, '--clearenv'],
    ...Object.entries(jailEnv(files, command)).map(([name, value]) => ['--setenv', name, value]),
  ].flat()
}

/**
 * Mounts that let a command commit but neither configure git nor plant hooks, nor put another `.git` in the place
 * of this one. The repository must have `.git/config` and `.git/hooks`.
 * The rest of `.git` stays the agent's to write, so git outside the jail must still not trust it.
 */
export function protectGit(workspace: string): JailMount[] {
  const mount = (path: string, readOnly: boolean): JailMount => ({
    source: `${workspace}/${path}`,
    target: `${WORKSPACE}/${path}`,
    readOnly,
  })
  // A mount point cannot be renamed, so `.git` is one itself.
  return [mount('.git', false), mount('.git/config', true), mount('.git/hooks', true)]
}

/** The command with the forwarder around it when it has a network. */
export function innerWords(files: JailFiles, command: JailedCommand): readonly string[] {
  if (command.network === undefined) return command.argv
  const node = files.node === undefined ? realpathSync(process.execPath) : `${NODE}/bin/node`
  return [node, FORWARDER, String(PROXY_PORT), PROXY_SOCKET, ...command.argv]
}

/** `/bin` and the like as they are on the host: links into `/usr`, or folders on older systems. */
function systemLinks(): string[] {
  return ['/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32']
    .filter(existsSync)
    .flatMap((path) =>
      lstatSync(path).isSymbolicLink() ? ['--symlink', readlinkSync(path), path] : ['--ro-bind', path, path],
    )
}

/** The server's own node when it is not part of `/usr`: only the program and npm, nothing around them. */
function nodeMounts(files: JailFiles): string[] {
  if (files.node === undefined) return []
  const npm = `${NODE}/lib/node_modules/npm`
  return [
    ['--ro-bind', files.node.program, `${NODE}/bin/node`, '--ro-bind-try', files.node.npm, npm],
    ['--symlink', '../lib/node_modules/npm/bin/npm-cli.js', `${NODE}/bin/npm`],
    ['--symlink', '../lib/node_modules/npm/bin/npx-cli.js', `${NODE}/bin/npx`],
  ].flat()
}

function networkMounts(files: JailFiles, command: JailedCommand): string[] {
  if (command.network === undefined) return []
  const { proxySocket } = command.network
  return ['--ro-bind', files.forwarder, FORWARDER, '--bind', proxySocket, PROXY_SOCKET]
}

function jailEnv(files: JailFiles, command: JailedCommand): Record<string, string> {
  const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
  return {
    PATH: files.node === undefined ? path : `${NODE}/bin:${path}`,
    HOME,
    USER: 'agent',
    LOGNAME: 'agent',
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    TMPDIR: '/tmp',
    PWD: command.cwd ?? WORKSPACE,
    ...(command.network === undefined ? {} : proxyEnv()),
    ...command.env,
  }
}

/** What makes npm, pip, curl and git use the proxy and trust the host's certificates. */
function proxyEnv(): Record<string, string> {
  const url = `http://127.0.0.1:${PROXY_PORT}`
  const proxies = [
    'HTTP_PROXY',
    'HTTPS_PROXY',
    'http_proxy',
    'https_proxy',
    'npm_config_proxy',
    'npm_config_https_proxy',
  ]
  const authorities = [
    'NODE_EXTRA_CA_CERTS',
    'npm_config_cafile',
    'SSL_CERT_FILE',
    'REQUESTS_CA_BUNDLE',
    'PIP_CERT',
    'CURL_CA_BUNDLE',
    'GIT_SSL_CAINFO',
  ]
  return {
    ...Object.fromEntries(proxies.map((name) => [name, url])),
    ...(existsSync(CERTIFICATES) ? Object.fromEntries(authorities.map((name) => [name, CERTIFICATES])) : {}),
    NO_PROXY: 'localhost,127.0.0.1',
    no_proxy: 'localhost,127.0.0.1',
  }
}

/** The environment of an unjailed command: the same names, with folders of the host. */
export function openEnv(command: JailedCommand): Record<string, string> {
  return {
    PATH: `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`,
    HOME: command.workspace,
    LANG: 'C.UTF-8',
    TERM: 'dumb',
    ...command.env,
  }
}

/** A folder inside the jail as the host sees it; nothing when it lies outside the workspace. */
export function hostFolder(command: JailedCommand): string | undefined {
  const cwd = command.cwd ?? WORKSPACE
  if (cwd !== WORKSPACE && !cwd.startsWith(`${WORKSPACE}/`)) return undefined
  return command.workspace + cwd.slice(WORKSPACE.length)
}
