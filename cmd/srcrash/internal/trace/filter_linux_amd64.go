package trace

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// argv0 is the name by which a program that calls Hook becomes the wrapper that
// installs the filter; with looking, one that stops also what only looks.
const (
	argv0   = "srcrash-traced"
	looking = "+looks"
)

// Hook makes this process the wrapper if it was started as one, and then does not
// return. A program that calls Run must call it first thing.
func Hook() {
	if os.Args[0] != argv0 && os.Args[0] != argv0+looking {
		return
	}
	runtime.LockOSThread()
	if err := install(os.Args[0] == argv0+looking); err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(126)
	}
	err := unix.Exec(os.Args[1], os.Args[1:], os.Environ())
	fmt.Fprintln(os.Stderr, os.Args[1], err)
	os.Exit(127)
}

const auditArch = 0xc000003e // AUDIT_ARCH_X86_64

// install makes the kernel stop this process and its descendants for their tracer
// at every call that is not known to be harmless, and with looks at those of these that
// look at files.
func install(looks bool) error {
	// struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6].
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	ret := func(value uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value} }
	// equal skips the next instruction unless the value is k.
	equal := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: 1}
	}
	unless := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: 1}
	}
	// A 32-bit program's calls have other numbers: none is let through unseen.
	program := []unix.SockFilter{load(4), unless(auditArch), ret(unix.SECCOMP_RET_KILL_PROCESS), load(0)}
	for _, nr := range harmless {
		if _, is := look[nr]; is && looks {
			continue
		}
		program = append(program, equal(uint32(nr)), ret(unix.SECCOMP_RET_ALLOW))
	}
	program = append(program, ret(unix.SECCOMP_RET_TRACE))
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, e := unix.Syscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)))
	if e != 0 {
		return e
	}
	return nil
}
