import { expect, test } from 'vitest'
import { findHierarchy, groupsIn } from './limits.ts'

const V2 = '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate'
const V1 = [
  '31 30 0:27 / /sys/fs/cgroup/pids rw shared:5 - cgroup cgroup rw,pids',
  '32 30 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory',
  '33 30 0:29 / /sys/fs/cgroup/unified rw shared:7 - cgroup2 cgroup2 rw',
].join('\n')

test('with version 2 the groups of jails lie below the group of the server', () => {
  expect(findHierarchy(V2, '0::/system.slice/agentgate.service\n')).toEqual({
    mechanism: 'cgroup2',
    folders: ['/sys/fs/cgroup/system.slice/agentgate.service'],
  })
})

test('with version 1 every controller has its own place, and an empty version 2 beside it is not used', () => {
  expect(findHierarchy(V1, '8:pids:/\n4:memory:/a/b\n0::/\n')).toEqual({
    mechanism: 'cgroup1',
    folders: ['/sys/fs/cgroup/pids', '/sys/fs/cgroup/memory/a/b'],
  })
})

test('in a container whose mount begins at its own group the path is not repeated', () => {
  const mounts = V1.replaceAll('0:27 /', '0:27 /docker/x').replaceAll('0:28 /', '0:28 /docker/x')

  expect(findHierarchy(mounts, '8:pids:/docker/x\n4:memory:/docker/x/inner\n')).toEqual({
    mechanism: 'cgroup1',
    folders: ['/sys/fs/cgroup/pids', '/sys/fs/cgroup/memory/inner'],
  })
})

test('without control groups there is no place', () => {
  expect(findHierarchy('22 1 8:1 / / rw - ext4 /dev/sda1 rw', '')).toBeUndefined()
})

test('a group that another server has removed meanwhile holds nothing', () => {
  expect(groupsIn('/sys/fs/cgroup/agentgate-gone')).toEqual([])
})
