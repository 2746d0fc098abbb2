package scripts

import (
	"fmt"
	"strings"
)

// Usage is the description of one verb.
func Usage(name string) (string, error) {
	for _, v := range table {
		if v.name == name {
			return v.usage + "\n\n" + v.about, nil
		}
	}
	return "", fmt.Errorf("there is no verb %q; srtest help lists them", name)
}

// Verbs lists the names of all verbs.
func Verbs() []string {
	var names []string
	for _, v := range table {
		names = append(names, v.name)
	}
	return names
}

// Reference is the description of the language, scripts/README.md.
func Reference() string {
	var b strings.Builder
	b.WriteString(`<!-- generated from the tables in files.go and verbs.go: go generate ./scripts -->
# Scenarios

`)
	for _, f := range folders {
		fmt.Fprintf(&b, "- [%s/](%s): %s.\n", f.name, f.name, f.about)
	}
	b.WriteString(`
A name is there once, whatever the folder: ` + "`srtest run -run '^clone$'`" + ` means it. An
expression with a slash is held against FOLDER/NAME: ` + "`-run '^snapshot/'`" + `. Names begin with
the noun: ` + "`snapshot_of_clone.txtar`" + `. Those named ` + "`own_…`" + ` look inside an SR of this
project; all others speak only the protocol and run against any plugin.

Verbs are for`)
	for i, g := range groups {
		fmt.Fprintf(&b, "%s [%s](#%s)", []string{"", ","}[min(i, 1)], strings.ToLower(g.name), strings.ReplaceAll(strings.ToLower(g.name), " ", "-"))
	}
	b.WriteString(`.

## How they are written

A scenario is a [testscript](https://pkg.go.dev/github.com/rogpeppe/go-internal/testscript)
that reads like the minutes of a session with a SMAPIv3 plugin. A comment over a
phase is a sentence about behaviour; it is the headline if the phase fails.

Every call is one process, made as the toolstack makes it. A call that is refused
must leave the SR as it was: ` + "`! call`" + ` looks.

## Verbs
`)
	for _, g := range groups {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", g.name, g.about)
		for _, v := range g.verbs {
			fmt.Fprintf(&b, "- `%s`: %s.\n", v.usage, v.about)
		}
	}
	b.WriteString(`
Sizes are bytes, or have a suffix: KiB, MiB, GiB, TiB. VOLUME is a key. testscript's
own commands (` + "`exec`, `cp`, `stdout`, `env`" + ` …) are there as well.

## Conditions

` + "`[root]`, `[own]` (this project's plugin), `[race]` (it is built with the race detector), `[fs:btrfs]` (the kind of this run), `[can:ext4]`" + `
(such a filesystem can be made here), ` + "`[call:Volume.compare]`" + ` (the plugin offers the
call), ` + "`[feature:VDI_REVERT]`" + ` (it says that it can), and testscript's own, like ` + "`[exec:mkfs.ext4]`" + `. An unknown one is an error.

## Variables

` + "`$FS`" + ` the kind of filesystem of this run, ` + "`$MNT`" + ` where fs mounted it, ` + "`$SR`" + ` the SR's
handle, ` + "`$SR_PATH`, `$SR_UUID`, `$SR_CONF`" + ` its configuration, ` + "`$DEV`" + ` the device of the last
plug, ` + "`$UUID_A`, `$UUID_B`, `$UUID_C`" + ` fresh UUIDs for SRs that the script makes itself, ` + "`$VOLUME` and `$DATAPATH`" + ` the plugin's directories.
`)
	return b.String()
}
