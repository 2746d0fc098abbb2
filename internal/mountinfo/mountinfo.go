package mountinfo

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// unescape undoes the octal escapes (\040 for a blank) of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Entry is a line of mountinfo.
type Entry struct {
	ID       string // of the mount
	Device   string // major:minor
	Path     string
	Kind     string
	Source   string
	ReadOnly bool   // the filesystem, not this mount of it alone
	Root     string // the directory of the filesystem that is mounted there: "/" is all of it
}

// Parse reads /proc/self/mountinfo (proc_pid_mountinfo(5)).
func Parse(mountinfo string) []Entry {
	var out []Entry
	for line := range strings.Lines(mountinfo) {
		left, right, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		// Only a blank separates: of all that some call white space the kernel escapes
		// no more than blank, tab, line break and backslash.
		fields, more := strings.Split(left, " "), strings.Split(right, " ")
		if !ok || len(fields) < 6 || len(more) < 2 {
			continue
		}
		if path := unescape(fields[4]); filepath.IsAbs(path) {
			options := more[len(more)-1]
			out = append(out, Entry{fields[0], fields[2], path, more[0], unescape(more[1]), options == "ro" || strings.HasPrefix(options, "ro,"), unescape(fields[3])})
		}
	}
	return out
}

// At lists what is mounted at path, the visible one last.
func At(path string) ([]Entry, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	all := Parse(string(data))
	return slices.DeleteFunc(all, func(e Entry) bool { return e.Path != path }), nil
}
