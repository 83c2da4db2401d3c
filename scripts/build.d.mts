/** The built program of the present sources that begins with `entry`, a path in the repository. */
export function builtProgram(entry?: string): Promise<string>
