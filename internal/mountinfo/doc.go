// Package mountinfo reads the kernel's table of mounts (proc_pid_mountinfo(5)) and asks none of the filesystems in it.
package mountinfo
