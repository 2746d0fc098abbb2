package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// settings are what oned must know of the drivers, for all its releases, between two lines by which they are found again.
const settings = `# onereflink: begin (onereflink configure wrote this, and removes it with --undo)
TM_MAD_CONF = [ NAME = "reflink", LN_TARGET = "NONE", CLONE_TARGET = "SYSTEM", SHARED = "YES", ALLOW_ORPHANS = "YES", DS_MIGRATE = "YES", DS_MIGRATE_SNAP = "YES" ]
DS_MAD_CONF = [ NAME = "reflink", REQUIRED_ATTRS = "", PERSISTENT_ONLY = "NO", MARKETPLACE_ACTIONS = "export" ]
INHERIT_DATASTORE_ATTR = "REFLINK_ALLOW_COPY"
# onereflink: end
`

var (
	written = regexp.MustCompile(`(?ms)^# onereflink: begin.*?^# onereflink: end\n`)
	live    = regexp.MustCompile(`(?m)^([ \t]*LIVE_DISK_SNAPSHOTS[ \t]*=[ \t]*")([^"\n]*)(")`)
)

// lists are the lists of drivers in oned.conf, each with how its items are parted.
var lists = []struct{ section, flag string }{{"TM_MAD", "-d"}, {"DATASTORE_MAD", "-d"}, {"DATASTORE_MAD", "-s"}}

// configure adds the drivers to oned.conf and vmmExec (vmm_execrc), or takes them out. Done twice it changes nothing.
func configure(conf, vmmExec string, undo bool) error {
	text, err := os.ReadFile(conf) // #nosec G304 -- named by the administrator
	if err != nil {
		return err
	}
	exec, err := os.ReadFile(vmmExec) // #nosec G304 -- the same
	if err != nil {
		return err
	}
	changed := written.ReplaceAllString(string(text), "")
	for _, l := range lists {
		if changed, err = inList(changed, l.section, l.flag, undo); err != nil {
			return fmt.Errorf("%s: %w; nothing was changed", conf, err)
		}
	}
	if !undo {
		if !strings.HasSuffix(changed, "\n") {
			changed += "\n"
		}
		changed += settings
	}
	if !live.Match(exec) {
		return fmt.Errorf("%s has no line LIVE_DISK_SNAPSHOTS=\"...\"; nothing was changed", vmmExec)
	}
	snapshots := live.ReplaceAllStringFunc(string(exec), func(line string) string {
		m := live.FindStringSubmatch(line)
		return m[1] + strings.Join(with(strings.Fields(m[2]), "kvm-"+driver, undo), " ") + m[3]
	})
	if err := replace(conf, text, changed); err != nil {
		return err
	}
	return replace(vmmExec, exec, snapshots)
}

// with is a list with the item at its end, or without it.
func with(list []string, item string, without bool) []string {
	if has := slices.Contains(list, item); has && !without {
		return list
	}
	list = slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == item })
	if !without {
		list = append(list, item)
	}
	return list
}

// inList puts the driver into the list that follows a flag in the arguments of a section, or takes it out.
func inList(text, section, flag string, undo bool) (string, error) {
	block := regexp.MustCompile(`(?m)^[ \t]*` + section + `[ \t]*=[ \t]*\[[^\]]*\]`)
	at := block.FindStringIndex(text)
	if at == nil {
		return "", fmt.Errorf("there is no section %s = [ ... ]", section)
	}
	list := regexp.MustCompile(`(?m)^([^#\n]*ARGUMENTS[ \t]*=[ \t]*"(?:[^"\n]*[ \t])?` + flag + `[ \t]+)([^" \t\n]+)`)
	found := list.FindStringSubmatchIndex(text[at[0]:at[1]])
	if found == nil {
		return "", fmt.Errorf("the ARGUMENTS of %s have no list %s of drivers", section, flag)
	}
	from, to := at[0]+found[4], at[0]+found[5]
	return text[:from] + strings.Join(with(strings.Split(text[from:to], ","), driver, undo), ",") + text[to:], nil
}

// replace gives a file other contents, with the owner and mode that it has, whole or not at all.
func replace(path string, before []byte, after string) error {
	if string(before) == after {
		return nil
	}
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".onereflink-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(after); err != nil {
		return err
	}
	if os.Getuid() == 0 {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(os.FileMode(st.Mode & 0o777)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
