package xfs

import (
	"slices"
	"strings"
)

// options are those that mkfs.xfs is told so that Linux 4.19 can mount what it makes. What it makes by default and is
// not here shows in the superblock.
var options = []struct{ flag, name, value string }{
	{"-m", "reflink", "1"}, {"-m", "rmapbt", "0"}, {"-m", "inobtcount", "0"}, {"-m", "bigtime", "0"}, {"-m", "metadir", "0"},
	{"-i", "nrext64", "0"}, {"-i", "exchange", "0"}, {"-n", "parent", "0"},
}

// MkfsOptions are the options that have a mkfs.xfs make a filesystem that shares blocks and that Linux 4.19 can mount, as
// far as it has them by usage, the text that it prints when it is called without arguments. able: it has what is needed for the former.
func MkfsOptions(usage string) (args []string, able bool) {
	words := strings.FieldsFunc(usage, func(r rune) bool { return strings.ContainsRune(", \t\n[]()", r) })
	for _, o := range options {
		if slices.Contains(words, o.name+"=0|1") {
			args = append(args, o.flag, o.name+"="+o.value)
			able = able || o.name == "reflink"
		}
	}
	return args, able
}
